"""The command line, in processes of its own where the exit status matters."""

import os
import pathlib
import subprocess
import sys

import pytest

from ssm_jax import core
from ssm_jax.cli import train as program

# ml_collections loads config files by it.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")

ROOT = pathlib.Path(__file__).parents[2]


def train(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments], cwd=cwd, capture_output=True, text=True
    )


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def fault(refused):
    """Train with arguments that can't be used; returns what is wrong with them."""
    return lambda *arguments: refused("train", *arguments).removeprefix("error: ")


def test_arguments_are_parsed_into_flags_and_config():
    values = program.parse(["--config=configs/conv8.py:dense", "--config.seed=3", "--workdir", "x"])
    assert (values.config.seed, values.config.mask.rule, values.workdir) == (3, "dense", "x")
    assert values.heartbeat == 100 and values.coordinator is None
    assert program.parse(program.expand(["--config", "configs/conv8.py"])).config.seed == 0
    assert program.parse(program.expand(["conv8:dense", "--config.seed=3"])).config.seed == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a config is missing"),
        (["--config="], "a config is missing"),
        (["--config"], "a config is missing"),
        (["--config=configs/conv9.py"], "did you mean 'configs/conv"),
        (["digit"], "did you mean 'digits'?"),
        (["--config=configs/"], "cannot read the config file configs: not a regular file"),
        (["--config=configs/conv8.py:dens"], "did you mean 'dense'?"),
        (["--config=configs/digits.py", "--config.seeed=1"], "did you mean 'seed'?"),
        (["--config=configs/digits.py", "--config.training.epochs=ten"], "invalid literal"),
        (["--config=configs/digits.py", "--workdri=x"], "workdri"),
        (["--config=configs/digits.py", "epochs=3"], "'epochs=3'"),
        (["--config=configs/digits.py", "--processes=0"], "processes"),
        (["--config=configs/digits.py", f"--processes={10**12}"], "processes"),
        (["--config=configs/digits.py", f"--heartbeat={10**12}"], "heartbeat"),
        (["--config=configs/comon.py"], "allowed: configs/conv2.py"),
        (["--config=configs/digits.py", "--coordinator=127.0.0.1:1"], "without --processes, --process"),
        (["--config=configs/digits.py", "--flagfile=flags"], "--flagfile is not read"),
    ],
)
def test_arguments_that_are_refused(fault, arguments, message):
    assert message in fault(*arguments)


OWN_RULE = """
import dataclasses
import ssm_jax
from ssm_jax import core

@dataclasses.dataclass(frozen=True)
class Soft(core.Rule):
    temperature: float = 1.0

    def mask(self, scores, state, key=None):
        return scores / self.temperature

core.RULES["soft"] = Soft

def get_config():
    config = ssm_jax.default_config()
    config.mask.rule = "soft"
    return config
"""


def test_a_rule_of_ones_own_has_its_settings_on_the_command_line(fault, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN_RULE)
    try:
        values = program.parse([f"--config={path}", "--config.mask.temperature=3", "--config.seed=2"])
        assert values.config.mask.temperature == 3.0 and values.config.seed == 2
        assert core.by_name("soft", values.config.mask).temperature == 3.0
        refused = {
            "temperatur=3": "unknown config field 'mask.temperatur'; did you mean 'mask.temperature'",
            "temperature=hot": "config.mask.temperature is 'hot'; it must be of type float",
        }
        for setting, message in refused.items():
            assert message in fault(f"--config={path}", f"--config.mask.{setting}")
        assert "unknown config field 'mask.temperature'" in fault("digits", "--config.mask.temperature=3")
    finally:
        core.RULES.pop("soft", None)


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["--config=a"], "a"),
        (["-config", "a"], "a"),
        (["--config=a", "--config=b:c=d"], "b:c=d"),
        (["--config"], ""),
        (["--config.seed=1", "--configs=2"], None),
        ([], None),
    ],
)
def test_the_last_value_of_a_flag_counts(argv, value):
    assert program.value_of("config", argv) == value


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def get_config(:", "line 1: SyntaxError"),
        ("def get_config():\n    return 1 / 0", "line 2: ZeroDivisionError: division by zero"),
        ("def get_config():\n    return 3", "must return a config"),
        ("import sys\nsys.exit(0)", "line 2: SystemExit: 0"),
        ("import sys\ndef get_config():\n    sys.exit('no')", "line 3: SystemExit: no"),
    ],
)
def test_a_fault_in_a_config_file_names_file_and_line(fault, code, message, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(code)
    text = fault(f"--config={path}")
    assert text.startswith(str(path)) and message in text


@pytest.mark.parametrize("flag", ["--config={}", "--config {}", "-config={}"])
def test_a_named_pipe_is_not_waited_for(fault, tmp_path, flag):
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in fault(*flag.format(tmp_path / "pipe").split())


def test_bad_input_is_one_line_and_exit_status_2(tmp_path):
    wrong = "--config.optimizer.name=adm"
    done = train("--config=configs/digits.py", wrong, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and "did you mean 'adam'?" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_failed_run_has_exit_status_1(tmp_path):
    done = train(
        "--config=configs/digits.py:dense",
        "--config.optimizer.learning_rate=1e30",
        "--config.compilation_cache=",  # whose programs may warn when they are loaded
        f"--workdir={tmp_path / 'run'}",
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "is not finite at step" in line


@pytest.mark.slow
def test_a_cache_that_cannot_be_used_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = train(
        "--config=configs/digits.py",
        "--config.training.epochs=1",
        f"--config.compilation_cache={tmp_path / 'file'}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert done.returncode == 0
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("compiled programs are not kept")


def test_importing_the_package_starts_no_backend_and_imports_nothing_heavy():
    code = (
        "import sys, ssm_jax\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends\n"
        "heavy = {'tensorflow_datasets', 'tensorflow', 'orbax', 'optax', 'tensorboardX'} & {*sys.modules}\n"
        "assert heavy <= {'optax', 'orbax'}, heavy\n"
        "assert not [name for name in sys.modules if name.startswith('ssm_jax.training')]\n"
        "assert set(ssm_jax.__all__) <= set(dir(ssm_jax))\n"
        "for name in ssm_jax.__all__: getattr(ssm_jax, name)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_help_lists_flags_and_settings(capsys):
    program.main(["--help"])
    said = capsys.readouterr().out
    assert "--workdir" in said and "optimizer.learning_rate  (default: 0.05)" in said
    program.main(["--config=configs/digits.py:dense", "--help"])
    assert "mask.rule  (default: 'dense')" in capsys.readouterr().out


def test_a_reader_who_leaves_early_is_no_error():
    command = [sys.executable, "train.py", "--help"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1

"""The command line, in processes of its own where the exit status matters."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def train(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments], cwd=cwd, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("config", "workdir"),
    [
        ("configs/conv8.py", "runs/conv8"),
        ("configs/conv8.py:dense", "runs/conv8-dense"),
        ("a/b/c.py", "runs/c"),
    ],
)
def test_the_default_workdir(program, config, workdir):
    assert program.default_workdir(config) == workdir


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config is missing"),
        (["--config=configs/conv9.py"], "did you mean 'configs/conv"),
        (["--config=digits"], "did you mean 'configs/digits.py'?"),
        (["--config=configs/conv8.py:dens"], "did you mean 'dense'?"),
        (["--config=configs/digits.py", "--config.seeed=1"], "did you mean 'seed'?"),
        (["--config=configs/digits.py", "--config.training.epochs=ten"], "invalid literal"),
        (["--config=configs/digits.py", "--config.optimizer.name=adm"], "did you mean 'adam'?"),
        (
            ["--config=configs/digits.py", "--config.model.width=0"],
            "config.model.width is 0.0; allowed is above 0",
        ),
        (["--config=configs/digits.py", "--config.data.name=digit"], "did you mean 'digits'?"),
        (["--config=configs/digits.py", "--workdri=x"], "workdri"),
        (["--config=configs/digits.py", "epochs=3"], "'epochs=3'"),
        (["--config=configs/digits.py", "--coordinator=127.0.0.1:1"], "without --processes, --process"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(arguments, message, tmp_path):
    done = train(*arguments, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "run").exists()


def test_a_failed_run_has_exit_status_1(tmp_path):
    done = train(
        "--config=configs/digits.py:dense",
        "--config.optimizer.learning_rate=1e30",
        f"--workdir={tmp_path / 'run'}",
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "is not finite at step" in line


def test_importing_the_package_starts_no_backend_and_reads_no_dataset_library():
    code = (
        "import sys, ssm_jax\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends\n"
        "assert 'tensorflow_datasets' not in sys.modules and 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def get_config(:", "line 1: SyntaxError"),
        ("def get_config():\n    return 1 / 0", "line 2: ZeroDivisionError: division by zero"),
        ("def get_config():\n    return 3", "must return a config"),
    ],
)
def test_a_fault_in_a_config_file_names_file_and_line(code, message, tmp_path):
    (tmp_path / "own.py").write_text(code)
    done = train(f"--config={tmp_path / 'own.py'}")
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f"error: {tmp_path / 'own.py'}") and message in line


def test_help_lists_flags_and_settings():
    done = train("--help")
    assert done.returncode == 0 and "--workdir" in done.stdout and "optimizer.learning_rate" in done.stdout


def test_a_reader_who_leaves_early_is_no_error():
    command = [sys.executable, "train.py", "--help"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1

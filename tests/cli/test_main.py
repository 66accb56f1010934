"""The command line of verbs."""

import functools
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from ssm_jax.cli import main
from ssm_jax.version import __version__

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_every_verb(ssm, arguments):
    status, out, err = ssm(*arguments)
    assert status == 0 and err == "" and out.startswith("usage: ssm-jax <verb> ...")
    assert all(f"\n  {verb} " in out for verb in main.VERBS)


def test_the_version(ssm):
    assert ssm("--version") == (0, f"ssm_jax {__version__}\n", "")


def test_an_unknown_verb_names_the_nearest(refused):
    assert "unknown verb 'exprt'; did you mean 'export'?" in refused("exprt", "runs/digits")


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_verb_has_help_with_examples(verb, capsys):
    try:
        status = main.main([verb, "--help"])
    except SystemExit as left:
        status = left.code
    assert status == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: ") and verb in text[text.index("\nexample") :]


@pytest.mark.parametrize("verb", main.VERBS)
def test_an_unknown_flag_of_a_verb_is_refused(refused, verb):
    assert "--help" in refused(verb, "--no-such-flag")


@pytest.mark.parametrize("arguments", [["--help"], ["export", "--help"], ["inspect", "none.ssm"]])
def test_what_needs_no_jax_does_not_load_it(arguments):
    program = (
        "import sys; from ssm_jax.cli import main; main.main(sys.argv[1:]); sys.exit('jax' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("program", [["train.py"], ["-m", "ssm_jax.experiments"], ["-m", "ssm_jax", "train"]])
def test_an_interrupt_while_it_is_loaded_leaves_no_traceback(tmp_path, program):
    (tmp_path / "ml_collections.py").write_text("import os; os.kill(os.getpid(), 2)")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    # What ignores Ctrl-C, as jobs in the background do, would hand that on.
    default = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    ran = subprocess.run(
        [sys.executable, *program], cwd=ROOT, env=environment, capture_output=True, preexec_fn=default
    )
    assert (ran.returncode, ran.stderr) == (-2, b"")


def test_the_package_is_a_program():
    ran = subprocess.run([sys.executable, "-m", "ssm_jax", "exprt"], capture_output=True, text=True)
    assert ran.returncode == 2 and ran.stderr.startswith("error: unknown verb 'exprt'")


@pytest.mark.parametrize("verb", [("inspect",), ("export",), ("report",), ("predict", "ok.npy")])
@pytest.mark.parametrize("name", ["x" * 300, "~no-such-user/x"])
def test_a_path_that_cannot_be_is_one_line(refused, verb, name):
    verb, *rest = verb
    assert name in refused(verb, name, *rest)

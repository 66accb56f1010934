"""The command line of the analysis."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

import ssm_jax
from ssm_jax.cli import analysis

ROOT = pathlib.Path(__file__).parents[2]


def run(capsys, *arguments):
    """The exit status, and what is printed."""
    capsys.readouterr()
    status = analysis.main(list(map(str, arguments)))
    said = capsys.readouterr()
    return status, said.out, said.err


def test_tables_of_everything_that_the_folder_allows(trained, capsys):
    status, out, _ = run(capsys, trained, "--draws=1")
    assert status == 0
    for title in ("Shares of", "Over training", "other kernels, drawn by seed 2", "Overlap within tiny"):
        assert title in out


def test_json_is_the_same_for_a_program(trained, capsys):
    status, out, _ = run(capsys, trained, "--json", "--draws=0", "--seeds", 1)
    report = json.loads(out)
    assert status == 0 and report["runs"][0]["seeds"] == [1] and report["runs"][0]["name"] == "tiny"
    assert report["versions"]["ssm_jax"] == ssm_jax.__version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "there is no file or folder none"),
        (["{run}", "--seeds", "7"], "there is no seed 7: it has 0 to 1"),
        (["{run}", "--seeds", "one"], "invalid int value: 'one'"),
        (["{run}", "--draws", "-1"], "draws is -1; allowed is at least 0"),
        (["{run}", "{run}"], "is given twice"),
        (["{run}", "--jsn"], "unrecognized arguments: --jsn (see ssm-jax analysis --help)"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(arguments, message, trained, capsys):
    status, out, err = run(capsys, *(argument.format(run=trained) for argument in arguments))
    (line,) = err.strip().splitlines()
    assert status == 2 and line.startswith("error: ") and message in line and not out


def test_what_was_given_is_checked_before_jax_is_loaded():
    program = "import sys; from ssm_jax.cli import analysis; sys.exit('jax' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as left:
        analysis.main([])
    assert left.value.code == 0
    assert "ssm-jax analysis runs/fcn" in capsys.readouterr().out.partition("examples:")[2]


@pytest.mark.slow
def test_the_package_is_the_command(trained):
    command = [sys.executable, "-m", "ssm_jax.analysis", str(trained), "--draws=0", "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout)["runs"][0]["network"] == "fcn" and not done.stderr

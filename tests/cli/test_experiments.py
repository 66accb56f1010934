"""The command line of the experiments."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from processes import finish, wait_until

from ssm_jax import errors
from ssm_jax.analysis import style
from ssm_jax.cli import experiments
from ssm_jax.experiments import runner

ROOT = pathlib.Path(__file__).parents[2]
QUICK = ["--config.data.name=digits", "--config.model.width=0.1", "--config.training.epochs=1"]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def run(capsys, *arguments):
    """The exit status, and what is printed."""
    status = experiments.main(list(map(str, arguments)))
    said = capsys.readouterr()
    return status, said.out, said.err


def test_rows_are_run_and_tabled_and_not_run_again(tmp_path, capsys):
    command = [
        "paper",
        "--rows",
        "fcn",
        "--variant=main",
        "--dense",
        *QUICK,
        f"--workdir={tmp_path / 'runs'}",
    ]
    status, out, _ = run(capsys, *command)
    assert status == 0 and "run 2 of 2: fcn, fcn.py:dense, seed 0; about" in out
    table = out[out.index("| row |") :]
    assert "| fcn | fcn.py | 1 | 1 |" in table and "| 97.48 at 3.77 |" in table
    status, out, _ = run(capsys, *command)
    assert status == 0 and out.strip() == table.strip()
    status, out, _ = run(capsys, *command, "--dry-run")
    assert status == 0 and out.count(": finished") == 2


def test_a_home_is_found_and_a_damaged_summary_made_again(configs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    command = ["rivals", "--network=tiny", "--rules", "signed", f"--configs={configs}", *QUICK]
    assert run(capsys, *command, "--workdir=~/runs")[0] == 0
    summary = tmp_path / "runs" / "signed" / "summary.json"
    whole = summary.read_text()
    summary.write_text("{")
    status, out, _ = run(capsys, *command, "--workdir=~/runs")
    assert status == 0 and "it is made again from the checkpoints" in out and "| signed |" in out
    assert json.loads(summary.read_text())["test_accuracy"] == json.loads(whole)["test_accuracy"]


def test_a_damaged_summary_does_not_hide_why_an_experiment_ended(configs, tmp_path, capsys, monkeypatch):
    def stop(config, folder):
        raise errors.Preempted("stopped here", signal.SIGTERM)

    command = ["rivals", "--network=tiny", f"--configs={configs}", f"--workdir={tmp_path}", *QUICK]
    assert run(capsys, *command, "--rules", "signed")[0] == 0
    (tmp_path / "signed" / "summary.json").write_text("{")
    monkeypatch.setattr(runner, "train_and_evaluate", stop)
    status, _, err = run(capsys, *command, "--rules", "binary")
    assert status == 128 + signal.SIGTERM and err.endswith("stopped here\n") and "no table: " in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["papr"], "unknown verb 'papr'; did you mean 'paper'?"),
        (["paper"], "the following arguments are required: --rows"),
        (["paper", "--rows", "conv9"], "unknown row 'conv9'; did you mean 'conv"),
        (["paper", "--rows", "fcn", "--variant", "bset"], "unknown variant 'bset'"),
        (["paper", "--rows", "fcn", "--seeds", "no"], "invalid int value: 'no'"),
        (["paper", "--rows", "fcn", "--config.training.epoch=1"], "did you mean 'training.epochs'?"),
        (["paper", "--rows", "fcn", "--config.training.epochs", "1"], "lacks its value"),
        (["paper", "--rows", "fcn", "--configs=none"], "unknown network 'fcn'"),
        (
            ["frontier", "--network", "fcm", "--densities", "0.1"],
            "unknown network 'fcm'; did you mean 'fcn'?",
        ),
        (["frontier", "--network", "fcn", "--densities", "0.1", "1.5"], "density is 1.5; allowed is above 0"),
        (["frontier", "--network", "fcn", "--densities", "0"], "density is 0.0; allowed is above 0"),
        (
            ["rivals", "--network", "fcn", "--rules", "edge"],
            "unknown rule 'edge'; did you mean 'edge_popup'?",
        ),
        (["collect", "none", "--into=x"], "none holds no experiment"),
        (["readme", "--pages=none.md", "--results=none"], "cannot read none.md: No such file"),
        (["readme", "--config.seed=1"], "nothing is trained here"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(style, "require", lambda: None)
    status, _, err = run(capsys, *arguments)
    (line,) = err.strip().splitlines()
    assert status == 2 and line.startswith("error: ") and message in line


def test_missing_matplotlib_is_said_before_anything_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, err = run(capsys, "collect", tmp_path, f"--into={tmp_path / 'into'}")
    assert status == 2 and err.startswith("error: figures need matplotlib")
    assert not (tmp_path / "into").exists()


@pytest.mark.slow
def test_the_best_variant_is_taken_where_there_is_one(configs, tmp_path, capsys):
    rivals = ["rivals", "--network=tiny", "--rules", "binary", f"--configs={configs}", "--dry-run"]
    for variant, config in (
        ([], "tiny.py:best,binary"),
        (["--variant=main"], "tiny.py:binary"),
        (["--variant=dense"], "tiny.py:dense,binary"),
    ):
        status, out, _ = run(capsys, *rivals, *variant, f"--workdir={tmp_path / 'none'}")
        assert status == 0 and f"run 1 of 1: binary ({config})" in out
    assert not (tmp_path / "none").exists()


def test_a_folder_of_another_experiment_is_refused(configs, tmp_path, capsys):
    common = ["--network=tiny", f"--configs={configs}", f"--workdir={tmp_path}", *QUICK]
    assert run(capsys, "rivals", "--rules", "signed", *common)[0] == 0
    status, _, err = run(capsys, "ablation", *common)
    assert status == 2 and "holds another experiment (ablation requested, rivals stored)" in err
    status, _, err = run(capsys, "rivals", "--rules", "signed", "--variant=main", *common)
    assert status == 2 and "variant: main requested, best stored" in err


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_stops_by_signal_and_goes_on_by_the_same_command(tmp_path, signum, status):
    command = [sys.executable, "-m", "ssm_jax.experiments", "paper", "--rows", "fcn", "--dense", *QUICK]
    command += ["--variant=main", f"--workdir={tmp_path}"]
    command += ["--config.training.epochs=2000", "--config.logging.eval_every_epochs=10"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"}, stdout=-1, stderr=-1, text=True
    )
    lines = tmp_path / "fcn" / "metrics.jsonl"
    wait_until(lines.exists, process)
    process.send_signal(signum)
    ((returned, _, error),) = finish(process)
    assert returned == status and "which is saved" in error
    assert not (tmp_path / "fcn-dense").exists()

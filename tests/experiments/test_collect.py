"""Results brought home from the folder of an experiment."""

import json
import shutil

import pytest

from ssm_jax import errors
from ssm_jax.analysis import style
from ssm_jax.experiments import collect, figures, record
from ssm_jax.experiments.record import Experiment
from ssm_jax.experiments.results import read_collected
from ssm_jax.runs.folder import RunFolder

KIND = Experiment(kind="rivals", shared={"network": "fcn"}, runs=())


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Figures have their own tests."""
    monkeypatch.setattr(style, "require", lambda: None)
    monkeypatch.setattr(figures, "draw", lambda *_: [])


@pytest.fixture
def workdir(tmp_path, planned, summarized):
    """An experiment with two finished runs of one setting and an unfinished one of another."""
    experiment = KIND
    for run, summary in (
        (planned("signed", seeds=2, rule="signed"), summarized([97.0, 98.0], [0.03, 0.04])),
        (planned("signed", seed=2, rule="signed"), summarized([99.0], [0.05], seed=2)),
        (planned("dense", rule="dense"), None),
    ):
        experiment = record.add(experiment, run)
        folder = RunFolder(tmp_path / "runs" / run.name)
        folder.make()
        if summary:
            folder.write_summary(summary)
            line = {"epoch": 1, "step": 9, "seed": run.seed, "time": 1.0, "test_accuracy": 90.0 + run.seed}
            (folder.path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    record.write(tmp_path / "runs", experiment)
    return tmp_path / "runs"


def test_finished_runs_are_copied_and_summed_up(workdir, tmp_path):
    into = tmp_path / "results" / "rivals"
    collected = collect.collect(workdir, into)
    assert [run.name for run in collected.runs] == ["signed", "signed-seeds-2-2"]
    assert {path.name for path in into.iterdir()} == {
        "experiment.json",
        "signed.json",
        "signed.csv",
        "signed-seeds-2-2.json",
        "signed-seeds-2-2.csv",
        "table.md",
        "table.csv",
    }
    (result,) = read_collected(into)
    assert result.accuracy.values == (97.0, 98.0, 99.0)
    assert result.curve == [{"epoch": 1, "n": 2, "test_accuracy": 91.0}]
    assert "| signed | 100 | 3 | 98.00 ± 1.00 |" in (into / "table.md").read_text()


def test_collecting_again_changes_nothing(workdir, tmp_path):
    into = tmp_path / "results"
    first = collect.collect(workdir, into)
    before = {path: path.read_bytes() for path in into.iterdir()}
    assert collect.collect(workdir, into) == first
    assert {path: path.read_bytes() for path in into.iterdir()} == before


def test_results_of_another_machine_are_added(workdir, tmp_path, planned, summarized):
    into = tmp_path / "results"
    collect.collect(workdir, into)
    other = tmp_path / "other"
    folder = RunFolder(other / "binary")
    folder.make()
    folder.write_summary(summarized([90.0], [0.1], method="binary"))
    record.write(other, record.add(KIND, planned("binary", rule="binary")))
    assert [run.name for run in collect.collect(other, into).runs] == [
        "signed",
        "signed-seeds-2-2",
        "binary",
    ]
    assert [result.method for result in read_collected(into)] == ["signed", "binary"]


def test_results_of_another_experiment_are_refused(workdir, tmp_path):
    into = tmp_path / "results"
    into.mkdir()
    record.write(into, Experiment(kind="frontier", shared={}, runs=()))
    with pytest.raises(errors.InputError, match="holds another experiment"):
        collect.collect(workdir, into)


def test_there_must_be_something_to_collect(workdir, tmp_path):
    with pytest.raises(errors.InputError, match=r"holds no experiment: it has no experiment.json"):
        collect.collect(tmp_path, tmp_path / "results")
    for name in ("signed", "signed-seeds-2-2"):
        shutil.rmtree(workdir / name)
    with pytest.raises(errors.InputError, match="holds no finished run yet"):
        collect.collect(workdir, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_summary_that_is_missing_is_named(workdir, tmp_path):
    into = tmp_path / "results"
    collect.collect(workdir, into)
    (into / "signed.json").unlink()
    with pytest.raises(errors.InputError, match=r"signed.json is missing, which experiment.json names"):
        read_collected(into)


def test_a_curve_that_is_damaged_is_named(workdir, tmp_path):
    into = tmp_path / "results"
    collect.collect(workdir, into)
    for damaged in (b"epoch,n\n1,x\n", b"\xff"):
        (into / "signed.csv").write_bytes(damaged)
        with pytest.raises(errors.InputError, match=r"cannot use .*signed\.csv: "):
            read_collected(into)


def test_other_seeds_of_a_collected_run_are_refused(workdir, tmp_path, planned, summarized):
    into = tmp_path / "results"
    collect.collect(workdir, into)
    before = {path: path.read_bytes() for path in into.iterdir()}
    other = tmp_path / "other"
    folder = RunFolder(other / "signed")
    folder.make()
    folder.write_summary(summarized([97.0, 98.0, 96.0], [0.03, 0.04, 0.05]))
    record.write(other, record.add(KIND, planned("signed", seeds=3, rule="signed")))
    with pytest.raises(
        errors.InputError, match="holds signed with 2 seeds, 3 were run: choose another --into"
    ):
        collect.collect(other, into)
    assert {path: path.read_bytes() for path in into.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("../../package", {}, "name is '../../package'; allowed is letters"),
        ("..", {}, "name is '..'; allowed"),
        ("/package", {}, "name is '/package'; allowed"),
        ("a\\b", {}, "name is .*; allowed"),
        ("experiment", {}, "name is 'experiment'; allowed"),
        ("signed", {"density": "many"}, r"labels.density is 'many'; allowed is a share in \(0, 1\]"),
        ("signed", {"density": "nan"}, r"labels.density is 'nan'; allowed is a share in \(0, 1\]"),
        ("signed", {"rule": "a\nb"}, "labels.rule is .*; allowed is one line"),
        ("signed", {"rule": "a|b"}, r"labels.rule is 'a\|b'; allowed is one line without"),
    ],
)
def test_what_a_record_names_decides_no_path_and_no_table(workdir, tmp_path, name, labels, message):
    path = workdir / record.FILE
    values = json.loads(path.read_text())
    values["runs"][0]["setting"] |= {"name": name, "labels": labels}
    path.write_text(json.dumps(values))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(errors.InputError, match=rf"experiment\.json: .*{message}"):
        collect.collect(workdir, tmp_path / "results")
    assert set(tmp_path.rglob("*")) == before


def test_an_experiment_of_an_unknown_kind_is_refused(workdir, tmp_path):
    path = workdir / record.FILE
    path.write_text(path.read_text().replace('"rivals"', '"rival"'))
    with pytest.raises(errors.InputError, match="unknown kind of experiment 'rival'; did you mean 'rivals'"):
        collect.collect(workdir, tmp_path / "results")

"""An experiment's record: one experiment per folder, which may gain settings and seeds."""

import concurrent.futures
import dataclasses

import pytest

from ssm_jax import errors
from ssm_jax.experiments import record
from ssm_jax.experiments.record import Experiment, Run

FRONTIER = Experiment(kind="frontier", shared={"network": "fcn", "variant": "best"}, runs=())


def schedule(stored, runs, seeds, requested=FRONTIER):
    settings = [run.setting for run in runs]
    return [
        (run.name, run.seed, run.seeds) for run in record.schedule(stored, requested, settings, seeds, "here")
    ]


def stored(*runs):
    experiment = FRONTIER
    for run in runs:
        experiment = record.add(experiment, run)
    return experiment


def test_it_comes_back_from_its_file(tmp_path, planned):
    assert record.read(tmp_path) is None
    experiment = stored(planned("a", overrides={"mask.threshold": "0.1"}, rule="signed"), planned("b"))
    record.write(tmp_path, experiment)
    assert record.read(tmp_path) == experiment


def test_a_run_is_added_once(planned):
    assert stored(planned("a"), planned("a")) == stored(planned("a"))


def test_runs_that_begin_at_the_same_time_are_all_there(tmp_path, planned):
    runs = [planned(f"run-{i}") for i in range(40)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda run: record.begin(tmp_path, FRONTIER, run), runs))
    assert sorted(run.name for run in record.read(tmp_path).runs) == sorted(run.name for run in runs)


def test_settings_are_added_to_those_there_are(planned):
    a, b = planned("a", seeds=2), planned("b", seeds=2)
    assert schedule(None, [a], 2) == [("a", 0, 2)]
    assert schedule(stored(a), [b, a], 2) == [("b", 0, 2), ("a", 0, 2)]


def test_seeds_are_added_to_those_there_are(planned):
    a = planned("a", seeds=2)
    assert schedule(stored(a), [a], 5) == [("a", 0, 2), ("a-seeds-2-4", 2, 3)]
    more = Run(setting=a.setting, seed=2, seeds=3)
    assert schedule(stored(a, more), [a], 6) == [("a", 0, 2), ("a-seeds-2-4", 2, 3), ("a-seeds-5-5", 5, 1)]
    assert schedule(stored(a, more), [a], 1) == [("a", 0, 2), ("a-seeds-2-4", 2, 3)]


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ({"kind": "rivals"}, r"here holds another experiment \(rivals requested, frontier stored\)"),
        ({"shared": {"network": "fcn", "variant": "main"}}, "variant: main requested, best stored"),
        ({"shared": {**FRONTIER.shared, "training.epochs": "3"}}, "epochs: 3 requested, nothing stored"),
    ],
)
def test_another_experiment_is_refused(planned, requested, message):
    with pytest.raises(errors.InputError, match=message):
        schedule(stored(planned("a")), [planned("a")], 1, dataclasses.replace(FRONTIER, **requested))


def test_another_setting_of_the_same_name_is_refused(planned):
    with pytest.raises(errors.InputError, match=r"another a \(config: conv2.py requested, fcn.py stored\)"):
        schedule(stored(planned("a")), [planned("a", config="conv2.py")], 1)


def test_what_changes_no_result_may_differ(planned):
    a = planned("a", overrides={"checkpoint.save_every_seconds": "60"})
    assert schedule(stored(a), [planned("a")], 1) == [("a", 0, 1)]

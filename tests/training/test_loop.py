import numpy as np
import pytest

from ssm_jax import config as configuration
from ssm_jax import errors
from ssm_jax.runs.folder import RunFolder
from ssm_jax.runs.metrics import Metrics, read_metrics
from ssm_jax.training import preemption
from ssm_jax.training.from_config import from_config
from ssm_jax.training.layout import Layout, pad_split, replicate
from ssm_jax.training.loop import SeedGroup, train_group
from ssm_jax.training.programs import CompiledSteps

EXAMPLES, TEST, BATCH = 50, 21, 8  # 7 steps an epoch


@pytest.fixture(scope="module")
def parts():
    """A config, compiled programs for two seeds, and random data on the devices."""
    config = configuration.default()
    config.update_from_flattened_dict(
        {"model.width": 0.05, "seeds": 2, "training.batch_size": BATCH, "training.epochs": 3}
    )
    setup = from_config(config)
    task = setup.task(setup.network((6, 6, 1), 10), EXAMPLES)
    programs = CompiledSteps(task, Layout("seeds", 2))
    random = np.random.default_rng(0)

    def split(size):
        images = random.integers(0, 256, (size, 6, 6, 1), dtype=np.uint8)
        return images, random.integers(0, 10, size).astype(np.int32)

    images, labels = split(EXAMPLES)
    data = {
        "train": replicate({"images": images, "labels": labels}),
        "test": replicate(pad_split(*split(TEST), BATCH)),
    }
    return config, programs, data


def group(parts, workdir, stop=None, **overrides):
    config, programs, data = parts
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(overrides)
    return SeedGroup(
        run=from_config(config).run,
        folder=RunFolder(workdir),
        seeds=range(2),
        programs=programs,
        data=data,
        sizes={"validation": 0, "test": TEST},
        metrics=Metrics(workdir),
        stop=stop or preemption.StopRequest(),
        scan=True,
    )


def recorded_steps(parts, monkeypatch):
    """The numbers of steps of every call from now on."""
    programs, calls = parts[1], []
    train = programs.train

    def record(state, frozen, data, steps):
        calls.append(steps)
        return train(state, frozen, data, steps)

    monkeypatch.setattr(programs, "train", record)
    return calls


@pytest.mark.parametrize(("limit", "calls"), [(0, [7, 7, 7]), (3, [3, 3, 1] * 3), (100, [7, 7, 7])])
def test_no_call_goes_past_the_end_of_an_epoch(parts, tmp_path, monkeypatch, limit, calls):
    recorded = recorded_steps(parts, monkeypatch)
    train_group(group(parts, tmp_path, **{"training.steps_per_call": limit}))
    assert recorded == calls


def test_the_result_does_not_depend_on_the_steps_per_call(parts, tmp_path):
    results = []
    for limit in (0, 3):
        (tmp_path / str(limit)).mkdir()
        ours = group(parts, tmp_path / str(limit), **{"training.steps_per_call": limit})
        results.append(train_group(ours))
    np.testing.assert_array_equal(results[0].test_accuracy, results[1].test_accuracy)
    np.testing.assert_array_equal(results[0].remaining_weights, results[1].remaining_weights)


def test_being_asked_to_stop_saves_the_step_and_the_next_start_goes_on(parts, tmp_path, monkeypatch):
    stop = preemption.StopRequest()
    stop.set()
    with pytest.raises(errors.Preempted, match="step 3 of 21"):
        train_group(group(parts, tmp_path, stop, **{"training.steps_per_call": 3}))
    recorded = recorded_steps(parts, monkeypatch)
    result = train_group(group(parts, tmp_path))
    assert recorded == [4, 7, 7]
    (tmp_path / "whole").mkdir()
    whole = train_group(group(parts, tmp_path / "whole"))
    np.testing.assert_array_equal(result.test_accuracy, whole.test_accuracy)


def test_a_finished_group_is_evaluated_again_without_a_step(parts, tmp_path, monkeypatch):
    first = train_group(group(parts, tmp_path))
    recorded = recorded_steps(parts, monkeypatch)
    second = train_group(group(parts, tmp_path))
    assert recorded == []
    np.testing.assert_array_equal(first.test_accuracy, second.test_accuracy)
    assert second.train_seconds == first.train_seconds


def test_reports_come_every_so_many_epochs_and_after_the_last(parts, tmp_path):
    train_group(group(parts, tmp_path, **{"logging.eval_every_epochs": 2}))
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["epoch"] for line in lines if line["seed"] == 0] == [2, 3]


evaluate = CompiledSteps.evaluate


def test_the_last_step_is_evaluated_once(parts, tmp_path, monkeypatch):
    evaluated = []
    monkeypatch.setattr(
        CompiledSteps, "evaluate", lambda self, *rest: evaluated.append(rest) or evaluate(self, *rest)
    )
    result = train_group(group(parts, tmp_path))
    assert len(evaluated) == 3
    last = [line for line in read_metrics(tmp_path / "metrics.jsonl") if line["epoch"] == 3]
    assert [line["test_accuracy"] for line in last] == result.test_accuracy.tolist()


@pytest.mark.slow
def test_a_group_ends_when_the_plateau_has_stopped_all_of_its_networks(parts, tmp_path, monkeypatch):
    """With a rate so small that the loss stands still but for the order of the examples."""
    config, _, data = parts
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(
        {
            "optimizer.learning_rate": 1e-9,
            "optimizer.weight_decay": 0.0,
            "schedule.name": "plateau",
            "schedule.patience": 3,
            "schedule.max_reductions": 1,
            "training.epochs": 40,
        }
    )
    setup = from_config(config)
    task = setup.task(setup.network((6, 6, 1), 10), EXAMPLES)
    plateau = config, CompiledSteps(task, Layout("seeds", 2)), data
    result = train_group(group(plateau, tmp_path))
    assert 7 * 14 <= result.steps < 7 * 40  # at the earliest the epochs 11 to 14 are bad
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert 7 * lines[-1]["epoch"] == result.steps
    recorded = recorded_steps(plateau, monkeypatch)
    again = train_group(group(plateau, tmp_path))
    assert recorded == [] and again.steps == result.steps
    np.testing.assert_array_equal(again.test_accuracy, result.test_accuracy)

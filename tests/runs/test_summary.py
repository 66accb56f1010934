"""Statistics over seeds, the closing table, and the file."""

import dataclasses
import json

import pytest

from ssm_jax import config, errors
from ssm_jax.runs.folder import RunFolder
from ssm_jax.runs.summary import EmptyLayers, Failure, Layer, Statistics, Summary, table


@pytest.fixture
def summary():
    return Summary(
        network="fcn",
        dataset="digits",
        method="signed",
        weights=32,
        seeds=(0, 1),
        failed_seeds=(Failure(seed=2, step=7, metric="loss"),),
        emptied_layers=(EmptyLayers(seed=1, layers=("denses/1",)),),
        test_accuracy=Statistics.of([90.0, 92.0]),
        remaining_weights=Statistics.of([0.02, 0.04]),
        epochs=2,
        steps=20,
        train_seconds=1.25,
        compile_seconds=2.0,
        images_per_second=1000.0,
        device="cpu",
        device_count=1,
        versions={"jax": "1.2.3"},
        layers=(
            Layer(name="denses/0", shape=(4, 2), weights=8, inverted=0.25, hidden=0.5, kept=0.25),
            Layer(name="denses/1", shape=(2, 12), weights=24, inverted=0.0, hidden=1.0, kept=0.0),
        ),
        config=config.override(config.default(), {"training.epochs": 2}),
    )


def test_statistics_use_n_minus_one():
    assert Statistics.of([1.0, 3.0]) == Statistics(mean=2.0, std=2**0.5, values=(1.0, 3.0))
    assert Statistics.of([5.0]).std == 0.0


def test_a_summary_comes_back_from_its_file(tmp_path, summary):
    folder = RunFolder(tmp_path)
    assert folder.read_summary() is None
    folder.write_summary(summary)
    assert folder.read_summary() == summary


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": []}, "test_accuracy is of 2 networks, and seeds names 0"),
        ({"seeds": [0, 1, 2]}, "test_accuracy is of 2 networks, and seeds names 3"),
        ({"test_accuracy": 90.0}, "test_accuracy is 90.0; it must be an object"),
        ({"layers": [{"name": "a"}]}, r"layers\[0\] lacks shape, weights"),
        ({"failed_seeds": [{"seed": 2}]}, r"failed_seeds\[0\] lacks step, metric"),
        ({"train_seconds": -1}, "train_seconds is -1; allowed is at least 0"),
    ],
)
def test_a_summary_that_cannot_be(tmp_path, summary, change, message):
    folder = RunFolder(tmp_path)
    folder.write_summary(summary)
    folder.summary_path.write_text(json.dumps(json.loads(folder.summary_path.read_text()) | change))
    with pytest.raises(errors.InputError, match=message):
        folder.read_summary()


def test_the_table_shows_layers_total_and_result(summary):
    text = table(summary, 10)
    assert "denses/0  4x2           8  25.00   50.00  25.00" in text
    assert "all                    32   6.25   87.50   6.25" in text
    assert "2 seeds, 2 epochs\ntest accuracy 91.00 ± 1.41 %, remaining weights 3.00 ± 1.41 %" in text
    stopped = dataclasses.replace(summary, config=config.default())
    assert "2 seeds, 2 of 100 epochs\n" in table(stopped, 10)
    assert "seed 2 failed: loss not finite at step 7" in text


def test_the_table_of_a_dense_baseline_has_no_mask(summary):
    text = table(dataclasses.replace(summary, method="dense"), 10)
    assert "denses/0  4x2           8\n" in text
    assert "all                    32\n" in text


@pytest.mark.parametrize(
    ("hidden", "line"),
    [
        ({1: ["denses/1"]}, "seed 1: the mask hides every weight of denses/1; set a lower "),
        ({0: ["denses/1"], 1: ["denses/1"]}, "seeds 0, 1: the mask hides every weight of denses/1; "),
        ({1: ["denses/0", "denses/1"]}, "seed 1: the mask hides every weight; set a lower "),
        (
            {seed: ["denses/0", "denses/1"] for seed in range(9)},
            "seeds 0, 1, 2, 3 and 5 more: the mask hides every weight; ",
        ),
    ],
)
def test_a_mask_that_hides_everything_is_said(summary, hidden, line):
    emptied_layers = tuple(EmptyLayers(seed=seed, layers=tuple(names)) for seed, names in hidden.items())
    text = table(dataclasses.replace(summary, emptied_layers=emptied_layers), 10)
    assert f"\n{line}" in text
    assert "hides" not in table(dataclasses.replace(summary, emptied_layers=()), 10)


def test_networks_that_only_guess_are_said(summary):
    def text(*accuracies, classes=10, **changes):
        changes |= {"test_accuracy": Statistics.of(accuracies)}
        return table(dataclasses.replace(summary, **{"emptied_layers": ()} | changes), classes)

    assert "guessing" not in text(90.0, 12.0)
    assert "\nseed 1: no better than guessing among 10 classes; set a lower " in text(90.0, 10.0)
    assert "\nseeds 0, 1: no better than guessing among 2 classes; " in text(50.0, 52.0, classes=2)
    # Of classes that no test image has nobody could guess right.
    assert "\nseed 1: no better than guessing among 4 classes; set a lower " in text(90.0, 25.0, present=4)
    # Why they do is said already where nothing passes a layer.
    assert "guessing" not in text(90.0, 10.0, emptied_layers=(EmptyLayers(seed=1, layers=("denses/1",)),))

"""Statistics over seeds and the closing table."""

import pytest

from ssm_jax.runs.summary import statistics, table


def test_statistics_use_n_minus_one():
    assert statistics([1.0, 3.0]) == {
        "mean": 2.0,
        "std": pytest.approx(2**0.5),
        "values": [1.0, 3.0],
    }
    assert statistics([5.0])["std"] == 0.0


def test_the_table_shows_layers_total_and_result():
    summary = {
        "network": "fcn",
        "dataset": "digits",
        "method": "signed",
        "seeds": [0, 1],
        "epochs": 2,
        "test_accuracy": statistics([90.0, 92.0]),
        "remaining_weights": statistics([0.02, 0.04]),
        "train_seconds": 1.25,
        "compile_seconds": 2.0,
        "images_per_second": 1000.0,
        "device": "cpu",
        "device_count": 1,
        "failed_seeds": [{"seed": 2, "step": 7, "metric": "loss"}],
        "layers": [
            {
                "name": "denses/0",
                "shape": [4, 2],
                "weights": 8,
                "inverted": 0.25,
                "hidden": 0.5,
                "kept": 0.25,
            },
            {
                "name": "denses/1",
                "shape": [2, 12],
                "weights": 24,
                "inverted": 0.0,
                "hidden": 1.0,
                "kept": 0.0,
            },
        ],
    }
    text = table(summary)
    assert "denses/0  4x2           8  25.00   50.00  25.00" in text
    assert "all                    32   6.25   87.50   6.25" in text
    assert "2 seeds, 2 epochs: test accuracy 91.00 ± 1.41 %, remaining weights 3.00 ± 1.41 %" in text
    assert "seed 2 failed: loss not finite at step 7" in text
    dense = table(summary | {"method": "dense"})  # has no mask whose shares could be told
    assert "denses/0  4x2           8\n" in dense
    assert "all                    32\n" in dense

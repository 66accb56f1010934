"""What the tests of experiments share: made-up runs and summaries."""

from __future__ import annotations

import pytest

from ssm_jax import config as configuration
from ssm_jax.experiments.plans import Setting
from ssm_jax.experiments.record import Run
from ssm_jax.runs.summary import Layer, Statistics, Summary


@pytest.fixture(scope="session")
def summarized():
    """A function that makes a summary up."""

    def make(accuracies, shares, method="signed", network="fcn", data="mnist", seed=0, **changes):
        config = configuration.default()
        configuration.override(
            config, {"model.name": network, "data.name": data, "mask.rule": method, "seed": seed}
        )
        configuration.override(config, {"seeds": len(accuracies)})
        fields = {
            "network": network,
            "dataset": data,
            "method": method,
            "weights": 8,
            "seeds": tuple(range(seed, seed + len(accuracies))),
            "failed_seeds": (),
            "emptied_layers": (),
            "test_accuracy": Statistics.of(accuracies),
            "remaining_weights": Statistics.of(shares),
            "epochs": 100,
            "steps": 1000,
            "train_seconds": 10.0,
            "compile_seconds": 2.0,
            "images_per_second": 1000.0,
            "device": "cpu",
            "device_count": 1,
            "versions": {"python": "3.13.0", "jax": "0.12"},
            "layers": (Layer(name="a", shape=(4, 2), weights=8, inverted=0.25, hidden=0.5, kept=0.25),),
            "config": config,
        }
        return Summary(**fields | changes)

    return make


@pytest.fixture(scope="session")
def planned():
    """A function that makes a run up; its labels are keywords."""

    def make(name, seed=0, seeds=1, config="fcn.py", overrides=None, **labels):
        setting = Setting(name=name, config=config, overrides=overrides or {}, labels=labels)
        return Run(setting=setting, seed=seed, seeds=seeds)

    return make

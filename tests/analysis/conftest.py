"""Runs to be analyzed: tiny networks on the digits, with their masks over training."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

import ssm_jax
from ssm_jax import config
from ssm_jax.analysis import read_runs
from ssm_jax.analysis.read_runs import Finished, Network


def _train(workdir: pathlib.Path, **overrides: object) -> pathlib.Path:
    """A finished run of FCN with 30 and 10 units, two epochs of 12 steps."""
    settings = config.default()
    values = {
        "data.name": "digits",
        "model.width": 0.1,
        "training.epochs": 2,
        "seed": 5,
        "seeds": 2,
        "mask.density": 0.2,
        "compilation_cache": "",
    }
    settings.update_from_flattened_dict(values | overrides)
    ssm_jax.train_and_evaluate(settings, workdir)
    return workdir


@pytest.fixture
def train() -> Callable[..., pathlib.Path]:
    """A function that trains such a run with other settings."""
    return _train


@pytest.fixture(scope="session")
def signed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two seeds of the signed rule, with their masks over training."""
    return _train(tmp_path_factory.mktemp("analyzed") / "signed", **{"logging.masks": True})


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The same two seeds of the binary rule, without masks over training."""
    return _train(tmp_path_factory.mktemp("analyzed") / "binary", **{"mask.rule": "binary"})


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """One seed without a mask."""
    changed = {"mask.rule": "dense", "mask.density": 0.0, "init.kernel": "elu", "seeds": 1}
    return _train(tmp_path_factory.mktemp("analyzed") / "dense", **changed)


@pytest.fixture(scope="session")
def shown(signed, binary, dense) -> dict[str, tuple[Finished, Network]]:
    """The three runs as a report shows them, by their names."""
    runs = read_runs.read([signed, binary, dense])
    return {run.name: (run, network) for run, network in zip(runs, read_runs.networks(runs), strict=True)}

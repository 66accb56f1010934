"""Networks that tests export, with real images and the logits that every format must give."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ssm_jax
from ssm_jax import graph
from ssm_jax.artifact import run, to_graph
from ssm_jax.artifact.format import Artifact
from ssm_jax.data import datasets

RECORD = {"network": "fcn", "seed": 0, "test_accuracy": 97.5}


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, images for it and its logits."""

    artifact: Artifact
    images: np.ndarray
    logits: np.ndarray


def artifact_of(network: graph.Network) -> Artifact:
    """The network with names of classes and a record."""
    return Artifact(network, tuple(f"class {i}" for i in range(network.classes)), RECORD)


@functools.cache
def digits(name: str) -> Case:
    """A masked network on handwritten digits."""
    pytest.importorskip("sklearn")
    images = datasets.load("digits").test_images[:20]
    width = 0.25 if name == "resnet20" else 0.1
    model = ssm_jax.build(name, images.shape[1:], 10, width=width, rngs=nnx.Rngs(0))
    model.eval()
    return case_of(to_graph.network(model, images.shape[1:]), images)


def case_of(network: graph.Network, images: np.ndarray) -> Case:
    """The network's own logits beside it."""
    apply = jax.jit(lambda parameters, images: run.apply(network, parameters, images))
    logits = np.asarray(apply(run.parameters(network), images).astype(jnp.float32))
    assert np.isfinite(logits).all() and np.ptp(logits) > 0
    return Case(artifact_of(network), images, logits)

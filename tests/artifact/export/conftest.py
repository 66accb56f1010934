"""What tests of the formats share: networks on real images, and the logits that every format must give."""

from __future__ import annotations

import dataclasses
import functools
import textwrap
import types
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ssm_jax
from ssm_jax.artifact import graph, pack, run
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
    return case_of(pack.network(model, images.shape[1:], 10), images)


def case_of(network: graph.Network, images: np.ndarray) -> Case:
    """The network's own logits beside it."""
    apply = jax.jit(lambda parameters, images: run.apply(network, parameters, images))
    logits = np.asarray(apply(run.parameters(network), images).astype(jnp.float32))
    assert np.isfinite(logits).all() and np.ptp(logits) > 0
    return Case(artifact_of(network), images, logits)


@pytest.fixture(scope="session", params=["fcn", "conv2", "resnet20"])
def case(request: pytest.FixtureRequest) -> Case:
    """A network of every kind with real images."""
    return digits(request.param)


@pytest.fixture(scope="session")
def fcn() -> Case:
    """A fully connected network with real images."""
    return digits("fcn")


@pytest.fixture(scope="session")
def every_operation() -> Case:
    """Every operation, also where no network of the library has it: odd sides, even kernels, strides, float32
    kernels, constants that are added, normalization of flat values, channels moved both ways."""
    rng = np.random.default_rng(0)

    def kernel(*shape: int, numbers: int = 1) -> graph.Kernel:
        return graph.Kernel(rng.integers(-numbers, numbers + 1, shape, np.int8), np.float32(0.3))

    def floats(*shape: int) -> np.ndarray:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)

    def normalize(value: int, channels: int, name: str) -> graph.Normalize:
        arrays = {array: floats(channels) for array in ("mean", "variance", "scale", "offset")}
        return graph.Normalize(inputs=(value,), name=name, epsilon=1e-3, **arrays)

    nodes = (
        graph.Standardize(inputs=(0,)),
        normalize(1, 3, "norms/0"),
        graph.Offset(inputs=(2,), values=floats(7, 9, 3)),
        graph.Conv(inputs=(3,), name="convs/0", kernel=kernel(2, 2, 3, 4, numbers=3), stride=1),
        graph.Offset(inputs=(4,), values=floats(7, 9, 4)),
        graph.Conv(inputs=(5,), name="convs/1", kernel=graph.Kernel(floats(3, 3, 4, 5) - 1), stride=2),
        graph.Elu(inputs=(6,)),
        graph.Offset(inputs=(7,), values=floats(5)),
        graph.MaxPool(inputs=(8,), window=3, stride=2, padding=2),
        graph.Conv(inputs=(9,), name="convs/2", kernel=kernel(1, 1, 5, 6), stride=1),
        graph.Conv(inputs=(1,), name="convs/3", kernel=kernel(5, 5, 3, 6), stride=3),
        graph.MaxPool(inputs=(11,), window=2, stride=1, padding=1),
        graph.Add(inputs=(10, 12)),
        graph.Flatten(inputs=(13,)),
        normalize(14, 72, "norms/1"),
        graph.Dense(inputs=(15,), name="denses/0", kernel=kernel(72, 6)),
        graph.Offset(inputs=(16,), values=floats(6)),
        graph.Mean(inputs=(13,)),
        graph.Add(inputs=(17, 18)),
        graph.Flatten(inputs=(3,)),
        graph.Dense(inputs=(20,), name="denses/1", kernel=kernel(189, 6)),
        graph.Add(inputs=(21, 19)),
    )
    network = graph.Network(image_shape=(7, 9, 3), classes=6, nodes=nodes)
    return case_of(network, rng.integers(0, 256, (4, 7, 9, 3), np.uint8))


@pytest.fixture(scope="session")
def agree() -> Callable[[np.ndarray, Case], None]:
    """A check that logits are those of a case, up to the order in which another program adds."""

    def check(logits: np.ndarray, case: Case) -> None:
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, case.logits, rtol=0, atol=2e-6 * np.abs(case.logits).max())

    return check


@pytest.fixture(scope="session")
def snippet() -> Callable[[types.ModuleType], str]:
    """The code that a module's docstring shows."""

    def code(module: types.ModuleType) -> str:
        shown = [line for line in str(module.__doc__).splitlines() if line.startswith("    ")]
        return textwrap.dedent("\n".join(shown))

    return code

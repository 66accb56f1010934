"""What tests of the formats share."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable

import numpy as np
import pytest
from artifact.exported import Case, case_of, digits

from ssm_jax import graph


@pytest.fixture(scope="session", params=["fcn", "conv2", pytest.param("resnet20", marks=pytest.mark.slow)])
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
        graph.Offset(inputs=(2,), values=floats(7, 12, 3)),
        graph.Conv(inputs=(3,), name="convs/0", kernel=kernel(2, 2, 3, 4, numbers=3), stride=1),
        graph.Offset(inputs=(4,), values=floats(7, 12, 4)),
        graph.Conv(inputs=(5,), name="convs/1", kernel=graph.Kernel(floats(3, 3, 4, 5) - 1), stride=2),
        graph.Elu(inputs=(6,)),
        graph.Offset(inputs=(7,), values=floats(5)),
        graph.MaxPool(inputs=(8,), window=3, stride=2, padding=2),
        graph.Conv(inputs=(9,), name="convs/2", kernel=kernel(1, 1, 5, 6), stride=1),
        graph.Conv(inputs=(1,), name="convs/3", kernel=kernel(5, 5, 3, 6), stride=3),
        graph.MaxPool(inputs=(11,), window=3, stride=1, padding=1),
        graph.Add(inputs=(10, 12)),
        graph.Flatten(inputs=(13,)),
        normalize(14, 72, "norms/1"),
        graph.Dense(inputs=(15,), name="denses/0", kernel=kernel(72, 6)),
        graph.Offset(inputs=(16,), values=floats(6)),
        graph.Mean(inputs=(13,)),
        graph.Add(inputs=(17, 18)),
        graph.Flatten(inputs=(3,)),
        graph.Dense(inputs=(20,), name="denses/1", kernel=kernel(252, 6)),
        graph.Add(inputs=(21, 19)),
    )
    network = graph.Network(image_shape=(7, 12, 3), classes=6, nodes=nodes)
    return case_of(network, rng.integers(0, 256, (4, 7, 12, 3), np.uint8))


@pytest.fixture(scope="session")
def agree() -> Callable[[np.ndarray, Case], None]:
    """A check that logits are those of a case, up to the order in which another program adds."""

    def check(logits: np.ndarray, case: Case) -> None:
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, case.logits, rtol=0, atol=2e-6 * np.abs(case.logits).max())

    return check


@pytest.fixture(scope="session")
def snippet() -> Callable[[object], str]:
    """The code that a docstring shows."""

    def code(described: object) -> str:
        lines = str(inspect.getdoc(described)).splitlines()
        shown = [line for line in lines if line.startswith("    ")]
        return textwrap.dedent("\n".join(shown))

    return code

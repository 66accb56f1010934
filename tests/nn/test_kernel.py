"""What stands in a kernel's place reads as an array, and can't be assigned."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ssm_jax
from ssm_jax import errors

READS = {
    "index": lambda kernel: kernel[...],
    "value": lambda kernel: kernel.value,
    "get_value": lambda kernel: kernel.get_value(),
    "transpose": lambda kernel: kernel.T.T,
    "astype": lambda kernel: kernel.astype(jnp.float32),
    "half": lambda kernel: 2 * (0.5 * kernel),
    "power": lambda kernel: jnp.sign(kernel) * (kernel**2) ** 0.5,
    "negative": lambda kernel: -(-1 * kernel),
    "numpy": lambda kernel: np.asarray(kernel),
    "left": lambda kernel: np.eye(4, dtype="f") @ kernel,
    "function": lambda kernel: jnp.add(kernel, 0),
    "difference": lambda kernel: kernel - 0 * kernel,
}


@pytest.fixture(scope="module")
def layer():
    return ssm_jax.supermask(nnx.Linear(4, 6, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_it_reads_as_the_effective_kernel(layer, read):
    np.testing.assert_allclose(read(layer.kernel), layer.kernel.effective_kernel(), rtol=1e-6)


def test_it_has_what_an_array_has(layer):
    assert (layer.kernel.ndim, layer.kernel.size, layer.kernel.shape) == (2, 24, (4, 6))
    assert layer.kernel.dtype == jnp.float32
    with pytest.raises(AttributeError, match="no attribute 'weight'"):
        _ = layer.kernel.weight


@pytest.mark.parametrize(
    "assign",
    [
        lambda kernel: setattr(kernel, "value", jnp.zeros((4, 6))),
        lambda kernel: kernel.__setitem__(..., 0.0),
        lambda kernel: kernel.set_value(jnp.zeros((4, 6))),
    ],
)
def test_assignment_is_refused(layer, assign):
    before = np.asarray(layer.kernel)
    with pytest.raises(errors.InputError, match="a masked kernel can't be assigned"):
        assign(layer.kernel)
    np.testing.assert_array_equal(layer.kernel, before)


def test_flax_can_show_it(layer):
    assert "MaskedKernel" in str(layer)
    assert "scores" in nnx.tabulate(
        layer, jnp.ones((1, 4)), console_kwargs={"width": 200, "force_terminal": False}
    )

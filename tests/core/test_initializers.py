"""Constants, bounds and randomness of the initializers, as literals of a 3x3x64x128 kernel."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm_jax import errors
from ssm_jax.core import initializers

pytestmark = pytest.mark.usefixtures("strict_arithmetic")

SHAPE = (3, 3, 64, 128)  # fan_in 576, fan_out 1152
SIZE = 73728

CONSTANTS = {
    "elus": (initializers.elus(), (3 / 576) ** 0.5),
    "elus 3": (initializers.elus(3.0), (6 / 576) ** 0.5),
    "elus 1.3": (initializers.elus(1.3), (2.6 / 576) ** 0.5),
    "he": (initializers.he_constant(), (2 / 576) ** 0.5),
    "xavier": (initializers.xavier_constant(), (2 / 1728) ** 0.5),
    "elus by name": (initializers.kernel_initializer("elus"), (3 / 576) ** 0.5),
    "elus 3 by name": (initializers.kernel_initializer("elus", elus_factor=3.0), (6 / 576) ** 0.5),
    "he by name": (initializers.kernel_initializer("he_constant", elus_factor=3.0), (2 / 576) ** 0.5),
    "xavier by name": (initializers.kernel_initializer("xavier_constant"), (2 / 1728) ** 0.5),
}
UNIFORMS = {
    "elu": (initializers.elu(), (3 * 1.5 / 576) ** 0.5),
    "he": (initializers.he_uniform(), (6 / 576) ** 0.5),
    "xavier": (initializers.xavier_uniform(), (6 / 1728) ** 0.5),
    "elu by name": (initializers.kernel_initializer("elu", elus_factor=9.0), (3 * 1.5 / 576) ** 0.5),
    "elu 0.5 by name": (initializers.kernel_initializer("elu", elu_factor=0.5), (3 * 1.0 / 576) ** 0.5),
    "he by name": (initializers.kernel_initializer("he_uniform", elu_factor=9.0), (6 / 576) ** 0.5),
    "xavier by name": (initializers.kernel_initializer("xavier_uniform", elu_factor=9.0), (6 / 1728) ** 0.5),
    "xavier scores": (initializers.score_initializer("xavier_uniform", elus_factor=9.0), (6 / 1728) ** 0.5),
    "he scores": (initializers.score_initializer("he_uniform", elus_factor=9.0), (6 / 576) ** 0.5),
    "elu scores": (initializers.score_initializer("elu", elus_factor=9.0), (4.5 / 576) ** 0.5),
    "elus scores": (initializers.score_initializer("elus_uniform"), (3 * 3 / 576) ** 0.5),
    "elus 3 scores": (
        initializers.score_initializer("elus_uniform", elus_factor=3.0),
        (3 * 6 / 576) ** 0.5,
    ),
}
constants = pytest.mark.parametrize(("init", "constant"), CONSTANTS.values(), ids=CONSTANTS.keys())
uniforms = pytest.mark.parametrize(("init", "bound"), UNIFORMS.values(), ids=UNIFORMS.keys())
anything = pytest.mark.parametrize(
    "init", [init for init, _ in (CONSTANTS["elus"], UNIFORMS["elu"])], ids=["constant", "uniform"]
)


@functools.cache
def drawn(init, seed: int = 0) -> np.ndarray:
    array = init(jax.random.key(seed), SHAPE, jnp.float32)
    assert array.dtype == jnp.float32
    assert array.shape == SHAPE
    return np.asarray(array, np.float64)


@pytest.mark.parametrize(
    ("shape", "fans"),
    [(SHAPE, (576, 1152)), ((784, 300), (784, 300)), ((1, 1, 16, 32), (16, 32)), ((3, 3, 3, 64), (27, 576))],
)
def test_fans(shape, fans):
    assert initializers.fans(shape) == fans


@constants
def test_constant(init, constant):
    np.testing.assert_array_equal(np.unique(drawn(init)), np.float32([-constant, constant]))


def test_signs_are_fair_and_independent():
    init = initializers.elus()
    signs = np.sign(drawn(init))
    four_deviations = 4 * SIZE**0.5
    assert abs(signs.sum()) < four_deviations
    flat = signs.ravel()
    for distance in (1, 64, 128, 128 * 64):  # along every axis of the kernel
        assert abs((flat * np.roll(flat, distance)).sum()) < four_deviations
    assert abs((signs * np.sign(drawn(init, seed=1))).sum()) < four_deviations


@uniforms
def test_uniform(init, bound):
    values = drawn(init)
    assert np.abs(values).max() <= bound * (1 + 1e-6)
    # The distance from a straight line of the distribution function, Kolmogorov's 0.1 % level.
    line = np.linspace(-bound, bound, SIZE)
    assert np.abs(np.sort(values.ravel()) - line).max() < 2 * bound * 1.95 / SIZE**0.5
    np.testing.assert_allclose(values.var(), bound**2 / 3, rtol=0.02)


@anything
def test_the_key_decides(init):
    draw = functools.partial(init, shape=(20, 30), dtype=jnp.float32)
    np.testing.assert_array_equal(draw(jax.random.key(3)), jax.jit(draw)(jax.random.key(3)))
    assert (draw(jax.random.key(3)) != draw(jax.random.key(4))).any()


@anything
def test_dtype(init):
    assert init(jax.random.key(0), (4, 4), jnp.bfloat16).dtype == jnp.bfloat16
    assert init(jax.random.key(0), (4, 4)).dtype == jnp.float32


def test_unknown_names():
    with pytest.raises(errors.InputError, match=r"kernel initializer 'elsu'.*did you mean 'elus?'\?"):
        initializers.kernel_initializer("elsu")
    with pytest.raises(errors.InputError, match=r"score initializer 'xavier'.*'xavier_uniform'\?"):
        initializers.score_initializer("xavier")
    # A constant has no scores to rank, so it is not offered for them.
    with pytest.raises(errors.InputError, match="allowed: xavier_uniform, he_uniform, elus_uniform, elu"):
        initializers.score_initializer("elus")

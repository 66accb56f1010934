"""Kernels with other axes than `(..., I, O)` are drawn with the fans of what they compute."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from ssm_jax.core.blocks import Blocks, in_blocks
from ssm_jax.core.initializers import elus, fans, xavier_uniform
from ssm_jax.nn.blocks import of_layer

KEY = jax.random.key(0)


def test_several_inputs_and_outputs_are_drawn_as_one_matrix():
    layer = nnx.LinearGeneral((2, 4), (3, 5), axis=(-2, -1), rngs=nnx.Rngs(0))
    shape, blocks = of_layer(layer)
    assert shape == layer.kernel.shape == (2, 4, 3, 5)
    drawn = in_blocks(xavier_uniform(), blocks)(KEY, shape)
    np.testing.assert_array_equal(drawn.reshape(8, 15), xavier_uniform()(KEY, (8, 15)))


def test_groups_are_drawn_one_by_one():
    layer = nnx.Conv(4, 6, (3, 3), feature_group_count=2, rngs=nnx.Rngs(0))
    shape, blocks = of_layer(layer)
    assert shape == layer.kernel.shape == (3, 3, 2, 6) and (blocks.count, blocks.block) == (2, (3, 3, 2, 3))
    drawn = in_blocks(xavier_uniform(), blocks)(KEY, shape)
    for place, key in enumerate(jax.random.split(KEY, 2)):
        own = drawn[..., 3 * place : 3 * place + 3]
        np.testing.assert_allclose(own, xavier_uniform()(key, (3, 3, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize(
    ("formula", "kernel", "fan_in", "fan_out"),
    [
        ("bi,io->bo", (4, 6), 4, 6),
        ("bi,oi->bo", (6, 4), 4, 6),
        ("bhi,hio->bho", (2, 4, 6), 4, 6),  # h is in both: a matrix for each
        ("bhi,hio->bo", (2, 4, 6), 8, 6),  # h is summed over
        ("...i,iho->...ho", (4, 2, 6), 4, 12),
        ("n...i,...io->n...o", (3, 5, 2), 5, 2),
        ("bi,...io->b...o", (3, 5, 2), 5, 6),
        ("...i,i...o->...o", (5, 3, 2), 5, 2),
    ],
)
def test_an_einsum_tells_inputs_from_outputs(formula, kernel, fan_in, fan_out):
    shape, blocks = of_layer(nnx.Einsum(formula, kernel, rngs=nnx.Rngs(0)))
    assert shape == kernel and fans(blocks.block) == (fan_in, fan_out)


def test_a_signed_constant_stays_one_with_the_fan_of_its_blocks():
    init = in_blocks(elus(), Blocks.of((4, 2, 6), groups=(1,), outputs=(2,)))
    signs = init.signs(KEY, (4, 2, 6))
    assert set(np.unique(signs)) == {-1, 1}
    np.testing.assert_allclose(init.constant((4, 2, 6)), np.sqrt(3 / 4), rtol=1e-6)
    np.testing.assert_allclose(init(KEY, (4, 2, 6)), signs * init.constant((4, 2, 6)), rtol=1e-6)


def test_a_kernel_that_is_a_block_itself_is_drawn_as_ever():
    assert in_blocks(elus(), of_layer(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))[1]) == elus()

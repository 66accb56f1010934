"""N:M and blocks in kernels whose axes are not inputs and outputs in this order."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ssm_jax
from ssm_jax import core

TWO_OF_FOUR = core.NOfM(2, 4)


def test_a_kernel_of_outputs_by_inputs_keeps_n_of_m_inputs():
    blocks = core.Blocks.of((3, 8), groups=(), outputs=(0,))
    masks = core.init(
        jax.random.key(0), {"weight": jnp.zeros((3, 8))}, core.Masking(TWO_OF_FOUR), where=lambda *_: blocks
    )
    kept = np.asarray(core.apply(masks)["weight"] != 0)
    np.testing.assert_array_equal(kept.reshape(3, 2, 4).sum(-1), 2)
    gradient = jax.grad(lambda trained: core.apply(masks.replace(trained))["weight"].sum())(masks.trained)
    assert all((leaf != 0).all() for leaf in jax.tree.leaves(gradient))


def test_every_head_of_attention_keeps_n_of_m_inputs():
    attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0))
    model = ssm_jax.supermask(attention, core.Masking(TWO_OF_FOUR))
    query, out = (np.asarray(layer.kernel[...] != 0) for layer in (model.query, model.out))
    assert query.shape == (8, 2, 4) and out.shape == (2, 4, 8)
    np.testing.assert_array_equal(query.reshape(2, 4, 2, 4).sum(1), 2)
    np.testing.assert_array_equal(out.sum(1), 2)  # its inputs are the heads with their features


@pytest.mark.parametrize("shape, groups, outputs", [((5, 2, 3), (), (1, 2)), ((4, 6, 2), (1,), (0,))])
def test_a_kernel_apart_and_together_is_the_same(shape, groups, outputs):
    blocks = core.Blocks.of(shape, groups, outputs)
    kernel = jnp.arange(np.prod(shape)).reshape(shape)
    parts = blocks.apart(kernel)
    assert parts.shape == (blocks.count, *blocks.block)
    np.testing.assert_array_equal(blocks.assemble(parts), kernel)

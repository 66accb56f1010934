"""The share of weights that remains in any model, and the table of it."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx

import ssm_jax
from ssm_jax import errors
from ssm_jax.nn.layers import masked_layers


@pytest.fixture(scope="module")
def model():
    rngs = nnx.Rngs(0)
    return ssm_jax.supermask(nnx.Sequential(nnx.Linear(4, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)))


def test_all_weights_count_alike(model):
    masks = [np.asarray(layer.mask()) for _, layer in masked_layers(model)]
    assert sum(mask.size for mask in masks) == 36
    expected = sum(np.count_nonzero(mask) for mask in masks) / 36
    assert ssm_jax.remaining_weights(model) == pytest.approx(expected)


def test_the_table_has_a_line_per_layer_and_one_of_all(model):
    masks = {path: np.asarray(layer.mask()) for path, layer in masked_layers(model)}
    lines = [line.split() for line in ssm_jax.mask_table(model).splitlines()]
    for path, mask in masks.items():
        (row,) = [line for line in lines if line[0] == path]
        assert row[1:4] == ["Linear", "x".join(map(str, mask.shape)), str(mask.size)]
        shares = [100 * np.mean(mask == value) for value in (-1, 0, 1)]
        assert [float(cell) for cell in row[4:]] == pytest.approx(shares, abs=0.006)
    (total,) = [line for line in lines if line[0] == "all"]
    assert total[1] == "36"
    assert 100 - float(total[3]) == pytest.approx(100 * ssm_jax.remaining_weights(model), abs=0.006)


@pytest.mark.parametrize("tell", [ssm_jax.remaining_weights, ssm_jax.mask_table])
def test_a_model_without_masked_layers_is_one_line(tell):
    with pytest.raises(errors.InputError):
        tell(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))

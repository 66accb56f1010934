"""Signed constants as signs and one number."""

import numpy as np
import pytest

from ssm_jax.runs.constants import pack, unpack


def test_a_signed_constant_takes_one_byte_a_weight_and_comes_back_bit_for_bit():
    constant = np.float32(np.sqrt(3 / 576))
    kernel = np.where(np.arange(2 * 4 * 3).reshape(2, 4, 3) % 2, constant, -constant)
    packed, names = pack({"kernel": kernel})
    assert names == ["kernel"] and set(packed) == {"kernel/sign", "kernel/constant"}
    assert packed["kernel/sign"].dtype == np.int8
    np.testing.assert_array_equal(unpack(packed, names)["kernel"], kernel)
    assert unpack(packed, names)["kernel"].dtype == np.float32


@pytest.mark.parametrize(
    "array",
    [
        np.array([[0.5, -0.25]] * 2, np.float32)[None],
        np.zeros((1, 2, 2), np.float32),
        np.array([0.1, 0.1], np.float32),
    ],
    ids=["several sizes", "zeros", "a scalar per seed"],
)
def test_anything_else_is_stored_as_it_is(array):
    packed, names = pack({"array": array})
    assert names == [] and packed["array"] is array

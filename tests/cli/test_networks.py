"""The exported network that a verb is given."""

import pytest

from ssm_jax import errors
from ssm_jax.cli import networks


def test_a_file_is_read(network):
    assert networks.read(network).network.image_shape == (8, 8, 1)


def test_the_folder_of_a_run_is_told_how_to_become_a_file(tmp_path):
    with pytest.raises(errors.InputError, match=f"{tmp_path} is a folder; ssm-jax export {tmp_path} writes"):
        networks.read(tmp_path)

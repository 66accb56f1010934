"""The exported network that a verb is given."""

from __future__ import annotations

import pathlib

from ssm_jax import errors
from ssm_jax.artifact import format


def read(path: pathlib.Path) -> format.Artifact:
    """Read an exported network.

    Args:
      path: A `.ssm` file.

    Raises:
      InputError: There is none, or it can't be used.
    """
    if path.is_dir():
        raise errors.InputError(f"{path} is a folder; ssm-jax export {path} writes the .ssm file of a run")
    return format.read(path)

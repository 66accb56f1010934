"""This library's own format, for `ssm_jax.artifact.export`."""

from __future__ import annotations

import pathlib

from ssm_jax.artifact import format
from ssm_jax.artifact.format import Artifact


def write(artifact: Artifact, path: pathlib.Path) -> None:
    """Write a trained network as `ssm_jax.artifact.format` describes.

    Args:
      artifact: The network.
      path: The file.
    """
    format.write(path, artifact)

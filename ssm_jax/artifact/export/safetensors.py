"""A network as arrays in the safetensors format, which PyTorch, JAX, Rust and others read.

The arrays are those of `ssm_jax.artifact.export.arrays`, which goes on where this ends; the texts are the
file's metadata:

    tensors = safetensors.numpy.load_file("model.safetensors")
    with safetensors.safe_open("model.safetensors", "numpy") as file:
        graph = json.loads(file.metadata()["graph"])
"""

from __future__ import annotations

import pathlib

import safetensors.numpy

from ssm_jax import files
from ssm_jax.artifact.export import arrays
from ssm_jax.artifact.format import Artifact


def write(artifact: Artifact, path: pathlib.Path) -> None:
    """Write a trained network as `.safetensors`.

    Args:
      artifact: The network.
      path: The file.

    Raises:
      InputError: Two layers have one name.
      OSError: The file can't be written.
    """
    content = safetensors.numpy.save(arrays.tensors(artifact.network), arrays.texts(artifact))
    files.write_whole(path, lambda file: file.write(content))

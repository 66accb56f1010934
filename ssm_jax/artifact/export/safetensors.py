"""A network as arrays in the safetensors format, which PyTorch, JAX, Rust and others read.

The arrays are those of `ssm_jax.artifact.export.arrays`; the texts are the file's metadata. An FCN in NumPy:

    tensors = safetensors.numpy.load_file("model.safetensors")
    with safetensors.safe_open("model.safetensors", "numpy") as file:
        graph = json.loads(file.metadata()["graph"])

and on as in `ssm_jax.artifact.export.npz`, with `tensors` in place of `file`.
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

"""A network as arrays in NumPy's own format, which needs no package but NumPy, and no pickle, to be read.

The arrays and the texts beside them, strings without dimensions, are those of
`ssm_jax.artifact.export.arrays`, which goes on where this ends:

    tensors = np.load("model.npz")
    graph = json.loads(tensors["graph"].item())
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from ssm_jax import files
from ssm_jax.artifact.export import arrays
from ssm_jax.artifact.format import Artifact


def write(artifact: Artifact, path: pathlib.Path) -> None:
    """Write a trained network as compressed `.npz`.

    Args:
      artifact: The network.
      path: The file.

    Raises:
      InputError: Two layers have one name.
      OSError: The file can't be written.
    """
    texts = {name: np.array(text) for name, text in arrays.texts(artifact).items()}
    content: dict[str, Any] = {**arrays.tensors(artifact.network), **texts}
    files.write_whole(path, lambda file: np.savez_compressed(file, **content))

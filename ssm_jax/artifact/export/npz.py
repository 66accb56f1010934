"""A network as arrays in NumPy's own format, which needs no package but NumPy, and no pickle, to be read.

The arrays and the texts beside them, strings without dimensions, are those of
`ssm_jax.artifact.export.arrays`. An FCN in NumPy alone:

    file = np.load("model.npz")
    graph = json.loads(file["graph"].item())
    values = [images]                                       # uint8 [B, H, W, C]
    for operation in graph["operations"]:
        x = values[operation["inputs"][0]]
        match operation["operation"]:
            case "standardize":
                x = x.astype(np.float32)
                x = x - x.mean((1, 2, 3), keepdims=True)
                x = x / np.maximum(x.std((1, 2, 3), keepdims=True), x[0].size ** -0.5)
            case "flatten":
                x = x.reshape(len(x), -1)
            case "dense":
                name = operation["name"]
                x = x @ file[f"{name}.values"].astype(np.float32) * file[f"{name}.scale"]
            case "elu":
                x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
        values.append(x)
    logits = values[-1]
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
    files.write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, **content))

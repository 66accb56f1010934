"""A network as named arrays and JSON, in the formats that hold arrays alone: `.npz` and `.safetensors`.

A layer `convs/0` has the arrays `convs/0.values`, int8, and `convs/0.scale`, float32, whose product is its
kernel; or `convs/0.kernel`, float32, where a kernel is no whole numbers times a constant. Kernels are
`[k, k, I, O]` or `[I, O]`. A normalization `stem_norm` has `stem_norm.mean` and `.variance`, and `.scale` and
`.offset` where there are any. Constants that are added have the number of their operation: `offset/7.values`.

Beside them stand three texts, each JSON:

- `graph`: an object of `image_shape`, `image_dtype`, `classes`, `dtype` and the list `operations`, each
  an object of `operation` (a key of `ssm_jax.graph.OPERATIONS`, whose docstrings define it), `inputs`
  (value 0 is the inputs, float32 unless they are int32, operation i makes value i + 1, the last value is
  the logits), `name` where it has arrays, and its settings, such as `stride` and `epsilon`.
- `class_names`: the names of the classes in the logits' order.
- `record`: where the network comes from and how good it is.

A network that computes in bfloat16 has the arrays that it computes with, rounded to bfloat16, in float32.

With the arrays as `tensors` and the text `graph` decoded, an FCN in NumPy alone:

    values = [images.astype(np.float32)]  # of uint8 [B, H, W, C]
    for operation in graph["operations"]:
        x = values[operation["inputs"][0]]
        match operation["operation"]:
            case "standardize":
                x = x - x.mean((1, 2, 3), keepdims=True)
                x /= np.maximum(x.std((1, 2, 3), keepdims=True), x[0].size ** -0.5)
            case "flatten":
                x = x.reshape(len(x), -1)
            case "dense":
                name = operation["name"]
                x = x @ (tensors[f"{name}.values"] * tensors[f"{name}.scale"])
            case "elu":
                x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
        values.append(x)
    logits = values[-1]
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import ml_dtypes
import numpy as np

from ssm_jax import errors, files, graph
from ssm_jax.artifact import header
from ssm_jax.artifact.format import Artifact


def npz(artifact: Artifact, path: pathlib.Path) -> None:
    """Write a network as compressed `.npz`, which NumPy alone reads; texts are strings without dimensions.

        tensors = np.load("model.npz")
        graph = json.loads(tensors["graph"].item())

    Raises:
      InputError: Two layers have one name.
      OSError: The file can't be written.
    """
    held = {name: np.array(text) for name, text in texts(artifact).items()}
    content: dict[str, Any] = {**tensors(artifact.network), **held}
    files.write_whole(path, lambda file: np.savez_compressed(file, **content))


def safetensors(artifact: Artifact, path: pathlib.Path) -> None:
    """Write a network as `.safetensors`, which PyTorch, JAX, Rust and others read; texts are its metadata.

        tensors = safetensors.numpy.load_file("model.safetensors")
        with safetensors.safe_open("model.safetensors", "numpy") as file:
            graph = json.loads(file.metadata()["graph"])

    Raises:
      InputError: Two layers have one name.
      OSError: The file can't be written.
    """
    from safetensors.numpy import save  # an extra

    content = save(tensors(artifact.network), texts(artifact))
    files.write_whole(path, lambda file: file.write(content))


def rounded(network: graph.Network) -> graph.Network:
    """Return the network with arrays as its dtype holds them, which JAX makes of them when it computes.

    Args:
      network: The network; one in float32 is returned as it is.
    """
    if network.dtype == "float32":
        return network
    return dataclasses.replace(network, nodes=tuple(_rounded(node) for node in network.nodes))


def _rounded(node: graph.Node) -> graph.Node:
    def in_bfloat16(array: np.ndarray) -> np.ndarray:
        return array.astype(ml_dtypes.bfloat16).astype(np.float32)

    if isinstance(node, graph.Layer):
        return dataclasses.replace(node, kernel=graph.Kernel.of(in_bfloat16(node.kernel.dense())))
    if isinstance(node, graph.Constant):
        return node
    changed: dict[str, Any] = {name: in_bfloat16(array) for name, array in node.arrays().items()}
    return dataclasses.replace(node, **changed)


def tensors(network: graph.Network) -> dict[str, np.ndarray]:
    """Return the arrays of a network by name.

    Args:
      network: The network.

    Raises:
      InputError: Two layers have one name, or one has a name that no file may have.
    """
    arrays: dict[str, np.ndarray] = {}
    for number, node in enumerate(rounded(network).nodes):
        for name, array in _arrays(node).items():
            full = f"{header.path(_name(number, node), 'the name of a layer')}.{name}"
            if full in arrays:
                raise errors.InputError(f"two arrays of the network are named {full!r}")
            arrays[full] = np.asarray(array, order="C")
    return arrays


def texts(artifact: Artifact) -> dict[str, str]:
    """Return what is to stand beside the arrays: `graph`, `class_names` and `record`, each JSON.

    Args:
      artifact: The network.

    Raises:
      InputError: The record holds what JSON can't.
    """
    network = artifact.network
    operations = [_description(number, node) for number, node in enumerate(network.nodes)]
    described = {
        "image_dtype": network.image_dtype,
        "image_shape": network.image_shape,
        "classes": network.classes,
        "dtype": network.dtype,
        "operations": operations,
    }
    values = {"graph": described, "class_names": artifact.class_names, "record": artifact.record}
    return {name: header.dump(value).decode() for name, value in values.items()}


def _name(number: int, node: graph.Node) -> str:
    return getattr(node, "name", f"{graph.operation(node)}/{number}")


def _arrays(node: graph.Node) -> dict[str, np.ndarray]:
    if not isinstance(node, graph.Layer):
        return node.arrays()
    if node.kernel.whole:
        return {"values": node.kernel.values, "scale": np.asarray(node.kernel.scale)}
    return {"kernel": node.kernel.dense()}


def _description(number: int, node: graph.Node) -> dict[str, Any]:
    named = {"name": _name(number, node)} if _arrays(node) else {}
    settings = {
        field.name: getattr(node, field.name)
        for field in dataclasses.fields(node)
        if field.name not in ("name", "inputs")
        and isinstance(getattr(node, field.name), (int, float, str, tuple))
    }
    return {"operation": graph.operation(node), "inputs": node.inputs, **named, **settings}

"""A trained network in the formats that other programs read; each is imported when it is first used."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import pathlib
from typing import TYPE_CHECKING

from ssm_jax import errors

if TYPE_CHECKING:
    from ssm_jax.artifact.format import Artifact


@dataclasses.dataclass(frozen=True)
class Format:
    """A file format for trained networks.

    Attributes:
      file: Default name of the file.
      description: One line.
      module: The module whose `write(artifact, path)` writes it.
      needs: What must be importable; an extra of the format's name installs it.
    """

    file: str
    description: str
    module: str
    needs: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {
    "ssm": Format("model.ssm", "this library's own, the smallest", "ssm_jax.artifact.export.ssm"),
    "c": Format("model.c", "C source without dependencies, and its header", "ssm_jax.artifact.export.c"),
    "stablehlo": Format(
        "model.stablehlo",
        "a serialized jax.export program for CPU, CUDA and TPU",
        "ssm_jax.artifact.export.stablehlo",
        ("flatbuffers",),
    ),
    "onnx": Format(
        "model.onnx",
        "ONNX for onnxruntime and others",
        "ssm_jax.artifact.export.onnx",
        ("onnx",),
    ),
    "safetensors": Format(
        "model.safetensors",
        "named arrays, int8 where they can be, and the operations as JSON",
        "ssm_jax.artifact.export.safetensors",
        ("safetensors",),
    ),
    "npz": Format("model.npz", "the same for NumPy alone", "ssm_jax.artifact.export.npz"),
}


def write(artifact: Artifact, path: str | os.PathLike[str], name: str) -> None:
    """Write a trained network in a format.

    Args:
      artifact: The network.
      path: The file to write, which is there whole or not at all; its folder exists.
      name: The format, a key of `FORMATS`.

    Raises:
      InputError: There is no such format, a package that it needs is not installed, or the network doesn't
        fit into it.
      OSError: The file can't be written.
    """
    chosen = errors.choose("format", name, FORMATS)
    if any(importlib.util.find_spec(package) is None for package in chosen.needs):
        raise errors.InputError(f'--format {name} needs: pip install "ssm_jax[{name}]"')
    importlib.import_module(chosen.module).write(artifact, pathlib.Path(path))

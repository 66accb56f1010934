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
      writer: What writes it, a function of artifact and path: its module below `ssm_jax.artifact`, its name.
      needs: What must be importable; an extra of the format's name installs it.
      beside: Endings of further files, beside the file and of its name; the file then ends as the default's.
    """

    file: str
    description: str
    writer: str
    needs: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def files(self, path: pathlib.Path) -> list[pathlib.Path]:
        """Name all files that are written.

        Args:
          path: The file to write.
        """
        return [path, *(path.with_suffix(ending) for ending in self.beside)]


FORMATS: dict[str, Format] = {
    "ssm": Format("model.ssm", "this library's own, the smallest", "format:write"),
    "c": Format(
        "model.c",
        "C99 source for any compiler (link with -lm), and its header",
        "export.c:write",
        beside=(".h",),
    ),
    "stablehlo": Format(
        "model.stablehlo",
        "a serialized jax.export program for CPU, CUDA and TPU",
        "export.stablehlo:write",
        ("flatbuffers",),
    ),
    "onnx": Format("model.onnx", "ONNX for onnxruntime and others", "export.onnx:write", ("onnx",)),
    "safetensors": Format(
        "model.safetensors",
        "named arrays, int8 where they can be, and the operations as JSON",
        "export.arrays:safetensors",
        ("safetensors",),
    ),
    "npz": Format("model.npz", "the same for NumPy alone", "export.arrays:npz"),
}


def by_ending(path: str | os.PathLike[str]) -> str:
    """Find the format that a file's name ends in.

    Raises:
      InputError: There is none.
    """
    ending = pathlib.Path(path).suffix
    for name, each in FORMATS.items():
        if pathlib.Path(each.file).suffix == ending:
            return name
    endings = ", ".join(pathlib.Path(each.file).suffix for each in FORMATS.values())
    raise errors.InputError(f"{os.fspath(path)} has no format: end it in one of {endings}, or give format=")


def check(name: str, path: str | os.PathLike[str]) -> Format:
    """Check what can be checked of an export before there is a network.

    Args:
      name: The format, a key of `FORMATS`.
      path: The file to write.

    Returns:
      The format.

    Raises:
      InputError: There is no such format, a package that it needs is not installed, or the file's name does
        not end as it must.
    """
    chosen = errors.choose("format", name, FORMATS)
    if any(importlib.util.find_spec(package) is None for package in chosen.needs):
        raise errors.InputError(f'--format {name} needs: pip install "ssm_jax[{name}]"')
    ending = pathlib.Path(chosen.file).suffix
    if chosen.beside and pathlib.Path(path).suffix != ending:
        others = ", ".join(chosen.beside)
        raise errors.InputError(f"{path} must end in {ending} for --format {name}; {others} goes beside it")
    return chosen


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
    chosen = check(name, path)
    module, _, function = chosen.writer.partition(":")
    getattr(importlib.import_module(f"ssm_jax.artifact.{module}"), function)(artifact, pathlib.Path(path))

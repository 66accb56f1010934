"""C files of networks, compiled as strictly as can be and called."""

from __future__ import annotations

import ctypes
import pathlib
import subprocess

import numpy as np
import pytest

from ssm_jax import compilers, errors, graph
from ssm_jax.artifact.export import c
from ssm_jax.artifact.format import Artifact

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1")


def artifact_of(network: graph.Network, **record: object) -> Artifact:
    """An artifact with classes of the names 0, 1, 2 and so on."""
    return Artifact(network, tuple(str(i) for i in range(network.classes)), record)


def compiler() -> list[str]:
    """The system's C compiler; skips the test where there is none."""
    try:
        return compilers.find("C")
    except errors.InputError as error:
        pytest.skip(str(error))


def library(path: pathlib.Path, *flags: str) -> ctypes.CDLL:
    """Compile a C file and load it."""
    made = path.with_suffix(".so")
    command = [*compiler(), *STRICT, *flags, "-shared", "-fPIC", "-o", str(made), str(path), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return ctypes.CDLL(str(made))


def logits(network: graph.Network, images: np.ndarray, folder: pathlib.Path, *flags: str) -> np.ndarray:
    """Write a network as C, compile it, and call it image by image, with NaN wherever it writes nothing."""
    c.write(artifact_of(network), folder / "net.c")
    return called(folder / "net.c", images, (network.classes,), *flags)


def called(path: pathlib.Path, images: np.ndarray, result: graph.Shape, *flags: str) -> np.ndarray:
    """Compile `net.c`, and call it image by image."""
    predict = library(path, *flags).net_predict
    predict.argtypes, predict.restype = [ctypes.c_void_p] * 3, None
    scratch = np.full(scratch_of(path.with_suffix(".h")), np.nan, np.float32)
    made = np.full((len(images), *result), np.nan, np.float32)
    for image, row in zip(np.ascontiguousarray(images), made, strict=True):
        predict(image.ctypes.data, row.ctypes.data, scratch.ctypes.data)
        scratch[...] = np.nan
    return made


def scratch_of(header: pathlib.Path) -> int:
    """The number of floats that a header asks for."""
    lines = header.read_text().splitlines()
    return next(int(line.split()[2]) for line in lines if line.startswith("#define NET_SCRATCH"))

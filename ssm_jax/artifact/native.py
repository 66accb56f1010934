"""A network compiled by the system's C compiler: the fast path on a CPU, one image or a few at a time."""

from __future__ import annotations

import ctypes
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable

import numpy as np

from ssm_jax import errors, graph
from ssm_jax.artifact.export import c
from ssm_jax.artifact.format import Artifact

_STEM = "network"

# The first that the compiler knows. Wider vectors cross the lines of the cache, and the whole takes longer.
_OPTIMIZE = ("-O3", "-ffp-contract=fast")
_FLAGS = (
    (*_OPTIMIZE, "-march=native", "-mprefer-vector-width=256"),
    (*_OPTIMIZE, "-march=native"),
    ("-O3",),
)

# Several images by one call, so that what Python costs is paid once.
_BATCH = """
extern const int64_t scratch_size;
const int64_t scratch_size = NETWORK_SCRATCH;

void predict_batch(const uint8_t *images, float *logits, float *scratch, int64_t count);

void predict_batch(const uint8_t *images, float *logits, float *scratch, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        network_predict(images + i * (NETWORK_HEIGHT * NETWORK_WIDTH * NETWORK_CHANNELS),
                        logits + i * NETWORK_CLASSES, scratch);
}
"""


def compiler() -> list[str]:
    """Find the system's C compiler: the environment's CC, or cc, gcc or clang.

    Returns:
      The command's words.

    Raises:
      InputError: There is none.
    """
    try:
        given = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise errors.InputError(f"CC is {os.environ['CC']!r}: {errors.one_line(error)}") from error
    for words in [given] if given else [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(words[0]):
            return words
    what = f"CC is {given[0]!r}, which is not found" if given else "there is no cc, gcc or clang"
    raise errors.InputError(f"a C compiler is needed; {what}")


def compile(network: graph.Network) -> Callable[[np.ndarray], np.ndarray]:
    """Compile a network with the system's C compiler.

    Args:
      network: The network.

    Returns:
      A function from images, uint8 `[B, H, W, C]`, to logits, float32 `[B, classes]`, on one core; threads
      may call it at the same time. It raises an InputError for anything else.

    Raises:
      InputError: There is no C compiler.
      RunError: It failed.
    """
    names = tuple(str(i) for i in range(network.classes))
    source, header = c.sources(Artifact(network, names, {}), _STEM)
    library = _library(source + _BATCH, header)
    predict = library.predict_batch
    predict.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    predict.restype = None
    size = ctypes.c_int64.in_dll(library, "scratch_size").value
    own = threading.local()

    def logits(images: np.ndarray) -> np.ndarray:
        images = np.ascontiguousarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != network.image_shape:
            raise errors.InputError(
                f"images are {images.dtype} {images.shape}; allowed is uint8 (B, "
                f"{', '.join(map(str, network.image_shape))})"
            )
        if not hasattr(own, "scratch"):
            own.scratch = np.empty(size, np.float32)
        made = np.empty((len(images), network.classes), np.float32)
        predict(images.ctypes.data, made.ctypes.data, own.scratch.ctypes.data, len(images))
        return made

    return logits


def _library(source: str, header: str) -> ctypes.CDLL:
    words = compiler()
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, f"{_STEM}.c")
            path.write_text(source)
            path.with_suffix(".h").write_text(header)
            made = path.with_suffix(".so")
            for flags in _FLAGS:
                command = [*words, *flags, "-std=c99", "-shared", "-fPIC", "-o", str(made), str(path), "-lm"]
                done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
                if not done.returncode:
                    # The loaded library outlives its file.
                    return ctypes.CDLL(str(made))
    except OSError as error:  # no program, one that compiles for another machine, no room for its files
        raise errors.RunError(
            f"{shlex.join(words)} can't compile the network: {errors.one_line(error)}"
        ) from error
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    raise errors.RunError(f"{shlex.join(words)} can't compile the network: {lines[-1]}")

"""A network compiled by the system's C compiler: the fast path on a CPU, one image or a few at a time."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

import numpy as np

from ssm_jax import compilers, errors, graph
from ssm_jax.artifact.export import c
from ssm_jax.artifact.format import Artifact

_STEM = "network"

# The first that the compiler knows. Wider vectors cross the lines of the cache, and the whole takes longer.
_OPTIMIZE = ("-std=c99", "-O3", "-ffp-contract=fast")
_FLAGS = (
    (*_OPTIMIZE, "-march=native", "-mprefer-vector-width=256"),
    (*_OPTIMIZE, "-march=native"),
    ("-std=c99", "-O3"),
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


def compile(network: graph.Network) -> Callable[[np.ndarray], np.ndarray]:
    """Compile a network with the system's C compiler.

    Args:
      network: The network.

    Returns:
      A function from images, uint8 `[B, H, W, C]`, to logits, float32 `[B, classes]`, on one core; threads
      may call it at the same time. It raises an InputError for anything else.

    Raises:
      InputError: There is no C compiler, or the network is not from images to a vector.
      RunError: It failed.
    """
    if network.image_dtype != "uint8" or (len(network.image_shape), len(network.shapes()[-1])) != (3, 1):
        raise errors.InputError("only a network from uint8 images [H, W, C] to a vector is compiled")
    names = tuple(str(i) for i in range(network.classes))
    source, header = c.sources(Artifact(network, names, {}), _STEM)
    library = compilers.build(
        compilers.find("C"),
        {f"{_STEM}.c": source + _BATCH, f"{_STEM}.h": header},
        _FLAGS,
        ["-lm"],
        what="the network",
    )
    predict = library.predict_batch
    predict.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    predict.restype = None
    size = ctypes.c_int64.in_dll(library, "scratch_size").value
    own = threading.local()

    def logits(images: np.ndarray) -> np.ndarray:
        images = np.ascontiguousarray(images)
        network.check(images)
        if not hasattr(own, "scratch"):
            own.scratch = np.empty(size, np.float32)
        out = np.empty((len(images), network.classes), np.float32)
        predict(images.ctypes.data, out.ctypes.data, own.scratch.ctypes.data, len(images))
        return out

    return logits

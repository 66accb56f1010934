"""A trained network from its file, ready to be called with images."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental.sparse import BCOO

from ssm_jax import errors
from ssm_jax.artifact import format, graph, native, run
from ssm_jax.artifact.compact import compact

Array = jax.Array | np.ndarray
Predict = Callable[[Any], Array]

# A product with a list of weights beats one with a matrix where the matrix is large and nearly empty; see
# benchmarks/results/inference-cpu-2-cores.json.
_LISTED_WEIGHTS, _LISTED_DENSITY = 100_000, 0.05


def load(path: str | os.PathLike[str], backend: str = "auto") -> Model:
    """Load a trained network.

    Args:
      path: A file that `ssm-jax export` or `ssm_jax.artifact.format.write` wrote.
      backend: What computes the logits, see `Model`.

    Returns:
      A function from images to logits.

    Raises:
      InputError: The file can't be used, the backend is unknown, or a C compiler is needed and missing.
      RunError: The C compiler failed.
    """
    errors.choose("backend", backend, {"auto": None, **BACKENDS})
    return Model(format.read(path), backend)


class Model:
    """A trained network as a function of images.

    Backends:
      dense: The network as it was trained, jitted: the logits are the trained network's bit for bit.
      sparse: The compacted network, jitted; large dense layers of few weights as lists of them.
      native: The compacted network, compiled by the system's C compiler, on a CPU.
      auto: `native` on a CPU where there is a compiler, or else `sparse`; `dense` elsewhere, where none has
        been measured. Equal to `dense` but for rounding.

    Args:
      artifact: The network, its class names and its record.
      backend: One of these.

    Attributes:
      artifact: What was given.
      backend: What computes the logits, never `auto`.

    Raises:
      InputError: There is no such backend, or no C compiler where one is needed.
      RunError: The C compiler failed.
    """

    def __init__(self, artifact: format.Artifact, backend: str = "auto") -> None:
        self.artifact = artifact
        self.backend = _chosen() if backend == "auto" else backend
        self._predict = errors.choose("backend", self.backend, BACKENDS)(artifact.network)

    def __call__(self, images: Array) -> Array:
        """Compute logits.

        Args:
          images: uint8 `[B, H, W, C]`, any B. In a function that JAX transforms, `native` is `sparse`.

        Returns:
          Logits `[B, classes]`, float32; of `native` a NumPy array.

        Raises:
          InputError: The images are of another shape or dtype.
        """
        check(self.artifact.network, images)
        return self._predict(images)

    def module(self) -> Module:
        """Return the network as a module to inspect or to train on."""
        return Module(self.artifact.network)


class Module(nnx.Module):
    """A network as an NNX module that computes what the `dense` backend does, bit for bit.

    Effective kernels and a normalization's scale and offset are `nnx.Param`, its statistics `nnx.BatchStat`,
    which stay as they are; a hidden weight is a 0 that training would change like any other.

    Args:
      network: The network.

    Attributes:
      network: What was given.
      operations: Of every operation, its arrays by name.
    """

    def __init__(self, network: graph.Network) -> None:
        self.network = network
        self.operations = nnx.List(
            nnx.Dict({name: _variable(name, array) for name, array in arrays.items()})
            for arrays in run.parameters(network)
        )

    def __call__(self, images: Array) -> jax.Array:
        """Logits `[B, classes]`, float32, of images, uint8 `[B, H, W, C]`."""
        check(self.network, images)
        arrays = [{name: variable[...] for name, variable in node.items()} for node in self.operations]
        return _logits(self.network, arrays, jnp.asarray(images))


def check(network: graph.Network, images: Array) -> None:
    """Check that a network can take images.

    Args:
      network: The network.
      images: uint8 `[B, H, W, C]`.

    Raises:
      InputError: They are of another shape or dtype.
    """
    shape, dtype = np.shape(images), getattr(images, "dtype", type(images).__name__)
    if dtype == np.uint8 and shape[1:] == network.image_shape:
        return
    needed = f"uint8 [B, {', '.join(map(str, network.image_shape))}]"
    hint = ", a batch of one is images[None]" if shape == network.image_shape else ""
    raise errors.InputError(f"images are {dtype} {list(shape)}; allowed is {needed}{hint}")


def _variable(name: str, array: jax.Array) -> nnx.Variable[jax.Array]:
    return nnx.BatchStat(array) if name in ("mean", "variance") else nnx.Param(array)


def _logits(network: graph.Network, parameters: Sequence[run.Arrays], images: jax.Array) -> jax.Array:
    return run.apply(network, parameters, images).astype(jnp.float32)


def _jitted(network: graph.Network, parameters: Sequence[run.Arrays]) -> Predict:
    return functools.partial(jax.jit(functools.partial(_logits, network)), parameters)


def _dense(network: graph.Network) -> Predict:
    return _jitted(network, run.parameters(network))


def _sparse(network: graph.Network) -> Predict:
    smaller = compact(network)
    parameters: list[dict[str, Any]] = [*run.parameters(smaller)]
    for node, arrays in zip(smaller.nodes, parameters, strict=True):
        if isinstance(node, graph.Dense):
            size = node.kernel.values.size
            if size >= _LISTED_WEIGHTS and node.kernel.remaining <= _LISTED_DENSITY * size:
                arrays["kernel"] = BCOO.fromdense(arrays["kernel"])
    return _jitted(smaller, parameters)


def _native(network: graph.Network) -> Predict:
    compiled, traced = native.compile(compact(network)), functools.cache(lambda: _sparse(network))

    def predict(images: Array) -> Array:
        return traced()(images) if isinstance(images, jax.core.Tracer) else compiled(np.asarray(images))

    return predict


BACKENDS: dict[str, Callable[[graph.Network], Predict]] = {
    "dense": _dense,
    "sparse": _sparse,
    "native": _native,
}


def _chosen() -> str:
    """The backend that is best on this platform."""
    if jax.default_backend() != "cpu":
        return "dense"
    try:
        native.compiler()
    except errors.InputError:
        return "sparse"
    return "native"

"""A trained network from its file, ready to be called with images."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ssm_jax import compilers, errors, graph, terminal
from ssm_jax.artifact import format, native, run
from ssm_jax.graph.compact import compact

Array = jax.Array | np.ndarray
Predict = Callable[[Any], Array]

# What `load` takes; it runs no program and chooses nothing by the machine.
DEFAULT = "dense"

# Nanoseconds on 2 cores, rounded: they only decide where one backend is well ahead. Of `native`, on one core,
# an addition in a convolution and one in a dense layer; of `compact` a call, an image, a multiply-add in a
# convolution and, in a dense layer, every weight once a call and its multiply-add once an image.
_NATIVE = {"conv": 0.05, "dense": 0.4}
_COMPACT = {"call": 30_000, "image": 3_000, "conv": 0.015, "weight": 0.15, "dense": 0.012}
# Additions that are worth a thread.
_A_THREADS = 1_000_000


def load(path: str | os.PathLike[str], backend: str = DEFAULT) -> Model:
    """Load a trained network.

    Args:
      path: A file that `ssm-jax export` or `ssm_jax.artifact.format.write` wrote.
      backend: What computes the logits, see `Model`; only `native` and `auto` run the system's C compiler.

    Returns:
      A function from images to logits.

    Raises:
      InputError: The file can't be used, the backend is unknown, or a C compiler is needed and missing.
      RunError: The C compiler failed.
    """
    errors.choose("backend", backend, ALLOWED)  # before the file is read
    return Model(format.read(path), backend)


class Model:
    """A trained network as a function of images.

    Backends:
      dense: The network as it was trained, jitted: the logits are the trained network's bit for bit (in
        bfloat16 but for rounding where there is one image). The default.
      compact: The compacted network, jitted.
      native: The compacted network, compiled by the system's C compiler, on a CPU; its kernels are lists of
        what to add and what to subtract. It computes in float32. A batch is shared by threads.
      auto: The best for the batch, see `best`. Equal to `dense` but for rounding.

    It can be pickled; the copy compiles for itself.

    Args:
      artifact: The network, its class names and its record.
      backend: One of these.

    Attributes:
      artifact: What was given.
      backend: What was given.

    Raises:
      InputError: There is no such backend, or no C compiler where one is needed.
      RunError: The C compiler failed.
    """

    def __init__(self, artifact: format.Artifact, backend: str = DEFAULT) -> None:
        errors.choose("backend", backend, ALLOWED)
        self.artifact, self.backend = artifact, backend
        self._made: dict[str, Predict] = {}
        self._best: dict[int, str] = {}
        self._predict(1, traced=False)

    def __reduce__(self) -> tuple[type[Model], tuple[format.Artifact, str]]:
        return Model, (self.artifact, self.backend)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the logits' order."""
        return self.artifact.class_names

    def __call__(self, images: Array) -> Array:
        """Compute logits.

        Args:
          images: uint8 `[B, H, W, C]`, any B. In a function that JAX transforms, `native` is `compact`.

        Returns:
          Logits `[B, classes]`, float32, a NumPy array; in a function that JAX transforms, an array of JAX.

        Raises:
          InputError: The images are of another shape or dtype.
        """
        self.artifact.network.check(images)
        logits = self._predict(len(images), traced=isinstance(images, jax.core.Tracer))(images)
        return logits if isinstance(logits, jax.core.Tracer) else np.asarray(logits)

    @functools.cached_property
    def _smaller(self) -> graph.Network:
        return compact(self.artifact.network)

    def _predict(self, batch: int, *, traced: bool) -> Predict:
        """The function for a batch, made when it is first needed."""
        if self.backend == "auto" and not traced:
            name = self._best.get(batch) or self._best.setdefault(batch, best(self._smaller, batch))
        else:
            name = "compact" if traced and self.backend != "dense" else self.backend
        if name not in self._made:
            network = self.artifact.network if name == "dense" else self._smaller
            # To be kept, hence no part of a transformation that is under way.
            with jax.ensure_compile_time_eval():
                try:
                    self._made[name] = BACKENDS[name](network)
                except (errors.InputError, errors.RunError) as error:
                    if self.backend != "auto":
                        raise
                    warnings.warn(f"{errors.one_line(error)}; the backend is 'compact' instead", stacklevel=3)
                    self._made[name] = self._made.get("compact") or BACKENDS["compact"](network)
        return self._made[name]

    def __repr__(self) -> str:
        network = self.artifact.network
        name = terminal.printable(str(self.artifact.record.get("network", "a network")))[:100]
        inputs, outputs = f"{network.image_dtype} {network.image_shape}", f"{network.classes} logits"
        return f"<Model of {name}: {inputs} to {outputs}, {self.backend}>"

    def module(self) -> Module:
        """Return the network as a module to inspect or to train on."""
        return Module(self.artifact.network)

    def with_module(self, module: Module) -> Model:
        """Return the model that has what its module was trained to; `save` writes it.

        Args:
          module: What `module` returned, trained on.

        Raises:
          InputError: It is the module of another network, or holds what no file can.
        """
        if module.network is not self.artifact.network:
            raise errors.InputError("the module is of another network: it must be what `module()` returned")
        return Model(dataclasses.replace(self.artifact, network=module.trained()), self.backend)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network into a `.ssm` file, whole or not at all.

        Args:
          path: The file; one that exists is replaced.

        Raises:
          RunError: The file can't be written.
        """
        format.write(self.artifact, path)


class Module(nnx.Module):
    """A network as an NNX module that computes, under `nnx.jit`, what the `dense` backend does, bit for bit.

    Effective kernels and a normalization's scale and offset are `nnx.Param`, its statistics `nnx.BatchStat`,
    which stay as they are. Hidden weights stay 0 whatever training does: it keeps the mask.

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
        self.masks = nnx.List(
            nnx.Dict({"kernel": nnx.Variable(node["kernel"][...] != 0)} if "kernel" in node else {})
            for node in self.operations
        )

    def __call__(self, images: Array) -> jax.Array:
        """Logits `[B, classes]`, float32, of images, uint8 `[B, H, W, C]`."""
        self.network.check(images)
        return _logits(self.network, self._arrays(), jnp.asarray(images))

    def trained(self) -> graph.Network:
        """Return the network with the arrays as they are now."""
        nodes = []
        for node, arrays in zip(self.network.nodes, self._arrays(), strict=True):
            changed: dict[str, Any] = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
            if "kernel" in changed:
                changed["kernel"] = graph.Kernel.of(changed["kernel"])
            nodes.append(dataclasses.replace(node, **changed))
        return dataclasses.replace(self.network, nodes=tuple(nodes))

    def _arrays(self) -> list[run.Arrays]:
        parameters = [{name: variable[...] for name, variable in node.items()} for node in self.operations]
        for arrays, masks in zip(parameters, self.masks, strict=True):
            for name, mask in masks.items():
                arrays[name] = jnp.where(mask[...], arrays[name], 0)
        return parameters


def _variable(name: str, array: jax.Array) -> nnx.Variable[jax.Array]:
    return nnx.BatchStat(array) if name in ("mean", "variance") else nnx.Param(array)


def _logits(network: graph.Network, parameters: Sequence[run.Arrays], images: jax.Array) -> jax.Array:
    return run.apply(network, parameters, images).astype(jnp.float32)


def _jitted(network: graph.Network) -> Predict:
    return functools.partial(jax.jit(functools.partial(_logits, network)), run.parameters(network))


def _compiled(network: graph.Network) -> Predict:
    """The C function, several threads of it for many images."""
    compiled, additions = native.compile(network), sum(_additions(network))

    def predict(images: Array) -> np.ndarray:
        images = np.asarray(images)
        threads = _threads(len(images), additions)
        if threads < 2:
            return compiled(images)
        return np.concatenate([*_pool().map(compiled, np.array_split(images, threads))])

    return predict


BACKENDS: dict[str, Callable[[graph.Network], Predict]] = {
    "dense": _jitted,
    "compact": _jitted,
    "native": _compiled,
}
ALLOWED = dict.fromkeys(("auto", *BACKENDS))


def best(network: graph.Network, batch: int) -> str:
    """Choose a backend: what is expected to be the fastest on this platform.

    On a CPU with a C compiler that is `native` where few weights are left, without a compiler `compact`. On
    other platforms nothing has been measured, and it is `dense`.

    Args:
      network: A compacted network.
      batch: B, the number of images of a call.

    Returns:
      A key of `BACKENDS`.
    """
    if jax.default_backend() != "cpu":
        return "dense"
    try:
        compilers.find("C")
    except errors.InputError:
        return "compact"
    whole, weights = graph.multiply_adds(network)[0], 0
    for layer in network.layers():
        weights += layer.kernel.values.size if isinstance(layer, graph.Dense) else 0
    convolutions, dense = _additions(network)
    listed = batch * (_NATIVE["conv"] * convolutions + _NATIVE["dense"] * dense)
    listed /= min(2, max(1, _threads(batch, convolutions + dense)))
    jitted = _COMPACT["call"] + _COMPACT["weight"] * weights
    jitted += batch * (_COMPACT["image"] + _COMPACT["conv"] * (whole - weights) + _COMPACT["dense"] * weights)
    return "native" if listed < jitted else "compact"


def _additions(network: graph.Network) -> tuple[int, int]:
    """Of one image, by the weights that are not 0: in convolutions, in dense layers."""
    dense = sum(layer.kernel.remaining for layer in network.layers() if isinstance(layer, graph.Dense))
    return graph.multiply_adds(network)[1] - dense, dense


def _threads(batch: int, additions: int) -> int:
    """How many share a batch of images of so many additions each."""
    return min(_cores(), batch, batch * additions // _A_THREADS)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores(), "ssm_jax")

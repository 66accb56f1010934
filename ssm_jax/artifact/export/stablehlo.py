"""A network as a serialized program of StableHLO, which any later JAX runs without this library.

    exported = jax.export.deserialize(pathlib.Path("model.stablehlo").read_bytes())
    logits = exported.call(images)  # uint8 [B, H, W, C] of any B

It runs on CPU, CUDA and TPU, whichever JAX finds. `exported.mlir_module()` is its text. Class names and
record have no place in it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from ssm_jax import files, graph
from ssm_jax.artifact import run
from ssm_jax.artifact.format import Artifact

PLATFORMS = ("cpu", "cuda", "tpu")


def program(network: graph.Network) -> export.Exported:
    """Trace a network into a program from uint8 `[b, H, W, C]`, any b, to float32 logits `[b, classes]`.

    Kernels are constants in it, a byte for every weight that is a whole number.

    Args:
      network: The network.
    """

    def logits(images: jax.Array) -> jax.Array:
        parameters = [
            arrays | _kernel(node, network) for node, arrays in zip(network.nodes, run.parameters(network))
        ]
        return run.apply(network, parameters, images).astype(jnp.float32)

    return of_function(logits, network.image_shape, network.image_dtype)


def of_function(function: Callable[[Any], Any], shape: Sequence[int], dtype: str) -> export.Exported:
    """Trace a function of a batch of inputs into a program, of any batch size.

    Args:
      function: What JAX can trace.
      shape: Shape of one input.
      dtype: Its dtype.
    """
    (batch,) = export.symbolic_shape("b")
    inputs = jax.ShapeDtypeStruct((batch, *shape), dtype)
    # The lines of source that operations come from would tell the paths of this machine.
    settings: Any = jax.config
    lines = settings.jax_traceback_in_locations_limit
    settings.update("jax_traceback_in_locations_limit", 0)
    try:
        return export.export(jax.jit(function), platforms=PLATFORMS)(inputs)
    finally:
        settings.update("jax_traceback_in_locations_limit", lines)


def _kernel(node: graph.Node, network: graph.Network) -> run.Arrays:
    if not isinstance(node, graph.Layer) or not node.kernel.whole:
        return {}
    dense = jnp.asarray(node.kernel.values).astype(jnp.float32) * node.kernel.scale
    return {"kernel": dense.astype(network.dtype)}


def write(artifact: Artifact, path: pathlib.Path) -> None:
    """Write a trained network as a serialized `jax.export` program.

    Args:
      artifact: The network.
      path: The file.

    Raises:
      OSError: The file can't be written.
    """
    save(program(artifact.network), path)


def save(program: export.Exported, path: pathlib.Path) -> None:
    """Write a program; raises an OSError where the file can't be written."""
    content = program.serialize()
    files.write_whole(path, lambda file: file.write(content))

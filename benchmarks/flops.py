"""Floating-point operations of a network, counted from the shapes of its products.

Only matrix products and convolutions count, two operations per multiplication and addition. The
compiler's own cost analysis is not used: it counts what it compiled, not what the network asks for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from ssm_jax.nn.networks import BATCH_AXIS
from ssm_jax.training.step import Build


def _inner(value: Any) -> Iterator[Any]:
    """The programs inside a parameter of an equation."""
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _inner(part)
    elif hasattr(value, "eqns"):
        yield value
    elif hasattr(value, "jaxpr"):
        yield from _inner(value.jaxpr)


def products(jaxpr: Any) -> list[int]:
    """Operations of every matrix product and convolution of a program, in the order of execution.

    Args:
      jaxpr: of `jax.make_jaxpr`; what is inside its calls counts once each, loops are not multiplied.

    Returns:
      `2 * (elements of the result) * (length of the sum behind each)` per product.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> products(jax.make_jaxpr(jnp.dot)(jnp.ones((2, 3)), jnp.ones((3, 5))))
      [60]
    """
    counts = []
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        size = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
        if equation.primitive is lax.dot_general_p:
            (contracted, _), _ = equation.params["dimension_numbers"]
            counts.append(2 * size * math.prod(equation.invars[0].aval.shape[i] for i in contracted))
        elif equation.primitive is lax.conv_general_dilated_p:
            # The kernel's input dimension is already that of one group.
            kernel, spec = equation.invars[1].aval.shape, equation.params["dimension_numbers"].rhs_spec
            counts.append(2 * size * math.prod(kernel) // kernel[spec[0]])
        else:
            for value in equation.params.values():
                for inner in _inner(value):
                    counts += products(inner)
    return counts


def forward(build: Build, image_shape: tuple[int, ...]) -> list[int]:
    """Operations of a forward pass of one image, layer by layer.

    Args:
      build: makes the network from its random streams.
      image_shape: `(H, W, C)`.
    """
    graph, state = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    def apply(state: nnx.State, images: jax.Array) -> jax.Array:
        return nnx.merge(graph, state)(images)

    trace = jax.make_jaxpr(apply, axis_env=[(BATCH_AXIS, 1)])
    return products(trace(state, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)))


def training(layers: list[int]) -> int:
    """Operations of a training step per image: forward, and the gradients of inputs and kernels.

    Each gradient costs what the forward pass does; the images themselves need none.

    Args:
      layers: what `forward` returned.
    """
    return 3 * sum(layers) - layers[0]

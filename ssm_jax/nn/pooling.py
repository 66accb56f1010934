"""Max-pooling without select-and-scatter."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


def _windows(inputs: jax.Array, window: int, stride: int) -> list[jax.Array]:
    # The window's positions as strided slices of the whole image, in row-major order.
    height, width = inputs.shape[1:3]
    return [
        inputs[:, row : height - window + row + 1 : stride, column : width - window + column + 1 : stride]
        for row in range(window)
        for column in range(window)
    ]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(inputs: jax.Array, window: int, stride: int) -> jax.Array:
    """Max-pool without padding; an edge that fills no window is dropped.

    Equal to `flax.linen.max_pool`, value and gradient, ties included (the first maximum of a window
    in row-major order receives the gradient), without select-and-scatter, which is slow on a CPU and
    has no deterministic form on a GPU.

    Args:
      inputs: `[B, H, W, C]`, H and W at least `window`.
      window: side of the square window.
      stride: of both sides.

    Returns:
      `[B, (H - window) // stride + 1, (W - window) // stride + 1, C]`.
    """
    return functools.reduce(jnp.maximum, _windows(inputs, window, stride))


def _max_pool_forward(inputs: jax.Array, window: int, stride: int) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    outputs = max_pool(inputs, window, stride)
    return outputs, (inputs, outputs)


def _max_pool_backward(
    window: int, stride: int, residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array]:
    inputs, outputs = residuals
    hits, taken = [], jnp.zeros(outputs.shape, bool)
    for part in _windows(inputs, window, stride):
        hit = (part == outputs) & ~taken
        taken |= hit
        hits.append(jnp.where(hit, cotangent, 0))
    # Slicing is linear: its transpose puts every position's share back in place.
    slices = functools.partial(_windows, window=window, stride=stride)
    (gradient,) = jax.linear_transpose(slices, inputs)(hits)
    return (gradient,)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)

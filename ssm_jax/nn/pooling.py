"""Max-pooling by what is quick and deterministic on each platform."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from ssm_jax.nn.convolution import one_by_one
from ssm_jax.nn.products.handlers import Products


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(inputs: jax.Array, window: int, stride: int, products: Products | None = None) -> jax.Array:
    """Max-pool without padding; an edge that fills no window is dropped.

    Equal to `flax.linen.max_pool`, value and gradient, ties included: the first maximum of a window in
    row-major order receives the gradient. On a TPU it is what Flax's is. Elsewhere it does without
    select-and-scatter, which is slow on a CPU and has no deterministic form on a GPU.

    Args:
      inputs: `[B, H, W, C]`, H and W at least `window`.
      window: The side of the square window.
      stride: The stride of both sides.
      products: What computes the gradient on a CPU where it fits; None for XLA.

    Returns:
      `[B, (H - window) // stride + 1, (W - window) // stride + 1, C]`.
    """
    native = functools.partial(_native, window=window, stride=stride)
    sliced = functools.partial(_sliced, window=window, stride=stride)
    return lax.platform_dependent(inputs, tpu=native, default=sliced)


def _native(inputs: jax.Array, window: int, stride: int) -> jax.Array:
    sides, strides = (1, window, window, 1), (1, stride, stride, 1)
    return lax.reduce_window(inputs, -jnp.inf, lax.max, sides, strides, "VALID")


def _native_gradient(
    inputs: jax.Array, outputs: jax.Array, cotangent: jax.Array, window: int, stride: int
) -> jax.Array:
    (gradient,) = jax.vjp(functools.partial(_native, window=window, stride=stride), inputs)[1](cotangent)
    return gradient


def _windows(inputs: jax.Array, window: int, stride: int) -> list[jax.Array]:
    # The window's positions as strided slices of the whole image, in row-major order.
    height, width = inputs.shape[1:3]
    return [
        inputs[:, row : height - window + row + 1 : stride, column : width - window + column + 1 : stride]
        for row in range(window)
        for column in range(window)
    ]


def _sliced(inputs: jax.Array, window: int, stride: int) -> jax.Array:
    return functools.reduce(jnp.maximum, _windows(inputs, window, stride))


def _sliced_gradient(
    inputs: jax.Array, outputs: jax.Array, cotangent: jax.Array, window: int, stride: int
) -> jax.Array:
    hits, taken = [], jnp.zeros(outputs.shape, bool)
    for part in _windows(inputs, window, stride):
        hit = (part == outputs) & ~taken
        taken |= hit
        hits.append(jnp.where(hit, cotangent, 0))
    # Slicing is linear: its transpose puts every position's share back in place.
    slices = functools.partial(_windows, window=window, stride=stride)
    (gradient,) = jax.linear_transpose(slices, inputs)(hits)
    return gradient


def _forward(
    inputs: jax.Array, window: int, stride: int, products: Products | None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    outputs = max_pool(inputs, window, stride, products)
    return outputs, (inputs, outputs)


def _backward(
    window: int,
    stride: int,
    products: Products | None,
    residuals: tuple[jax.Array, jax.Array],
    cotangent: jax.Array,
) -> tuple[jax.Array]:
    if products is not None and products.fit_pool(residuals[0]):
        of_pool = functools.partial(products.of_pool, window=window, stride=stride)
        return (one_by_one(of_pool)(*residuals, cotangent),)
    native = functools.partial(_native_gradient, window=window, stride=stride)
    sliced = functools.partial(_sliced_gradient, window=window, stride=stride)
    return (lax.platform_dependent(*residuals, cotangent, tpu=native, default=sliced),)


max_pool.defvjp(_forward, _backward)

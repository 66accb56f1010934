"""A 2-D convolution whose gradients are quick on every backend, also for several networks at once."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from ssm_jax.nn.products.handlers import Products
from ssm_jax.types import PyTree


def one_by_one(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """The function itself; `vmap` calls it once for every element instead of batching its operations.

    What stands around the calls, masks and activations and updates, is batched as ever.

    Args:
      function: of arrays, returns a tree of arrays.
    """
    mapped = jax.custom_batching.custom_vmap(function)

    @mapped.def_vmap
    def loop(size: int, batched: list[bool], *arguments: jax.Array) -> tuple[PyTree, PyTree]:
        results = [
            mapped(*(array[i] if own else array for array, own in zip(arguments, batched, strict=True)))
            for i in range(size)
        ]
        stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *results)
        return stacked, jax.tree.map(lambda _: True, stacked)

    return mapped


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(
    inputs: jax.Array, kernel: jax.Array, stride: int, products: Products | None = None
) -> jax.Array:
    """A 2-D convolution with SAME padding, whose kernel gradient is quick on a CPU too.

    Under `vmap`, over networks for example, it is one convolution after another. One grouped convolution,
    which `vmap` makes of lax's own, takes 2 to 4 times as long on a CPU; for GPUs see JAX's issue 13800.

    Args:
      inputs: `[B, H, W, I]`.
      kernel: `[k, k, I, O]`, in the inputs' dtype.
      stride: of both sides.
      products: What computes it on a CPU where it fits; None for XLA.

    Returns:
      `[B, ceil(H / stride), ceil(W / stride), O]`.
    """
    if products is not None and products.fit(inputs, kernel):
        return one_by_one(functools.partial(products.forward, stride=stride))(inputs, kernel)
    return one_by_one(functools.partial(_convolution, stride=stride))(inputs, kernel)


def matmul(inputs: jax.Array, kernel: jax.Array, products: Products | None = None) -> jax.Array:
    """A matrix product.

    Args:
      inputs: `[..., I]`.
      kernel: `[I, O]`, in the inputs' dtype.
      products: What computes it on a CPU where it fits; None for XLA.

    Returns:
      `[..., O]`.
    """
    if products is not None and inputs.ndim == 2 and products.fit(inputs, kernel):
        return convolve(inputs[:, None, None], kernel[None, None], 1, products)[:, 0, 0]
    return inputs @ kernel


def _convolution(inputs: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return lax.conv_general_dilated(
        inputs, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _convolve_forward(
    inputs: jax.Array, kernel: jax.Array, stride: int, products: Products | None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(inputs, kernel, stride, products), (inputs, kernel)


def _convolve_backward(
    stride: int, products: Products | None, residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    inputs, kernel = residuals
    if products is not None and products.fit(inputs, kernel):
        of_inputs = one_by_one(functools.partial(products.of_inputs, shape=inputs.shape, stride=stride))
        of_kernel = one_by_one(functools.partial(products.of_kernel, shape=kernel.shape, stride=stride))
        return of_inputs(cotangent, kernel), of_kernel(inputs, cotangent)
    return one_by_one(functools.partial(_gradients, stride=stride))(*residuals, cotangent)


# Output positions over which XLA's CPU backend sums a kernel's gradient well; measured on 2 cores for
# kernels of 3x3 with 64 to 512 channels.
_CPU_POSITIONS = 8192


def _gradients(
    inputs: jax.Array, kernel: jax.Array, cotangent: jax.Array, stride: int
) -> tuple[jax.Array, jax.Array]:
    """Of the inputs and of the kernel; the convolution is linear in both."""

    def gradient(inputs: jax.Array, cotangent: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda kernel: _convolution(inputs, kernel, stride), kernel)(cotangent)[0]

    def in_chunks(inputs: jax.Array, cotangent: jax.Array) -> jax.Array:
        # The CPU's gradient of a kernel takes almost twice as long when it sums over a whole batch of large
        # images; a sum over a few images at a time does not.
        batch, height, width, _ = cotangent.shape
        size = max(1, _CPU_POSITIONS // (height * width))
        parts = [slice(start, start + size) for start in range(0, batch, size)]
        return functools.reduce(jnp.add, (gradient(inputs[part], cotangent[part]) for part in parts))

    of_kernel = lax.platform_dependent(inputs, cotangent, cpu=in_chunks, default=gradient)
    of_inputs = jax.linear_transpose(lambda inputs: _convolution(inputs, kernel, stride), inputs)
    return of_inputs(cotangent)[0], of_kernel


convolve.defvjp(_convolve_forward, _convolve_backward)

"""A convolution's three products as calls of the handlers, for arrays of the usual shapes.

The handlers want the batch to lie contiguous in memory, `[H, W, C, B]`. A call says so to XLA, which lays out
whatever stands between two of them, activations and pools and sums, in the same way: nothing is transposed.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from ssm_jax.nn.products import library

# Axes from the slowest to the fastest in memory.
_BATCH_LAST, _AS_WRITTEN = (1, 2, 3, 0), (0, 1, 2, 3)

_MOST_TAPS = 64  # as in products.cc
_LEAST_BATCH = 16  # a vector of floats
# Multiply-adds of a matrix product, zeros included; below, finding the weights that are not 0 takes longer.
_LEAST_MATRIX = 2**26


@dataclasses.dataclass(frozen=True)
class Products:
    """How the products of a network are computed.

    Attributes:
      density: Up to which share of weights that are not 0 they run over these alone, in [0, 1]; above, over
        all, in blocks. Decided anew in every call; the bits are the same unless an input is not finite.
      bfloat16: Whether the kernel's gradient multiplies in bfloat16. It adds in float32 all the same.
    """

    density: float
    bfloat16: bool

    def fit(self, inputs: jax.Array, kernel: jax.Array) -> bool:
        """Whether they compute a convolution, and are quicker than XLA's.

        Args:
          inputs: `[B, ..., I]`.
          kernel: `[..., I, O]`.
        """
        if not inputs.dtype == kernel.dtype == jnp.float32 or not inputs.size or not kernel.size:
            return False
        taps, outputs = math.prod(kernel.shape[:-2]), inputs.size // inputs.shape[-1] * kernel.shape[-1]
        if inputs.ndim == 2 and inputs.size * kernel.shape[-1] < _LEAST_MATRIX:
            return False
        indexable = max(inputs.size, kernel.size, outputs) < 2**31
        return indexable and taps <= _MOST_TAPS and inputs.shape[0] >= _LEAST_BATCH

    def forward(self, inputs: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
        """A convolution with SAME padding.

        Args:
          inputs: float32 `[B, H, W, I]`.
          kernel: float32 `[K, L, I, O]`.
          stride: Of both sides.

        Returns:
          float32 `[B, ceil(H / stride), ceil(W / stride), O]`.
        """
        batch, height, width, _ = inputs.shape
        shape = (batch, -(-height // stride), -(-width // stride), kernel.shape[-1])
        return _call("forward", shape, inputs, kernel, stride=np.int64(stride), most=self.density)

    def of_inputs(
        self, cotangent: jax.Array, kernel: jax.Array, shape: tuple[int, ...], stride: int
    ) -> jax.Array:
        """The gradient of the inputs, whose shape is given."""
        return _call("of_inputs", shape, cotangent, kernel, stride=np.int64(stride), most=self.density)

    def of_kernel(
        self, inputs: jax.Array, cotangent: jax.Array, shape: tuple[int, ...], stride: int
    ) -> jax.Array:
        """The gradient of the kernel, whose shape is given."""
        return _call("of_kernel", shape, inputs, cotangent, stride=np.int64(stride), bfloat16=self.bfloat16)

    def fit_pool(self, inputs: jax.Array) -> bool:
        """Whether they compute the gradient of a max-pool of `[B, H, W, C]`, and are quicker than XLA."""
        return inputs.dtype == jnp.float32 and inputs.shape[0] >= _LEAST_BATCH and 0 < inputs.size < 2**31

    def of_pool(
        self, inputs: jax.Array, outputs: jax.Array, cotangent: jax.Array, window: int, stride: int
    ) -> jax.Array:
        """The gradient of a max-pool's inputs; a window's goes to its first maximum in row-major order."""
        sizes = {"window": np.int64(window), "stride": np.int64(stride)}
        return _call("of_pool", inputs.shape, inputs, outputs, cotangent, **sizes)


# Of every handler, which of its arguments and its result is a kernel: these lie as they are written.
_KERNELS = {"forward": (1,), "of_inputs": (1,), "of_kernel": (2,), "of_pool": ()}


def _call(name: str, shape: tuple[int, ...], *arguments: jax.Array, **attributes: object) -> jax.Array:
    library.register()
    layouts = [_AS_WRITTEN if place in _KERNELS[name] else _BATCH_LAST for place in range(len(arguments) + 1)]
    call = jax.ffi.ffi_call(
        library.target(name),
        jax.ShapeDtypeStruct(shape, jnp.float32),
        input_layouts=layouts[:-1],
        output_layouts=layouts[-1],
    )
    return call(*arguments, **attributes)

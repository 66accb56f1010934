"""Flax NNX layers whose kernels are random and frozen and whose scores are trained.

Three variable types tell apart what a layer holds, so that one
`nnx.split(model, nnx.Param, Frozen, ...)` gives what is trained (`Score`), what is frozen (`Kernel`,
`Threshold`) and the rest (statistics). The same layer with `Masking(rule=None)` is its dense
baseline: the kernel becomes an ordinary `nnx.Param` and there are no scores.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from ssm_jax.nn import initializers
from ssm_jax import errors, masks


class Frozen(nnx.Variable):
    """What is drawn once and never trained."""


class Kernel(Frozen):
    """A frozen random kernel, float32, shape `(..., I, O)`."""


class Threshold(Frozen):
    """The fixed threshold of a layer's scores, a float32 scalar."""


class Score(nnx.Param):
    """The trainable scores of a layer, float32, in the shape of its kernel."""


@dataclasses.dataclass(frozen=True)
class Masking:
    """How a layer's kernel is drawn and masked; one object serves a whole network.

    Attributes:
      rule: a name of `ssm_jax.masks.RULES`, or None for a dense layer whose kernel is trained.
      threshold: share of the largest initial score below which a weight is hidden, in [0, 1].
      kernel_init: initialiser of the kernel; the paper's ELUS by default.
      score_init: initialiser of the scores.
      dtype: compute dtype of the effective kernel and of the layer's output, float32 or bfloat16;
        kernels and scores are always kept in float32.

    Raises:
      InputError: the rule is unknown or the threshold lies outside [0, 1].
    """

    rule: str | None = "signed"
    threshold: float = 0.4
    kernel_init: initializers.Initializer = initializers.elus()
    score_init: initializers.Initializer = initializers.xavier_uniform()
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if self.rule is not None:
            masks.rule(self.rule)
        if not 0.0 <= self.threshold <= 1.0:
            raise errors.InputError(f"threshold {self.threshold} is not in [0, 1]")


@functools.partial(jax.jit, static_argnums=(0, 3))
def _draw(
    masking: Masking, kernel_key: jax.Array, score_key: jax.Array, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Kernel, scores and threshold; compiled once for all layers of a shape."""
    scores = masking.score_init(score_key, shape, jnp.float32)
    threshold = masks.fixed_threshold(scores, masking.threshold)
    return masking.kernel_init(kernel_key, shape, jnp.float32), scores, threshold


class Masked(nnx.Module):
    """A frozen kernel under a mask of trainable scores: the common part of `Dense` and `Conv`.

    Args:
      shape: of the kernel, `(..., I, O)`.
      masking: how the kernel is drawn and masked.
      rngs: streams `params` (kernel) and `scores`.

    Raises:
      InputError: the kernel has no weights, or 2^31 and more.
    """

    def __init__(self, shape: Sequence[int], *, masking: Masking, rngs: nnx.Rngs) -> None:
        weights = math.prod(shape)
        if not 0 < weights < 2**31:  # they are counted in int32
            raise errors.InputError(
                f"a kernel of shape {tuple(shape)} has {weights:,} weights; allowed is 1 to 2,147,483,647"
            )
        self.rule = masking.rule
        self.dtype = masking.dtype
        kernel, scores, threshold = _draw(masking, rngs.params(), rngs.scores(), tuple(shape))
        if masking.rule is None:
            self.kernel = nnx.Param(kernel)
            return
        self.kernel = Kernel(kernel)
        self.scores = Score(scores)
        self.threshold = Threshold(threshold)

    def mask(self) -> jax.Array:
        """The mask, float32, in the kernel's shape: -1 (invert), 0 (hide) or 1 (keep).

        A dense layer keeps everything.
        """
        if self.rule is None:
            return jnp.ones_like(self.kernel[...])
        return masks.rule(self.rule)(self.scores[...], self.threshold[...])

    def effective_kernel(self) -> jax.Array:
        """The kernel that the layer applies, `kernel * mask`, in the compute dtype."""
        with jax.named_scope("mask"):
            kernel = self.kernel[...]
            if self.rule is not None:
                kernel = kernel * self.mask()
            return kernel.astype(self.dtype)


class Dense(Masked):
    """A masked dense layer without bias: `y = x @ (kernel * mask)`.

    Args:
      in_features: I.
      out_features: O.
      masking: how the kernel is drawn and masked.
      rngs: streams `params` and `scores`; a stream `default` serves for both.

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> layer = Dense(4, 3, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 4))).shape
      (2, 3)
    """

    def __init__(
        self, in_features: int, out_features: int, *, masking: Masking = Masking(), rngs: nnx.Rngs
    ) -> None:
        super().__init__((in_features, out_features), masking=masking, rngs=rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Apply the layer to `[..., I]`; returns `[..., O]` in the compute dtype."""
        with jax.named_scope("dense"):
            return inputs.astype(self.dtype) @ self.effective_kernel()


class Conv(Masked):
    """A masked 2-D convolution without bias, SAME padding.

    Args:
      in_features: I.
      out_features: O.
      kernel_size: of both sides of the window.
      stride: of both sides.
      masking: how the kernel is drawn and masked.
      rngs: streams `params` and `scores`; a stream `default` serves for both.

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> layer = Conv(3, 8, stride=2, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((1, 6, 6, 3))).shape
      (1, 3, 3, 8)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 3,
        stride: int = 1,
        *,
        masking: Masking = Masking(),
        rngs: nnx.Rngs,
    ) -> None:
        self.stride = stride
        super().__init__((kernel_size, kernel_size, in_features, out_features), masking=masking, rngs=rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Apply the layer to `[B, H, W, I]`; returns `[B, ceil(H/s), ceil(W/s), O]`, compute dtype."""
        with jax.named_scope("conv"):
            return convolve(inputs.astype(self.dtype), self.effective_kernel(), self.stride)


def _one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself; `vmap` calls it once for every element instead of batching its operations.

    What stands around the calls, masks and activations and updates, is batched as ever.

    Args:
      function: of arrays, returns a tree of arrays.
    """
    mapped = jax.custom_batching.custom_vmap(function)

    @mapped.def_vmap
    def loop(size: int, batched: list[bool], *arguments: jax.Array) -> tuple[Any, Any]:
        results = [
            mapped(*(array[i] if own else array for array, own in zip(arguments, batched, strict=True)))
            for i in range(size)
        ]
        stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *results)
        return stacked, jax.tree.map(lambda _: True, stacked)

    return mapped


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(inputs: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A 2-D convolution with SAME padding, whose kernel gradient is quick on a CPU too.

    Under `vmap`, over networks for example, it is one convolution after another. One grouped convolution,
    which `vmap` makes of lax's own, takes 2 to 4 times as long on a CPU; for GPUs see JAX's issue 13800.

    Args:
      inputs: `[B, H, W, I]`.
      kernel: `[k, k, I, O]`, in the inputs' dtype.
      stride: of both sides.

    Returns:
      `[B, ceil(H / stride), ceil(W / stride), O]`.
    """
    return _one_by_one(functools.partial(_convolution, stride=stride))(inputs, kernel)


def _convolution(inputs: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return lax.conv_general_dilated(
        inputs, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _convolve_forward(
    inputs: jax.Array, kernel: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(inputs, kernel, stride), (inputs, kernel)


def _convolve_backward(
    stride: int, residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return _one_by_one(functools.partial(_gradients, stride=stride))(*residuals, cotangent)


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


def masked_layers(model: nnx.Module) -> Iterator[tuple[str, Masked]]:
    """Every masked (or dense) layer of ours in a model, with its path such as `convs/0`, in order.

    Args:
      model: any NNX module.
    """
    for path, module in nnx.iter_graph(model):
        if isinstance(module, Masked):
            yield "/".join(str(part) for part in path), module


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

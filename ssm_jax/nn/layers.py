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
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx

from ssm_jax import errors, masks
from ssm_jax.nn import initializers
from ssm_jax.nn.convolution import convolve


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
        self.kernel: nnx.Variable[jax.Array] = (nnx.Param if masking.rule is None else Kernel)(kernel)
        if masking.rule is None:
            return
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


class Parts(NamedTuple):
    """A model taken apart; `nnx.merge(*parts)` puts it together again.

    Attributes:
      graph: Its definition, static.
      params: What is trained: scores, and any `nnx.Param` of other layers.
      frozen: What is drawn once: kernels and thresholds.
      rest: Everything else, statistics of normalizations for example.
    """

    graph: nnx.GraphDef[Any]
    params: nnx.State
    frozen: nnx.State
    rest: nnx.State


def split(model: nnx.Module) -> Parts:
    """Take a model apart into what is trained, what is frozen and the rest.

    Args:
      model: Any NNX module.
    """
    graph, params, frozen, rest = cast(tuple[Any, ...], nnx.split(model, nnx.Param, Frozen, ...))
    return Parts(graph, params, frozen, rest)


def masked_layers(model: nnx.Module) -> Iterator[tuple[str, Masked]]:
    """Every masked (or dense) layer of ours in a model, with its path such as `convs/0`, in order.

    Args:
      model: any NNX module.
    """
    for path, module in nnx.iter_graph(model):
        if isinstance(module, Masked):
            yield "/".join(str(part) for part in path), module

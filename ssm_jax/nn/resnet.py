"""The paper's residual networks, ResNet20, 56 and 110, and their normalizations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ssm_jax.nn.layers import Conv, Dense, Masking
from ssm_jax.nn.pooling import max_pool

# The name of the axis over which devices share a batch; batch norm and gradients are averaged over it.
BATCH_AXIS = "batch"

Normalization = Callable[[int], Callable[[jax.Array], jax.Array]]


def _identity(inputs: jax.Array) -> jax.Array:
    return inputs


def _none(features: int, **_: Any) -> Callable[[jax.Array], jax.Array]:
    return _identity


def _batch(features: int, *, affine: bool, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(
        features,
        momentum=0.99,  # the authors' constants
        epsilon=1e-3,
        use_scale=affine,
        use_bias=affine,
        axis_name=BATCH_AXIS,
        dtype=dtype,
        rngs=rngs,
    )


_affine = functools.partial(_batch, affine=True)
_plain = functools.partial(_batch, affine=False)

# Of the stem and of the blocks.
NORMALIZATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "none": (_none, _none),
    "paper": (_affine, _none),
    "batch": (_plain, _plain),
    "batch_affine": (_affine, _affine),
}


class Block(nnx.Module):
    """A residual block: `elu(f(x) + shortcut(x))`.

    With a projection the first convolution and the shortcut are 1x1, both with the stride, and ELU
    follows each of the two convolutions. Otherwise both convolutions are 3x3, the shortcut is the
    identity, and there is no ELU between the second convolution and the sum.

    Args:
      in_features: Channels of the input.
      features: Channels of the output; those of the input unless there is a projection.
      stride: Stride of the first convolution and of the projection; 1 unless there is a projection.
      projected: Whether the shortcut is a projection.
      normalization: Makes the normalization of that many channels, which follows a convolution.
      masking: How kernels are drawn and masked.
      rngs: The streams `params` and `scores`.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        stride: int,
        projected: bool,
        *,
        normalization: Normalization,
        masking: Masking,
        rngs: nnx.Rngs,
    ) -> None:
        conv = functools.partial(Conv, masking=masking, rngs=rngs)
        self.conv1 = conv(in_features, features, 1 if projected else 3, stride)
        self.norm1 = normalization(features)
        self.conv2 = conv(features, features)
        self.norm2 = normalization(features)
        self.projection = nnx.data(conv(in_features, features, 1, stride) if projected else None)
        self.projection_norm = normalization(features) if projected else _identity

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Apply to `[B, H, W, I]`."""
        hidden = nnx.elu(self.norm1(self.conv1(inputs)))
        hidden = self.norm2(self.conv2(hidden))
        if self.projection is not None:
            hidden = nnx.elu(hidden)
            inputs = self.projection_norm(self.projection(inputs))
        return nnx.elu(hidden + inputs)


class ResNet(nnx.Module):
    """ResNet20, 56 or 110: a stem, three stages of 3, 9 or 18 blocks, global average pool, dense.

    Args:
      image_shape: `(H, W, C)`.
      classes: The number of classes.
      width: Factor of the 16, 32 and 64 filters of the stages.
      blocks: Blocks per stage, 3, 9 or 18.
      projections: Places in a stage of the blocks with a projection, the first (0) among them. In
        stages 2 and 3 each of them halves the image.
      normalization: A key of `NORMALIZATIONS`. `paper`, as the authors released their masked networks:
        the stem of ResNet20 has batch normalization with scale and offset, nothing else is normalized;
        `batch`: batch normalization everywhere without scale and offset, so that scores stay the only
        trained parameters; `batch_affine`: with both; `none`.
      masking: How kernels are drawn and masked.
      rngs: The streams `params` and `scores`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        classes: int,
        width: float,
        *,
        blocks: int,
        projections: Sequence[int] = (0,),
        normalization: str,
        masking: Masking,
        rngs: nnx.Rngs,
    ) -> None:
        stem, inner = NORMALIZATIONS[normalization]
        if normalization == "paper" and blocks > 3:
            stem = _none
        norm = functools.partial(inner, dtype=masking.dtype, rngs=rngs)
        filters = [max(1, round(width * count)) for count in (16, 32, 64)]
        self.stem = Conv(image_shape[-1], filters[0], masking=masking, rngs=rngs)
        self.stem_norm = stem(filters[0], dtype=masking.dtype, rngs=rngs)
        self.blocks = nnx.List(
            Block(
                filters[max(stage - (block == 0), 0)],
                filters[stage],
                2 if stage > 0 and block in projections else 1,
                block in projections,
                normalization=norm,
                masking=masking,
                rngs=rngs,
            )
            for stage in range(3)
            for block in range(blocks)
        )
        self.head = Dense(filters[-1], classes, masking=masking, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits `[B, classes]` of images `[B, H, W, C]`."""
        hidden = nnx.elu(self.stem_norm(self.stem(images)))
        # SAME padding: activations are finite, so the lowest finite value never wins a window.
        lowest = jnp.finfo(hidden.dtype).min
        padded = jnp.pad(hidden, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=lowest)
        hidden = max_pool(padded, 3, 1, self.stem.products)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(hidden.mean((1, 2)))

"""The paper's networks: FCN, Conv2 to Conv8 and ResNet20, 56 and 110 (Koster et al., ICLR 2022).

No layer has a bias, the activation is ELU, convolutions are SAME-padded. `build` makes a network by
its name, masked or dense, for any image shape and number of classes.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx
from jax import lax

from ssm_jax import errors
from ssm_jax.nn.layers import Conv, Dense, Masking
from ssm_jax.nn.pooling import max_pool
from ssm_jax.nn.resnet import BATCH_AXIS as BATCH_AXIS
from ssm_jax.nn.resnet import NORMALIZATIONS, ResNet


def _widened(features: Sequence[int], width: float) -> list[int]:
    return [max(1, round(width * n)) for n in features]


class FullyConnected(nnx.Module):
    """FCN: dense layers of 300, 100 and `classes` units on the flattened image.

    Args:
      image_shape: `(H, W, C)`.
      classes: The number of classes.
      width: Factor of the hidden layers' units.
      masking: How kernels are drawn and masked.
      rngs: The streams `params` and `scores`.
    """

    def __init__(
        self, image_shape: Sequence[int], classes: int, width: float, *, masking: Masking, rngs: nnx.Rngs
    ) -> None:
        height, width_, channels = image_shape
        features = [height * width_ * channels, *_widened((300, 100), width), classes]
        self.denses = _denses(features, masking, rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits `[B, classes]` of images `[B, H, W, C]`."""
        return _head(self.denses, images)


class Convolutional(nnx.Module):
    """Conv2, 4, 6 or 8: pairs of 3x3 convolutions, each pair followed by a 2x2 max-pool, then dense
    layers of 256, 256 and `classes` units.

    Args:
      image_shape: `(H, W, C)`; an odd edge is dropped by the pool.
      classes: The number of classes.
      width: Factor of filters and hidden units.
      depth: The number of convolutions, 2, 4, 6 or 8.
      masking: How kernels are drawn and masked.
      rngs: The streams `params` and `scores`.

    Raises:
      InputError: The image is too small for that many pools.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        classes: int,
        width: float,
        *,
        depth: int,
        masking: Masking,
        rngs: nnx.Rngs,
    ) -> None:
        pools = depth // 2
        smallest = 2**pools
        height, width_, channels = image_shape
        if min(height, width_) < smallest:
            raise errors.InputError(
                f"images of {height}x{width_} are too small for conv{depth}, which halves them {pools} "
                f"times: at least {smallest}x{smallest} is needed (fcn takes any size)"
            )
        filters = _widened([64 * 2 ** (i // 2) for i in range(depth)], width)
        self.convs = nnx.List(
            Conv(i, o, masking=masking, rngs=rngs) for i, o in itertools.pairwise([channels, *filters])
        )
        flat = (height // smallest) * (width_ // smallest) * filters[-1]
        self.denses = _denses([flat, *_widened((256, 256), width), classes], masking, rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits `[B, classes]` of images `[B, H, W, C]`."""
        for i, conv in enumerate(self.convs):
            images = conv(images)
            if i % 2:
                images = max_pool(images, 2, 2, conv.products)
            # After the pool, where a quarter is left: ELU is monotone, so the maximum is the same.
            images = nnx.elu(images)
        return _head(self.denses, images)


class Micro(nnx.Module):
    """A network for a microcontroller: three convolutions that halve the image, and one dense layer.

    A 5x5 convolution with stride 2, two 3x3 convolutions with a 2x2 max-pool each, ELU after each of them.
    Of 28x28 pixels and width 1, no two values that are needed at once have more than 4,704 elements.

    Args:
      image_shape: `(H, W, C)`; an odd edge is dropped by the pools.
      classes: The number of classes.
      width: Factor of the 16, 32 and 64 filters.
      masking: How kernels are drawn and masked.
      rngs: The streams `params` and `scores`.

    Raises:
      InputError: The image is too small.
    """

    def __init__(
        self, image_shape: Sequence[int], classes: int, width: float, *, masking: Masking, rngs: nnx.Rngs
    ) -> None:
        height, width_, channels = image_shape
        if min(height, width_) < 7:
            raise errors.InputError(
                f"images of {height}x{width_} are too small for micro: at least 7x7 is needed"
            )
        filters = _widened((16, 32, 64), width)
        sizes = [(channels, filters[0], 5, 2), (filters[0], filters[1], 3, 1), (filters[1], filters[2], 3, 1)]
        self.convs = nnx.List(Conv(*size, masking=masking, rngs=rngs) for size in sizes)
        flat = math.prod((side + 1) // 2 // 4 for side in (height, width_)) * filters[-1]
        self.head = Dense(flat, classes, masking=masking, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits `[B, classes]` of images `[B, H, W, C]`."""
        for i, conv in enumerate(self.convs):
            images = conv(images)
            images = nnx.elu(max_pool(images, 2, 2, conv.products) if i else images)
        return self.head(lax.collapse(images, 1))


def _denses(features: Sequence[int], masking: Masking, rngs: nnx.Rngs) -> nnx.List:
    return nnx.List(Dense(i, o, masking=masking, rngs=rngs) for i, o in itertools.pairwise(features))


def _head(denses: Sequence[Dense], images: jax.Array) -> jax.Array:
    hidden = lax.collapse(images, 1)
    for dense in denses[:-1]:
        hidden = nnx.elu(dense(hidden))
    return denses[-1](hidden)


NETWORKS: dict[str, Callable[..., nnx.Module]] = {
    "fcn": FullyConnected,
    "conv2": functools.partial(Convolutional, depth=2),
    "conv4": functools.partial(Convolutional, depth=4),
    "conv6": functools.partial(Convolutional, depth=6),
    "conv8": functools.partial(Convolutional, depth=8),
    "micro": Micro,
    "resnet20": functools.partial(ResNet, blocks=3),
    "resnet56": functools.partial(ResNet, blocks=9),
    # As the authors masked it; their dense baseline is the plain one.
    "resnet110": functools.partial(ResNet, blocks=18, projections=(0, 9)),
    "resnet110_plain": functools.partial(ResNet, blocks=18),
}


def check(name: str, width: float, normalization: str) -> None:
    """Check that there is such a network, before there are images for it.

    Args:
      name: A key of `NETWORKS`.
      width: Factor of every hidden layer's filters or units, positive.
      normalization: A key of `NORMALIZATIONS`; `none` for a network that is no ResNet.

    Raises:
      InputError: A name is unknown, the width is not positive, or the network has no normalization.
    """
    errors.choose("network", name, NETWORKS)
    errors.choose("normalization", normalization, NORMALIZATIONS)
    if not width > 0:
        raise errors.out_of_range("width", width, "above 0")
    if normalization != "none" and not name.startswith("resnet"):
        raise errors.InputError(
            f"{name} has no normalization: model.normalization is {normalization!r}, allowed is 'none'"
        )


def build(
    name: str,
    image_shape: Sequence[int],
    classes: int,
    *,
    width: float = 1.0,
    normalization: str = "none",
    masking: Masking = Masking(),
    rngs: nnx.Rngs,
) -> nnx.Module:
    """Build a network of the paper by its name.

    Args:
      name: A key of `NETWORKS`.
      image_shape: `(H, W, C)`.
      classes: The number of classes.
      width: Factor of every hidden layer's filters or units, positive.
      normalization: Normalization of a ResNet, see `ResNet`; `none` for the others.
      masking: How kernels are drawn and masked; `Masking(rule=None)` builds the dense baseline.
      rngs: The streams `params` and `scores`; a stream `default` serves for both.

    Returns:
      A module that maps images `[B, H, W, C]` to logits `[B, classes]`.

    Raises:
      InputError: An unknown name, a width that is not positive, an image that is too small, or a
        normalization that the network does not have.

    Examples:
      >>> from flax import nnx
      >>> network = build("fcn", (28, 28, 1), 10, rngs=nnx.Rngs(0))
      >>> network.denses[0].shape
      (784, 300)
    """
    check(name, width, normalization)
    arguments: dict[str, Any] = {"masking": masking, "rngs": rngs}
    if name.startswith("resnet"):
        arguments["normalization"] = normalization
    return NETWORKS[name](image_shape, classes, width, **arguments)

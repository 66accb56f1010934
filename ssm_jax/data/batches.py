"""From the uint8 dataset on the device to the batch that a step sees: order, standardization,
augmentation, in this order.

Everything here is a pure function of explicit keys, so a batch depends only on the seed, the step
and an example's place in the global batch, not on how many devices share it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# A data set: `images` uint8 `[N, H, W, C]`, `labels` int32 `[N]`, and `mean` and `deviation` of the images,
# float32 `[N]`, see `statistics`: known beforehand, they need not be found again in every step. Or, of images
# that stay on disk, some batches one after another, of each the device's part alone, and `first`, the number
# of the first of them, int32.
Data = dict[str, jax.Array]

PADDING = 4

# Statistics of fewer images at once are rounded otherwise than those of many.
FEWEST = 64
# Of uint8 images, whose statistics are computed at once.
_BYTES_AT_ONCE = 2**24


def steps_per_epoch(examples: int, batch_size: int, passes: int = 1) -> int:
    """`passes * ceil(examples / batch_size)`: a pass sees every example once and completes its last batch.

    Args:
      examples: N, the size of the training set.
      batch_size: B, over all devices.
      passes: How often an epoch goes through the training set.

    Examples:
      >>> steps_per_epoch(60_000, 128)
      469
      >>> steps_per_epoch(50_000, 128, passes=2)
      782
    """
    return passes * -(-examples // batch_size)


def epoch_order(
    key: jax.Array,
    epoch: jax.Array | int,
    examples: int,
    batch_size: int,
    *,
    passes: int = 1,
    shuffle: bool = True,
) -> jax.Array:
    """The order in which an epoch visits the training set.

    Args:
      key: The key of the data order, the same for all epochs.
      epoch: The epoch, counted from 0.
      examples: N, the size of the training set.
      batch_size: B, over all devices.
      passes: How often the epoch goes through the training set.
      shuffle: Whether every pass has a permutation of its own; else all have the order of the data.

    Returns:
      int32 `[steps, B]`, indices into the training set: pass after pass a permutation, its last batch
      completed from the start of the same permutation so that shapes never change.
    """
    steps = steps_per_epoch(examples, batch_size)

    def one(number: jax.Array) -> jax.Array:
        permutation = jnp.arange(examples, dtype=jnp.int32)
        if shuffle:
            permutation = jax.random.permutation(jax.random.fold_in(key, number), permutation)
        return permutation[jnp.arange(steps * batch_size) % examples]

    return jax.vmap(one)(epoch * passes + jnp.arange(passes)).reshape(passes * steps, batch_size)


def statistics(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute by what images are standardized: mean, and deviation with a floor of 1/sqrt(H*W*C).

    Args:
      images: uint8 or floating point `[..., B, H, W, C]`.

    Returns:
      Mean and deviation of every image, float32 `[..., B]` each.
    """
    axes = (-3, -2, -1)
    images = images.astype(jnp.float32)
    return images.mean(axes), jnp.maximum(images.std(axes), math.prod(images.shape[-3:]) ** -0.5)


def with_statistics(split: Mapping[str, Any]) -> dict[str, Any]:
    """Make of a split, `images` and `labels`, a data set for training and evaluation, see `Data`."""
    images = split["images"]
    # Some at a time: in float32 all of them at once would take several times the memory of the data.
    count = max(FEWEST, _BYTES_AT_ONCE // math.prod(images.shape[1:]))
    pieces = [_statistics(images[first : first + count]) for first in range(0, max(1, len(images)), count)]
    mean, deviation = map(jnp.concatenate, zip(*pieces, strict=True))
    return {**split, "mean": mean, "deviation": deviation}


@jax.jit
def _statistics(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    missing = max(0, FEWEST - len(images))
    padded = jnp.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))
    mean, deviation = statistics(padded)
    return mean[: len(images)], deviation[: len(images)]


def standardize(images: jax.Array, known: tuple[jax.Array, jax.Array] | None = None) -> jax.Array:
    """Standardize every image: zero mean, and unit deviation with a floor of 1/sqrt(H*W*C).

    Args:
      images: uint8 or floating point `[B, H, W, C]`.
      known: Their `statistics`, where the caller has them.

    Returns:
      float32 `[B, H, W, C]`.
    """
    mean, deviation = (values[:, None, None, None] for values in known or statistics(images))
    return (images.astype(jnp.float32) - mean) / deviation


def crop_flip(key: jax.Array, images: jax.Array, positions: jax.Array) -> jax.Array:
    """Pad by 4 on every side, crop at random to the old size, flip left to right half of the time.

    Args:
      key: A key of the step.
      images: Standardized images, floating point `[B, H, W, C]`; the border is 0, an image's mean.
      positions: int32 `[B]`, the examples' places in the global batch. Each has a key of its own, so
        that the result doesn't depend on how the batch is spread over devices.

    Returns:
      An array of the images' shape and dtype.
    """
    height, width, channels = images.shape[1:]
    margin = ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0))

    def one(position: jax.Array, padded: jax.Array) -> jax.Array:
        place, side = jax.random.split(jax.random.fold_in(key, position))
        row, column = jax.random.randint(place, (2,), 0, 2 * PADDING + 1)
        crop = lax.dynamic_slice(padded, (row, column, 0), (height, width, channels))
        return jnp.where(jax.random.bernoulli(side), crop[:, ::-1], crop)

    return jax.vmap(one)(positions, jnp.pad(images, margin))


# Of `affine`: radians, share of the size, and pixels, each to both sides.
TURN, GROWTH, SHIFT = math.radians(10), 0.1, 2.0


def affine(key: jax.Array, images: jax.Array, positions: jax.Array) -> jax.Array:
    """Turn, scale and shift every image at random, for digits and characters, which don't bear to be flipped.

    Turned by up to 10 degrees, scaled by 0.9 to 1.1 along each axis, shifted by up to 2 pixels along each
    axis, all of them uniform; bilinear, and beyond the edge the edge goes on.

    Args:
      key: A key of the step.
      images: Standardized images, floating point `[B, H, W, C]`.
      positions: int32 `[B]`, as in `crop_flip`.

    Returns:
      An array of the images' shape and dtype.
    """
    height, width = images.shape[1:3]
    center = jnp.array([height - 1, width - 1], jnp.float32)[:, None, None] / 2
    sides = (jnp.arange(side, dtype=jnp.float32) for side in (height, width))
    grid = jnp.stack(jnp.meshgrid(*sides, indexing="ij")) - center

    def one(position: jax.Array, image: jax.Array) -> jax.Array:
        draws = jax.random.uniform(jax.random.fold_in(key, position), (5,), minval=-1.0)
        turn, growth, shift = draws[0] * TURN, 1 + draws[1:3] * GROWTH, draws[3:] * SHIFT
        rotation = jnp.array([[jnp.cos(turn), -jnp.sin(turn)], [jnp.sin(turn), jnp.cos(turn)]])
        places = jnp.einsum("ij,jhw->ihw", rotation * growth[None], grid) + center + shift[:, None, None]
        sample = functools.partial(jax.scipy.ndimage.map_coordinates, order=1, mode="nearest")
        return jax.vmap(lambda plane: sample(plane, list(places)), -1, -1)(image)

    return jax.vmap(one)(positions, images)


# By their names in `config.data.augment`; of a key, standardized images and places in the global batch.
AUGMENTATIONS: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "crop_flip": crop_flip,
    "affine": affine,
}

"""From the uint8 dataset on the device to the batch that a step sees: order, standardization,
augmentation, in this order.

Everything here is a pure function of explicit keys, so a batch depends only on the seed, the step
and an example's place in the global batch, not on how many devices share it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

# A data set: `images` uint8 `[N, H, W, C]`, `labels` int32 `[N]`, and `mean` and `deviation` of the images,
# float32 `[N]`, see `statistics`: known beforehand, they need not be found again in every step.
Data = dict[str, jax.Array]

PADDING = 4


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
      images: uint8 or floating point `[B, H, W, C]`.

    Returns:
      Mean and deviation of every image, float32 `[B]` each.
    """
    axes = (1, 2, 3)
    images = images.astype(jnp.float32)
    return images.mean(axes), jnp.maximum(images.std(axes), math.prod(images.shape[1:]) ** -0.5)


def with_statistics(split: Mapping[str, ArrayLike]) -> dict[str, ArrayLike]:
    """Make of a split a data set that is ready for training and evaluation, see `Data`.

    Args:
      split: `images` and `labels`.
    """
    mean, deviation = jax.jit(statistics)(split["images"])
    return {**split, "mean": mean, "deviation": deviation}


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

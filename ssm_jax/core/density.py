"""Thresholds that leave a given share of the weights of a network."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ssm_jax import errors
from ssm_jax.core.selection import threshold

# What a density is a share of: all weights together, or those of each layer.
BUDGETS = ("global", "layer")


def check(density: float) -> None:
    """Check a density.

    Args:
      density: The share of weights that remain.

    Raises:
      InputError: It is not above 0 and at most 1.
    """
    if not 0.0 < density <= 1.0:
        raise errors.out_of_range("density", density, "above 0 and at most 1")


def check_shares(density: float, floor: float, budget: str) -> None:
    """Check how a density is shared out.

    Args:
      density: The share of weights that remain.
      floor: The least share of every layer.
      budget: One of `BUDGETS`.

    Raises:
      InputError: The floor is negative or above the density, or the budget unknown.
    """
    if not 0.0 <= floor <= density:
        raise errors.out_of_range("floor", floor, f"0 to the density, {density}")
    if budget not in BUDGETS:
        raise errors.unknown("budget", budget, BUDGETS)


def check_request(density: object, floor: float, budget: str) -> None:
    """Check a density that is asked for by a call, and how it is shared out.

    Args:
      density: The share of weights that remain; one that is traced is not known, and not checked.
      floor: The least share of every layer.
      budget: One of `BUDGETS`.

    Raises:
      InputError: One of them is not what it must be.
    """
    try:
        known = 1.0 if isinstance(density, jax.core.Tracer) else float(density)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise errors.out_of_range("density", density, "one number above 0 and at most 1") from error
    check(known)
    check_shares(known, floor, budget)


def thresholds(
    values: Sequence[jax.Array],
    scales: Sequence[jax.Array],
    density: jax.Array | float,
    floor: float = 0.0,
    budget: str = "global",
) -> list[jax.Array]:
    """Find the thresholds that leave a share of the weights.

    Of a global budget the threshold of every layer is the same multiple of its scale, lowered where the layer
    would fall below the floor; what such layers have more, the others have less. Arrays that are spread over
    devices stay so.

    Args:
      values: What is compared with the threshold, layer by layer, float32 of any shapes. A stack of layers
        has the axes of its scale in front.
      scales: A positive scalar per layer, float32, of a stack an array; a global budget compares values in
        units of it.
      density: The share of weights above the thresholds, above 0 and at most 1.
      floor: The least share of every layer, 0 up to the density; at least one weight where not 0.
      budget: One of `BUDGETS`.

    Returns:
      The thresholds in the shapes of the scales, float32. The number of values above them is right,
      but for ties.

    Examples:
      >>> import jax.numpy as jnp
      >>> layers = [jnp.arange(8.0), jnp.arange(8.0)]
      >>> [float(t) < 6 <= float(t) + 1 for t in thresholds(layers, [jnp.float32(1)] * 2, 0.25)]
      [True, True]
    """
    sizes = [layer.size // scale.size for layer, scale in zip(values, scales, strict=True)]
    least = [max(1, round(floor * size)) if floor else 0 for size in sizes]
    if budget == "layer":
        return [
            _of_each(layer, scale, jnp.maximum(_share(density, size), number))
            for layer, scale, size, number in zip(values, scales, sizes, least, strict=True)
        ]
    guards = [
        _of_each(layer, scale, number) if number else None
        for layer, scale, number in zip(values, scales, least, strict=True)
    ]
    ratios = []
    for layer, scale, guard in zip(values, scales, guards, strict=True):
        ratio = layer / expanded(scale, layer)
        # What the floors keep comes first, whatever the rest is like.
        ratios.append(ratio if guard is None else jnp.where(layer > expanded(guard, layer), jnp.inf, ratio))
    kept = sum(number * scale.size for number, scale in zip(least, scales, strict=True))
    total = sum(layer.size for layer in values)
    multiple = threshold(ratios, jnp.maximum(_share(density, total), kept))
    return [
        _between(layer, ratio > multiple, scale * multiple)
        for layer, ratio, scale in zip(values, ratios, scales, strict=True)
    ]


def _between(values: jax.Array, selected: jax.Array, wanted: jax.Array) -> jax.Array:
    """Move a threshold to between the values that are selected and the others, from where rounding put it.

    Args:
      values: Of one layer, or of a stack.
      selected: Which of them are to be above the threshold, the largest.
      wanted: The threshold, a scalar, of a stack an array.
    """
    axes = tuple(range(wanted.ndim, values.ndim))
    above = jnp.min(jnp.where(selected, values, jnp.inf), axes)
    below = jnp.max(jnp.where(selected, -jnp.inf, values), axes)
    next_below = jnp.nextafter(above, -jnp.inf)
    # A denormal number would count as 0.
    tiny = jnp.finfo(jnp.float32).tiny
    next_below = jnp.where(jnp.abs(next_below) < tiny, jnp.where(above > 0, 0, -tiny), next_below)
    return jnp.minimum(jnp.maximum(wanted, below), next_below)


def expanded(value: jax.Array, like: jax.Array) -> jax.Array:
    """Give an array with a value per layer the axes of what the layers hold, each of size 1.

    Args:
      value: An array with the axes of a stack.
      like: An array that has more axes behind them.
    """
    return value.reshape(value.shape + (1,) * (like.ndim - value.ndim))


def _of_each(values: jax.Array, scale: jax.Array, number: jax.Array | int) -> jax.Array:
    find = threshold
    for _ in range(scale.ndim):
        find = jax.vmap(find, in_axes=(0, None))
    return find(values, number)


def target(start: jax.Array, density: float, progress: jax.Array) -> jax.Array:
    """Tell the density on the way from the first one to the last, geometric in time.

    Args:
      start: The density at the start; where it is below the last one, the last one holds at once.
      density: The last density.
      progress: The share of the way, float32; 1 and above is its end.
    """
    share = jnp.clip(progress, 0, 1)
    return density * jnp.maximum(start / density, 1) ** (1 - share)


def _share(density: jax.Array | float, size: int) -> jax.Array:
    """The number of weights that make up a share, at least one."""
    number = jnp.round(jnp.asarray(density, jnp.float32) * jnp.float32(size)).astype(jnp.int32)
    return jnp.clip(number, 1, size)

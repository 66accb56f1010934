"""The largest entries of an array, found exactly and without sorting it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

# No guess comes closer to an end of the bracket: so every few of them it shrinks by a factor.
_MARGIN = 1 / 32

# How many values bracket a boundary at first, and how many standard deviations of their rank wide.
_SAMPLE, _DEVIATIONS = 1024, 3.0

_TINY = 1 << 23  # the smallest normal float as an integer

# The ends of the bracket, how many values are not below each, and their weights in the interpolation.
Search: TypeAlias = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


def largest(values: jax.Array, number: jax.Array | int) -> jax.Array:
    """Select the largest values, exactly; those that tie with the smallest of them too.

    Args:
      values: Floating point up to 32 bits, any shape, not NaN; of either sign, 0 and -0 being equal.
      number: How many to select, 1 up to all.

    Returns:
      Booleans in the shape of the values.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(largest(jnp.array([0.5, -3.0, 2.0, 0.1]), 2))
      [ True False  True False]
    """
    order = _ordered(values)
    return order >= _boundary([order], number)


def threshold(values: jax.Array | Sequence[jax.Array], number: jax.Array | int) -> jax.Array:
    """Find a threshold that is below the largest values and not below the others.

    Args:
      values: See `largest`; or several arrays, of whose values together.
      number: How many values are above the threshold, 1 up to all; more where some tie.

    Returns:
      A float32 scalar.

    Examples:
      >>> import jax.numpy as jnp
      >>> values = jnp.array([0.5, -3.0, 2.0, 0.1])
      >>> print(values > threshold(values, 2))
      [ True False  True False]
    """
    arrays = [values] if isinstance(values, jax.Array) else values
    bits = _boundary([_ordered(array) for array in arrays], number) - 1  # the next smaller float
    # Denormal numbers would count as 0: the largest normal one below.
    bits = jnp.where((bits >= -_TINY) & (bits < 0), -_TINY - 1, bits)
    bits = jnp.where((bits >= 0) & (bits < _TINY), 0, bits)
    return lax.bitcast_convert_type(_flipped(bits), jnp.float32)


def _boundary(orders: Sequence[jax.Array], number: jax.Array | int) -> jax.Array:
    """Find the bound that the largest integers reach and no others.

    It is bracketed by two counts and closed in on by interpolation between them, in the order of floats as
    integers, which is close to that of their logarithms. A guess costs one pass over the arrays; the first
    that leaves the right number ends the search. Large arrays are first bracketed by what a sample of them
    tells; where that is wrong the bracket is the whole range, so that the result does not depend on it.
    Arrays that are spread over a mesh are neither sampled nor put together, and stay as they are.
    """
    number = jnp.asarray(number, jnp.int32)

    def count(bound: jax.Array) -> jax.Array:
        return functools.reduce(jnp.add, [jnp.sum(order >= bound, dtype=jnp.int32) for order in orders])

    def is_open(search: Search) -> jax.Array:
        low, high, above_low, *_ = search
        return (above_low > number) & (_distance(low, high) > 1)

    def narrow(search: Search) -> Search:
        low, high, above_low, above_high, weight_low, weight_high = search
        excess = (above_low - number).astype(jnp.float32) * weight_low
        lack = (number - above_high).astype(jnp.float32) * weight_high
        share = jnp.clip(excess / (excess + lack), _MARGIN, 1 - _MARGIN)
        distance = _distance(low, high)
        stride = (distance.astype(jnp.float32) * share).astype(jnp.uint32)
        stride = jnp.clip(stride, jnp.uint32(1), distance - jnp.uint32(1))
        guess = low + lax.bitcast_convert_type(stride, jnp.int32)
        found = count(guess)
        enough = found >= number
        # The Illinois method: an end that stays counts half each time, so that the guess passes the goal.
        return (
            jnp.where(enough, guess, low),
            jnp.where(enough, high, guess),
            jnp.where(enough, found, above_low),
            jnp.where(enough, above_high, found),
            jnp.where(enough, 1.0, weight_low / 2),
            jnp.where(enough, weight_high / 2, 1.0),
        )

    size = sum(order.size for order in orders)
    spread = any(not jax.typeof(order).sharding.mesh.empty for order in orders)
    low = functools.reduce(jnp.minimum, map(jnp.min, orders))
    if spread or size < 8 * _SAMPLE:
        high = functools.reduce(jnp.maximum, map(jnp.max, orders)) + 1
        zero = low * 0  # of the arrays, so that `vmap` finds all of the search spread as they are
        above_low, above_high, one = zero + size, zero, (zero + 1).astype(jnp.float32)
    else:
        above_low, above_high, one = jnp.int32(size), jnp.int32(0), jnp.float32(1)
        high = jnp.int32(2**31 - 1)
        sample = jnp.concatenate([jnp.ravel(order)[:: size // _SAMPLE] for order in orders])
        share = number.astype(jnp.float32) / size
        margin = _DEVIATIONS * jnp.sqrt(share * (1 - share) / sample.size) + 1 / sample.size
        for side in (1, -1):
            rank = jnp.round((share + side * margin) * sample.size).astype(jnp.int32)
            guess = _boundary([sample], jnp.clip(rank, 1, sample.size))
            found = count(guess)
            enough = found >= number
            low, above_low = jnp.where(enough, guess, low), jnp.where(enough, found, above_low)
            high, above_high = jnp.where(enough, high, guess), jnp.where(enough, above_high, found)
    low, *_ = lax.while_loop(is_open, narrow, (low, high, above_low, above_high, one, one))
    return low


def _ordered(values: jax.Array) -> jax.Array:
    """Integers in the order of the floats."""
    values = values.astype(jnp.float32)
    values = jnp.where(values == 0, jnp.float32(0), values)  # -0 would come below 0
    bits = lax.bitcast_convert_type(values, jnp.int32)
    return _flipped(bits)


def _flipped(bits: jax.Array) -> jax.Array:
    # Of negative floats all bits but that of the sign; done twice, it gives the float's bits back.
    return jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)


def _distance(low: jax.Array, high: jax.Array) -> jax.Array:
    # Between floats of either sign it may be beyond an int32; the difference wraps around to the right bits.
    return lax.bitcast_convert_type(high - low, jnp.uint32)

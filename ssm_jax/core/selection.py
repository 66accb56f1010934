"""The largest entries of an array, found exactly by counting; no more than a sample is sorted."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

# How many values bracket a boundary at first, and how many standard deviations of their rank wide.
_SAMPLE, _DEVIATIONS = 1024, 3.0

_TINY = 1 << 23  # the smallest normal float as an integer

_LOWEST = -(2**31) + (1 << 23) - 1  # minus infinity as an integer

# The ends of the bracket, how many values are not below each, and their weights in the interpolation.
Search: TypeAlias = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


def largest(values: jax.Array, number: jax.Array | int) -> jax.Array:
    """Select the largest values, exactly; those that tie with the smallest of them too.

    Args:
      values: Floating point up to 32 bits, any shape, not NaN; of either sign; 0, -0 and
        denormal numbers are equal.
      number: How many to select, 1 up to all.

    Returns:
      Booleans in the shape of the values.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(largest(jnp.array([0.5, -3.0, 2.0, 0.1]), 2))
      [ True False  True False]
    """
    return extremes(values, [number])[0]


def extremes(
    values: jax.Array, largest: Sequence[jax.Array | int], smallest: Sequence[jax.Array | int] = ()
) -> list[jax.Array]:
    """Select the largest values and the smallest, several times at once.

    Args:
      values: As of `largest`.
      largest: How many of the largest to select, each 1 up to all.
      smallest: How many of the smallest, likewise.

    Returns:
      Booleans in the shape of the values, for every number of `largest`, then of `smallest`. Values that tie
      with the last one selected are selected too.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(*extremes(jnp.array([0.5, -3.0, 2.0, 0.1]), [2], [1]))
      [ True False  True False] [False  True False False]
    """
    order = _ordered(values)
    ranks = [*largest, *(-number for number in smallest)]
    stacked = jnp.stack([jnp.asarray(rank, jnp.int32) for rank in ranks])
    if _handler is None or _is_spread(order):
        bounds = _bounds(order, stacked)
    else:
        bounds = lax.platform_dependent(order, stacked, cpu=_from_handler, default=_bounds)
    above, below = bounds[: len(largest)], bounds[len(largest) :]
    return [order >= bound for bound in above] + [order <= bound for bound in below]


def use_handler(target: str) -> None:
    """Have a CPU search by a handler of XLA's foreign function interface, with the same result.

    Args:
      target: By what name XLA knows it. It takes int32 `[..., N]` and ranks `[..., K]`, from the largest on,
        if negative from the smallest, and returns the integers of these ranks.
    """
    global _handler
    _handler = target


_handler: str | None = None


def _from_handler(order: jax.Array, ranks: jax.Array) -> jax.Array:
    assert _handler is not None
    call = jax.ffi.ffi_call(
        _handler, jax.ShapeDtypeStruct(ranks.shape, jnp.int32), vmap_method="broadcast_all"
    )
    flat = order.reshape(-1)
    return call(flat, ranks) + 0 * flat[0]  # as spread over devices as the values, for `shard_map`


def _bounds(order: jax.Array, ranks: jax.Array) -> jax.Array:
    """Of every rank a bound that so many integers reach from above, or from below."""

    def one(rank: jax.Array) -> jax.Array:
        from_above = jnp.where(rank < 0, ~order, order)
        bound = _boundary([from_above], jnp.abs(rank))
        return jnp.where(rank < 0, ~bound, bound)

    return jnp.stack([one(rank) for rank in ranks])


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
    orders = [_ordered(array) for array in arrays]
    bits = jnp.maximum(_boundary(orders, number), _smallest(orders)) - 1  # the next smaller float
    # Denormal numbers would count as 0: the largest normal one below.
    bits = jnp.where((bits >= -_TINY) & (bits < 0), -_TINY - 1, bits)
    bits = jnp.where((bits >= 0) & (bits < _TINY), 0, bits)
    return lax.bitcast_convert_type(_flipped(bits), jnp.float32)


def _boundary(orders: Sequence[jax.Array], number: jax.Array | int) -> jax.Array:
    """Find a bound that the largest integers reach and no others.

    It is bracketed by two counts and closed in on by interpolation between them, in the order of floats as
    integers, which is close to that of their logarithms. A pass over the arrays counts for two guesses, one
    to either side of where the bound should be; the first that leaves the right number ends the search.
    Large arrays are first bracketed by what a sample of them tells; where that is wrong the bracket is the
    whole range, so that the result does not depend on it. Arrays that are spread over a mesh are neither
    sampled nor put together, and stay as they are.
    """
    number = jnp.asarray(number, jnp.int32)

    def is_open(search: Search) -> jax.Array:
        low, high, above_low, *_ = search
        return (above_low > number) & (_distance(low, high) > 1)

    def shrunk(search: Search, near: jax.Array, far: jax.Array) -> Search:
        low, high, above_low, above_high, weight_low, weight_high = search
        above_near, above_far = _counts(orders, near, far, spread)
        low_moves, high_moves = above_near >= number, above_far < number
        to_far, to_near = above_far >= number, above_near < number
        # The Illinois method: an end that stays counts half each time, so that a guess passes the goal.
        return (
            jnp.where(to_far, far, jnp.where(low_moves, near, low)),
            jnp.where(to_near, near, jnp.where(high_moves, far, high)),
            jnp.where(to_far, above_far, jnp.where(low_moves, above_near, above_low)),
            jnp.where(to_near, above_near, jnp.where(high_moves, above_far, above_high)),
            jnp.where(low_moves, 1.0, weight_low / 2),
            jnp.where(high_moves, 1.0, weight_high / 2),
        )

    def narrow(search: Search) -> Search:
        low, high, above_low, above_high, weight_low, weight_high = search
        excess = (above_low - number).astype(jnp.float32) * weight_low
        lack = (number - above_high).astype(jnp.float32) * weight_high
        share = excess / (excess + lack)
        deviation = jnp.sqrt(share * (1 - share) / (above_low - above_high).astype(jnp.float32))
        distance = _distance(low, high)

        def guess(share: jax.Array) -> jax.Array:
            stride = (distance.astype(jnp.float32) * share).astype(jnp.uint32)
            stride = jnp.clip(stride, jnp.uint32(1), distance - jnp.uint32(1))
            return low + lax.bitcast_convert_type(stride, jnp.int32)

        # No guess is next to an end of the bracket without need: it shrinks whichever side the bound is on.
        near = share - jnp.minimum(deviation, share / 2)
        far = share + jnp.minimum(deviation, (1 - share) / 2)
        return shrunk(search, guess(near), guess(far))

    size = sum(order.size for order in orders)
    spread = any(map(_is_spread, orders))
    if spread or size < 8 * _SAMPLE:
        low = _smallest(orders)
        high = functools.reduce(jnp.maximum, map(jnp.max, orders)) + 1
        # Of the arrays, so that `vmap` and `shard_map` find all of the search spread as they are.
        zero = low * 0
        one = (zero + 1).astype(jnp.float32)
        search = low, high, zero + size, zero, one, one
    else:
        sample = jnp.sort(jnp.concatenate([jnp.ravel(order)[:: size // _SAMPLE] for order in orders]))
        share = number.astype(jnp.float32) / size
        margin = _DEVIATIONS * jnp.sqrt(share * (1 - share) / sample.size) + 1 / sample.size
        ranks = jnp.round((share + jnp.array([margin, -margin])) * sample.size).astype(jnp.int32)
        near, far = sample[sample.size - jnp.clip(ranks, 1, sample.size)]
        zero = sample[0] * 0
        one = (zero + 1).astype(jnp.float32)
        whole = zero + _LOWEST, zero + (2**31 - 1), zero + size, zero, one, one
        search = (*shrunk(whole, near, far)[:4], one, one)
    return lax.while_loop(is_open, narrow, search)[0]


def _counts(
    orders: Sequence[jax.Array], near: jax.Array, far: jax.Array, spread: bool
) -> tuple[jax.Array, jax.Array]:
    """How many integers reach one bound, and how many another."""

    def flat(order: jax.Array, near: jax.Array, far: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.sum(order >= near, dtype=jnp.int32), jnp.sum(order >= far, dtype=jnp.int32)

    def in_columns(
        width: int, order: jax.Array, near: jax.Array, far: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        order = order.reshape(-1, width)
        # Both counts of a column are the halves of one integer.
        both = (order >= near).astype(jnp.int32) + ((order >= far).astype(jnp.int32) << 16)
        # Without the barrier XLA makes one sum of the two, and that one it does not vectorize.
        both = lax.optimization_barrier(jnp.sum(both, 0, dtype=jnp.int32))
        return jnp.sum(both & 0xFFFF, dtype=jnp.int32), jnp.sum(both >> 16, dtype=jnp.int32)

    def counted(order: jax.Array) -> tuple[jax.Array, jax.Array]:
        width = _width(order.size)
        if spread or not width:
            return flat(order, near, far)
        by_columns = functools.partial(in_columns, width)
        reached: tuple[jax.Array, jax.Array] = lax.platform_dependent(
            order, near, far, cpu=by_columns, default=flat
        )
        return reached

    above_near, above_far = zip(*map(counted, orders), strict=True)
    return functools.reduce(jnp.add, above_near), functools.reduce(jnp.add, above_far)


@functools.cache
def _width(size: int) -> int:
    """Into how many columns a CPU takes an array for counting; 0: none, they don't divide it."""
    return next((n for n in range(512, 127, -16) if size % n == 0 and size // n < 2**15), 0)


def _is_spread(array: jax.Array) -> bool:
    """Whether an array may lie on several devices; within `shard_map` it is the part of one."""
    mesh = jax.typeof(array).sharding.mesh
    return not mesh.empty and not mesh.are_all_axes_manual


def _smallest(orders: Sequence[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.minimum, map(jnp.min, orders))


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

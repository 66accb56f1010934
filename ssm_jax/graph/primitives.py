"""What becomes of each primitive of JAX: the table by which a model becomes operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from ssm_jax import graph
from ssm_jax.graph import elementary
from ssm_jax.graph.expressions import Expression, unknown


class Tracer(Protocol):
    """What a rule makes operations with. A rule calls `of` for all that it takes before it calls `add`."""

    dtypes: set[str]

    def of(self, expression: Expression) -> Any:
        """The value of an expression."""

    def add(self, kind: type[graph.Node], *inputs: Any, batch: int | None = None, **fields: Any) -> Any:
        """Add an operation; the batch is where it was in the first input, or at `batch`."""

    def name(self, expression: Expression, *constants: Expression) -> str:
        """A name for an operation."""


Rule = Callable[[Tracer, Expression], Any]


def inner(axes: Iterable[int], batch: int) -> list[int]:
    """The same axes of a value without its batch."""
    return [axis - (axis > batch) for axis in axes if axis != batch]


def without(sizes: Sequence[Any], axis: int) -> tuple[Any, ...]:
    """Leave out what is of one axis."""
    return (*sizes[:axis], *sizes[axis + 1 :])


def _is_float(expression: Expression) -> bool:
    return bool(jnp.issubdtype(expression.dtype, jnp.floating))


def smallest(array: np.ndarray) -> np.ndarray:
    """Keep one of every axis along which an array repeats itself."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return array


def of_constant(expression: Expression, axis: int, rank: int, whole: bool = False) -> np.ndarray:
    """A constant without its batch, as it is combined with a value of so many axes; float32, int32 or bool.

    Args:
      expression: The constant.
      axis: Where the batch is.
      rank: The number of axes, the batch's among them.
      whole: Whether all sizes are kept; by default one of what repeats itself is.
    """
    array = np.asarray(expression.array)
    if array.dtype != bool:
        array = array.astype(np.float32 if _is_float(expression) else np.int32)
    array = array.reshape(array.shape or (1,) * rank)
    if (array != array.take([0], axis)).any():
        raise unknown(expression, "with constants that differ from example to example")
    array = array.take(0, axis)
    return array if whole else smallest(array)


def _constant(tracer: Tracer, array: np.ndarray, dtype: Any, axis: int) -> Any:
    held = array.astype(np.int32) if array.dtype == bool else array
    value = tracer.add(graph.Constant, batch=axis, values=np.asarray(held, order="C"))
    name = jnp.dtype(dtype).name
    return tracer.add(graph.Cast, value, dtype=name) if name in ("bool", "bfloat16") else value


def operands(tracer: Tracer, expression: Expression, whole: bool = False) -> list[Any]:
    """The values of all inputs, which are combined element by element; constants among them."""
    values = {i: tracer.of(each) for i, each in enumerate(expression.inputs) if not each.constant}
    axes = {value.axis for value in values.values()}
    if len(axes) != 1:
        raise unknown(expression, "of values whose batches are different axes")
    (axis,) = axes
    for i, each in enumerate(expression.inputs):
        if each.constant:
            array = of_constant(each, axis, len(expression.shape), whole)
            values[i] = _constant(tracer, array, each.dtype, axis)
    return [values[i] for i in range(len(expression.inputs))]


def unary(function: str) -> Rule:
    """A rule for a function of every element."""
    return lambda tracer, expression: tracer.add(
        graph.Unary, tracer.of(expression.inputs[0]), function=function
    )


def binary(function: str) -> Rule:
    """A rule for a function of two elements each."""

    neutral = {"max": -math.inf, "min": math.inf}.get(function)  # what a reduction begins with

    def rule(tracer: Tracer, expression: Expression) -> Any:
        for each, other in (expression.inputs, expression.inputs[::-1]):
            if neutral is not None and each.constant and each.scalar == neutral:
                return tracer.of(other)
        return tracer.add(graph.Binary, *operands(tracer, expression), function=function)

    return rule


def _sum(tracer: Tracer, expression: Expression) -> Any:
    """Add, or subtract a constant: an offset where it is one a channel, or one an element."""
    (left, right), subtracted = expression.inputs, expression.primitive == "sub"
    if left.constant and not subtracted:
        left, right = right, left
    if not (left.constant or right.constant or subtracted) and left.shape == right.shape:
        return tracer.add(graph.Add, *operands(tracer, expression))
    if left.constant or not right.constant or not _is_float(expression):
        return binary(expression.primitive)(tracer, expression)
    value = tracer.of(left)
    sizes = without(expression.shape, value.axis)
    if not sizes or sizes != without(left.shape, value.axis):
        return binary(expression.primitive)(tracer, expression)
    array = of_constant(right, value.axis, len(expression.shape))
    array = -array if subtracted else array
    if math.prod(array.shape[:-1]) == 1:
        array = np.broadcast_to(array.reshape(array.shape[-1]), sizes[-1:])
    else:
        array = np.broadcast_to(array, sizes)
    return tracer.add(graph.Offset, value, values=np.ascontiguousarray(array))


def _power(tracer: Tracer, expression: Expression) -> Any:
    value, power = tracer.of(expression.inputs[0]), expression.parameters["y"]
    if power == 2:
        return tracer.add(graph.Unary, value, function="square")
    if 0 < power <= 4:
        product = value
        for _ in range(power - 1):
            product = tracer.add(graph.Binary, product, value, function="mul")
        return product
    rank = len(expression.shape) - 1
    exponent = _constant(tracer, np.full((1,) * rank, power, np.float32), expression.dtype, value.axis)
    return tracer.add(graph.Binary, value, exponent, function="pow")


def _select(tracer: Tracer, expression: Expression) -> Any:
    if len(expression.inputs) != 3 or expression.inputs[0].dtype != bool:
        raise unknown(expression, f"of {len(expression.inputs) - 1} cases")
    condition, no, yes = operands(tracer, expression)
    return tracer.add(graph.Select, condition, yes, no)


def _clamp(tracer: Tracer, expression: Expression) -> Any:
    least, value, most = operands(tracer, expression)
    return tracer.add(
        graph.Binary, tracer.add(graph.Binary, value, least, function="max"), most, function="min"
    )


def _cast(tracer: Tracer, expression: Expression) -> Any:
    value = tracer.of(expression.inputs[0])
    name = jnp.dtype(expression.dtype).name
    name = name if _is_float(expression) or name == "bool" else "int32"
    if name not in elementary.CASTS:
        raise unknown(expression, f"to {name}")
    return tracer.add(graph.Cast, value, dtype=name)


def reshape(tracer: Tracer, value: Any, before: Sequence[int], after: Sequence[int]) -> Any:
    """Reshape a value; both shapes are without the batch."""
    before, after = tuple(before), tuple(after)
    if before == after:
        return value
    if len(after) == 1:
        return tracer.add(graph.Flatten, value)
    return tracer.add(graph.Reshape, value, sizes=after)


def transpose(tracer: Tracer, value: Any, axes: Sequence[int]) -> Any:
    """Put axes into another order, without the batch."""
    axes = tuple(axes)
    return value if axes == tuple(range(len(axes))) else tracer.add(graph.Transpose, value, axes=axes)


def _reshape(tracer: Tracer, expression: Expression) -> Any:
    (operand,) = expression.inputs
    value, shape = tracer.of(operand), expression.shape
    batch, before = operand.shape[value.axis], math.prod(operand.shape[: value.axis])
    axes = [i for i, size in enumerate(shape) if size == batch and math.prod(shape[:i]) == before]
    if not axes or (expression.primitive == "reshape" and expression.parameters["dimensions"]):
        raise unknown(expression, f"of {list(operand.shape)} to {list(shape)}, which mixes examples")
    out = reshape(tracer, value, without(operand.shape, value.axis), without(shape, axes[0]))
    return moved(out, axes[0])


def moved(value: Any, axis: int) -> Any:
    """The same value of the network with its batch elsewhere in the model."""
    return type(value)(value.number, axis)


def _broadcast(tracer: Tracer, expression: Expression) -> Any:
    (operand,) = expression.inputs
    value, places = tracer.of(operand), expression.parameters["broadcast_dimensions"]
    axis = places[value.axis]
    if expression.shape[axis] != operand.shape[value.axis]:
        raise unknown(expression, "of the batch")
    whole = [1] * len(expression.shape)
    for place, size in zip(places, operand.shape, strict=True):
        whole[place] = size
    sizes = without(expression.shape, axis)
    out = reshape(tracer, value, without(operand.shape, value.axis), without(whole, axis))
    if without(whole, axis) != sizes:
        out = tracer.add(graph.Broadcast, out, sizes=sizes)
    return moved(out, axis)


def _transpose(tracer: Tracer, expression: Expression) -> Any:
    value, axes = tracer.of(expression.inputs[0]), expression.parameters["permutation"]
    return moved(transpose(tracer, value, inner(axes, value.axis)), axes.index(value.axis))


def _reduce(function: str) -> Rule:
    def rule(tracer: Tracer, expression: Expression) -> Any:
        value, axes = tracer.of(expression.inputs[0]), expression.parameters["axes"]
        if value.axis in axes:
            raise unknown(expression, "over the batch")
        kept = tuple(inner(axes, value.axis))
        reduced = tracer.add(graph.Reduce, value, function=function, axes=kept) if axes else value
        return moved(reduced, value.axis - sum(axis < value.axis for axis in axes))

    return rule


def _slice(tracer: Tracer, expression: Expression) -> Any:
    operand, parameters = expression.inputs[0], expression.parameters
    value = tracer.of(operand)
    steps = parameters["strides"] or (1,) * len(operand.shape)
    parts = list(zip(parameters["start_indices"], parameters["limit_indices"], steps, strict=True))
    return _part(tracer, expression, value, parts)


def _part(tracer: Tracer, expression: Expression, value: Any, parts: Sequence[tuple[int, int, int]]) -> Any:
    if parts[value.axis] != (0, expression.inputs[0].shape[value.axis], 1):
        raise unknown(expression, "of the batch")
    start, stop, step = zip(*without(parts, value.axis))
    return tracer.add(graph.Slice, value, start=start, stop=stop, step=step)


def _split(tracer: Tracer, expression: Expression) -> Any:
    operand, parameters = expression.inputs[0], expression.parameters
    value, axis, sizes = tracer.of(operand), parameters["axis"], parameters["sizes"]
    first = sum(sizes[: parameters.get("result", 0)])
    parts = [(0, size, 1) for size in operand.shape]
    parts[axis] = (first, first + sizes[parameters.get("result", 0)], 1)
    return _part(tracer, expression, value, parts)


def _dynamic_slice(tracer: Tracer, expression: Expression) -> Any:
    operand, *starts = expression.inputs
    value = tracer.of(operand)
    if not all(start.constant for start in starts):
        raise unknown(expression, "at a place that is computed")
    sizes = expression.parameters["slice_sizes"]
    places = [
        int(np.clip(start.array, 0, whole - size))
        for start, whole, size in zip(starts, operand.shape, sizes, strict=True)
    ]
    parts = [(place, place + size, 1) for place, size in zip(places, sizes, strict=True)]
    return _part(tracer, expression, value, parts)


def _pad(tracer: Tracer, expression: Expression) -> Any:
    value, number = tracer.of(expression.inputs[0]), expression.inputs[1].scalar
    sides = expression.parameters["padding_config"]
    if number is None or not math.isfinite(number) or any(inner for *_, inner in sides):
        raise unknown(expression, "with these settings")
    if sides[value.axis] != (0, 0, 0):
        raise unknown(expression, "of the batch")
    cut = [
        (max(-low, 0), size - max(-high, 0), 1)
        for size, (low, high, _) in zip(expression.inputs[0].shape, sides, strict=True)
    ]
    if any(low < 0 or high < 0 for low, high, _ in sides):
        value = _part(tracer, expression, value, cut)
    low, high, _ = zip(*without(sides, value.axis))
    low, high = (tuple(max(each, 0) for each in side) for side in (low, high))
    return tracer.add(graph.Pad, value, low=low, high=high, value=number) if any(low + high) else value


def _concatenate(tracer: Tracer, expression: Expression) -> Any:
    values = [tracer.of(each) for each in expression.inputs if not each.constant]
    axis = expression.parameters["dimension"]
    if values[0].axis == axis:
        raise unknown(expression, "of batches")
    values = operands(tracer, expression, whole=True)
    return tracer.add(graph.Concatenate, *values, axis=axis - (axis > values[0].axis))


# Rules for what is computed element by element, and for what arranges elements anew.
RULES: dict[str, Rule] = {
    **{name: unary(name) for name in elementary.UNARY},
    **{name: binary(name) for name in elementary.BINARY},
    **{f"reduce_{name}": _reduce(name) for name in elementary.REDUCTIONS},
    "add": _sum,
    "sub": _sum,
    "broadcast_in_dim": _broadcast,
    "clamp": _clamp,
    "concatenate": _concatenate,
    "convert_element_type": _cast,
    "dynamic_slice": _dynamic_slice,
    "expand_dims": _reshape,
    "integer_pow": _power,
    "pad": _pad,
    "reshape": _reshape,
    "select_n": _select,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "transpose": _transpose,
}

"""What becomes of the primitives that have kernels or windows."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from ssm_jax import graph
from ssm_jax.graph.expressions import Expression, unknown
from ssm_jax.graph.primitives import Tracer, inner, moved, reshape, transpose, without


def _kernel(tracer: Tracer, expression: Expression, array: np.ndarray) -> graph.Kernel:
    tracer.dtypes.add(str(expression.dtype))
    return graph.Kernel.of(np.ascontiguousarray(array.astype(np.float32)))


def conv(tracer: Tracer, expression: Expression) -> Any:
    """A convolution with a constant kernel."""
    operand, kernel = expression.inputs
    value, settings = tracer.of(operand), expression.parameters
    numbers = settings["dimension_numbers"]
    if not kernel.constant or settings["batch_group_count"] != 1 or value.axis != numbers.lhs_spec[0]:
        raise unknown(expression, "with these settings")
    outputs, inputs, *places = numbers.rhs_spec
    array = kernel.array.transpose([*places, inputs, outputs])
    batch, channels, *sides = numbers.lhs_spec
    value = transpose(tracer, value, inner((*sides, channels), batch))
    sizes = [operand.shape[axis] for axis in sides]
    low, high = zip(*settings["padding"]) if sides else ((), ())
    stride, groups = settings["window_strides"], settings["feature_group_count"]
    dilation, spread = settings["rhs_dilation"], settings["lhs_dilation"]
    if min((*low, *high), default=0) < 0:
        raise unknown(expression, f"with padding {settings['padding']}")
    name = tracer.name(expression, kernel)
    square = len(sides) == 2 and array.shape[0] == array.shape[1] and len({*stride}) == 1
    same = square and [
        graph.same_padding(size, window, stride[0]) for size, window in zip(sizes, array.shape)
    ] == list(zip(low, high))
    fields: dict[str, Any] = {"name": name, "kernel": _kernel(tracer, expression, array)}
    if same and {*dilation, *spread, groups} == {1}:
        out = tracer.add(graph.Conv, value, stride=stride[0], **fields)
    else:
        fields |= {"stride": stride, "low": low, "high": high, "dilation": dilation, "spread": spread}
        out = tracer.add(graph.Convolution, value, groups=groups, **fields)
    # The result is [..., O]; the model has its axes in the order of out_spec.
    batch, channels, *sides = numbers.out_spec
    order = {axis: place for place, axis in enumerate((*sides, channels))}
    out = transpose(tracer, out, [order[axis] for axis in sorted(order)])
    return moved(out, batch)


def dot(tracer: Tracer, expression: Expression) -> Any:
    """A product with a constant kernel, or of two values."""
    left, right = expression.inputs
    (contracted, batched) = expression.parameters["dimension_numbers"]
    if batched == ((), ()) and right.constant:
        return _dense(tracer, expression, left, right, contracted[0], contracted[1])
    if batched == ((), ()) and left.constant:
        product = _dense(tracer, expression, right, left, contracted[1], contracted[0])
        # Now the value's axes are first, and behind them the kernel's, which the model has first.
        free = len(right.shape) - len(contracted[1])
        order = [*range(free, len(expression.shape)), *range(free)]
        return moved(transpose(tracer, product, inner(order, product.axis)), order.index(product.axis))
    return _product(tracer, expression, contracted, batched)


def _dense(
    tracer: Tracer, expression: Expression, operand: Expression, kernel: Expression, axes: Any, rows: Any
) -> Any:
    value = tracer.of(operand)
    if value.axis in axes:
        raise unknown(expression, "over the batch")
    units = [axis for axis in range(len(kernel.shape)) if axis not in rows]
    count = math.prod(kernel.shape[axis] for axis in rows)
    array = kernel.array.transpose([*rows, *units]).reshape(count, -1)
    name = tracer.name(expression, kernel)
    free = [axis for axis in range(len(operand.shape)) if axis not in axes and axis != value.axis]
    sizes = [operand.shape[axis] for axis in free]
    out = transpose(tracer, value, inner((*free, *axes), value.axis))
    out = reshape(tracer, out, [operand.shape[axis] for axis in (*free, *axes)], [*sizes, count])
    out = tracer.add(graph.Dense, out, name=name, kernel=_kernel(tracer, expression, array))
    out = reshape(tracer, out, [*sizes, array.shape[1]], [*sizes, *(kernel.shape[axis] for axis in units)])
    return moved(out, sum(axis < value.axis for axis in free))


def _product(tracer: Tracer, expression: Expression, sums: Any, shared: Any) -> Any:
    """`[shared..., M, K] @ [shared..., K, N]` of two values."""
    values = [tracer.of(each) for each in expression.inputs]
    places = {both.index(value.axis) for both, value in zip(shared, values) if value.axis in both}
    if len(places) != 1 or not all(value.axis in both for both, value in zip(shared, values)):
        raise unknown(expression, "of different examples")
    sides, free = [], []
    for i, (each, value) in enumerate(zip(expression.inputs, values)):
        first = [axis for axis in shared[i] if axis != value.axis]
        own = [axis for axis in range(len(each.shape)) if axis not in (*sums[i], *shared[i])]
        last = [own, list(sums[i])] if i == 0 else [list(sums[i]), own]
        order = [*first, *last[0], *last[1]]
        ordered = transpose(tracer, value, inner(order, value.axis))
        sizes = [each.shape[axis] for axis in order]
        flat = [math.prod(each.shape[axis] for axis in group) for group in last]
        sides.append(reshape(tracer, ordered, sizes, [*sizes[: len(first)], *flat]))
        free.append([each.shape[axis] for axis in own])
    batches = sizes[: len(first)]
    product = tracer.add(graph.Product, *sides)
    product = reshape(tracer, product, [*batches, *map(math.prod, free)], [*batches, *free[0], *free[1]])
    return moved(product, places.pop())


def pool(function: str) -> Any:
    """A rule for a window that goes over a value."""

    def rule(tracer: Tracer, expression: Expression) -> Any:
        source, settings = expression.inputs[0], expression.parameters
        sides = list(settings["padding"])
        if function == "max" and source.primitive == "pad" and _is_least(source):
            # A padding with the least number is one of the window.
            config = source.parameters["padding_config"]
            if min(min(low, high, -inner) for low, high, inner in config) == 0:
                sides = [(a + low, b + high) for (a, b), (low, high, _) in zip(sides, config)]
                source = source.inputs[0]
        value = tracer.of(source)
        each = list(zip(settings["window_dimensions"], settings["window_strides"], sides))
        spread = {*settings["base_dilation"], *settings["window_dilation"]} != {1}
        if spread or each[value.axis] != (1, 1, (0, 0)):
            raise unknown(expression, "of these windows")
        each = list(without(each, value.axis))
        if function == "max" and len(each) == 3 and each[2] == (1, 1, (0, 0)) and each[0] == each[1]:
            window, stride, (low, high) = each[0]
            if low == high < window <= graph.MOST_WINDOW:
                return tracer.add(graph.MaxPool, value, window=window, stride=stride, padding=low)
        window, stride, margins = zip(*each)
        low, high = zip(*margins)
        return tracer.add(
            graph.Pool, value, function=function, window=window, stride=stride, low=low, high=high
        )

    return rule


def _is_least(padded: Expression) -> bool:
    number = padded.inputs[1].scalar
    return number is not None and number <= float(jnp.finfo(padded.dtype).min)


def gather(tracer: Tracer, expression: Expression) -> Any:
    """Rows of a constant table."""
    table, places = expression.inputs
    numbers, rank = expression.parameters["dimension_numbers"], len(expression.shape)
    rows = (numbers.offset_dims, numbers.collapsed_slice_dims, numbers.start_index_map)
    if not table.constant or rows != ((rank - 1,), (0,), (0,)) or len(table.shape) != 2:
        raise unknown(expression, "with these settings")
    if expression.parameters["slice_sizes"] != (1, table.shape[1]):
        raise unknown(expression, "of parts of rows")
    value = tracer.of(places)
    sizes = without(places.shape, value.axis)
    indices = reshape(tracer, value, sizes, sizes[:-1])
    name = tracer.name(expression, table)
    return tracer.add(graph.Embed, indices, name=name, kernel=graph.Kernel.of(table.array.astype(np.float32)))

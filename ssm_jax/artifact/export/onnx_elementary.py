"""What the operations of `ssm_jax.graph.elementary` are in ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from ssm_jax import errors, graph

_UNARY = {
    **{
        name: name.capitalize() for name in ("abs", "ceil", "cos", "erf", "exp", "floor", "log", "neg", "not")
    },
    **{name: name.capitalize() for name in ("round", "sign", "sin", "sqrt", "tan", "tanh")},
    "logistic": "Sigmoid",
}
_BINARY = {
    **{name: name.capitalize() for name in ("add", "sub", "mul", "div", "max", "min", "pow", "and", "or")},
    **{"eq": "Equal", "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "lt": "Less"},
}
_CASTS = {"bfloat16": "FLOAT", "float32": "FLOAT", "int32": "INT32", "bool": "BOOL"}


def _constant(writer: Any, node: graph.Constant) -> str:
    return str(writer.constant(node.values[None], node.values.dtype))


def _unary(writer: Any, node: graph.Unary, value: str) -> str:
    def one() -> str:
        return str(writer.constant(1.0))

    match node.function:
        case "erfc":
            return str(writer.add("Sub", one(), writer.add("Erf", value)))
        case "expm1":
            return str(writer.add("Sub", writer.add("Exp", value), one()))
        case "log1p":
            return str(writer.add("Log", writer.add("Add", value, one())))
        case "rsqrt":
            return str(writer.add("Reciprocal", writer.add("Sqrt", value)))
        case "square":
            return str(writer.add("Mul", value, value))
        case "is_finite":
            either = writer.add("Or", writer.add("IsInf", value), writer.add("IsNaN", value))
            return str(writer.add("Not", either))
    return str(writer.add(_UNARY[node.function], value))


def _binary(writer: Any, node: graph.Binary, left: str, right: str) -> str:
    match node.function:
        case "ne":
            return str(writer.add("Not", writer.add("Equal", left, right)))
        case "rem":
            return str(writer.add("Mod", left, right, fmod=1))
        case "atan2":
            raise errors.InputError("ONNX has no atan2")
    return str(writer.add(_BINARY[node.function], left, right))


def _cast(writer: Any, node: graph.Cast, value: str) -> str:
    return str(writer.add("Cast", value, to=getattr(onnx.TensorProto, _CASTS[node.dtype])))


def _reshape(writer: Any, node: graph.Reshape, value: str) -> str:
    return str(writer.add("Reshape", value, writer.constant([0, *node.sizes], np.int64)))


def _broadcast(writer: Any, node: graph.Broadcast, value: str) -> str:
    return str(writer.add("Expand", value, writer.constant([1, *node.sizes], np.int64)))


def _transpose(writer: Any, node: graph.Transpose, value: str) -> str:
    return str(writer.add("Transpose", value, perm=[0, *(axis + 1 for axis in node.axes)]))


def _slice(writer: Any, node: graph.Slice, value: str) -> str:
    axes = range(1, len(node.start) + 1)
    parts = (writer.constant(list(each), np.int64) for each in (node.start, node.stop, axes, node.step))
    return str(writer.add("Slice", value, *parts))


def _pad(writer: Any, node: graph.Pad, value: str) -> str:
    sides = writer.constant([0, *node.low, 0, *node.high], np.int64)
    return str(writer.add("Pad", value, sides, writer.constant(node.value)))


def _concatenate(writer: Any, node: graph.Concatenate, *values: str) -> str:
    """Constants are repeated for every example."""
    known = [writer.is_constant(number) for number in node.inputs]
    batch = writer.add("Shape", values[known.index(False)], start=0, end=1) if any(known) else ""
    parts = []
    for number, value, constant in zip(node.inputs, values, known):
        if constant:
            sizes = writer.constant(list(writer.shapes[number]), np.int64)
            value = writer.add("Expand", value, writer.add("Concat", batch, sizes, axis=0))
        parts.append(value)
    return str(writer.add("Concat", *parts, axis=node.axis + 1))


def _reduce(writer: Any, node: graph.Reduce, value: str) -> str:
    axes = writer.constant([axis + 1 for axis in node.axes], np.int64)
    return str(writer.add(f"Reduce{node.function.capitalize()}", value, axes, keepdims=0))


def _channels_first(writer: Any, value: str, rank: int) -> str:
    return str(writer.add("Transpose", value, perm=[0, rank, *range(1, rank)]))


def _channels_last(writer: Any, value: str, rank: int) -> str:
    return str(writer.add("Transpose", value, perm=[0, *range(2, rank + 1), 1]))


def _pool(writer: Any, node: graph.Pool, value: str) -> str:
    rank = len(node.window)
    if (node.window[-1], node.stride[-1], node.low[-1], node.high[-1]) != (1, 1, 0, 0) or rank < 2:
        raise errors.InputError("ONNX has no pool over channels")
    value = _channels_first(writer, value, rank)
    settings = {
        "kernel_shape": node.window[:-1],
        "strides": node.stride[:-1],
        "pads": [*node.low[:-1], *node.high[:-1]],
    }
    if node.function == "sum":
        average = writer.add("AveragePool", value, count_include_pad=1, **settings)
        value = writer.add("Mul", average, writer.constant(float(math.prod(node.window))))
    elif node.function == "min":
        value = writer.add("Neg", writer.add("MaxPool", writer.add("Neg", value), **settings))
    else:
        value = writer.add("MaxPool", value, **settings)
    return _channels_last(writer, value, rank)


def _convolution(writer: Any, node: graph.Convolution, value: str) -> str:
    sizes, rank = list(writer.shapes[node.inputs[0]]), len(node.kernel.shape) - 1
    for axis, spread in enumerate(node.spread):
        if spread > 1:  # zeros between two places
            apart = [*sizes[: axis + 1], 1, *sizes[axis + 1 :]]
            value = writer.add("Reshape", value, writer.constant([0, *apart], np.int64))
            ends = [0] * (axis + 2) + [spread - 1] + [0] * (rank - axis - 1)
            value = writer.add("Pad", value, writer.constant([0] * (rank + 2) + ends, np.int64))
            sizes[axis] *= spread
            value = writer.add("Reshape", value, writer.constant([0, *sizes], np.int64))
            sizes[axis] -= spread - 1
            first, last = ([each] for each in (0, sizes[axis]))
            parts = (writer.constant(each, np.int64) for each in (first, last, [axis + 1]))
            value = writer.add("Slice", value, *parts)
    name = writer.add(
        "Conv",
        _channels_first(writer, value, rank),
        writer.kernel(node.kernel, (rank, rank - 1, *range(rank - 1))),
        kernel_shape=node.kernel.shape[:-2],
        strides=node.stride,
        pads=[*node.low, *node.high],
        dilations=node.dilation,
        group=node.groups,
    )
    return _channels_last(writer, name, rank)


def _embed(writer: Any, node: graph.Embed, value: str) -> str:
    places = writer.add("Cast", value, to=onnx.TensorProto.INT64)
    ends = (writer.constant(end, np.int64) for end in (0, node.kernel.shape[0] - 1))
    places = writer.add("Clip", places, *ends)
    return str(writer.add("Gather", writer.kernel(node.kernel, (0, 1)), places, axis=0))


# From the operation and the names of what it takes, channels last, to the name of its result.
WRITE: dict[type[graph.Node], Callable[..., str]] = {
    graph.Constant: _constant,
    graph.Unary: _unary,
    graph.Binary: _binary,
    graph.Select: lambda writer, node, *values: writer.add("Where", *values),
    graph.Cast: _cast,
    graph.Reshape: _reshape,
    graph.Broadcast: _broadcast,
    graph.Transpose: _transpose,
    graph.Slice: _slice,
    graph.Pad: _pad,
    graph.Concatenate: _concatenate,
    graph.Reduce: _reduce,
    graph.Pool: _pool,
    graph.Convolution: _convolution,
    graph.Product: lambda writer, node, *values: writer.add("MatMul", *values),
    graph.Embed: _embed,
}

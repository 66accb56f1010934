"""What operations are in C: the steps that each adds to a plan, calls of the functions of `functions.c`."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ssm_jax import errors, graph
from ssm_jax.artifact.export.c_kernels import Windows, as_images, conv, lists
from ssm_jax.artifact.export.c_plan import TILE, Place, Plan, Table, Value, of_rows

MOST_ROWS = 4096  # of a dense layer; each is a line of C

# Functions of every element as expressions of a, or of a and b. Truth values are 0 and 1 as floats, and so is
# every whole number.
_FUNCTIONS = {
    **{name: f"{name}f(a)" for name in ("ceil", "cos", "erf", "erfc", "exp", "expm1", "floor", "log")},
    **{name: f"{name}f(a)" for name in ("log1p", "sin", "sqrt", "tan", "tanh")},
    "abs": "fabsf(a)",
    "bool": "a != 0.0f ? 1.0f : 0.0f",
    "int32": "truncf(a)",
    "is_finite": "isfinite(a) ? 1.0f : 0.0f",
    "logistic": "1.0f / (1.0f + expf(-a))",
    "neg": "-a",
    "not": "a == 0.0f ? 1.0f : 0.0f",
    "round": "rintf(a)",
    "rsqrt": "1.0f / sqrtf(a)",
    "sign": "(float)((a > 0.0f) - (a < 0.0f))",
    "square": "a * a",
    **{name: f"a {sign} b" for name, sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("div", "/"))},
    **{name: f"a {sign} b ? 1.0f : 0.0f" for name, sign in (("eq", "=="), ("ne", "!="), ("lt", "<"))},
    **{name: f"a {sign} b ? 1.0f : 0.0f" for name, sign in (("le", "<="), ("gt", ">"), ("ge", ">="))},
    "and": "a != 0.0f && b != 0.0f ? 1.0f : 0.0f",
    "atan2": "atan2f(a, b)",
    "max": "a > b ? a : b",
    "min": "a < b ? a : b",
    "or": "a != 0.0f || b != 0.0f ? 1.0f : 0.0f",
    "pow": "powf(a, b)",
    "rem": "fmodf(a, b)",
    "prod": "a * b",
    "sum": "a + b",
}
# What a reduction begins with.
_STARTS = {"max": "-INFINITY", "min": "INFINITY", "prod": "1.0f", "sum": "0.0f"}
# For what `functions.c` has placeholders, in the order of writing, and what goes into each function then.
VARIANTS: dict[str, dict[str, dict[str, str]]] = {
    "INDEX": {"uint8": {}, "uint16": {}, "uint32": {}},
    "FUNCTION": {
        name: {"MADE": _FUNCTIONS[name], "START": _STARTS.get(name, "")} for name in sorted(_FUNCTIONS)
    },
    "MOVE": {
        f"gather_of_{name}": {"MADE": _FUNCTIONS[name], "ABOUT": f"The {name} of elements.", "SPACE": ""}
        for name in _STARTS
    }
    | {
        name: {"MADE": "b", "ABOUT": "Elements to other places.", "SPACE": space}
        for name, space in (("lay", "SSM_TABLES "), ("move", ""))
    },
}


def plan(network: graph.Network) -> Plan:
    """Plan a network in C; see `Plan` for what it raises."""
    network = as_images(network)
    shapes, reach = network.shapes(), list[int]()
    for node in network.nodes:
        if isinstance(node, (graph.Conv, graph.Convolution)):
            image = shapes[node.inputs[0]]
            if len(image) != 3:
                raise errors.InputError(f"C has no convolution of values of {len(image)} axes, only of 3")
            reach.append(Windows.of(node, image).reach)
    return Plan(network, _WRITERS, max(reach, default=0), TILE if reach else 1)


def _dense(plan: Plan, node: graph.Dense, number: int) -> Value:
    """Call a dense layer, for every row."""
    inputs, units = node.kernel.shape
    count = math.prod(plan.shapes[number][:-1])
    if count > MOST_ROWS:
        raise errors.InputError(f"C has no dense layer of {count:,} rows, {node.name}; at most {MOST_ROWS:,}")
    value = plan.take(node)
    if len(plan.shapes[number]) == 1:
        out = plan.new(plan.shapes[number], number)
        places = value.layout.places().ravel()
        lists(plan, "dense", node, [(Place(value.buffer), Place(out.buffer))], places)
        return out
    value, rows = _to_rows(plan, value), plan.new((count * units,))
    where = [(Place(value.buffer, i * inputs), Place(rows.buffer, i * units)) for i in range(count)]
    lists(plan, "dense", node, where, np.arange(inputs))
    return _from_rows(plan, rows, number)


def _to_rows(plan: Plan, value: Value) -> Value:
    """A value with its last axis running fastest."""
    if len(value.shape) != 3:
        return value
    return plan.moved(value, plan.new((math.prod(value.shape),)), value.shape, put=of_rows(value.shape))


def _from_rows(plan: Plan, rows: Value, number: int) -> Value:
    """The result whose rows lie one after another."""
    shape = plan.shapes[number]
    if len(shape) != 3:
        rows = plan.changed(rows, number)
        return Value(rows.buffer, shape, rows.layout)
    return plan.moved(rows, plan.new(shape, number), shape, get=of_rows(shape))


def _product(plan: Plan, node: graph.Product, number: int) -> Value:
    *batch, height, width = plan.shapes[number]
    inner = plan.shapes[node.inputs[0]][-1]
    shapes = (*batch, height, inner), (*batch, inner, width)
    first, second = (_to_rows(plan, plan.take(node, which, shape)) for which, shape in enumerate(shapes))
    rows = plan.new((math.prod(plan.shapes[number]),))
    settings = math.prod(batch), height, inner, width
    plan.call("product", Place(first.buffer), Place(second.buffer), Place(rows.buffer), *settings)
    return _from_rows(plan, rows, number)


def _embed(plan: Plan, node: graph.Embed, number: int) -> Value:
    value, rows = _to_rows(plan, plan.take(node)), plan.new((math.prod(plan.shapes[number]),))
    count, features = node.kernel.shape
    table, places = Table(f"{node.name}_rows", node.kernel.dense().ravel()), math.prod(value.shape)
    plan.call("embed", Place(value.buffer), Place(rows.buffer), table, places, count - 1, features)
    return _from_rows(plan, rows, number)


def _normalize(plan: Plan, node: graph.Normalize, number: int) -> Value:
    value = plan.changed(plan.take(node), number)
    named = list(zip((f"{node.name}_factors", f"{node.name}_offsets"), node.affine()))
    if len(value.shape) in (1, 3):
        tables = (Table(name, values.astype(np.float32)) for name, values in named)
        plan.call("scale", value.first, *value.layout.geometry, *tables)
        return value
    for (name, values), function in zip(named, ("mul", "add")):
        _with_rows(plan, value, name, values, function)
    return value


def _offset(plan: Plan, node: graph.Offset, number: int) -> Value:
    value = plan.changed(plan.take(node), number)
    values, name = node.values.astype(np.float32), f"offset_{number}"
    if len(value.shape) not in (1, 3):
        return _with_rows(plan, value, name, values, "add")
    each = values.ndim == 3
    table = Table(name, (values.transpose(2, 0, 1) if each else values).ravel())
    plan.call("offset_each" if each else "offset", value.first, *value.layout.geometry, table)
    return value


def _with_rows(plan: Plan, value: Value, name: str, constants: np.ndarray, function: str) -> Value:
    """Combine every row with constants."""
    operand = plan.laid(name, constants, value.shape)
    plan.call(f"values_of_{function}", value.first, *value.layout.geometry, operand.first)
    return value


def _elu(plan: Plan, node: graph.Elu, number: int) -> Value:
    value = plan.changed(plan.take(node), number)
    plan.call("elu", Place(value.buffer), value.layout.count)
    return value


def _add(plan: Plan, node: graph.Add, number: int) -> Value:
    left, right = plan.take(node), plan.take(node, 1)
    if left.buffer.pending and not right.buffer.pending:
        left, right = right, left
    left.buffer.pending += left is right and not left.buffer.pending  # one of them has to be a copy
    out = plan.changed(left, number)
    plan.call("add", Place(out.buffer), Place(right.buffer), out.layout.count)
    return out


def _pool(plan: Plan, node: graph.MaxPool | graph.Pool, number: int) -> Value:
    pool = node.general()
    if len(pool.window) != 3 or (pool.window[2], pool.stride[2], pool.low[2], pool.high[2]) != (1, 1, 0, 0):
        raise errors.InputError("C has no pool but that over rows and columns")
    value, out = plan.take(node), plan.new(plan.shapes[number], number)
    function, settings = f"pool_of_{pool.function}", (*pool.window[:2], *pool.stride[:2], *pool.low[:2])
    if isinstance(node, graph.MaxPool):
        function, settings = "max_pool", (node.window, node.stride, node.padding)
    plan.call(function, value.first, out.first, *value.layout.geometry, *out.layout.geometry[1:], *settings)
    return plan.border(out)


def _mean(plan: Plan, node: graph.Mean, number: int) -> Value:
    value, out = plan.take(node), plan.new(plan.shapes[number], number)
    plan.call("mean", value.first, out.first, *value.layout.geometry)
    return out


def _flatten(plan: Plan, node: graph.Flatten, number: int) -> Value:
    value = plan.take(node)
    dense = [isinstance(consumer, graph.Dense) for consumer in plan.consumers[number]]
    if all(dense) and len(dense) == plan.uses(number):
        # Dense layers find their inputs wherever these lie.
        value.buffer.pending += len(dense)
        return value
    out = plan.new(plan.shapes[number], number)
    plan.call("flatten", value.first, out.first, *value.layout.geometry)
    return out


def _cast(plan: Plan, node: graph.Cast, number: int) -> Value | None:
    """A cast to float32 changes nothing: truth values and whole numbers are floats as well."""
    if node.dtype == "bfloat16":
        raise errors.InputError("C computes in float32, and has no cast to bfloat16")
    if node.inputs[0] in plan.constants:
        plan.constants[number] = plan.constants[node.inputs[0]].astype(node.dtype)
        return None
    if node.dtype == "float32":
        return plan.changed(plan.take(node), number)
    return plan.every(plan.take(node), number, f"unary_of_{node.dtype}")


def _constant(plan: Plan, node: graph.Constant, number: int) -> None:
    """Keep constants for the operations that take them."""
    plan.constants[number] = node.values


def _binary(plan: Plan, node: graph.Binary, number: int) -> Value:
    """Combine the elements of two values, or a value's with constants, one a channel."""
    shape = plan.shapes[number]
    held = [which for which, i in enumerate(node.inputs) if i in plan.constants]
    if len(held) == 1 and plan.shapes[node.inputs[1 - held[0]]] == shape:
        array = plan.constants[node.inputs[held[0]]]
        whole = math.prod(shape)
        if max(array.shape[:-1], default=1) == 1 if len(shape) == 3 else array.size == whole:
            each = np.broadcast_to(array.reshape(-1), shape[-1:] if len(shape) == 3 else (whole,))
            table = Table(f"constants_{number}", each.astype(np.float32))
            function = f"{'constants' if held[0] else 'left_constants'}_of_{node.function}"
            return plan.every(plan.take(node, 1 - held[0]), number, function, table)
    first, second = (plan.take(node, which, shape) for which in range(2))
    first.buffer.pending += first is second  # one of them has to be a copy
    return plan.every(first, number, f"values_of_{node.function}", second.first)


def _select(plan: Plan, node: graph.Select, number: int) -> Value:
    condition, yes, no = (plan.take(node, which, plan.shapes[number]) for which in range(3))
    condition.buffer.pending += condition in (yes, no)
    return plan.every(condition, number, "select_of_two", yes.first, no.first)


def _transpose(plan: Plan, node: graph.Transpose, number: int) -> Value:
    value, out = plan.take(node), plan.new(plan.shapes[number], number)
    first, steps = value.strides
    return plan.moved(value, out, out.shape, get=(first, tuple(steps[axis] for axis in node.axes)))


def _slice(plan: Plan, node: graph.Slice, number: int) -> Value:
    value, out = plan.take(node), plan.new(plan.shapes[number], number)
    first, steps = value.strides
    first += sum(start * step for start, step in zip(node.start, steps))
    get = first, tuple(step * each for step, each in zip(node.step, steps))
    return plan.moved(value, out, out.shape, get=get)


def _filled(plan: Plan, number: int, content: str) -> Value:
    out = plan.new(plan.shapes[number], number)
    plan.call("fill", Place(out.buffer), out.layout.count, content)
    return out


def _pad(plan: Plan, node: graph.Pad, number: int) -> Value:
    value, out = plan.take(node), _filled(plan, number, f"{np.float32(node.value):.9e}f")
    first, steps = out.strides
    first += sum(low * step for low, step in zip(node.low, steps))
    return plan.moved(value, out, value.shape, put=(first, steps))


def _concatenate(plan: Plan, node: graph.Concatenate, number: int) -> Value:
    out = plan.new(plan.shapes[number], number)
    first, steps = out.strides
    for which in range(len(node.inputs)):
        value = plan.take(node, which)
        plan.move(value, out, value.shape, put=(first, steps))
        first += value.shape[node.axis] * steps[node.axis]
    return plan.border(out)


def _reduce(plan: Plan, node: graph.Reduce, number: int) -> Value:
    value, out = plan.take(node), _filled(plan, number, _STARTS[node.function])
    first, kept = out.strides
    left = iter(kept)
    steps = tuple(0 if axis in node.axes else next(left) for axis in range(len(value.shape)))
    return plan.moved(value, out, value.shape, put=(first, steps), how=f"gather_of_{node.function}")


# From an operation to what adds its steps to a plan and returns the value of that number.
_WRITERS: dict[type[graph.Node], Callable[..., Value | None]] = {
    **dict.fromkeys((graph.Conv, graph.Convolution), conv),
    **dict.fromkeys((graph.MaxPool, graph.Pool), _pool),
    graph.Standardize: lambda plan, node, number: plan.every(plan.take(node), number, "standardize"),
    graph.Dense: _dense,
    graph.Product: _product,
    graph.Embed: _embed,
    graph.Normalize: _normalize,
    graph.Offset: _offset,
    graph.Elu: _elu,
    graph.Add: _add,
    graph.Mean: _mean,
    graph.Flatten: _flatten,
    graph.Constant: _constant,
    graph.Cast: _cast,
    graph.Unary: lambda plan, node, number: plan.every(plan.take(node), number, f"unary_of_{node.function}"),
    graph.Binary: _binary,
    graph.Select: _select,
    graph.Reshape: lambda plan, node, number: _from_rows(plan, _to_rows(plan, plan.take(node)), number),
    graph.Broadcast: lambda plan, node, number: plan.changed(plan.take(node, 0, plan.shapes[number]), number),
    graph.Transpose: _transpose,
    graph.Slice: _slice,
    graph.Pad: _pad,
    graph.Concatenate: _concatenate,
    graph.Reduce: _reduce,
}

"""The operations of C that put elements elsewhere, by one function that goes through the axes of a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ssm_jax import errors, graph
from ssm_jax.artifact.export.c_memory import Layout, Place

_MOVE = """\
/* ABOUT shape: the number of axes, then of all axes the sizes, the distances in and the distances out. */
static void NAME(const INfloat *in, float *out, const SSM_TABLES uint32_t *shape)
{
    const uint32_t axes = shape[0];
    const SSM_TABLES uint32_t *size = shape, *from = shape + axes, *to = shape + 2 * axes;
    uint32_t at[9] = {0};
    for (uint32_t axis = axes; axis > 0;) {
        const float a = *out, b = *in;
        (void)a;
        *out = MADE;
        for (axis = axes; axis > 0; axis--) {
            in += from[axis];
            out += to[axis];
            if (++at[axis] < size[axis])
                break;
            in -= size[axis] * from[axis];
            out -= size[axis] * to[axis];
            at[axis] = 0;
        }
    }
}"""
_FILL = """\
/* One number everywhere. */
static void fill(float *out, int32_t count, float number)
{
    for (int32_t i = 0; i < count; i++)
        out[i] = number;
}"""
_PRODUCT = """\
/* Matrix products, one after another. */
static void product(const float *a, const float *b, float *out, int32_t count, int32_t rows, int32_t inner,
                    int32_t columns)
{
    for (; count > 0; count--, b += inner * columns)
        for (int32_t row = 0; row < rows; row++, a += inner)
            for (int32_t column = 0; column < columns; column++) {
                float sum = 0.0f;
                for (int32_t i = 0; i < inner; i++)
                    sum += a[i] * b[i * columns + column];
                *out++ = sum;
            }
}"""
_EMBED = """\
/* Rows of a table by their numbers. */
static void embed(const float *in, float *out, const SSM_TABLES float *rows, int32_t count, int32_t last,
                  int32_t features)
{
    for (int32_t i = 0; i < count; i++) {
        const int32_t number = in[i] < 0.0f ? 0 : in[i] > (float)last ? last : (int32_t)in[i];
        for (int32_t feature = 0; feature < features; feature++)
            *out++ = rows[number * features + feature];
    }
}"""
_FUNCTIONS = {"fill": _FILL, "product": _PRODUCT, "embed": _EMBED}
MOST_ROWS = 4096  # of a dense layer; each is a line of C
_REDUCED = {
    "max": ("-INFINITY", "a > b ? a : b"),
    "min": ("INFINITY", "a < b ? a : b"),
    "prod": ("1.0f", "a * b"),
    "sum": ("0.0f", "a + b"),
}


def functions(called: set[str]) -> list[str]:
    """Write the functions of some names; others are left out."""
    written = [text for name, text in _FUNCTIONS.items() if name in called]
    for name in sorted(called):
        kind, _, function = name.partition("_of_")
        if kind not in ("move", "lay", "gather"):
            continue
        about = "Elements to other places." if kind != "gather" else f"The {function} of elements."
        made = _REDUCED[function][1] if kind == "gather" else "b"
        table = "SSM_TABLES " if kind == "lay" else ""
        text = _MOVE.replace("ABOUT", about).replace("NAME", name).replace("INfloat", f"{table}float")
        written.append(text.replace("MADE", made))
    return written


# Where a value's first element is, and the distance from one element to the next along each axis.
_Strides = tuple[int, tuple[int, ...]]


def _of_rows(shape: Sequence[int]) -> _Strides:
    return 0, tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _strides(layout: Layout, shape: Sequence[int]) -> _Strides:
    """Images lie as planes, all else as rows."""
    return (layout.first, (layout.row, 1, layout.plane)) if len(shape) == 3 else _of_rows(shape)


def _moved(
    plan: Any, source: Any, made: Any, sizes: Sequence[int], given: _Strides, put: _Strides, how: str
) -> None:
    columns = [(1, 0, 0), *zip(sizes, given[1], put[1])]
    columns = columns if len(columns) == 1 else columns[1:]
    table = plan.table("places", np.array([len(columns), *np.array(columns).T.ravel()], np.uint32))
    where = source if how == "lay" else Place(source.buffer, given[0])
    plan.call(how, where, Place(made.buffer, put[0]), table)


def _taken(plan: Any, value: Any, made: Any, shape: Sequence[int], given: _Strides) -> Any:
    """Fill a new value with what is taken from another."""
    _moved(plan, value, made, shape, given, _strides(made.layout, shape), "move")
    plan.border(made)
    return made


def _new(plan: Any, shape: graph.Shape, number: int = -1) -> Any:
    made = plan.new(plan.layout_of(shape), number)
    if number < 0:
        made.buffer.pending = 0  # whoever asked for it may change it
    return made


def laid(plan: Any, name: str, array: np.ndarray, shape: graph.Shape) -> Any:
    """Make a value of constants, with axes of size 1 repeated to a shape."""
    made = _new(plan, shape)
    sizes = (1,) * (len(shape) - array.ndim) + array.shape
    steps = tuple(step if size > 1 else 0 for step, size in zip(_of_rows(sizes)[1], sizes))
    table = plan.table(name, np.ascontiguousarray(array, np.float32).ravel())
    _moved(plan, table, made, shape, (0, steps), _strides(made.layout, shape), "lay")
    plan.border(made)
    return made


def given(plan: Any, node: graph.Node, which: int = 0) -> Any:
    """Take a value, also one of constants."""
    return repeated(plan, node, which, plan.shapes[node.inputs[which]])


def repeated(plan: Any, node: graph.Node, which: int, shape: graph.Shape, number: int = -1) -> Any:
    """Take a value, also one of constants, with axes of size 1 repeated to a shape."""
    if node.inputs[which] in plan.constants:
        return laid(plan, f"constants_{node.inputs[which]}", plan.constants[node.inputs[which]], shape)
    value, before = plan.take(node, which), plan.shapes[node.inputs[which]]
    if before == shape:
        return value
    made = _new(plan, shape, number)
    first, steps = _strides(value.layout, before)
    steps = tuple(step if size > 1 else 0 for step, size in zip(steps, before))
    return _taken(plan, value, made, shape, (first, steps))


def broadcast(plan: Any, node: graph.Broadcast, number: int) -> Any:
    """Repeat axes of size 1."""
    constant = node.inputs[0] in plan.constants
    value = repeated(plan, node, 0, plan.shapes[number], number)
    same = constant or plan.shapes[number] == plan.shapes[node.inputs[0]]
    return plan.changed(value, number) if same else value


def _as_rows(plan: Any, value: Any, shape: graph.Shape) -> Any:
    """A value with its last axis running fastest."""
    if len(shape) != 3:
        return value
    made = _new(plan, (math.prod(shape),))
    _moved(plan, value, made, shape, _strides(value.layout, shape), _of_rows(shape), "move")
    return made


def _from_rows(plan: Any, number: int) -> tuple[Any, Callable[[], Any]]:
    """Where the rows of a result go, and what makes the result of them then."""
    shape = plan.shapes[number]
    if len(shape) != 3:
        made = _new(plan, shape, number)
        return made, lambda: made
    rows = _new(plan, (math.prod(shape),))

    def image() -> Any:
        made = _new(plan, shape, number)
        _moved(plan, rows, made, shape, _of_rows(shape), _strides(made.layout, shape), "move")
        plan.border(made)
        return made

    return rows, image


def rows_of_dense(plan: Any, node: graph.Dense, number: int) -> Any:
    """Call a dense layer for every row."""
    inputs, units = node.kernel.shape
    count = math.prod(plan.shapes[number][:-1])
    if count > MOST_ROWS:
        raise errors.InputError(f"C has no dense layer of {count:,} rows, {node.name}; at most {MOST_ROWS:,}")
    value = _as_rows(plan, given(plan, node), plan.shapes[node.inputs[0]])
    rows, result = _from_rows(plan, number)
    where = [(Place(value.buffer, i * inputs), Place(rows.buffer, i * units)) for i in range(count)]
    plan.lists("dense", node, where, np.arange(inputs))
    return result()


def product(plan: Any, node: graph.Product, number: int) -> Any:
    """Multiply matrices."""
    *batch, height, width = plan.shapes[number]
    inner = plan.shapes[node.inputs[0]][-1]
    shapes = (*batch, height, inner), (*batch, inner, width)
    first, second = (
        _as_rows(plan, repeated(plan, node, which, shape), shape) for which, shape in enumerate(shapes)
    )
    rows, result = _from_rows(plan, number)
    sizes = math.prod(batch), height, inner, width
    plan.call("product", Place(first.buffer), Place(second.buffer), Place(rows.buffer), *sizes)
    return result()


def embed(plan: Any, node: graph.Embed, number: int) -> Any:
    """Look up rows of a table."""
    value = _as_rows(plan, given(plan, node), plan.shapes[node.inputs[0]])
    rows, result = _from_rows(plan, number)
    count, features = node.kernel.shape
    table = plan.table(f"{node.name}_rows", node.kernel.dense().ravel())
    places = math.prod(plan.shapes[node.inputs[0]])
    plan.call("embed", Place(value.buffer), Place(rows.buffer), table, places, count - 1, features)
    return result()


def reshape(plan: Any, node: graph.Reshape, number: int) -> Any:
    """Keep the order of the elements, the last axis running fastest."""
    value, before, after = given(plan, node), plan.shapes[node.inputs[0]], plan.shapes[number]
    if len(before) != 3 and len(after) != 3:
        return plan.changed(value, number)
    if len(before) == 3 == len(after):
        rows = _new(plan, (math.prod(before),))
        _moved(plan, value, rows, before, _strides(value.layout, before), _of_rows(before), "move")
        value, before = rows, (math.prod(before),)
    made = _new(plan, after, number)
    image = before if len(before) == 3 else after
    taken, put = _strides(value.layout, before), _of_rows(image)
    if len(after) == 3:
        taken, put = put, _strides(made.layout, after)
    _moved(plan, value, made, image, taken, put, "move")
    plan.border(made)
    return made


def transpose(plan: Any, node: graph.Transpose, number: int) -> Any:
    """Put axes into another order."""
    value, after = given(plan, node), plan.shapes[number]
    made = _new(plan, after, number)
    first, steps = _strides(value.layout, plan.shapes[node.inputs[0]])
    return _taken(plan, value, made, after, (first, tuple(steps[axis] for axis in node.axes)))


def part(plan: Any, node: graph.Slice, number: int) -> Any:
    """Take a part of every axis."""
    value, after = given(plan, node), plan.shapes[number]
    made = _new(plan, after, number)
    first, steps = _strides(value.layout, plan.shapes[node.inputs[0]])
    first += sum(start * step for start, step in zip(node.start, steps))
    taken = first, tuple(step * each for step, each in zip(node.step, steps))
    return _taken(plan, value, made, after, taken)


def pad(plan: Any, node: graph.Pad, number: int) -> Any:
    """Put a number around a value."""
    value, before, after = given(plan, node), plan.shapes[node.inputs[0]], plan.shapes[number]
    made = _new(plan, after, number)
    plan.call("fill", Place(made.buffer), made.layout.count, f"{np.float32(node.value):.9e}f")
    first, steps = _strides(made.layout, after)
    first += sum(low * step for low, step in zip(node.low, steps))
    _moved(plan, value, made, before, _strides(value.layout, before), (first, steps), "move")
    plan.border(made)
    return made


def concatenate(plan: Any, node: graph.Concatenate, number: int) -> Any:
    """Put values after one another."""
    made = _new(plan, plan.shapes[number], number)
    first, steps = _strides(made.layout, plan.shapes[number])
    for which, i in enumerate(node.inputs):
        value, shape = given(plan, node, which), plan.shapes[i]
        _moved(plan, value, made, shape, _strides(value.layout, shape), (first, steps), "move")
        first += shape[node.axis] * steps[node.axis]
    plan.border(made)
    return made


def reduce(plan: Any, node: graph.Reduce, number: int) -> Any:
    """Make axes one number."""
    value, before, after = given(plan, node), plan.shapes[node.inputs[0]], plan.shapes[number]
    made = _new(plan, after, number)
    plan.call("fill", Place(made.buffer), made.layout.count, _REDUCED[node.function][0])
    first, kept = _strides(made.layout, after)
    left = iter(kept)
    steps = tuple(0 if axis in node.axes else next(left) for axis in range(len(before)))
    where = _strides(value.layout, before), (first, steps)
    _moved(plan, value, made, before, *where, f"gather_of_{node.function}")
    plan.border(made)
    return made


def every(plan: Any, value: Any, made: Any, shape: graph.Shape, apart: Sequence[int]) -> None:
    """Take as many pixels of an image as another has, so far apart in rows and columns."""
    first, (row, column, plane) = _strides(value.layout, shape)
    _taken(plan, value, made, shape, (first, (row * apart[0], column * apart[1], plane)))


def spread(plan: Any, node: graph.Convolution, value: Any) -> Any:
    """Put zeros between the pixels of an image, as a transposed convolution does."""
    if {*node.spread} == {1}:
        return value
    height, width, channels = shape = plan.shapes[node.inputs[0]]
    wide = tuple((size - 1) * apart + 1 for size, apart in zip((height, width), node.spread))
    made = _new(plan, (*wide, channels))
    plan.call("fill", Place(made.buffer), made.layout.count, "0.0f")
    first, (row, column, plane) = _strides(made.layout, (*wide, channels))
    put = first, (row * node.spread[0], column * node.spread[1], plane)
    _moved(plan, value, made, shape, _strides(value.layout, shape), put, "move")
    return made


WRITERS: dict[type[graph.Node], Callable[..., Any]] = {
    graph.Broadcast: broadcast,
    graph.Concatenate: concatenate,
    graph.Embed: embed,
    graph.Pad: pad,
    graph.Product: product,
    graph.Reduce: reduce,
    graph.Reshape: reshape,
    graph.Slice: part,
    graph.Transpose: transpose,
}

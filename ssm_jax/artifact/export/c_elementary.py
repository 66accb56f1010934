"""The operations of `ssm_jax.graph.elementary` that C has: functions of every element, a choice, pools.

Truth values are 0 and 1 as floats, and so is every whole number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ssm_jax import errors, graph
from ssm_jax.artifact.export import c_moves

_UNARY = {
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
}
_BINARY = {
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
}
_GEOMETRY = "int32_t channels, int32_t height, int32_t width, int32_t row, int32_t plane"
# Goes over the pixels of an image: between its rows nothing changes.
_TEMPLATE = """\
/* {about} */
static void {name}(float *values, {geometry}{more})
{{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < height; y++)
            for (int32_t i = c * plane + y * row; i < c * plane + y * row + width; i++) {{
{lines}
            }}
}}"""


# What lies outside the image is no part of a window.
_POOL = """\
/* Of every window one number. */
static void NAME(const float *restrict in, float *restrict out, int32_t channels, int32_t height,
                 int32_t width, int32_t row, int32_t plane, int32_t out_height, int32_t out_width,
                 int32_t out_row, int32_t out_plane, int32_t tall, int32_t wide, int32_t down, int32_t right,
                 int32_t top, int32_t left)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t y = 0; y < out_height; y++)
            for (int32_t x = 0; x < out_width; x++) {
                float a = START;
                for (int32_t i = y * down - top; i < y * down - top + tall; i++)
                    for (int32_t j = x * right - left; j < x * right - left + wide; j++)
                        if (i >= 0 && i < height && j >= 0 && j < width) {
                            const float b = in[c * plane + i * row + j];
                            a = FOUND;
                        }
                out[c * out_plane + y * out_row + x] = a;
            }
}"""
_POOLS = {
    "max": ("-INFINITY", _BINARY["max"]),
    "min": ("INFINITY", _BINARY["min"]),
    "sum": ("0.0f", _BINARY["add"]),
}


def functions(called: set[str]) -> list[str]:
    """Write the functions of some names, those of `Plan`'s steps; others are left out."""
    written = []
    for name in sorted(called):
        kind, _, function = name.partition("_of_")
        match kind:
            case "unary":
                lines, more = ["const float a = values[i];", f"values[i] = {_UNARY[function]};"], ""
            case "values":
                lines = ["const float a = values[i], b = others[i];", f"values[i] = {_BINARY[function]};"]
                more = ", const float *others"
            case "constants":
                lines = ["const float a = values[i], b = constants[c];", f"values[i] = {_BINARY[function]};"]
                more = ", const SSM_TABLES float *constants"
            case "left_constants":
                lines = ["const float a = constants[c], b = values[i];", f"values[i] = {_BINARY[function]};"]
                more = ", const SSM_TABLES float *constants"
            case "select":
                lines = ["values[i] = values[i] != 0.0f ? yes[i] : no[i];"]
                more = ", const float *yes, const float *no"
            case "pool":
                start, combined = _POOLS[function]
                written.append(_POOL.replace("NAME", name).replace("START", start).replace("FOUND", combined))
                continue
            case _:
                continue
        text = "\n".join(" " * 16 + line for line in lines)
        about = (
            f"{function} of every element." if function != "two" else "yes where a value is true, else no."
        )
        written.append(_TEMPLATE.format(about=about, name=name, geometry=_GEOMETRY, more=more, lines=text))
    return written


def unary(plan: Any, node: graph.Unary, number: int) -> Any:
    """Change every element of a value."""
    return _called(plan, plan.changed(plan.take(node), number), f"unary_of_{node.function}")


def cast(plan: Any, node: graph.Cast, number: int) -> Any:
    """A cast to float32 changes nothing: truth values and whole numbers are floats as well."""
    if node.dtype == "bfloat16":
        raise errors.InputError("C computes in float32, and has no cast to bfloat16")
    if node.inputs[0] in plan.constants:
        return constant(plan, plan.constants[node.inputs[0]].astype(node.dtype), number)
    value = plan.changed(plan.take(node), number)
    return value if node.dtype == "float32" else _called(plan, value, f"unary_of_{node.dtype}")


def constant(plan: Any, values: np.ndarray | graph.Constant, number: int) -> None:
    """Keep constants for the operations that take them."""
    plan.constants[number] = values.values if isinstance(values, graph.Constant) else values


def binary(plan: Any, node: graph.Binary, number: int) -> Any:
    """Combine the elements of two values of one shape, or a value's with constants, one a channel."""
    left, right = node.inputs
    if left not in plan.constants and right not in plan.constants:
        if plan.shapes[left] != plan.shapes[right]:
            return _combined(plan, node, number)
        first, second = plan.take(node), plan.take(node, 1)
        first.buffer.pending += first is second  # one of them has to be a copy
        value = plan.changed(first, number)
        return _called(plan, value, f"values_of_{node.function}", plan.first(second))
    given, held = (right, left) if left in plan.constants else (left, right)
    array, shape = plan.constants[held], plan.shapes[given]
    one = max(array.shape[:-1], default=1) == 1 if len(shape) == 3 else array.size == math.prod(shape)
    if plan.shapes[number] != shape or not one:
        return _combined(plan, node, number)
    each = np.broadcast_to(array.reshape(-1), shape[-1:] if len(shape) == 3 else (array.size,))
    each = each.astype(np.float32)
    value = plan.changed(plan.take(node, int(given is right and left in plan.constants)), number)
    kind = "left_constants" if left in plan.constants else "constants"
    return _called(plan, value, f"{kind}_of_{node.function}", plan.table(f"constants_{number}", each))


def _combined(plan: Any, node: graph.Binary, number: int) -> Any:
    first, second = (c_moves.repeated(plan, node, which, plan.shapes[number]) for which in range(2))
    value = plan.changed(first, number)
    return _called(plan, value, f"values_of_{node.function}", plan.first(second))


def select(plan: Any, node: graph.Select, number: int) -> Any:
    """Choose between the elements of two values."""
    condition, yes, no = (c_moves.repeated(plan, node, which, plan.shapes[number]) for which in range(3))
    condition.buffer.pending += condition in (yes, no)
    value = plan.changed(condition, number)
    return _called(plan, value, "select_of_two", plan.first(yes), plan.first(no))


def pool(plan: Any, node: graph.Pool, number: int) -> Any:
    """Make a number of every window of an image."""
    if len(node.window) != 3 or (node.window[2], node.stride[2], node.low[2], node.high[2]) != (1, 1, 0, 0):
        raise errors.InputError("C has no pool but that over rows and columns")
    value = plan.take(node)
    made = plan.new(plan.layout(number), number)
    settings = *node.window[:2], *node.stride[:2], *node.low[:2]
    geometry = *value.layout.geometry, *made.layout.geometry[1:]
    plan.call(f"pool_of_{node.function}", plan.first(value), plan.first(made), *geometry, *settings)
    plan.border(made)
    return made


def _called(plan: Any, value: Any, function: str, *arguments: Any) -> Any:
    plan.call(function, plan.first(value), *value.layout.geometry, *arguments)
    return value


WRITERS: dict[type[graph.Node], Callable[..., Any]] = {
    graph.Binary: binary,
    graph.Cast: cast,
    graph.Constant: constant,
    graph.Pool: pool,
    graph.Select: select,
    graph.Unary: unary,
}

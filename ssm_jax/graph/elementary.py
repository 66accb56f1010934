"""Operations that are one primitive of JAX each, for models that are not of this library's layers alone.

Shapes and axes are without the batch, which is the first axis of every value and of no constant.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ssm_jax.graph.operations import Kernel, Node, Shape, misfit

# Named as JAX names them; `erfc` is 1 - erf, `logistic` 1 / (1 + exp(-x)), `rem` has its dividend's sign.
UNARY = (
    *("abs", "ceil", "cos", "erf", "erfc", "exp", "expm1", "floor", "is_finite", "log", "log1p", "logistic"),
    *("neg", "not", "round", "rsqrt", "sign", "sin", "sqrt", "square", "tan", "tanh"),
)
BINARY = (
    *("add", "and", "atan2", "div", "eq", "ge", "gt", "le", "lt", "max", "min", "mul", "ne", "or", "pow"),
    *("rem", "sub"),
)
REDUCTIONS = ("max", "min", "prod", "sum")
CASTS = ("bfloat16", "bool", "float32", "int32")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Constant(Node):
    """Constants, the same for every example.

    Attributes:
      values: float32 or int32; truth values are int32 behind a `Cast`.
    """

    arity: ClassVar[int] = 0
    values: np.ndarray

    def shape(self, *inputs: Shape) -> Shape:
        return self.values.shape


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Unary(Node):
    """A function of every element.

    Attributes:
      function: One of `UNARY`.
    """

    function: str

    def shape(self, *inputs: Shape) -> Shape:
        if self.function not in UNARY:
            raise misfit(self, inputs[0])
        return inputs[0]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Binary(Node):
    """A function of two elements each; an axis of size 1 is repeated.

    Attributes:
      function: One of `BINARY`.
    """

    arity: ClassVar[int] = 2
    function: str

    def shape(self, *inputs: Shape) -> Shape:
        if self.function not in BINARY:
            raise misfit(self, *inputs)
        return _together(self, *inputs)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Select(Node):
    """The second value's element where the first's is true, else the third's; axes of size 1 are repeated."""

    arity: ClassVar[int] = 3

    def shape(self, *inputs: Shape) -> Shape:
        return _together(self, *inputs)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Cast(Node):
    """The same in another dtype.

    Attributes:
      dtype: One of `CASTS`.
    """

    dtype: str

    def shape(self, *inputs: Shape) -> Shape:
        if self.dtype not in CASTS:
            raise misfit(self, inputs[0])
        return inputs[0]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Node):
    """The same elements in another shape, the last axis running fastest.

    Attributes:
      sizes: The shape.
    """

    sizes: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        if math.prod(self.sizes) != math.prod(inputs[0]):
            raise misfit(self, inputs[0])
        return self.sizes


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Broadcast(Node):
    """Axes of size 1 repeated.

    Attributes:
      sizes: The shape of the result.
    """

    sizes: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        if _together(self, inputs[0], self.sizes) != self.sizes:
            raise misfit(self, inputs[0])
        return self.sizes


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Transpose(Node):
    """Axes in another order.

    Attributes:
      axes: Of the result, the axes of the input.
    """

    axes: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        if sorted(self.axes) != list(range(len(inputs[0]))):
            raise misfit(self, inputs[0])
        return tuple(inputs[0][axis] for axis in self.axes)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Node):
    """A part of every axis.

    Attributes:
      start: The first place of each.
      stop: The first place behind each.
      step: From one place to the next.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    step: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        parts = list(zip(inputs[0], self.start, self.stop, self.step))
        each = {len(given) for given in (inputs[0], self.start, self.stop, self.step)}
        if len(each) != 1 or not all(0 <= a < b <= size and step > 0 for size, a, b, step in parts):
            raise misfit(self, inputs[0])
        return tuple(-(-(b - a) // step) for _, a, b, step in parts)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Node):
    """A number around a value.

    Attributes:
      low: How often before each axis.
      high: How often behind it.
      value: The number.
    """

    low: tuple[int, ...]
    high: tuple[int, ...]
    value: float

    def shape(self, *inputs: Shape) -> Shape:
        if {len(self.low), len(self.high)} != {len(inputs[0])} or min((*self.low, *self.high), default=0) < 0:
            raise misfit(self, inputs[0])
        return tuple(map(sum, zip(inputs[0], self.low, self.high)))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Concatenate(Node):
    """Values after one another, any number of them.

    Attributes:
      axis: Along which axis.
    """

    arity: ClassVar[int] = -1
    axis: int

    def shape(self, *inputs: Shape) -> Shape:
        axis = self.axis
        rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in inputs}
        if not all(0 <= axis < len(shape) for shape in inputs) or len(rest) != 1:
            raise misfit(self, *inputs)
        return (*inputs[0][:axis], sum(shape[axis] for shape in inputs), *inputs[0][axis + 1 :])


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Reduce(Node):
    """Axes made one number.

    Attributes:
      function: One of `REDUCTIONS`.
      axes: Which axes; they are gone then.
    """

    function: str
    axes: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        axes = {*self.axes}
        fits = axes <= set(range(len(inputs[0]))) and len(axes) == len(self.axes)
        if self.function not in REDUCTIONS or not fits:
            raise misfit(self, inputs[0])
        return tuple(size for axis, size in enumerate(inputs[0]) if axis not in self.axes)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Node):
    """Windows made one number each; what lies outside counts as nothing.

    Attributes:
      function: One of `REDUCTIONS` but `prod`.
      window: Sides of the window, one an axis.
      stride: Strides.
      low: Places before each axis.
      high: Places behind it.
    """

    function: str
    window: tuple[int, ...]
    stride: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        each = {len(given) for given in (inputs[0], self.window, self.stride, self.low, self.high)}
        if len(each) != 1 or self.function not in REDUCTIONS[:2] + REDUCTIONS[3:]:
            raise misfit(self, inputs[0])
        return _windows(self, inputs[0], self.window, self.stride, self.low, self.high)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Convolution(Node):
    """A convolution over all axes but the last, the channels; without bias.

    Attributes:
      name: Path of the layer.
      kernel: Shape `(..., I / groups, O)`.
      stride: Strides, one an axis; of this and what follows.
      low: Zeros before an axis.
      high: Zeros behind it.
      dilation: Distance between the places that the kernel meets.
      spread: Distance between the input's places, zeros between them: that of a transposed convolution.
      groups: The channels are so many groups, and a unit reads one of them.
    """

    name: str
    kernel: Kernel
    stride: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    dilation: tuple[int, ...]
    spread: tuple[int, ...]
    groups: int

    def shape(self, *inputs: Shape) -> Shape:
        *sides, channels = inputs[0] or (0,)
        settings = self.stride, self.low, self.high, self.dilation, self.spread
        fits = {len(given) for given in settings} == {len(sides)} == {len(self.kernel.shape) - 2}
        if not fits or min((*self.dilation, *self.spread, self.groups)) < 1:
            raise misfit(self, inputs[0])
        *windows, inner, units = self.kernel.shape
        if inner * self.groups != channels or units % self.groups:
            raise misfit(self, inputs[0])
        spread = [(size - 1) * each + 1 for size, each in zip(sides, self.spread)]
        windows = [(size - 1) * each + 1 for size, each in zip(windows, self.dilation)]
        return (*_windows(self, spread, windows, self.stride, self.low, self.high), units)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Product(Node):
    """The matrix product `[..., M, K] @ [..., K, N]`; of the other axes those of size 1 are repeated."""

    arity: ClassVar[int] = 2

    def shape(self, *inputs: Shape) -> Shape:
        left, right = inputs
        if min(len(left), len(right)) < 2 or left[-1] != right[-2]:
            raise misfit(self, *inputs)
        return (*_together(self, left[:-2], right[:-2]), left[-2], right[-1])


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Embed(Node):
    """Rows of a table by their numbers; a number outside of the table is the nearest inside.

    Attributes:
      name: Path of the layer.
      kernel: The table `(V, F)`.
    """

    name: str
    kernel: Kernel

    def shape(self, *inputs: Shape) -> Shape:
        if len(self.kernel.shape) != 2:
            raise misfit(self, inputs[0])
        return (*inputs[0], self.kernel.shape[1])


def _together(node: Node, *shapes: Shape) -> Shape:
    """The shape of values of one rank that repeat along axes of size 1."""
    sizes = tuple(max(each) for each in zip(*shapes))
    fits = len({*map(len, shapes)}) == 1
    if not fits or any(size not in (1, whole) for shape in shapes for size, whole in zip(shape, sizes)):
        raise misfit(node, *shapes)
    return sizes


def _windows(node: Node, sides: Sequence[int], *settings: Sequence[int]) -> Shape:
    """How many windows fit along each axis."""
    found = []
    for size, window, stride, low, high in zip(sides, *settings):
        if window < 1 or stride < 1 or min(low, high) < 0 or size + low + high < window:
            raise misfit(node, tuple(sides))
        found.append((size + low + high - window) // stride + 1)
    return tuple(found)

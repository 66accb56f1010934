"""Operations on every element, on axes and on channels, most of them one primitive of JAX each."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from ssm_jax.graph.operations import Node, Shape

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


class Standardize(Node):
    """Every image to zero mean and unit deviation with a floor of 1/sqrt(H*W*C); the result is float32."""

    def shape(self, *inputs: Shape) -> Shape:
        self.check(len(inputs[0]) == 3, inputs[0])
        return inputs[0]


class Normalize(Node):
    """`(x - mean) * (1/sqrt(variance + epsilon) * scale) + offset`, per channel, float32 `[C]` each.

    Attributes:
      name: Path of the layer.
      mean: Mean over the training.
      variance: Variance over the training.
      scale: Trained factor, None for 1.
      offset: Trained offset, None for 0.
      epsilon: Added to the variance.
    """

    name: str
    mean: np.ndarray
    variance: np.ndarray
    scale: np.ndarray | None = None
    offset: np.ndarray | None = None
    epsilon: float

    def shape(self, *inputs: Shape) -> Shape:
        self.check(all(array.shape == inputs[0][-1:] for array in self.arrays().values()), inputs[0])
        return inputs[0]

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Return one factor and one offset a channel that do the same, float64 `[C]` each."""
        factors = 1 / np.sqrt(self.variance.astype(np.float64) + self.epsilon)
        factors = factors if self.scale is None else factors * self.scale
        return factors, (0 if self.offset is None else self.offset) - self.mean * factors


class Offset(Node):
    """Add constants, what units contribute that have been removed because their value never changes.

    Attributes:
      values: float32, `[C]` or the shape of the input without its batch.
    """

    values: np.ndarray

    def shape(self, *inputs: Shape) -> Shape:
        self.check(self.values.shape in (inputs[0], inputs[0][-1:]), inputs[0])
        return inputs[0]


class Elu(Node):
    """`x` where it is positive, else `exp(x) - 1`."""


class Flatten(Node):
    """An image to one axis, rows first, channels last."""

    def shape(self, *inputs: Shape) -> Shape:
        return (math.prod(inputs[0]),)


class Mean(Node):
    """Mean over the image: global average pooling."""

    def shape(self, *inputs: Shape) -> Shape:
        self.check(len(inputs[0]) == 3, inputs[0])
        return inputs[0][2:]


class Add(Node):
    """The sum of two values of one shape."""

    arity: ClassVar[int] = 2

    def shape(self, *inputs: Shape) -> Shape:
        self.check(inputs[0] == inputs[1], *inputs)
        return inputs[0]


class Constant(Node):
    """Constants, the same for every example.

    Attributes:
      values: float32 or int32; truth values are int32 behind a `Cast`.
    """

    arity: ClassVar[int] = 0
    values: np.ndarray

    def shape(self, *inputs: Shape) -> Shape:
        return self.values.shape


class Unary(Node):
    """A function of every element.

    Attributes:
      function: One of `UNARY`.
    """

    function: str

    def shape(self, *inputs: Shape) -> Shape:
        self.check(self.function in UNARY, inputs[0])
        return inputs[0]


class Binary(Node):
    """A function of two elements each; an axis of size 1 is repeated.

    Attributes:
      function: One of `BINARY`.
    """

    arity: ClassVar[int] = 2
    function: str

    def shape(self, *inputs: Shape) -> Shape:
        self.check(self.function in BINARY, *inputs)
        return self.together(*inputs)


class Select(Node):
    """The second value's element where the first's is true, else the third's; axes of size 1 are repeated."""

    arity: ClassVar[int] = 3

    def shape(self, *inputs: Shape) -> Shape:
        return self.together(*inputs)


class Cast(Node):
    """The same in another dtype.

    Attributes:
      dtype: One of `CASTS`.
    """

    dtype: str

    def shape(self, *inputs: Shape) -> Shape:
        self.check(self.dtype in CASTS, inputs[0])
        return inputs[0]


class Reshape(Node):
    """The same elements in another shape, the last axis running fastest.

    Attributes:
      sizes: The shape.
    """

    sizes: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        self.check(math.prod(self.sizes) == math.prod(inputs[0]), inputs[0])
        return self.sizes


class Broadcast(Node):
    """Axes of size 1 repeated.

    Attributes:
      sizes: The shape of the result.
    """

    sizes: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        self.check(self.together(inputs[0], self.sizes) == self.sizes, inputs[0])
        return self.sizes


class Transpose(Node):
    """Axes in another order.

    Attributes:
      axes: Of the result, the axes of the input.
    """

    axes: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        self.check(sorted(self.axes) == list(range(len(inputs[0]))), inputs[0])
        return tuple(inputs[0][axis] for axis in self.axes)


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
        same = len({len(numbers) for numbers in (inputs[0], self.start, self.stop, self.step)}) == 1
        self.check(same and all(0 <= a < b <= size and step > 0 for size, a, b, step in parts), inputs[0])
        return tuple(-(-(b - a) // step) for _, a, b, step in parts)


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
        same = {len(self.low), len(self.high)} == {len(inputs[0])}
        self.check(same and min((*self.low, *self.high), default=0) >= 0, inputs[0])
        return tuple(map(sum, zip(inputs[0], self.low, self.high)))


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
        self.check(all(0 <= axis < len(shape) for shape in inputs) and len(rest) == 1, *inputs)
        return (*inputs[0][:axis], sum(shape[axis] for shape in inputs), *inputs[0][axis + 1 :])


class Reduce(Node):
    """Axes made one number.

    Attributes:
      function: One of `REDUCTIONS`.
      axes: Which axes; they are gone then.
    """

    function: str
    axes: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        fits = {*self.axes} <= set(range(len(inputs[0]))) and len({*self.axes}) == len(self.axes)
        self.check(fits and self.function in REDUCTIONS, inputs[0])
        return tuple(size for axis, size in enumerate(inputs[0]) if axis not in self.axes)

"""Operations and kernels as plain data, and the operations that have a kernel or a window; numpy alone.

Shapes and axes are without the batch, which is the first axis of every value and of no constant.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from ssm_jax import errors

Shape = tuple[int, ...]

MOST_WINDOW = 16  # the side of a pool's window


@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """An effective kernel: whole numbers times one constant, or floating point numbers.

    Attributes:
      values: Shape `(..., I, O)`; int8, of a signed supermask -1, 0 and 1, or float32.
      scale: The constant, a float32; 1 for floating point values.
    """

    values: np.ndarray
    scale: np.float32 = np.float32(1)

    @classmethod
    def of(cls, kernel: np.ndarray) -> Kernel:
        """Find the whole numbers and the constant of a kernel, if there are any.

        Args:
          kernel: float32, shape `(..., I, O)`.

        Examples:
          >>> Kernel.of(np.float32([[0.3, 0.0], [-0.3, 0.3]])).values.tolist()
          [[1, 0], [-1, 1]]
        """
        kernel = np.asarray(kernel, np.float32)
        sizes = np.abs(kernel[kernel != 0])
        scale = np.float32(sizes.min()) if sizes.size else np.float32(1)
        if not np.isfinite(kernel).all() or (sizes.size and sizes.max() > 127 * scale):
            return cls(kernel)
        values = np.rint(kernel / scale).astype(np.int8)
        whole = cls(values, scale)
        return whole if np.array_equal(whole.dense(), kernel) else cls(kernel)

    @property
    def shape(self) -> Shape:
        """The kernel's shape, `(..., I, O)`."""
        return self.values.shape

    @property
    def whole(self) -> bool:
        """Whether it is whole numbers times a constant."""
        return self.values.dtype == np.int8

    @property
    def ternary(self) -> bool:
        """Whether every value is -1, 0 or 1."""
        return self.whole and bool(((self.values >= -1) & (self.values <= 1)).all())

    def dense(self) -> np.ndarray:
        """Return the kernel as it is applied, float32."""
        return self.values.astype(np.float32) * np.float32(self.scale)

    @property
    def remaining(self) -> int:
        """Number of weights that are not 0."""
        return int(np.count_nonzero(self.values))


@typing.dataclass_transform(eq_default=False, kw_only_default=True, frozen_default=True)
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """One operation on earlier values; its subclasses are frozen dataclasses.

    The fields of an operation are all that there is to know of it: files hold them, by their types.

    Attributes:
      inputs: Numbers of the values that it takes; `arity` says how many, -1 any.
    """

    arity: ClassVar[int] = 1
    inputs: tuple[int, ...]

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(frozen=True, eq=False, kw_only=True)(cls)

    def shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the result, without its batch.

        Args:
          inputs: Shapes of the values that it takes, without their batch.

        Raises:
          InputError: It can't take these.
        """
        return inputs[0]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that there are, by name; without its kernel."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}

    def check(self, fits: bool, *shapes: Sequence[int]) -> None:
        """Raise an InputError that says that it can't take values of some shapes, unless it `fits`."""
        if not fits:
            name = getattr(self, "name", operation(self))
            kernel = f" with a kernel of shape {self.kernel.shape}" if isinstance(self, Layer) else ""
            listed = ", ".join(map(str, shapes))
            raise errors.InputError(f"{name}{kernel} can't take a value of shape {listed}")

    def together(self, *shapes: Shape) -> Shape:
        """Return the shape of values of one rank that repeat along axes of size 1."""
        sizes = tuple(max(each) for each in zip(*shapes))
        repeated = (size in (1, whole) for shape in shapes for size, whole in zip(shape, sizes))
        self.check(len({*map(len, shapes)}) == 1 and all(repeated), *shapes)
        return sizes

    def windows(self, sides: Sequence[int], *settings: Sequence[int]) -> Shape:
        """Return how many windows fit along each axis, by window, stride, places before and places behind."""
        counts = []
        for size, window, stride, low, high in zip(sides, *settings):
            fits = min(window, stride, low + 1, high + 1) > 0 and size + low + high >= window
            self.check(fits, tuple(sides))
            counts.append((size + low + high - window) // stride + 1)
        return tuple(counts)


def operation(node: Node | type[Node]) -> str:
    """Return the name of a node's operation, its key in `OPERATIONS`."""
    kind = node if isinstance(node, type) else type(node)
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


class Layer(Node):
    """An operation with a kernel.

    Attributes:
      name: Path of the layer.
      kernel: Its kernel.
    """

    name: str
    kernel: Kernel


class Linear(Layer):
    """A layer of sums of products with its kernel, `(..., I, O)`, without bias."""


class Dense(Linear):
    """A dense layer without bias, on the last axis of its input; the kernel is `(I, O)`."""

    def shape(self, *inputs: Shape) -> Shape:
        kernel = self.kernel.shape
        self.check(bool(inputs[0]) and len(kernel) == 2 and inputs[0][-1] == kernel[0], inputs[0])
        return (*inputs[0][:-1], kernel[1])


class Convolution(Linear):
    """A convolution over all axes but the last, without bias; the kernel is `(..., I / groups, O)`.

    Attributes:
      stride: Strides, one an axis; of this and what follows.
      low: Zeros before an axis.
      high: Zeros behind it.
      dilation: Distance between the places that the kernel meets.
      spread: Distance between the input's places, zeros between them: that of a transposed convolution.
      groups: The channels are so many groups, and a unit reads one of them.
    """

    stride: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    dilation: tuple[int, ...]
    spread: tuple[int, ...]
    groups: int

    def shape(self, *inputs: Shape) -> Shape:
        *sides, channels = inputs[0] or (0,)
        settings = self.stride, self.low, self.high, self.dilation, self.spread
        fits = {len(setting) for setting in settings} == {len(sides)} == {len(self.kernel.shape) - 2}
        self.check(fits and min((*self.dilation, *self.spread, self.groups)) >= 1, inputs[0])
        *windows, inner, units = self.kernel.shape
        self.check(inner * self.groups == channels and units % self.groups == 0, inputs[0])
        spread = [(size - 1) * each + 1 for size, each in zip(sides, self.spread)]
        windows = [(size - 1) * each + 1 for size, each in zip(windows, self.dilation)]
        return (*self.windows(spread, windows, self.stride, self.low, self.high), units)

    def general(self, image: Shape) -> Convolution:
        """Return itself."""
        return self


class Conv(Linear):
    """A 2-D convolution with SAME padding and without bias; the kernel is `(k, k, I, O)`.

    Attributes:
      stride: Of both sides.
    """

    stride: int

    def shape(self, *inputs: Shape) -> Shape:
        kernel = self.kernel.shape
        square = len(inputs[0]) == 3 and len(kernel) == 4 and kernel[0] == kernel[1]
        self.check(square and kernel[2] == inputs[0][2] and self.stride >= 1, inputs[0])
        return -(-inputs[0][0] // self.stride), -(-inputs[0][1] // self.stride), kernel[3]

    def general(self, image: Shape) -> Convolution:
        """Return the same convolution of an image (H, W, C) with all its settings."""
        low, high = zip(*(same_padding(size, self.kernel.shape[0], self.stride) for size in image[:2]))
        return Convolution(
            inputs=self.inputs,
            name=self.name,
            kernel=self.kernel,
            stride=(self.stride,) * 2,
            low=low,
            high=high,
            dilation=(1, 1),
            spread=(1, 1),
            groups=1,
        )


def same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """Return SAME padding before and after an axis: of what is needed in all, the smaller half comes first.

    Args:
      size: Length of the axis.
      window: Length of the kernel.
      stride: Its stride; the result has the length `ceil(size / stride)`.

    Examples:
      >>> same_padding(32, 3, 1), same_padding(32, 3, 2)
      ((1, 1), (0, 1))
    """
    needed = max((-(-size // stride) - 1) * stride + window - size, 0)
    return needed // 2, needed - needed // 2


class Embed(Layer):
    """Rows of a table `(V, F)` by their numbers; a number outside of the table is the nearest inside."""

    def shape(self, *inputs: Shape) -> Shape:
        self.check(len(self.kernel.shape) == 2, inputs[0])
        return (*inputs[0], self.kernel.shape[1])


class Product(Node):
    """The matrix product `[..., M, K] @ [..., K, N]`; of the other axes those of size 1 are repeated."""

    arity: ClassVar[int] = 2

    def shape(self, *inputs: Shape) -> Shape:
        left, right = inputs
        self.check(min(len(left), len(right)) >= 2 and left[-1] == right[-2], *inputs)
        return (*self.together(left[:-2], right[:-2]), left[-2], right[-1])


class Pool(Node):
    """Windows made one number each; what lies outside counts as nothing.

    Attributes:
      function: `max`, `min` or `sum`.
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
        settings = self.window, self.stride, self.low, self.high
        same = {len(numbers) for numbers in (inputs[0], *settings)} == {len(inputs[0])}
        self.check(same and self.function in ("max", "min", "sum"), inputs[0])
        return self.windows(inputs[0], *settings)

    def general(self) -> Pool:
        """Return itself."""
        return self


class MaxPool(Node):
    """The largest value of square windows; an edge that fills no window is dropped.

    Attributes:
      window: Side of the window, at most 16.
      stride: Of both sides.
      padding: Lines of lowest values around the image.
    """

    window: int
    stride: int
    padding: int = 0

    def shape(self, *inputs: Shape) -> Shape:
        fits = 1 <= self.window <= MOST_WINDOW and 0 <= self.padding < self.window
        self.check(fits and len(inputs[0]) == 3, inputs[0])
        pool = self.general()
        return self.windows(inputs[0], pool.window, pool.stride, pool.low, pool.high)

    def general(self) -> Pool:
        """Return the same pool with all its settings."""
        window, stride, margin = (self.window,) * 2, (self.stride,) * 2, (self.padding,) * 2
        return Pool(
            inputs=self.inputs,
            function="max",
            window=(*window, 1),
            stride=(*stride, 1),
            low=(*margin, 0),
            high=(*margin, 0),
        )


def taps(
    padded: np.ndarray, window: Shape, stride: Shape, dilation: Shape, sizes: Shape
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Yield every position in a window, and what it meets.

    Args:
      padded: The values with what lies around them, `[..., sides, C]`.
      window: Sides of the window.
      stride: Distance between two windows, one a side.
      dilation: Distance between two positions, one a side.
      sizes: How many windows there are along each side; what is met is `[..., sizes, C]`.
    """
    for position in np.ndindex(*window):
        parts = zip(position, dilation, sizes, stride)
        places = (slice(i * apart, i * apart + (size - 1) * step + 1, step) for i, apart, size, step in parts)
        met: Any = (..., *places, slice(None))
        yield position, padded[met]

"""What the layers of this library compute, as plain data: operations and their arrays; numpy alone."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import ClassVar

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
        made = cls(values, scale)
        return made if np.array_equal(made.dense(), kernel) else cls(kernel)

    @property
    def shape(self) -> Shape:
        """The kernel's shape, `(..., I, O)`."""
        return self.values.shape

    @property
    def ternary(self) -> bool:
        """Whether every value is -1, 0 or 1."""
        return self.values.dtype == np.int8 and bool(((self.values >= -1) & (self.values <= 1)).all())

    def dense(self) -> np.ndarray:
        """Return the kernel as it is applied, float32."""
        return self.values.astype(np.float32) * np.float32(self.scale)

    @property
    def remaining(self) -> int:
        """Number of weights that are not 0."""
        return int(np.count_nonzero(self.values))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """One operation on earlier values.

    Attributes:
      inputs: Numbers of the values that it takes.
    """

    arity: ClassVar[int] = 1
    inputs: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the result, without its batch.

        Args:
          inputs: Shapes of the values that it takes, without their batch.

        Raises:
          InputError: It can't take these.
        """
        return inputs[0]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Standardize(Node):
    """Every image to zero mean and unit deviation with a floor of 1/sqrt(H*W*C); the result is float32."""

    def shape(self, *inputs: Shape) -> Shape:
        return _image(self, inputs[0])


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


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Node):
    """A 2-D convolution with SAME padding and without bias.

    Attributes:
      name: Path of the layer.
      kernel: Shape `(k, k, I, O)`.
      stride: Of both sides.
    """

    name: str
    kernel: Kernel
    stride: int

    def shape(self, *inputs: Shape) -> Shape:
        height, width, channels = _image(self, inputs[0])
        rank_and_channels = len(self.kernel.shape) == 4 and self.kernel.shape[2] == channels
        if not rank_and_channels or self.kernel.shape[0] != self.kernel.shape[1] or self.stride < 1:
            raise misfit(self, inputs[0])
        return -(-height // self.stride), -(-width // self.stride), self.kernel.shape[3]

    def padding(self, image: Shape) -> list[tuple[int, int]]:
        """Return what is put before and after the rows, and the columns, of an image (H, W, C)."""
        return [same_padding(size, self.kernel.shape[0], self.stride) for size in image[:2]]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Node):
    """A dense layer without bias, on the last axis of its input.

    Attributes:
      name: Path of the layer.
      kernel: Shape `(I, O)`.
    """

    name: str
    kernel: Kernel

    def shape(self, *inputs: Shape) -> Shape:
        if not inputs[0] or len(self.kernel.shape) != 2 or inputs[0][-1] != self.kernel.shape[0]:
            raise misfit(self, inputs[0])
        return (*inputs[0][:-1], self.kernel.shape[1])


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
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

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that there are, by name."""
        values = {name: getattr(self, name) for name in ("mean", "variance", "scale", "offset")}
        return {name: array for name, array in values.items() if array is not None}

    def shape(self, *inputs: Shape) -> Shape:
        if any(array.shape != inputs[0][-1:] for array in self.arrays().values()):
            raise misfit(self, inputs[0])
        return inputs[0]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Offset(Node):
    """Add constants, what units contribute that have been removed because their value never changes.

    Attributes:
      values: float32, `[C]` or the shape of the input without its batch.
    """

    values: np.ndarray

    def shape(self, *inputs: Shape) -> Shape:
        if self.values.shape not in (inputs[0], inputs[0][-1:]):
            raise misfit(self, inputs[0])
        return inputs[0]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Elu(Node):
    """`x` where it is positive, else `exp(x) - 1`."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
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
        height, width, channels = _image(self, inputs[0])
        sides = [side + 2 * self.padding - self.window for side in (height, width)]
        if (
            not 1 <= self.window <= MOST_WINDOW
            or self.stride < 1
            or not 0 <= self.padding < self.window
            or min(sides) < 0
        ):
            raise misfit(self, inputs[0])
        return sides[0] // self.stride + 1, sides[1] // self.stride + 1, channels


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Flatten(Node):
    """An image to one axis, rows first, channels last."""

    def shape(self, *inputs: Shape) -> Shape:
        return (math.prod(inputs[0]),)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Mean(Node):
    """Mean over the image: global average pooling."""

    def shape(self, *inputs: Shape) -> Shape:
        return (_image(self, inputs[0])[2],)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Add(Node):
    """The sum of two values of one shape."""

    arity: ClassVar[int] = 2

    def shape(self, *inputs: Shape) -> Shape:
        if inputs[0] != inputs[1]:
            raise misfit(self, *inputs)
        return inputs[0]


def operation(node: Node | type[Node]) -> str:
    """Return the name of a node's operation, its key in `OPERATIONS`."""
    kind = node if isinstance(node, type) else type(node)
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _image(node: Node, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise misfit(node, shape)
    return shape


def misfit(node: Node, *shapes: Sequence[int]) -> errors.InputError:
    """Say that an operation can't take values of some shapes."""
    name = getattr(node, "name", operation(node))
    kernel = f" with a kernel of shape {node.kernel.shape}" if hasattr(node, "kernel") else ""
    return errors.InputError(f"{name}{kernel} can't take a value of shape {', '.join(map(str, shapes))}")

"""A trained network as plain data: operations in their order and their arrays, numpy alone.

Value 0 is a batch of inputs, uint8 images `[B, H, W, C]` for example, as float32 unless they are int32.
Node i makes value i + 1, and the last value is the logits. A network here has no masks: it holds effective
kernels, the products of mask and frozen kernel.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssm_jax import errors
from ssm_jax.graph.elementary import Add, Elu, Flatten, Mean, Normalize, Offset, Standardize
from ssm_jax.graph.operations import Conv, Dense, Layer, Linear, MaxPool, Node, Shape, operation

DTYPES = ("float32", "bfloat16")
INPUT_DTYPES = ("uint8", "int32", "float32")

# More than any network here has, and little enough for a file that lies about its sizes to do no harm:
# operations, elements of all values of one image together.
MOST_NODES = 2000
MOST_ELEMENTS = 2**26
MOST_AXES = 8


def _operations(kind: type[Node]) -> list[type[Node]]:
    inner = [each for below in kind.__subclasses__() for each in _operations(below)]
    return inner or [kind]


# Of the library's own networks.
LAYERS: dict[str, type[Node]] = {
    operation(kind): kind
    for kind in (Standardize, Conv, Dense, Normalize, Offset, Elu, MaxPool, Flatten, Mean, Add)
}
# All of them: every class that no other is made of.
OPERATIONS = LAYERS | {operation(kind): kind for kind in _operations(Node)}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """A network from images, or other inputs, to logits.

    Attributes:
      image_shape: Shape of one input: `(H, W, C)` of an image, `(T,)` of a text.
      image_dtype: Dtype of the inputs, one of `INPUT_DTYPES`.
      classes: Number of classes, the last axis of the result.
      dtype: What operations with a kernel compute in, `float32` or `bfloat16`.
      nodes: The operations in their order.

    Raises:
      InputError: The operations don't fit together.
    """

    image_shape: Shape
    classes: int
    dtype: str = "float32"
    image_dtype: str = "uint8"
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        errors.choose("dtype", self.dtype, dict.fromkeys(DTYPES))
        errors.choose("image_dtype", self.image_dtype, dict.fromkeys(INPUT_DTYPES))
        if self.shapes()[-1][-1:] != (self.classes,):
            raise errors.InputError(f"the network gives {self.shapes()[-1]}, not {self.classes} logits")

    def shapes(self) -> list[Shape]:
        """Return the shapes of all values, without their batch: of the images, then of every node's result.

        Raises:
          InputError: The operations don't fit together.
        """
        if not 0 < len(self.image_shape) <= MOST_AXES or min(self.image_shape) < 1:
            raise errors.out_of_range(
                "image_shape", self.image_shape, f"1 to {MOST_AXES} sizes of at least 1"
            )
        if not 0 < len(self.nodes) <= MOST_NODES:
            raise errors.out_of_range("the number of operations", len(self.nodes), f"1 to {MOST_NODES}")
        shapes: list[Shape] = [tuple(self.image_shape)]
        elements = math.prod(self.image_shape)
        for number, node in enumerate(self.nodes):
            count = len(node.inputs) if node.arity < 0 else node.arity
            if len(node.inputs) != count or not all(0 <= i <= number for i in node.inputs):
                raise errors.InputError(f"operation {number} takes values {node.inputs}, which it can't")
            shape = node.shape(*(shapes[i] for i in node.inputs))
            if len(shape) > MOST_AXES or math.prod(shape) < 1:
                raise errors.InputError(f"operation {number} makes a value of shape {shape}")
            shapes.append(shape)
            elements += math.prod(shape)
            if elements > MOST_ELEMENTS:
                raise errors.InputError(
                    f"an image's values have {elements:,} elements up to operation {number}; "
                    f"allowed is at most {MOST_ELEMENTS:,}"
                )
        return shapes

    @property
    def plain(self) -> bool:
        """Whether it is made as the library's own networks are: `LAYERS`, from a uint8 image to a vector."""
        shapes = self.shapes()
        dense = [shapes[node.inputs[0]] for node in self.nodes if isinstance(node, Dense)]
        return (
            all(type(node) in LAYERS.values() for node in self.nodes)
            and self.image_dtype == "uint8"
            and {len(shapes[0]), *(len(shape) + 2 for shape in (*dense, shapes[-1]))} == {3}
        )

    def check(self, images: Any) -> None:
        """Check that it can take images.

        Args:
          images: Inputs with their batch, such as uint8 `[B, H, W, C]`.

        Raises:
          InputError: They are of another shape or dtype.
        """
        shape, dtype = np.shape(images), getattr(images, "dtype", type(images).__name__)
        if dtype != self.image_dtype or shape[1:] != self.image_shape:
            needed = f"{self.image_dtype} [B, {', '.join(map(str, self.image_shape))}]"
            hint = ", a batch of one is images[None]" if shape == self.image_shape else ""
            raise errors.InputError(f"images are {dtype} {list(shape)}; allowed is {needed}{hint}")

    def readers(self) -> list[list[int]]:
        """Return the numbers of the operations that take each value, as often as they take it."""
        readers: list[list[int]] = [[] for _ in range(len(self.nodes) + 1)]
        for number, node in enumerate(self.nodes):
            for value in node.inputs:
                readers[value].append(number)
        return readers

    def layers(self) -> list[Layer]:
        """Return the operations that have a kernel, in their order."""
        return [node for node in self.nodes if isinstance(node, Layer)]


def multiply_adds(network: Network) -> tuple[int, int]:
    """Count the multiply-adds of one image: of all weights, and of those that are not 0.

    Padding counts as image.

    Args:
      network: Any network.
    """
    whole, remaining = 0, 0
    for node, shape in zip(network.nodes, network.shapes()[1:], strict=True):
        if isinstance(node, Linear):
            places = math.prod(shape[:-1])
            whole += places * math.prod(node.kernel.shape)
            remaining += places * node.kernel.remaining
    return whole, remaining


def used(nodes: Sequence[Node], result: int) -> tuple[Node, ...]:
    """Keep the operations that a value is made of.

    Args:
      nodes: Operations in their order.
      result: The number of the value, which becomes the last.
    """
    needed = {result}
    for number in range(result, 0, -1):
        needed.update(nodes[number - 1].inputs if number in needed else ())
    numbers = {old: new for new, old in enumerate(sorted(needed | {0}))}
    return tuple(
        dataclasses.replace(nodes[old - 1], inputs=tuple(numbers[i] for i in nodes[old - 1].inputs))
        for old in numbers
        if old
    )

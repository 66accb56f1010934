"""Which weights of a whole network lie on a path from its input to its output.

A weight that remains does nothing where no other leads to it, or none leads on. What is reached and what is
needed is followed place by place and channel by channel, through padding, pools, the flattening before the
first dense layer and the sums of residual blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ssm_jax.analysis.masks import Masks
from ssm_jax.graph import same_padding


class _Operation(Protocol):
    def forward(self, reached: np.ndarray) -> np.ndarray:
        """Which outputs are reached, bool `[H, W, O]`, from which inputs are."""

    def backward(self, needed: np.ndarray) -> np.ndarray:
        """Which inputs are needed, bool `[H, W, I]`, from which outputs are; after `forward`."""


class _Kernel:
    """A convolution with SAME padding, or a dense layer on an image of one place."""

    def __init__(self, mask: np.ndarray, stride: int = 1) -> None:
        self.mask = mask
        self.stride = stride
        shape = (1,) * (4 - mask.ndim) + mask.shape
        self._remaining: np.ndarray = (mask != 0).reshape(shape)
        self._taps = list(np.ndindex(shape[:2]))

    def forward(self, reached: np.ndarray) -> np.ndarray:
        self._places = [-(-size // self.stride) for size in reached.shape[:2]]
        sizes = zip(reached.shape[:2], self._remaining.shape)
        self._margins = [same_padding(size, window, self.stride) for size, window in sizes]
        self._padded: np.ndarray = np.pad(reached, (*self._margins, (0, 0)))
        found = np.zeros((*self._places, self._remaining.shape[-1]), bool)
        for tap in self._taps:
            found |= _product(self._met(self._padded, tap), self._remaining[tap])
        return found

    def _met(self, padded: np.ndarray, tap: tuple[int, ...]) -> np.ndarray:
        """The inputs that one place of the window meets, one for every output: a view."""
        rows, columns = (
            slice(start, start + self.stride * (size - 1) + 1, self.stride)
            for start, size in zip(tap, self._places)
        )
        return padded[rows, columns]

    def backward(self, needed: np.ndarray) -> np.ndarray:
        self._needed = needed
        found: np.ndarray = np.zeros(self._padded.shape, bool)
        for tap in self._taps:
            met = self._met(found, tap)
            met |= _product(needed, self._remaining[tap].T)
        (top, bottom), (left, right) = self._margins
        return found[top : found.shape[0] - bottom, left : found.shape[1] - right]

    def connected(self) -> np.ndarray:
        """The mask without the weights that lie on no path; after `backward`."""
        found = np.zeros(self._remaining.shape, bool)
        needed = self._needed.reshape(-1, self._needed.shape[-1])
        for tap in self._taps:
            reached = self._met(self._padded, tap)
            found[tap] = _product(reached.reshape(-1, reached.shape[-1]).T, needed)
        return np.where(found.reshape(self.mask.shape), self.mask, 0)


def _product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The matrix product of truth values."""
    return np.asarray(first.astype(np.float32) @ second.astype(np.float32) > 0)


class _HalvingPool:
    """Max-pool of 2x2 places; an odd edge is dropped."""

    def forward(self, reached: np.ndarray) -> np.ndarray:
        self._shape = reached.shape
        height, width = (size // 2 for size in reached.shape[:2])
        windows = reached[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1)
        return np.asarray(windows.any((1, 3)))

    def backward(self, needed: np.ndarray) -> np.ndarray:
        found = np.zeros(self._shape, bool)
        height, width = (2 * size for size in needed.shape[:2])
        found[:height, :width] = needed.repeat(2, 0).repeat(2, 1)
        return found


class _SamePool:
    """Max-pool of 3x3 places that keeps their number."""

    def forward(self, reached: np.ndarray) -> np.ndarray:
        height, width = reached.shape[:2]
        padded = np.pad(reached, ((1, 1), (1, 1), (0, 0)))
        taps = [padded[row : row + height, column : column + width] for row, column in np.ndindex(3, 3)]
        return np.asarray(np.stack(taps).any(0))

    def backward(self, needed: np.ndarray) -> np.ndarray:
        return self.forward(needed)


class _Flatten:
    """From `[H, W, C]` to units of one place, in the order of a reshape."""

    def forward(self, reached: np.ndarray) -> np.ndarray:
        self._shape = reached.shape
        return reached.reshape(1, 1, -1)

    def backward(self, needed: np.ndarray) -> np.ndarray:
        return needed.reshape(self._shape)


class _Average:
    """The average over all places."""

    def forward(self, reached: np.ndarray) -> np.ndarray:
        self._shape = reached.shape
        return np.asarray(reached.any((0, 1), keepdims=True))

    def backward(self, needed: np.ndarray) -> np.ndarray:
        return np.broadcast_to(needed, self._shape)


class _Residual:
    """The sum of two branches; one without operations is the identity."""

    def __init__(self, main: Sequence[_Operation], shortcut: Sequence[_Operation]) -> None:
        self.branches = main, shortcut

    def forward(self, reached: np.ndarray) -> np.ndarray:
        return np.logical_or(*(_forward(branch, reached) for branch in self.branches))

    def backward(self, needed: np.ndarray) -> np.ndarray:
        return np.logical_or(*(_backward(branch, needed) for branch in self.branches))


def _forward(operations: Sequence[_Operation], reached: np.ndarray) -> np.ndarray:
    for operation in operations:
        reached = operation.forward(reached)
    return reached


def _backward(operations: Sequence[_Operation], needed: np.ndarray) -> np.ndarray:
    for operation in reversed(operations):
        needed = operation.backward(needed)
    return needed


def connected(masks: Masks, image_shape: Sequence[int]) -> dict[str, np.ndarray]:
    """Hide every weight that lies on no path from the image to a logit.

    Without offsets of normalizations the network computes what it computed before: a unit that nothing
    reaches is 0, and so is what ELU makes of it.

    Args:
      masks: The masks of one of the library's networks, `ssm_jax.nn.networks.NETWORKS`, by which it is
        recognized.
      image_shape: `(H, W, C)`.

    Returns:
      The masks of the same layers, in the same dtypes.
    """
    stages = {int(path.split("/")[1]) for path in masks if path.startswith("blocks/")}
    strides = _strides(masks, len(stages) // 3)
    kernels = {path: _Kernel(mask, strides.get(path, 1)) for path, mask in masks.items()}
    operations = _residual(kernels, len(stages)) if stages else _sequential(kernels)
    reached = _forward(operations, np.ones(tuple(image_shape), bool))
    _backward(operations, np.ones_like(reached))
    return {path: kernel.connected() for path, kernel in kernels.items()}


def _sequential(kernels: dict[str, _Kernel]) -> list[_Operation]:
    """FCN or Conv2 to 8: convolutions with a pool after every second one, then dense layers."""
    operations: list[_Operation] = []
    convolutions = sum(path.startswith("convs/") for path in kernels)
    for i in range(convolutions):
        operations += [kernels[f"convs/{i}"], *([_HalvingPool()] if i % 2 else [])]
    return [*operations, _Flatten(), *(kernels[f"denses/{i}"] for i in range(len(kernels) - convolutions))]


def _strides(masks: Masks, blocks: int) -> dict[str, int]:
    """The strides above 1 of a ResNet with so many blocks per stage: of projections after the first stage."""
    projected = [path.removesuffix("/projection") for path in masks if path.endswith("/projection")]
    later = [block for block in projected if int(block.split("/")[1]) >= blocks]
    return {f"{block}/{name}": 2 for block in later for name in ("conv1", "projection")}


def _residual(kernels: dict[str, _Kernel], blocks: int) -> list[_Operation]:
    """A ResNet: stem, pool, blocks, average, dense layer."""

    def block(i: int) -> _Residual:
        shortcut = [kernels[f"blocks/{i}/projection"]] if f"blocks/{i}/projection" in kernels else []
        return _Residual([kernels[f"blocks/{i}/conv1"], kernels[f"blocks/{i}/conv2"]], shortcut)

    return [kernels["stem"], _SamePool(), *map(block, range(blocks)), _Average(), kernels["head"]]

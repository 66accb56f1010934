"""Where the values of the C export's networks lie: planes with margins, in buffers of one scratch memory."""

from __future__ import annotations

import dataclasses

import numpy as np

# Positions of a plane that a convolution sums at a time, in registers.
TILE = 32


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a value lies in memory: planes, one a channel; a vector has planes of one number.

    Attributes:
      channels: Number of planes.
      height: Rows.
      width: Columns.
      margin: Columns of zeros between two rows, and rows of zeros above and below a plane.
      tile: Positions that are written at a time.
    """

    channels: int
    height: int = 1
    width: int = 1
    margin: int = 0
    tile: int = 1

    @property
    def row(self) -> int:
        """Floats from one row to the next."""
        return self.width + self.margin

    @property
    def first(self) -> int:
        """The place of the first pixel in its plane."""
        return self.margin * (self.row + 1)

    @property
    def positions(self) -> int:
        """Floats from a plane's first pixel to its last."""
        return self.height * self.row - self.margin

    @property
    def plane(self) -> int:
        """Floats from one plane to the next: with a margin all around, and room for whole tiles."""
        tiles = -(-self.positions // self.tile)
        return self.first + max(tiles * self.tile, self.positions + self.first)

    @property
    def count(self) -> int:
        """Floats of all planes."""
        return self.channels * self.plane

    @property
    def geometry(self) -> tuple[int, ...]:
        """What the functions take that go over pixels."""
        return self.channels, self.height, self.width, self.row, self.plane

    def places(self) -> np.ndarray:
        """Return where every element lies, int32 of shape `(H, W, C)`."""
        y, x, c = (np.arange(size, dtype=np.int32) for size in (self.height, self.width, self.channels))
        return y[:, None, None] * self.row + x[:, None] + (c * self.plane + self.first)


@dataclasses.dataclass(eq=False)
class Buffer:
    """A piece of the scratch memory.

    Attributes:
      size: In floats.
      born: The step that first writes it.
      dies: The last step that uses it.
      pending: Uses to come.
      offset: Its place in the scratch memory, in floats.
    """

    size: int
    born: int
    dies: int
    pending: int = 0
    offset: int = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """A place in the scratch memory: a buffer and a distance in floats."""

    buffer: Buffer
    distance: int = 0


def allocate(buffers: list[Buffer]) -> int:
    """Give every buffer a place, the largest first, and return the size of all."""
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda buffer: -buffer.size):
        buffer.offset = 0
        for other in sorted(placed, key=lambda other: other.offset):
            end, other_end = buffer.offset + buffer.size, other.offset + other.size
            at_once = buffer.born <= other.dies and other.born <= buffer.dies
            if at_once and buffer.offset < other_end and other.offset < end:
                buffer.offset = other_end
        placed.append(buffer)
    return max(buffer.offset + buffer.size for buffer in buffers)

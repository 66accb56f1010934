"""Images that stay on disk, for data larger than memory: chosen by an index, read where they are used.

The batches to come are read while others are in use, by threads of `grain`.
"""

from __future__ import annotations

import concurrent.futures
import math
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ssm_jax.data.images import any_size
from ssm_jax.errors import InputError, RunError

# A thread reads so many images at a time.
_PIECE = 64
# Bytes of the images that a call of a program takes; twice as many wait for the next ones.
_CHUNK = 2**25


class Images:
    """Images on disk, in place of an array uint8 `[N, H, W, C]`.

    An index along the first axis chooses some of them and reads none; `np.asarray` reads them.

    Args:
      read: Reads the images at some places, each uint8 `[H, W, C]`.
      image_shape: `(H, W, C)`.
      places: The places of these images, int `[N]`.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        read: Callable[[np.ndarray], Iterable[np.ndarray]],
        image_shape: tuple[int, ...],
        places: np.ndarray,
    ) -> None:
        self._read = read
        self._places = places
        self.shape = (len(places), *image_shape)
        self.size = math.prod(self.shape)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: slice | np.ndarray) -> Images:
        return Images(self._read, self.shape[1:], self._places[index])

    def read(self, chosen: np.ndarray) -> np.ndarray:
        """Read some images, one after another.

        Args:
          chosen: Their numbers among these images, int `[n]`; -1 is an image of zeros.

        Returns:
          uint8 `[n, H, W, C]`.

        Raises:
          InputError: One can't be read, or is of another size.
        """
        images = np.zeros((len(chosen), *self.shape[1:]), np.uint8)
        real = np.flatnonzero(chosen >= 0)
        for place, image in zip(real, self._read(self._places[chosen[real]]), strict=True):
            images[place] = image
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        images = np.empty(self.shape, np.uint8)

        def fill(start: int) -> None:
            part = images[start : start + _PIECE]
            part[:] = self.read(np.arange(start, start + len(part)))

        # Pillow decodes without the interpreter's lock.
        with any_size(), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            for _ in threads.map(fill, range(0, len(images), _PIECE)):
                pass
        return images if dtype is None else images.astype(dtype)


class Split:
    """A split whose images stay on disk: in place of one that lies on the devices.

    Args:
      images: Its images, N of them.
      labels: int32 `[N]`.
    """

    def __init__(self, images: Images, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels
        self._order: np.ndarray | None = None
        self._next = 0
        self._pieces: Any = None

    def at_once(self, batch: int) -> int:
        """Return how many batches a call of a program takes at most.

        Args:
          batch: The number of images in a batch, of all networks together.
        """
        return max(1, _CHUNK // (batch * math.prod(self.images.shape[1:])))

    def read(self, order: np.ndarray, first: int, count: int) -> dict[str, np.ndarray]:
        """Read some batches; those behind them are read meanwhile, for the next call with the same order.

        Args:
          order: The numbers of the images in all batches, int `[..., batches, B]`; -1 is an image of zeros,
            labeled -1.
          first: The number of the first batch.
          count: How many there are.

        Returns:
          Batch after batch `images`, uint8 `[..., count * B, H, W, C]`, and `labels`, int32
          `[..., count * B]`; and `first`, int32 `[...]`.

        Raises:
          RunError: An image can't be read, or is of another size.
        """
        *slots, _, size = order.shape
        rows = np.moveaxis(order, -2, 0)[first:]
        if order is not self._order or first != self._next:
            self._begin(rows.reshape(len(rows), -1))
            self._order = order
        self._next = first + count
        chosen = rows[:count]
        images = np.empty((chosen.size, *self.images.shape[1:]), np.uint8)
        done = 0
        while done < len(images):
            piece = self._piece()
            images[done : done + len(piece)] = piece
            done += len(piece)
        labels = np.where(chosen < 0, np.int32(-1), self.labels[chosen])
        return {
            "images": _in_line(images.reshape(*chosen.shape, *self.images.shape[1:]), len(slots)),
            "labels": _in_line(labels, len(slots)),
            "first": np.full(slots, first, np.int32),
        }

    def _begin(self, rows: np.ndarray) -> None:
        import grain

        self.close()
        threads = os.cpu_count() or 1
        waiting = max(threads, 2 * _CHUNK // (_PIECE * math.prod(self.images.shape[1:])))
        source = grain.MapDataset.source(_Pieces(self.images, rows))
        self._pieces = iter(source.to_iter_dataset(grain.ReadOptions(threads, waiting)))

    def _piece(self) -> np.ndarray:
        try:
            piece: np.ndarray = next(self._pieces)
        except InputError as error:  # what was given was well when the run began
            raise RunError(str(error)) from error
        return piece

    def close(self) -> None:
        """Stop reading ahead."""
        if self._pieces is not None:
            self._pieces.close()
        self._pieces = self._order = None


class _Pieces:
    """What grain reads from: the images of an order in pieces, as many in every row.

    Args:
      images: The images.
      rows: Numbers of them, int `[rows, B]`.
    """

    def __init__(self, images: Images, rows: np.ndarray) -> None:
        self._images, self._rows = images, rows
        self._in_row = -(-rows.shape[1] // _PIECE)

    def __len__(self) -> int:
        return len(self._rows) * self._in_row

    def __getitem__(self, number: int) -> np.ndarray:
        row, part = divmod(number, self._in_row)
        return self._images.read(self._rows[row, part * _PIECE : (part + 1) * _PIECE])


def _in_line(batches: np.ndarray, slots: int) -> np.ndarray:
    """Put `[count, ..., B, *rest]` one batch after another behind the slots: `[..., count * B, *rest]`."""
    line = np.moveaxis(batches, 0, slots)
    return line.reshape(*line.shape[:slots], -1, *line.shape[slots + 2 :])


def check_grain() -> None:
    """Check that grain is installed.

    Raises:
      InputError: It isn't; names the extra.
    """
    try:
        import grain  # noqa: F401
    except ImportError as error:
        raise InputError('config.data.stream=True needs grain: pip install "ssm_jax[stream]"') from error

"""The arrays of a `.ssm` file: what of kernels is packed as one stream, and plain numbers; numpy alone."""

from __future__ import annotations

import dataclasses
import lzma
import math
from typing import Any

import numpy as np

from ssm_jax import errors, graph
from ssm_jax.artifact import header as checked
from ssm_jax.artifact import version1

# A raw stream has no settings of its own, so it takes as much memory as these say.
FILTERS = [
    {"id": lzma.FILTER_LZMA1, "preset": 6, "dict_size": 2**22, "lc": 1, "lp": 0, "pb": 0},
]
_FAR = 255  # so many zeros, and no weight behind them
_CHUNK = 2**16


def pack(*pieces: bytes) -> bytes:
    """Pack bytes into one stream."""
    return lzma.compress(b"".join(pieces), lzma.FORMAT_RAW, filters=FILTERS)


class Packed:
    """A packed stream, unpacked piece by piece; never more of it than is asked for."""

    def __init__(self, data: memoryview) -> None:
        self._left = data
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS)

    def take(self, count: int, name: str) -> bytes:
        """Unpack so many bytes more."""
        pieces = list[bytes]()
        while count:
            piece = self._next(count, name)
            if not piece:
                raise errors.InputError(f"{name} needs {count:,} bytes more than are packed")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def _next(self, count: int, name: str) -> bytes:
        data, self._left = self._left, self._left[:0]
        try:
            return b"" if self._decoder.eof else self._decoder.decompress(data, count)
        except lzma.LZMAError as error:
            raise errors.InputError(f"{name} can't be unpacked: {errors.one_line(error)}") from error

    def end(self) -> None:
        """Check that nothing is left."""
        if self._next(1, "the end") or not self._decoder.eof or self._decoder.unused_data:
            raise errors.InputError("it holds packed bytes that are of nothing")


class Body:
    """What the arrays are made of: plain bytes, taken from the front, and packed ones."""

    def __init__(self, data: memoryview, most_weights: int, packed: Packed | None = None) -> None:
        self.left, self.packed, self.first = data, packed, version1.Decoder()
        self.most_weights, self.weights = most_weights, 0

    def take(self, count: int, name: str) -> memoryview:
        """Take so many plain bytes more."""
        if count > len(self.left):
            raise errors.InputError(f"{name} needs {count:,} bytes, and {len(self.left):,} are left")
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def floats(self, count: int, name: str) -> np.ndarray:
        """Take so many finite float32 more."""
        array = np.frombuffer(self.take(4 * count, name), "<f4").astype(np.float32)
        if not np.isfinite(array).all():
            raise errors.InputError(f"{name} holds numbers that are not finite")
        return array

    def shape(self, value: Any, name: str) -> graph.Shape:
        """Check a shape, and that as many elements more are allowed."""
        sides = checked.items(value, name, graph.MOST_AXES, 0)
        shape = tuple(checked.integer(side, name, 1) for side in sides)
        self.weights += math.prod(shape)
        if self.weights > self.most_weights:
            raise errors.InputError(
                f"{name} is {list(shape)}, which makes more weights than the {self.most_weights:,} allowed"
            )
        return shape

    def end(self) -> None:
        """Check that nothing is left."""
        if self.packed is not None:
            self.packed.end()
        if self.left:
            raise errors.InputError(f"it has {len(self.left):,} bytes that are of no array")


@dataclasses.dataclass
class Written:
    """Bytes of arrays in their order: those that are packed together, and those behind them."""

    packed: list[bytes] = dataclasses.field(default_factory=list)
    plain: list[bytes] = dataclasses.field(default_factory=list)


def encode_array(array: np.ndarray, name: str, body: Written) -> dict[str, Any]:
    """Write an array; returns its entry in the header."""
    whole = array.dtype == np.int32
    if not whole and (array.dtype != np.float32 or not np.isfinite(array).all()):
        raise errors.wrong_value(name, array.ravel()[:4], "finite and of dtype float32")
    body.plain.append(array.astype("<i4" if whole else "<f4").tobytes())
    return {"shape": list(array.shape), **({"dtype": "int32"} if whole else {})}


def decode_array(value: Any, name: str, body: Body) -> np.ndarray:
    """Read an array by its entry in the header."""
    entry = checked.fields(value, name, ("shape",), ("dtype",))
    shape = body.shape(entry["shape"], f"{name}.shape")
    if entry.get("dtype") == "int32":
        return np.frombuffer(body.take(4 * math.prod(shape), name), "<i4").astype(np.int32).reshape(shape)
    if "dtype" in entry:
        raise errors.wrong_value(f"{name}.dtype", entry["dtype"], "int32, or none of float32")
    return body.floats(math.prod(shape), name).reshape(shape)


def encode_kernel(kernel: graph.Kernel, name: str, body: Written) -> dict[str, Any]:
    """Write a kernel; returns its entry in the header."""
    values = kernel.values
    whole = values.dtype == np.int8
    if not (whole or values.dtype == np.float32) or not np.isfinite(values).all() or (values == -128).any():
        raise errors.wrong_value(name, values.ravel()[:4], "finite, and float32 or int8 from -127 to 127")
    if not whole and kernel.scale != 1:
        raise errors.wrong_value(f"{name}.scale", float(kernel.scale), "1.0 of a float32 kernel")
    flat = np.moveaxis(values, -1, 0).ravel()
    places = np.flatnonzero(flat)
    skips, rest = np.divmod(np.diff(places, prepend=-1) - 1, _FAR)
    gaps = np.full(len(places) + int(skips.sum()), _FAR, np.uint8)
    gaps[np.cumsum(skips + 1) - 1] = rest
    body.packed.append(gaps.tobytes())
    remaining = flat[places]
    if kernel.ternary:
        body.packed.append(np.packbits(remaining > 0, bitorder="little").tobytes())
    else:
        (body.packed if whole else body.plain).append(remaining.astype("i1" if whole else "<f4").tobytes())
    return {
        "dtype": "ternary" if kernel.ternary else str(values.dtype),
        "gaps": len(gaps),
        "scale": _float32(float(kernel.scale), f"{name}.scale"),
        "shape": list(values.shape),
    }


def decode_kernel(value: Any, name: str, body: Body) -> graph.Kernel:
    """Read a kernel by its entry in the header."""
    packed = body.packed
    keys = version1.KEYS if packed is None else ("dtype", "gaps", "scale", "shape")
    entry = checked.fields(value, name, keys)
    shape = body.shape(entry["shape"], f"{name}.shape")
    size, dtype = math.prod(shape), entry["dtype"]
    if dtype not in ("int8", "float32", *(() if packed is None else ("ternary",))):
        raise errors.wrong_value(f"{name}.dtype", dtype, "ternary, int8 or float32")
    if dtype == "float32" and entry["scale"] != 1.0:
        raise errors.wrong_value(f"{name}.scale", entry["scale"], "1.0 of a float32 kernel")
    if packed is None:
        data = body.take(checked.integer(entry["bytes"], f"{name}.bytes"), name)
        values = body.first.values(entry, data, size, name)
        if dtype == "float32" and not ((values == 0) | (values == 1)).all():
            raise errors.wrong_value(f"{name}.values", entry["values"], "0 and 1 of a float32 kernel")
    else:
        values = _marks(packed, checked.integer(entry["gaps"], f"{name}.gaps", 0, size), size, name)
        mask = values.view(bool)
        remaining = int(np.count_nonzero(mask))
        if dtype == "ternary":
            bits = np.frombuffer(packed.take(-(-remaining // 8), name), np.uint8)
            signs = np.unpackbits(bits, count=remaining, bitorder="little").view(np.int8)
            values[mask] = 2 * signs - 1
        elif dtype == "int8":
            integers = np.frombuffer(packed.take(remaining, name), np.int8)
            if (integers == 0).any() or (integers == -128).any():
                raise errors.InputError(f"{name} holds whole numbers other than -127 to 127, or zeros")
            values[mask] = integers
    if dtype == "float32":
        mask = values.view(bool)
        values = np.zeros(size, np.float32)
        values[mask] = body.floats(int(np.count_nonzero(mask)), name)
    if packed is not None and shape:
        values = np.ascontiguousarray(np.moveaxis(values.reshape(shape[-1], *shape[:-1]), 0, -1))
    return graph.Kernel(values.reshape(shape), np.float32(_float32(entry["scale"], f"{name}.scale")))


def _marks(packed: Packed, gaps: int, size: int, name: str) -> np.ndarray:
    """1 where a weight is, int8 `[size]`, by the zeros before each."""
    values, place = np.zeros(size, np.int8), 0
    for start in range(0, gaps, _CHUNK):
        distances = np.frombuffer(packed.take(min(_CHUNK, gaps - start), name), np.uint8)
        weights = distances < _FAR
        ends = place + np.cumsum(distances + weights, dtype=np.int64)
        place = int(ends[-1])
        if place > size:
            raise errors.InputError(f"{name} has weights behind its last place")
        values[ends[weights] - 1] = 1
    return values


def _float32(value: Any, name: str) -> float:
    number = checked.real(value, name)
    if abs(number) > float(np.finfo(np.float32).max) or float(np.float32(number)) != number:
        raise errors.wrong_value(name, value, "a number that float32 holds exactly")
    return number

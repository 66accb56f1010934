"""The file that a trained network travels in, `.ssm`, to the byte as in `docs/format.md`; numpy alone."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import os
import pathlib
import struct
from collections.abc import Callable
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from ssm_jax import errors, files, graph
from ssm_jax.artifact import coder
from ssm_jax.artifact import header as checked
from ssm_jax.graph import bounds

# The first byte is no text, and the line ends show whether the file was copied as text.
MAGIC = b"\x89SSM\r\n\x1a\n"
# The first format holds networks that are `plain`; whatever it holds is written in it. The second holds any.
VERSION, NEWEST = 1, 2
# Checked before anything is allocated: bytes of a file and of its header, elements of all arrays, and steps
# in which they are decoded, some 15 microseconds each.
MOST_BYTES = 2**30
MOST_HEADER = 2**21
MOST_WEIGHTS = 2**26
MOST_STEPS = 2**19

_MOST_INTEGERS = 64  # of one field, such as the values that are concatenated

_PREFIX = struct.Struct("<8sIIQ")
_DIGEST = hashlib.sha256().digest_size


@dataclasses.dataclass(frozen=True, eq=False)
class Artifact:
    """A trained network, the names of its classes, and how it came to be.

    Attributes:
      network: The network.
      class_names: Printable, one for every class.
      record: What JSON can hold; of a run: network, dataset, dataset_version, rule, seed, step, epochs,
        test_accuracy (%, None where nobody measured it), remaining_weights (share), versions, config.

    Raises:
      InputError: The names are not one for every class, or the network takes more than `graph.bounds` allows.
    """

    network: graph.Network
    class_names: tuple[str, ...]
    record: dict[str, Any]

    def __post_init__(self) -> None:
        names, classes = self.class_names, self.network.classes
        if len(names) != classes:
            raise errors.InputError(f"there are {len(names)} class names; allowed is {classes}, one a class")
        for name in names:
            checked.text(name, "a class name")
        bounds.check(self.network)


def read(path: str | os.PathLike[str], *, most_weights: int = MOST_WEIGHTS) -> Artifact:
    """Read an artifact.

    Args:
      path: The file; `~` is expanded.
      most_weights: The most elements that all arrays of the network may have together.

    Raises:
      InputError: The file can't be read, is damaged or too large, or of another version.
    """
    path = pathlib.Path(os.path.expanduser(path))
    if os.path.isdir(path):
        raise errors.InputError(f"{path} is a folder; ssm-jax export {path} writes the .ssm file of a run")
    try:
        files.check_regular(path)
        if path.stat().st_size > MOST_BYTES:
            raise errors.InputError(f"it has more than {MOST_BYTES:,} bytes")
        return decode(files.read_whole(path), most_weights=most_weights)
    except OSError as error:
        raise errors.InputError(f"cannot read {path}: {files.reason(error)}") from error
    except errors.InputError as error:
        raise errors.InputError(f"cannot use {path}: {error}") from error


def write(path: str | os.PathLike[str], artifact: Artifact) -> None:
    """Write an artifact, whole or not at all; the same artifact gives the same bytes.

    Args:
      path: The file; one that exists is replaced.
      artifact: What is written.

    Raises:
      InputError: The artifact holds what no file can.
      RunError: The file can't be written.
    """
    path, data = pathlib.Path(path), encode(artifact)
    try:
        files.write_whole(path, lambda file: file.write(data))
    except OSError as error:
        raise errors.RunError(f"cannot write {path}: {files.reason(error)}") from error


def encode(artifact: Artifact) -> bytes:
    """Make the bytes of the file of an artifact.

    Args:
      artifact: The artifact.

    Raises:
      InputError: It holds what no file can, such as numbers that are not finite.
    """
    network, body = artifact.network, list[bytes]()
    version = VERSION if network.plain else NEWEST
    header = checked.dump(
        {
            "class_names": list(artifact.class_names),
            "classes": network.classes,
            "dtype": network.dtype,
            "image_shape": list(network.image_shape),
            "nodes": [_encode_node(node, f"node {i}", body) for i, node in enumerate(network.nodes)],
            "record": artifact.record,
            **({} if version == VERSION else {"image_dtype": network.image_dtype}),
        }
    )
    if len(header) > MOST_HEADER:
        raise errors.InputError(f"the header has {len(header):,} bytes; allowed is at most {MOST_HEADER:,}")
    data = _PREFIX.pack(MAGIC, version, len(header), sum(map(len, body))) + header + b"".join(body)
    return data + hashlib.sha256(data).digest()


def kernel_bytes(kernel: graph.Kernel) -> int:
    """Count the bytes of a kernel in the file, without its entry in the header.

    Args:
      kernel: The kernel.
    """
    body: list[bytes] = []
    _encode_kernel(kernel, "the kernel", body)
    return sum(map(len, body))


def decode(data: bytes, *, most_weights: int = MOST_WEIGHTS) -> Artifact:
    """Read an artifact from the bytes of its file.

    Takes at most 40 bytes of memory for each byte of the header and 6 for each weight, whatever it says.

    Args:
      data: The bytes.
      most_weights: The most elements that all arrays of the network may have together.

    Raises:
      InputError: They are of no artifact, damaged, of another version, or hold too much.
    """
    version, header_length = _version_and_header(data)
    header_end = _PREFIX.size + header_length
    plain = version == VERSION
    header = checked.fields(
        checked.load(data[_PREFIX.size : header_end]),
        "the header",
        (
            *("class_names", "classes", "dtype", "image_shape", "nodes", "record"),
            *(() if plain else ("image_dtype",)),
        ),
    )
    body = _Body(memoryview(data)[header_end:-_DIGEST], most_weights)
    sides = checked.items(header["image_shape"], "image_shape", graph.MOST_AXES)
    known = graph.LAYERS if plain else graph.OPERATIONS
    nodes = checked.items(header["nodes"], "nodes", graph.MOST_NODES)
    network = graph.Network(
        image_shape=tuple(checked.integer(side, "image_shape", 1) for side in sides),
        image_dtype="uint8" if plain else checked.text(header["image_dtype"], "image_dtype"),
        classes=checked.integer(header["classes"], "classes", 1),
        dtype=checked.text(header["dtype"], "dtype"),
        nodes=tuple(_decode_node(node, f"node {i}", body, known) for i, node in enumerate(nodes)),
    )
    if plain and not network.plain:
        raise errors.InputError(f"format {VERSION} holds images and vectors alone")
    if body.left:
        raise errors.InputError(f"its body has {len(body.left):,} bytes that are of no array")
    names = checked.items(header["class_names"], "class_names", network.classes, network.classes)
    if type(header["record"]) is not dict:
        raise errors.misfit("record", header["record"], "an object")
    return Artifact(network, tuple(names), header["record"])


def _version_and_header(data: bytes) -> tuple[int, int]:
    """Check everything around header and body; returns the version and the length of the header."""
    if data[: len(MAGIC)] != MAGIC:
        raise errors.InputError("it is no .ssm file")
    if len(data) < _PREFIX.size + _DIGEST:
        raise errors.InputError(f"it is truncated, it has {len(data)} bytes")
    _, version, header_length, body_length = _PREFIX.unpack_from(data)
    if not VERSION <= version <= NEWEST:
        raise errors.InputError(
            f"its format is {version}; this version of ssm_jax reads formats {VERSION} to {NEWEST}"
        )
    if header_length > MOST_HEADER:
        raise errors.out_of_range("the length of its header", header_length, f"at most {MOST_HEADER}")
    length = _PREFIX.size + header_length + body_length + _DIGEST
    if length != len(data):
        raise errors.InputError(f"it has {len(data):,} bytes and should have {length:,}")
    if hashlib.sha256(memoryview(data)[:-_DIGEST]).digest() != data[-_DIGEST:]:
        raise errors.InputError("it is damaged: its checksum is of other bytes")
    return version, header_length


class _Body:
    """The bytes behind the header, taken from the front; it counts the elements that are made of them."""

    def __init__(self, data: memoryview, most_weights: int) -> None:
        self.left = data
        self.most_weights, self.weights, self.steps = most_weights, 0, 0

    def take(self, count: int, name: str) -> memoryview:
        if count > len(self.left):
            raise errors.InputError(f"{name} needs {count:,} bytes, and {len(self.left):,} are left")
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def floats(self, count: int, name: str) -> np.ndarray:
        array = np.frombuffer(self.take(4 * count, name), "<f4").astype(np.float32)
        if not np.isfinite(array).all():
            raise errors.InputError(f"{name} holds numbers that are not finite")
        return array

    def decode(self, table: coder.Table, length: int, size: int, name: str) -> np.ndarray:
        """Decode values from some bytes, if that takes no more steps than are allowed together."""
        data = self.take(length, name)
        try:
            table.check(size)
            self.steps += table.steps
            if self.steps > MOST_STEPS:
                raise errors.InputError(f"it is decoded in more than the {MOST_STEPS:,} steps allowed")
            return coder.decode(table, data, size)
        except errors.InputError as error:
            raise errors.InputError(f"{name}: {error}") from error

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


class _Kind(NamedTuple):
    """How a field of some type goes into the header and the body, and comes back."""

    encode: Callable[[Any, str, list[bytes]], Any]
    decode: Callable[[Any, str, _Body], Any]


def _encode_array(array: np.ndarray, name: str, body: list[bytes]) -> dict[str, Any]:
    if array.dtype == np.int32:
        body.append(array.astype("<i4").tobytes())
        return {"dtype": "int32", "shape": list(array.shape)}
    if array.dtype != np.float32 or not np.isfinite(array).all():
        raise errors.misfit(name, array.ravel()[:4], "finite and of dtype float32")
    body.append(array.astype("<f4").tobytes())
    return {"shape": list(array.shape)}


def _decode_array(value: Any, name: str, body: _Body) -> np.ndarray:
    given = checked.fields(value, name, ("shape",), ("dtype",))
    shape = body.shape(given["shape"], f"{name}.shape")
    if given.get("dtype") == "int32":
        return np.frombuffer(body.take(4 * math.prod(shape), name), "<i4").astype(np.int32).reshape(shape)
    if "dtype" in given:
        raise errors.misfit(f"{name}.dtype", given["dtype"], "int32, or none of float32")
    return body.floats(math.prod(shape), name).reshape(shape)


def _encode_kernel(kernel: graph.Kernel, name: str, body: list[bytes]) -> dict[str, Any]:
    values = kernel.values
    whole = values.dtype == np.int8
    if not (whole or values.dtype == np.float32) or not np.isfinite(values).all() or (values == -128).any():
        raise errors.misfit(name, values.ravel()[:4], "finite, and float32 or int8 from -127 to 127")
    if not whole and kernel.scale != 1:
        raise errors.misfit(f"{name}.scale", float(kernel.scale), "1.0 of a float32 kernel")
    table, data = coder.encode(values if whole else (values != 0).astype(np.int8))
    body.append(data)
    if not whole:
        body.append(values[values != 0].astype("<f4").tobytes())
    return {
        "bytes": len(data),
        "counts": list(table.counts),
        "dtype": str(values.dtype),
        "scale": _float32(float(kernel.scale), f"{name}.scale"),
        "shape": list(values.shape),
        "shift": table.shift,
        "values": list(table.values),
    }


def _decode_kernel(value: Any, name: str, body: _Body) -> graph.Kernel:
    given = checked.fields(value, name, ("bytes", "counts", "dtype", "scale", "shape", "shift", "values"))
    shape = body.shape(given["shape"], f"{name}.shape")
    values, counts = (checked.items(given[key], f"{name}.{key}", 255) for key in ("values", "counts"))
    table = coder.Table(
        values=tuple(checked.integer(value, f"{name}.values", -127, 127) for value in values),
        counts=tuple(checked.integer(count, f"{name}.counts") for count in counts),
        shift=checked.integer(given["shift"], f"{name}.shift"),
    )
    array = body.decode(table, checked.integer(given["bytes"], f"{name}.bytes"), math.prod(shape), name)
    if given["dtype"] == "float32":
        there = array == 1
        if (array[~there] != 0).any():
            raise errors.misfit(f"{name}.values", given["values"], "0 and 1 of a float32 kernel")
        array = np.zeros(len(there), np.float32)
        array[there] = body.floats(int(there.sum()), name)
        if given["scale"] != 1.0:
            raise errors.misfit(f"{name}.scale", given["scale"], "1.0 of a float32 kernel")
    elif given["dtype"] != "int8":
        raise errors.misfit(f"{name}.dtype", given["dtype"], "int8 or float32")
    return graph.Kernel(array.reshape(shape), np.float32(_float32(given["scale"], f"{name}.scale")))


def _float32(value: Any, name: str) -> float:
    number = checked.real(value, name)
    if abs(number) > float(np.finfo(np.float32).max) or float(np.float32(number)) != number:
        raise errors.misfit(name, value, "a number that float32 holds exactly")
    return number


def _encode_integers(integers: tuple[int, ...], name: str, body: list[bytes]) -> list[int]:
    return list(integers)


def _decode_integers(value: Any, name: str, body: _Body) -> tuple[int, ...]:
    return tuple(checked.integer(one, name) for one in checked.items(value, name, _MOST_INTEGERS, 0))


def _plain(check: Callable[[Any, str], Any]) -> _Kind:
    def same(value: Any, name: str, body: Any) -> Any:
        return check(value, name)

    return _Kind(same, same)


_ARRAY = _Kind(_encode_array, _decode_array)
_KINDS: dict[Any, _Kind] = {
    tuple[int, ...]: _Kind(_encode_integers, _decode_integers),
    int: _plain(checked.integer),
    float: _plain(checked.real),
    str: _plain(checked.path),
    np.ndarray: _ARRAY,
    np.ndarray | None: _ARRAY,
    graph.Kernel: _Kind(_encode_kernel, _decode_kernel),
}


@functools.cache
def _kinds(operation: str) -> dict[str, _Kind]:
    """The fields of an operation in their order."""
    made = graph.OPERATIONS[operation]
    hints = get_type_hints(made)
    return {field.name: _KINDS[hints[field.name]] for field in dataclasses.fields(made)}


def _encode_node(node: graph.Node, name: str, body: list[bytes]) -> dict[str, Any]:
    operation = graph.operation(node)
    header: dict[str, Any] = {"operation": operation}
    for field, kind in _kinds(operation).items():
        value = getattr(node, field)
        if value is not None:
            header[field] = kind.encode(value, f"{name}.{field}", body)
    return header


def _decode_node(value: Any, name: str, body: _Body, known: dict[str, type[graph.Node]]) -> graph.Node:
    if type(value) is not dict:
        raise errors.misfit(name, value, "an object")
    operation = checked.text(value.get("operation"), f"{name}.operation")
    made = errors.choose("operation", operation, known)
    kinds = _kinds(operation)
    optional = tuple(field.name for field in dataclasses.fields(made) if field.default is None)
    needed = tuple(field for field in kinds if field not in optional)
    given = checked.fields(value, name, ("operation", *needed), optional)
    return made(
        **{
            field: kind.decode(given[field], f"{name}.{field}", body)
            for field, kind in kinds.items()
            if field in given
        }
    )

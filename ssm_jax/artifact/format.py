"""The file that a trained network travels in, `.ssm`, to the byte as in `docs/format.md`; numpy alone.

Files of the first version are read as well.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pathlib
import struct
from collections.abc import Callable
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from ssm_jax import errors, files, graph
from ssm_jax.artifact import body as contents
from ssm_jax.artifact import header as checked
from ssm_jax.artifact import version1
from ssm_jax.graph import bounds

# The first byte is no text, and the line ends show whether the file was copied as text.
MAGIC = b"\x89SSM\r\n\x1a\n"
VERSION = 2
# Checked before anything is allocated: bytes of a file and of its header, elements of all arrays.
MOST_BYTES = 2**30
MOST_HEADER = 2**21
MOST_WEIGHTS = 2**26

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


def write(artifact: Artifact, path: str | os.PathLike[str]) -> None:
    """Write an artifact, whole or not at all; the same artifact gives the same bytes.

    Args:
      artifact: What is written.
      path: The file; one that exists is replaced.

    Raises:
      InputError: The artifact holds what no file can.
      RunError: The file can't be written.
    """
    path, data = pathlib.Path(path), encode(artifact)
    with files.writing(path):
        files.write_whole(path, lambda file: file.write(data))


def encode(artifact: Artifact) -> bytes:
    """Make the bytes of the file of an artifact.

    Args:
      artifact: The artifact.

    Raises:
      InputError: It holds what no file can, such as numbers that are not finite.
    """
    network, body = artifact.network, contents.Written()
    header = checked.dump(
        {
            "class_names": list(artifact.class_names),
            "classes": network.classes,
            "dtype": network.dtype,
            "image_dtype": network.image_dtype,
            "image_shape": list(network.image_shape),
            "nodes": [_encode_node(node, f"node {i}", body) for i, node in enumerate(network.nodes)],
            "record": artifact.record,
        }
    )
    if len(header) > MOST_HEADER:
        raise errors.InputError(f"the header has {len(header):,} bytes; allowed is at most {MOST_HEADER:,}")
    packed = contents.pack(header, *body.packed)
    data = _PREFIX.pack(MAGIC, VERSION, len(header), len(packed)) + packed + b"".join(body.plain)
    return data + hashlib.sha256(data).digest()


def kernel_bytes(kernel: graph.Kernel) -> int:
    """Count the bytes of a kernel that is packed by itself, without its entry in the header.

    Args:
      kernel: The kernel.
    """
    body = contents.Written()
    contents.encode_kernel(kernel, "the kernel", body)
    return len(contents.pack(*body.packed)) + sum(map(len, body.plain))


def decode(data: bytes, *, most_weights: int = MOST_WEIGHTS) -> Artifact:
    """Read an artifact from the bytes of its file.

    Takes at most 40 bytes of memory for each byte of the header and 10 for each weight, whatever it says.

    Args:
      data: The bytes.
      most_weights: The most elements that all arrays of the network may have together.

    Raises:
      InputError: They are of no artifact, damaged, of another version, or hold too much.
    """
    version, header_length, length = _frame(data)
    first = version == version1.VERSION
    rest = memoryview(data)[_PREFIX.size : -_DIGEST]
    if first:
        text, body = bytes(rest[:header_length]), contents.Body(rest[header_length:], most_weights)
    else:
        packed = contents.Packed(rest[:length])
        text = packed.take(header_length, "the header")
        body = contents.Body(rest[length:], most_weights, packed)
    keys = ("class_names", "classes", "dtype", "image_shape", "nodes", "record")
    header = checked.fields(checked.load(text), "the header", keys if first else ("image_dtype", *keys))
    sides = checked.items(header["image_shape"], "image_shape", graph.MOST_AXES)
    nodes = checked.items(header["nodes"], "nodes", graph.MOST_NODES)
    network = graph.Network(
        image_shape=tuple(checked.integer(side, "image_shape", 1) for side in sides),
        image_dtype="uint8" if first else checked.text(header["image_dtype"], "image_dtype"),
        classes=checked.integer(header["classes"], "classes", 1),
        dtype=checked.text(header["dtype"], "dtype"),
        nodes=tuple(_decode_node(node, f"node {i}", body) for i, node in enumerate(nodes)),
    )
    body.end()
    names = checked.items(header["class_names"], "class_names", network.classes, network.classes)
    if type(header["record"]) is not dict:
        raise errors.wrong_value("record", header["record"], "an object")
    return Artifact(network, tuple(names), header["record"])


def _frame(data: bytes) -> tuple[int, int, int]:
    """Check everything around the content; returns the version, and the lengths that the prefix tells."""
    if data[: len(MAGIC)] != MAGIC:
        raise errors.InputError("it is no .ssm file")
    if len(data) < _PREFIX.size + _DIGEST:
        raise errors.InputError(f"it is truncated, it has {len(data)} bytes")
    _, version, header_length, length = _PREFIX.unpack_from(data)
    if version not in (version1.VERSION, VERSION):
        raise errors.InputError(
            f"its format is {version}; this version of ssm_jax reads formats 1 to {VERSION}"
        )
    if header_length > MOST_HEADER:
        raise errors.out_of_range("the length of its header", header_length, f"at most {MOST_HEADER}")
    if hashlib.sha256(memoryview(data)[:-_DIGEST]).digest() != data[-_DIGEST:]:
        raise errors.InputError("it is damaged or truncated: its checksum is of other bytes")
    whole = _PREFIX.size + length + _DIGEST + (header_length if version == version1.VERSION else 0)
    if whole > len(data):
        raise errors.InputError(f"it has {len(data):,} bytes and should have {whole:,} or more")
    return version, header_length, length


class _Kind(NamedTuple):
    """How a field of some type goes into the header and the body, and comes back."""

    encode: Callable[[Any, str, contents.Written], Any]
    decode: Callable[[Any, str, contents.Body], Any]


def _encode_integers(integers: tuple[int, ...], name: str, body: contents.Written) -> list[int]:
    return list(integers)


def _decode_integers(value: Any, name: str, body: contents.Body) -> tuple[int, ...]:
    return tuple(checked.integer(item, name) for item in checked.items(value, name, _MOST_INTEGERS, 0))


def _plain(check: Callable[[Any, str], Any]) -> _Kind:
    def same(value: Any, name: str, body: Any) -> Any:
        return check(value, name)

    return _Kind(same, same)


_ARRAY = _Kind(contents.encode_array, contents.decode_array)
_KINDS: dict[Any, _Kind] = {
    tuple[int, ...]: _Kind(_encode_integers, _decode_integers),
    int: _plain(checked.integer),
    float: _plain(checked.real),
    str: _plain(checked.path),
    np.ndarray: _ARRAY,
    np.ndarray | None: _ARRAY,
    graph.Kernel: _Kind(contents.encode_kernel, contents.decode_kernel),
}


@functools.cache
def _kinds(operation: str) -> dict[str, _Kind]:
    """The fields of an operation in their order."""
    node_type = graph.OPERATIONS[operation]
    hints = get_type_hints(node_type)
    return {field.name: _KINDS[hints[field.name]] for field in dataclasses.fields(node_type)}


def _encode_node(node: graph.Node, name: str, body: contents.Written) -> dict[str, Any]:
    operation = graph.operation(node)
    header: dict[str, Any] = {"operation": operation}
    for field, kind in _kinds(operation).items():
        value = getattr(node, field)
        if value is not None:
            header[field] = kind.encode(value, f"{name}.{field}", body)
    return header


def _decode_node(value: Any, name: str, body: contents.Body) -> graph.Node:
    if type(value) is not dict:
        raise errors.wrong_value(name, value, "an object")
    operation = checked.text(value.get("operation"), f"{name}.operation")
    node_type = errors.choose("operation", operation, graph.OPERATIONS)
    kinds = _kinds(operation)
    optional = tuple(field.name for field in dataclasses.fields(node_type) if field.default is None)
    needed = tuple(field for field in kinds if field not in optional)
    entry = checked.fields(value, name, ("operation", *needed), optional)
    return node_type(
        **{
            field: kind.decode(entry[field], f"{name}.{field}", body)
            for field, kind in kinds.items()
            if field in entry
        }
    )

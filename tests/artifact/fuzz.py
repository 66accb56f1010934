"""Mutations of a small artifact, each read within a set memory: `python fuzz.py <number>`; numpy alone.

Prints how many were read, how many refused by one error of one line, and seconds of the processor. Anything
else ends it.
"""

from __future__ import annotations

import collections
import hashlib
import json
import lzma
import pathlib
import random
import resource
import struct
import sys
import time
from typing import Any

import numpy as np

from ssm_jax import errors, graph
from ssm_jax.artifact import body, format, version1

MEMORY = 128 * 2**20  # beside what Python and numpy take
MOST_WEIGHTS = 2**20
PREFIX = struct.Struct("<8sIIQ")

# What a header may hold in place of any value: wrong types, lies about sizes, numbers that overflow.
HOSTILE = [
    *(
        -(2**63),
        -(2**31),
        -1,
        0,
        1,
        2,
        3,
        255,
        4096,
        4097,
        2**20,
        2**26,
        2**31 - 1,
        2**31,
        2**62,
        2**63,
        10**40,
    ),
    *(True, False, None, "", "x", "float32", "int8", "conv", "add", "a\nb", "\ud800", "x" * 5000),
    *(0.5, 1e-45, 1e-46, 3.4e38, 1e39, 1e308, float("nan"), float("inf"), -0.0),
    *([], {}, [[]], [0], [1] * 300, [2**31 - 1] * 4, [2**16, 2**16], {"shape": [2**30]}, {"a": {"b": []}}),
]


def small(units: int = 10) -> format.Artifact:
    """A network of every operation and every kind of array."""
    rng = np.random.default_rng(0)

    def ternary(*shape: int, density: float) -> graph.Kernel:
        signs = rng.choice(np.int8([-1, 1]), shape)
        return graph.Kernel(np.where(rng.random(shape) < density, signs, np.int8(0)), np.float32(0.1))

    def floats(*shape: int) -> np.ndarray:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)

    coats = graph.Kernel(rng.integers(-3, 4, (1, 1, 4, 4), np.int8), np.float32(0.25))
    network = graph.Network(
        image_shape=(8, 8, 1),
        classes=3,
        nodes=(
            graph.Standardize(inputs=(0,)),
            graph.Conv(inputs=(1,), name="stem", kernel=ternary(3, 3, 1, 4, density=0.3), stride=1),
            graph.Normalize(inputs=(2,), name="n0", mean=floats(4), variance=floats(4), epsilon=1e-5),
            graph.Elu(inputs=(3,)),
            graph.Conv(inputs=(4,), name="conv", kernel=coats, stride=1),
            graph.Normalize(
                inputs=(5,),
                name="n1",
                mean=floats(4),
                variance=floats(4),
                scale=floats(4),
                offset=floats(4),
                epsilon=1e-5,
            ),
            graph.Add(inputs=(4, 6)),
            graph.MaxPool(inputs=(7,), window=3, stride=2, padding=1),
            graph.Offset(inputs=(8,), values=floats(4)),
            graph.Flatten(inputs=(9,)),
            graph.Dense(inputs=(10,), name="dense", kernel=ternary(64, units, density=0.6)),
            graph.Dense(
                inputs=(11,),
                name="head",
                kernel=graph.Kernel(floats(units, 3) * (rng.random((units, 3)) < 0.5)),
            ),
            graph.Dense(inputs=(12,), name="empty", kernel=graph.Kernel(np.zeros((3, 3), np.int8))),
            graph.Mean(inputs=(9,)),
            graph.Dense(inputs=(14,), name="mean", kernel=ternary(4, 3, density=0.5)),
            graph.Add(inputs=(13, 15)),
        ),
    )
    return format.Artifact(
        network, ("a", "b", "ç"), {"seed": 1, "test_accuracy": 97.5, "config": {"a": [1, "b"]}}
    )


def general() -> format.Artifact:
    """A network of every operation that the first version lacks."""
    rng = np.random.default_rng(0)

    def floats(*shape: int) -> np.ndarray:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)

    two = {name: (1, 1) for name in ("stride", "low", "high", "dilation", "spread")}
    network = graph.Network(
        image_shape=(4,),
        image_dtype="int32",
        classes=3,
        nodes=(
            graph.Embed(inputs=(0,), name="table", kernel=graph.Kernel(floats(5, 4))),
            graph.Reshape(inputs=(1,), sizes=(2, 2, 4)),
            graph.Convolution(
                inputs=(2,),
                name="conv",
                kernel=graph.Kernel(rng.integers(-1, 2, (3, 3, 2, 6), np.int8), np.float32(0.5)),
                groups=2,
                **two,
            ),
            graph.Constant(inputs=(), values=floats(1, 1, 6)),
            graph.Binary(inputs=(3, 4), function="mul"),
            graph.Unary(inputs=(5,), function="logistic"),
            graph.Constant(inputs=(), values=np.int32([[[1]]])),
            graph.Cast(inputs=(7,), dtype="bool"),
            graph.Broadcast(inputs=(8,), sizes=(2, 2, 6)),
            graph.Select(inputs=(9, 5, 6)),
            graph.Pad(inputs=(10,), low=(1, 0, 0), high=(0, 1, 0), value=0.5),
            graph.Pool(
                inputs=(11,), function="sum", window=(2, 2, 1), stride=(1,) * 3, low=(0,) * 3, high=(0,) * 3
            ),
            graph.Slice(inputs=(12,), start=(0, 0, 1), stop=(2, 1, 6), step=(1, 1, 2)),
            graph.Concatenate(inputs=(12, 12, 12), axis=2),
            graph.Transpose(inputs=(13,), axes=(1, 0, 2)),
            graph.Reduce(inputs=(15,), function="sum", axes=(0,)),
            graph.Transpose(inputs=(16,), axes=(1, 0)),
            graph.Product(inputs=(17, 16)),
        ),
    )
    return format.Artifact(network, ("a", "b", "c"), {"seed": 1})


def frame(header: bytes, packed: bytes, plain: bytes = b"", version: int = format.VERSION) -> bytes:
    """A whole file of a header and bodies, with lengths and checksum that are right."""
    if version == version1.VERSION:
        data = PREFIX.pack(format.MAGIC, version, len(header), len(packed)) + header + packed
    else:
        data = streamed(body.pack(header, packed), len(header), plain, version)
    return data + hashlib.sha256(data).digest()


def streamed(stream: bytes, header_length: int, plain: bytes, version: int = format.VERSION) -> bytes:
    """A file of a stream, without its checksum."""
    return PREFIX.pack(format.MAGIC, version, header_length, len(stream)) + stream + plain


def parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Header, and what stands behind it: packed and plain; of the first version, there is no plain part."""
    _, version, header_length, length = PREFIX.unpack_from(data)
    rest = data[PREFIX.size : -hashlib.sha256().digest_size]
    if version == version1.VERSION:
        return rest[:header_length], rest[header_length:], b""
    content = lzma.decompress(rest[:length], lzma.FORMAT_RAW, filters=body.FILTERS)
    return content[:header_length], content[header_length:], rest[length:]


def edited(data: bytes, rng: random.Random) -> bytes:
    """Flip bits, or overwrite, insert, remove, repeat or cut off bytes, in one to three places."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place, length = rng.randrange(len(changed) + 1), rng.choice((1, 1, 2, 4, 8, 100))
        kind = rng.randrange(6)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place : place + length] = rng.randbytes(length)
        elif kind == 2:
            changed[place:place] = rng.choice((rng.randbytes(length), b"\0" * length, b"\xff" * length))
        elif kind == 3:
            del changed[place : place + length]
        elif kind == 4:
            changed[place:place] = changed[place : place + length]
        else:
            del changed[place:]
    return bytes(changed)


def with_lies(header: Any, rng: random.Random) -> bytes:
    """Replace, remove, repeat or exchange values anywhere in a header."""
    header = json.loads(json.dumps(header))
    for _ in range(rng.randint(1, 2)):
        # Down to a leaf, or not so far.
        parent: Any = header
        while True:
            key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
            child = parent[key]
            if not isinstance(child, (dict, list)) or not child or rng.random() < 0.15:
                break
            parent = child
        kind = rng.randrange(10)
        if kind < 6:
            parent[key] = rng.choice(HOSTILE)
        elif kind < 8 and type(child) in (int, float):
            parent[key] = child + rng.choice((-1, 1, 2, child, -2 * child))
        elif kind == 8:
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(rng.randrange(len(parent) + 1), rng.choice(parent))
        else:
            parent[rng.choice([*list(parent), "more"])] = child
        if not header:
            break
    return json.dumps(header).encode()


def mutant(data: bytes, rng: random.Random) -> bytes:
    """One mutation; most have a checksum that is right, which otherwise hides everything behind it."""
    header, packed, plain = parts(data)
    version, kind = data[8], rng.randrange(12)
    if kind == 0:
        return edited(data, rng)
    if kind == 1:
        lengths = [
            rng.choice((value, 0, 1, value - 1, value + 1, 2**31, 2**32 - 1))
            for value in (version, len(header))
        ]
        body_length = rng.choice((len(packed), 0, len(packed) - 1, 2**40, 2**64 - 1))
        lying = PREFIX.pack(format.MAGIC, *lengths, body_length) + data[PREFIX.size : -32]
        return lying + hashlib.sha256(lying).digest()
    if kind == 2:
        return frame(edited(header, rng), packed, plain, version)
    if kind < 5:
        return frame(header, edited(packed, rng), plain, version)
    if kind < 6:
        return frame(header, packed, edited(plain, rng), version)
    if kind < 8:
        stream = data[PREFIX.size : len(data) - 32 - len(plain)]
        lying = streamed(edited(stream, rng), len(header), plain, version)
        return lying + hashlib.sha256(lying).digest()
    lies = with_lies(json.loads(header), rng)
    return frame(lies, packed if kind < 11 else edited(packed, rng), plain, version)


def main(number: int) -> None:
    new, other = map(format.encode, (small(), general()))
    # What `small(units=100)` was in the first version.
    old = (pathlib.Path(__file__).parent / "files" / "version-1.ssm").read_bytes()
    rng = random.Random(0)
    for data in (new, other, old):
        format.decode(data)
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    answers, started = collections.Counter[str](), time.process_time()
    for i in range(number):
        changed = mutant((new, other, old if i % 4 else new)[i % 3], rng)
        try:
            artifact = format.decode(changed, most_weights=MOST_WEIGHTS)
        except errors.InputError as error:
            message = str(error)
            assert message and len(message) < 1000 and message.isprintable(), message
            answers["refused"] += 1
        else:
            # What was read is a whole artifact, which can be written and read again.
            again = format.encode(artifact)
            assert format.encode(format.decode(again, most_weights=MOST_WEIGHTS)) == again
            answers["read"] += 1
    print(json.dumps(answers | {"seconds": time.process_time() - started}))


if __name__ == "__main__":
    main(int(sys.argv[1]))

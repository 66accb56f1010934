"""Files that ask for much, each read, compacted and written as C within a set memory; numpy alone.

Prints what became of each by its name: the answer and seconds of the processor.
"""

from __future__ import annotations

import json
import resource
import time
from typing import Any

import numpy as np
from artifact import fuzz

from ssm_jax import errors
from ssm_jax.artifact import coder, format
from ssm_jax.artifact.export import c
from ssm_jax.graph.compact import compact

MEMORY = 2**30  # beside what Python and numpy take
Description = tuple[dict[str, Any], bytes]


def filled(*shape: int, value: int = 1) -> Description:
    """A kernel of one value, which takes no bytes of the body."""
    return _kernel(shape, {"values": [value], "counts": [0], "shift": 0}, b"")


def coded(values: np.ndarray) -> Description:
    """A kernel as this package writes it."""
    table, data = coder.encode(values)
    return _kernel(values.shape, {"values": table.values, "counts": table.counts, "shift": table.shift}, data)


def _kernel(shape: tuple[int, ...], table: dict[str, Any], data: bytes) -> Description:
    return {"shape": shape, "dtype": "int8", "scale": 1.0, "bytes": len(data), **table}, data


class File:
    """A network that standardizes images, operation by operation."""

    def __init__(self, *image_shape: int) -> None:
        self.image_shape, self.nodes, self.body = image_shape, list[dict[str, Any]](), b""
        self.add("standardize")

    def add(self, operation: str, kernel: Description | None = None, **fields: Any) -> File:
        """Add an operation on the last value, or on `inputs`."""
        node = {"operation": operation, "inputs": [len(self.nodes)], **fields}
        if kernel is not None:
            header, data = kernel
            node |= {"kernel": header, "name": "layer"}
            self.body += data
        self.nodes.append(node)
        return self

    def conv(self, kernel: Description, stride: int = 1) -> File:
        return self.add("conv", kernel, stride=stride)

    def bytes(self, classes: int = 1) -> bytes:
        """The file, with lengths and checksum that are right."""
        header = {
            "image_shape": self.image_shape,
            "classes": classes,
            "class_names": [""] * classes,
            "dtype": "float32",
            "nodes": self.nodes,
            "record": {},
        }
        return fuzz.frame(json.dumps(header, separators=(",", ":")).encode(), self.body)


def files() -> dict[str, bytes]:
    """The files by what they ask for."""
    made = {
        "side": File(1, 1, 1).conv(filled(8191, 8191, 1, 1)).add("mean").bytes(),
        "windows": File(2048, 2048, 1).conv(filled(5, 5, 1, 1)).add("mean").bytes(),
        "numbers": File(4096, 1, 1).add("flatten").add("dense", filled(4096, 4096)).bytes(4096),
    }
    file = File(128, 128, 64)
    for _ in range(5):
        file.conv(filled(8, 8, 64, 64))
    made["multiply_adds"] = file.add("mean").bytes(64)

    file = File(1, 1, 1)
    for _ in range(17):
        file.conv(filled(64, 64, 1, 1), stride=64)
    made["phases"] = file.add("mean").bytes()

    file = File(32, 32, 1)
    for padding in (8, 7):
        file.add("max_pool", window=16, stride=1, padding=padding)
    made["pools"] = file.add("mean").bytes()

    # Four states of 32 bits, and a thousand steps, for every kernel of 66 x 66.
    values = np.ones((66, 66), np.int8)
    values[0, 0] = 2
    table = coder.Table((2, 1), (0, values.size - 1), 0)
    data = coder._encode_long(table, np.ones(values.size - 1, np.uint8))
    file = File(66, 1, 1).add("flatten")
    for _ in range(1900):
        file.add("dense", _kernel((66, 66), {"values": (2, 1), "counts": table.counts, "shift": 0}, data))
    made["steps"] = file.bytes(66)

    # 127 lists to add and 127 to subtract for every output, nearly all of them empty.
    coats = np.zeros((1, 2**17), np.int8)
    coats[0, :127] = np.arange(1, 128)
    made["coats"] = (
        File(1, 1, 1).add("flatten").add("dense", coded(coats)).add("dense", filled(2**17, 1)).bytes()
    )

    # One wide kernel makes the margin of all images wide.
    file = File(2**22, 1, 1).add("max_pool", window=1, stride=256, padding=0)
    made["margins"] = file.conv(filled(64, 64, 1, 1)).add("mean").bytes()

    # A residual value of which every channel is read by the one before: found from the last to the first.
    chain = np.eye(4096, k=-1, dtype=np.int8)
    first = np.zeros((4096, 1), np.int8)
    first[0] = 1
    file = File(1, 1, 1).add("flatten").add("dense", filled(1, 4096)).add("dense", coded(chain))
    made["chain"] = file.add("add", inputs=[3, 4]).add("dense", coded(first)).bytes()

    file = File(1, 1, 1).add(
        "normalize", name="norm", epsilon=1e-5, mean={"shape": [1]}, variance={"shape": [1]}
    )
    file.body = np.float32([0, -1]).tobytes()
    made["variance"] = file.add("mean").bytes()
    return made


def answer(data: bytes) -> str:
    """What becomes of a file."""
    try:
        artifact = format.decode(data)
    except errors.InputError as error:
        return f"not read: {error}"
    compact(artifact.network)
    try:
        c.sources(artifact, "net")
    except errors.InputError as error:
        return f"not in C: {error}"
    return "all done"


def main() -> None:
    made = files()
    format.MOST_STEPS = 2**14  # so that the test is quick: of the 2**21 steps that a file asks for
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    answers = {}
    for name, data in made.items():
        started = time.process_time()
        answers[name] = answer(data), time.process_time() - started
    print(json.dumps(answers))


if __name__ == "__main__":
    main()

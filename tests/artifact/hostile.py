"""Files that ask for much, each read, compacted and written as C within a set memory; numpy alone.

Prints what became of each by its name: the answer and seconds of the processor.
"""

from __future__ import annotations

import json
import math
import resource
import time
from typing import Any

import numpy as np
from artifact import fuzz

from ssm_jax import errors, graph
from ssm_jax.artifact import body, format
from ssm_jax.artifact.export import c
from ssm_jax.graph.compact import compact

MEMORY = 2**30  # beside what Python and numpy take
Description = tuple[dict[str, Any], bytes]


def filled(*shape: int) -> Description:
    """A kernel of ones, which is packed into next to nothing."""
    size = math.prod(shape)
    return _kernel(shape, "ternary", size), b"\0" * size + b"\xff" * -(-size // 8)


def coded(values: np.ndarray) -> Description:
    """A kernel as this package writes it."""
    written = body.Written()
    return body.encode_kernel(graph.Kernel(values), "layer", written), b"".join(written.packed)


def _kernel(shape: tuple[int, ...], dtype: str, gaps: int) -> dict[str, Any]:
    return {"shape": shape, "dtype": dtype, "scale": 1.0, "gaps": gaps}


class File:
    """A network that standardizes images, operation by operation."""

    def __init__(self, *image_shape: int) -> None:
        self.image_shape, self.nodes = image_shape, list[dict[str, Any]]()
        self.packed, self.plain = list[bytes](), b""
        self.add("standardize")

    def add(self, operation: str, kernel: Description | None = None, **fields: Any) -> File:
        """Add an operation on the last value, or on `inputs`."""
        node = {"operation": operation, "inputs": [len(self.nodes)], **fields}
        if kernel is not None:
            header, data = kernel
            node |= {"kernel": header, "name": "layer"}
            self.packed.append(data)
        self.nodes.append(node)
        return self

    def conv(self, kernel: Description, stride: int = 1) -> File:
        return self.add("conv", kernel, stride=stride)

    def bytes(self, classes: int = 1) -> bytes:
        """The file, with lengths and checksum that are right."""
        header = {
            "image_shape": self.image_shape,
            "image_dtype": "uint8",
            "classes": classes,
            "class_names": [""] * classes,
            "dtype": "float32",
            "nodes": self.nodes,
            "record": {},
        }
        text = json.dumps(header, separators=(",", ":")).encode()
        return fuzz.frame(text, b"".join(self.packed), self.plain)


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
    file.plain = np.float32([0, -1]).tobytes()
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

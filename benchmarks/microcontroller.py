"""Measure trained networks as C for a microcontroller; one command, some minutes:

    python -m benchmarks.microcontroller *.ssm --json benchmarks/results/microcontroller/<name>.json

Of every file: what its weights take by several ways to write them down. Of those on MNIST: tables, scratch
memory, the accuracy on all test images, whether the compiled C equals the reference on all of them, its size
for a Cortex-M, and instructions an image on a Cortex-M3 in qemu. Needs cc, arm-none-eabi-gcc with newlib and
qemu-system-arm.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssm_jax import graph
from ssm_jax.artifact import format, integer
from ssm_jax.artifact.export import c_integer, c_integer_plan
from ssm_jax.data import datasets

EXAMPLE = pathlib.Path(__file__).parents[1] / "examples" / "mcu"
_CALIBRATION, _ON_BOARD = 256, 50
_LINK = "-nostartfiles --specs=rdimon.specs cortex-m/startup.c -T cortex-m/link.ld"


def encodings(network: graph.Network) -> dict[str, int]:
    """Count the bytes of a network's weights by several ways to write them down.

    Args:
      network: A network whose kernels are ternary.

    Returns:
      `gap_bytes`: a byte a weight that is not 0, seven bits of a gap and a sign, and bytes that only skip;
      `two_bits`: two bits a weight; `five_in_a_byte`; `stream`: what `c_integer` writes.
    """
    sizes = dict.fromkeys(("gap_bytes", "two_bits", "five_in_a_byte", "stream"), 0)
    for layer in network.layers():
        values = np.moveaxis(layer.kernel.values, -1, 0).ravel()
        gaps = np.diff(np.flatnonzero(values), prepend=-1) - 1
        sizes["gap_bytes"] += int((1 + gaps // 128).sum())
        sizes["two_bits"] += -(-values.size // 4)
        sizes["five_in_a_byte"] += -(-values.size // 5)
        sizes["stream"] += c_integer_plan.stream(values).data.nbytes
    return sizes


def images_file(images: np.ndarray) -> str:
    """Write images as the `images.h` of `examples/mcu`."""
    rows = ",\n".join("{" + ",".join(map(str, image.ravel())) + "}" for image in images)
    return f"#include <stdint.h>\nstatic const uint8_t images[][{images[0].size}] = {{\n{rows}\n}};\n"


def _run(command: str, folder: pathlib.Path) -> str:
    done = subprocess.run(
        command.split(), cwd=folder, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    return done.stdout


def _on_host(folder: pathlib.Path, images: np.ndarray, classes: int) -> np.ndarray:
    """The logits of the C file, compiled for this machine."""
    _run("cc -std=c99 -O2 -shared -fPIC -o model.so model.c", folder)
    predict = ctypes.CDLL(str(folder / "model.so")).model_predict
    predict.argtypes = [ctypes.c_void_p] * 3
    words = re.findall(r"#define MODEL_SCRATCH (\d+)", (folder / "model.h").read_text())
    scratch, logits = np.zeros(int(words[0]), np.int32), np.zeros((len(images), classes), np.int32)
    for image, row in zip(np.ascontiguousarray(images), logits, strict=True):
        predict(image.ctypes.data, row.ctypes.data, scratch.ctypes.data)
    return logits


def _on_board(folder: pathlib.Path, optimize: str, logits: np.ndarray) -> int:
    """Mean instructions of the images of `images.h` on a Cortex-M3 in qemu, whose logits must be these."""
    cross = f"arm-none-eabi-gcc -mcpu=cortex-m3 -mthumb {optimize} -std=c99 -DCOUNT"
    _run(f"{cross} model.c main.c {_LINK} -o model.elf", folder)
    qemu = "qemu-system-arm -M mps2-an385 -nographic -semihosting -icount shift=0 -kernel model.elf"
    lines = re.findall(r": ([-\d ]+) \((\d+) instructions\)", _run(qemu, folder))
    assert [row for row, _ in lines] == [" ".join(map(str, row)) for row in logits]
    return round(sum(int(count) for _, count in lines) / len(lines))


def facts(path: pathlib.Path, data: datasets.Dataset) -> dict[str, Any]:
    """Measure one network.

    Args:
      path: A `.ssm` file.
      data: MNIST, without whose images only the encodings are counted.
    """
    artifact = format.read(path)
    network = artifact.network
    weights = sum(layer.kernel.values.size for layer in network.layers())
    counted: dict[str, Any] = {
        "network": artifact.record.get("network"),
        "weights": weights,
        "remaining": sum(layer.kernel.remaining for layer in network.layers()),
        "encodings": encodings(network),
    }
    if network.image_shape != data.image_shape:
        return counted
    whole = integer.quantize(network, data.train_images[:_CALIBRATION])
    flash, ram = c_integer.memory(whole)
    logits = whole.logits(data.test_images)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "mcu"
        shutil.copytree(EXAMPLE, folder)
        c_integer.write(artifact, folder / "model.c", whole)
        (folder / "images.h").write_text(images_file(data.test_images[:_ON_BOARD]))
        sizes, instructions = {}, {}
        for processor in ("cortex-m0", "cortex-m3"):
            _run(f"arm-none-eabi-gcc -mcpu={processor} -mthumb -Os -std=c99 -c -o model.o model.c", folder)
            sizes[processor] = int(_run("arm-none-eabi-size model.o", folder).splitlines()[1].split()[0])
        for optimize in ("-Os", "-O2"):
            instructions[optimize] = _on_board(folder, optimize, logits[:_ON_BOARD])
        equal = bool((_on_host(folder, data.test_images, network.classes) == logits).all())
    return counted | {
        "test_accuracy_floats": artifact.record.get("test_accuracy"),
        "test_accuracy": 100 * float((logits.argmax(1) == data.test_labels).mean()),
        "images": len(logits),
        "tables_bytes": flash,
        "scratch_bytes": ram,
        "code_and_tables_bytes_-Os": sizes,
        "instructions_an_image_cortex-m3": instructions,
        "compiled_equals_reference_on_all_images": equal,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path, required=True)
    arguments = parser.parse_args(argv)
    data = datasets.load("mnist")
    measured = {path.name: facts(path, data) for path in arguments.files}
    compiled_by = _run("arm-none-eabi-gcc --version", pathlib.Path()).splitlines()[0]
    arguments.json.write_text(json.dumps({"compiler": compiled_by, "files": measured}, indent=2) + "\n")


if __name__ == "__main__":
    main()

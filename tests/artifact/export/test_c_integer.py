"""C in whole numbers gives the reference's logits, bit for bit, on the host and on a Cortex-M in qemu."""

from __future__ import annotations

import ctypes
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
from artifact.compiled import artifact_of, compiler, library, scratch_of
from artifact.exported import digits
from artifact.small import images_of, network_of

from benchmarks import microcontroller
from ssm_jax import errors, graph
from ssm_jax.artifact import integer
from ssm_jax.artifact.export import c_integer, c_integer_plan
from ssm_jax.core.initializers import he_uniform
from ssm_jax.core.topk import Multicoated


def decoded(made: c_integer_plan.Stream, count: int) -> np.ndarray:
    """The weights of a stream, bit by bit as its comment in C says."""
    bits = iter(np.unpackbits(made.data, bitorder="little").tolist())

    def number(width: int) -> int:
        return sum(next(bits) << i for i in range(width))

    def gap() -> int:
        whole = 0
        while next(bits):
            whole += 1
        return (whole << made.low) + number(made.low)

    values, place = np.zeros(count, np.int8), gap()
    while place < count:
        minus = next(bits)
        values[place] = (number(made.wide) + 1) * (-1 if minus else 1)
        place += 1 + gap()
    assert place == count
    return values


@pytest.mark.parametrize("density", [0.0, 0.003, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("most", [1, 3, 127])
def test_a_stream_holds_every_weight(density, most):
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 1], 3000) * (rng.random(3000) < density)
    values = (signs * rng.integers(1, most + 1, 3000)).astype(np.int8)
    made = c_integer_plan.stream(values)
    assert np.array_equal(decoded(made, values.size), values)


@pytest.mark.parametrize("density", [0.01, 0.05, 0.2, 0.5, 0.67])
def test_a_stream_is_smaller_than_bytes_bit_planes_and_trits(density):
    rng = np.random.default_rng(1)
    values = (rng.choice([-1, 1], 50_000) * (rng.random(50_000) < density)).astype(np.int8)
    size = c_integer_plan.stream(values).data.nbytes
    gaps = np.diff(np.flatnonzero(values), prepend=-1) - 1
    a_byte_each = (1 + gaps // 128).sum()  # seven bits of a gap and a sign, and bytes that only skip
    assert size < min(a_byte_each, values.size / 4) and size < 1.06 * values.size / 5
    assert density < 0.05 or size < np.count_nonzero(values)
    shares = np.unique(values, return_counts=True)[1] / values.size
    assert size < 1.08 * values.size * -(shares * np.log2(shares)).sum() / 8


def written(network: graph.Network, images: np.ndarray, folder: pathlib.Path, stem: str = "net"):
    """Write a network; returns it in whole numbers."""
    whole = integer.quantize(network, images)
    c_integer.write(artifact_of(network, dataset="digits"), folder / f"{stem}.c", whole)
    return whole


def logits(whole: integer.Integer, images: np.ndarray, folder: pathlib.Path, *flags: str) -> np.ndarray:
    """Compile, and call image by image, with a scratch memory full of rubbish that has guards around it."""
    predict = library(folder / "net.c", "-Wconversion", *flags).net_predict
    predict.argtypes, predict.restype = [ctypes.c_void_p] * 3, ctypes.c_int32
    words = scratch_of(folder / "net.h")
    made = np.zeros((len(images), whole.network.classes), np.int32)
    for image, row in zip(np.ascontiguousarray(images), made, strict=True):
        scratch = np.full(words + 2, 0x5A5A5A5A, np.int32)
        label = predict(image.ctypes.data, row.ctypes.data, scratch[1:].ctypes.data)
        assert label == row.argmax() and (scratch[[0, -1]] == 0x5A5A5A5A).all()
    return made


@pytest.mark.parametrize("name", ["fcn", "conv2", pytest.param("resnet20", marks=pytest.mark.slow)])
def test_every_family_is_the_reference_bit_for_bit(name, tmp_path):
    network, images = network_of(name), images_of(name)
    whole = written(network, images, tmp_path)
    assert np.array_equal(logits(whole, images, tmp_path), whole.logits(images))


@pytest.mark.slow
@pytest.mark.parametrize(
    "masking",
    [{"rule": Multicoated(density=0.5, coats=3)}, {"kernel_init": he_uniform()}],
    ids=["coats", "floats"],
)
def test_so_are_kernels_of_other_numbers(masking, tmp_path):
    network, images = network_of("conv2", **masking), images_of("conv2")
    whole = written(network, images, tmp_path)
    assert np.array_equal(logits(whole, images, tmp_path), whole.logits(images))


def test_so_is_every_operation_wherever_it_stands(tmp_path):
    """Odd sides, even kernels, strides, pools that overlap or have a margin, values that are read twice, and
    a network that ends without a layer."""
    rng = np.random.default_rng(0)

    def kernel(*shape: int, most: int = 1) -> graph.Kernel:
        return graph.Kernel(rng.integers(-most, most + 1, shape, np.int8), np.float32(0.3))

    nodes = (
        graph.Standardize(inputs=(0,)),
        graph.Conv(inputs=(1,), name="convs/0", kernel=kernel(2, 2, 3, 4, most=3), stride=1),
        graph.Elu(inputs=(2,)),
        graph.Conv(inputs=(2,), name="convs/1", kernel=kernel(3, 3, 4, 5), stride=2),
        graph.MaxPool(inputs=(4,), window=3, stride=2),
        graph.Conv(inputs=(3,), name="convs/2", kernel=kernel(5, 5, 4, 5), stride=4),
        graph.MaxPool(inputs=(6,), window=2, stride=1, padding=1),
        graph.MaxPool(inputs=(7,), window=3, stride=2),
        graph.Conv(inputs=(5,), name="convs/2", kernel=kernel(1, 1, 5, 5), stride=1),
        graph.MaxPool(inputs=(9,), window=1, stride=2),
        graph.MaxPool(inputs=(8,), window=1, stride=1),
        graph.Add(inputs=(10, 11)),
        graph.Elu(inputs=(12,)),
        graph.Flatten(inputs=(13,)),
        graph.Dense(inputs=(14,), name="denses/0", kernel=kernel(5, 6)),
        graph.Flatten(inputs=(3,)),
        graph.Elu(inputs=(16,)),
        graph.Dense(inputs=(17,), name="denses/1", kernel=kernel(336, 6)),
        graph.Flatten(inputs=(15,)),
        graph.Add(inputs=(18, 19)),
    )
    network = graph.Network(image_shape=(7, 12, 3), classes=6, nodes=nodes)
    images = rng.integers(0, 256, (4, 7, 12, 3), np.uint8)
    images[1] = 77
    whole = written(network, images, tmp_path)
    made = logits(whole, images, tmp_path, "-fsanitize=undefined", "-fno-sanitize-recover")
    assert np.array_equal(made, whole.logits(images)) and np.ptp(made)


def test_no_floating_point_and_no_library(tmp_path):
    case = digits("conv2")
    written(case.artifact.network, case.images, tmp_path)
    text = (tmp_path / "net.c").read_text() + (tmp_path / "net.h").read_text()
    assert not re.search(r"\b(float|double|math\.h)\b", text)
    command = [*compiler(), "-std=c99", "-O1", "-c", "-o", str(tmp_path / "net.o"), str(tmp_path / "net.c")]
    subprocess.run(command, check=True)
    if shutil.which("nm"):
        undefined = subprocess.run(
            ["nm", "-u", tmp_path / "net.o"], capture_output=True, text=True, check=True
        )
        assert set(undefined.stdout.split()) <= {"U", "__stack_chk_fail", "memset", "memcpy"}


def test_the_header_says_how_much_memory_it_takes(tmp_path):
    case = digits("conv2")
    whole = written(case.artifact.network, case.images, tmp_path)
    header, source = ((tmp_path / name).read_text() for name in ("net.h", "net.c"))
    tables = [len(table.split(",")) for table in re.findall(r"\[\] NET_TABLE = \{(.*?)\}", source, re.DOTALL)]
    flash, ram = c_integer.memory(whole)
    assert flash == sum(tables) and ram == 4 * scratch_of(tmp_path / "net.h")
    assert f"constant tables (flash): {flash:,} bytes" in header and f"scratch (RAM): {ram:,} bytes" in header
    remaining = sum(layer.kernel.remaining for layer in whole.network.layers())
    assert flash < remaining
    # As compiled: all constants lie in sections that are read only.
    if shutil.which("size") and compiler():
        command = [
            *compiler(),
            "-std=c99",
            "-Os",
            "-c",
            "-o",
            str(tmp_path / "net.o"),
            str(tmp_path / "net.c"),
        ]
        subprocess.run(command, check=True)
        sizes = subprocess.run(["size", tmp_path / "net.o"], capture_output=True, text=True, check=True)
        text, data, bss, *_ = map(int, sizes.stdout.splitlines()[1].split()[:3])
        assert data == bss == 0 and text > flash


def test_files_of_two_exports_do_not_compile_with_each_other(tmp_path):
    case = digits("conv2")
    written(case.artifact.network, case.images, tmp_path)
    (tmp_path / "other").mkdir()
    written(case.artifact.network, case.images // 2, tmp_path / "other")
    shutil.copy(tmp_path / "other" / "net.h", tmp_path / "net.h")
    command = [*compiler(), "-std=c99", "-c", "-o", str(tmp_path / "net.o"), str(tmp_path / "net.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode and "this file and its header are of different exports" in done.stderr


def test_tables_can_lie_elsewhere(tmp_path):
    """A macro for their place and one to read them: here every byte is kept inverted."""
    case = digits("fcn")
    whole = written(case.artifact.network, case.images, tmp_path)
    path = tmp_path / "net.c"
    source = path.read_text()
    inverted = re.sub(
        r"(\[\] NET_TABLE = \{)(.*?)\}",
        lambda found: found[1] + ",".join(str(255 - int(n)) for n in found[2].split(",")) + "}",
        source,
        flags=re.DOTALL,
    )
    path.write_text(
        '#define NET_TABLE __attribute__((section("elsewhere")))\n'
        "#define NET_READ(address) ((uint8_t)~*(address))\n" + inverted
    )
    assert np.array_equal(logits(whole, case.images, tmp_path), whole.logits(case.images))


@pytest.mark.parametrize("tool", ["avr-gcc", "arm-none-eabi-gcc"])
def test_on_small_processors_it_compiles_without_a_warning_and_takes_no_memory_but_the_scratch(
    tool, tmp_path
):
    if not shutil.which(tool):
        pytest.skip(f"there is no {tool}")
    processor = "-mmcu=atmega2560" if tool == "avr-gcc" else "-mcpu=cortex-m0"
    if subprocess.run(
        [tool, processor, "-E", "-include", "stdint.h", "-"], input=b"", capture_output=True, check=False
    ).returncode:
        pytest.skip(f"{tool} has no C library")
    case = digits("conv2")
    written(case.artifact.network, case.images, tmp_path)
    command = [
        tool,
        processor,
        "-std=c99",
        "-Os",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-c",
        "-o",
        "net.o",
        "net.c",
    ]
    subprocess.run(command, cwd=tmp_path, check=True)
    size = tool.replace("gcc", "size")
    sizes = subprocess.run([size, "net.o"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert sizes.stdout.splitlines()[1].split()[1:3] == ["0", "0"]


@pytest.fixture
def example(tmp_path):
    """The example's files with a model and images; and the lines that it must print."""
    shutil.copytree(microcontroller.EXAMPLE, tmp_path / "mcu")
    case = digits("conv2")
    whole = written(case.artifact.network, case.images, tmp_path / "mcu", "model")
    images = case.images[:3]
    (tmp_path / "mcu" / "images.h").write_text(microcontroller.images_file(images))
    lines = [f"{row.argmax()}: {' '.join(map(str, row))}" for row in whole.logits(images)]
    return tmp_path / "mcu", lines


def test_a_cortex_m_in_qemu_gives_the_same_bits(example):
    folder, expected = example
    if not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")):
        pytest.skip("there is no arm-none-eabi-gcc or no qemu-system-arm")
    cross = "-mcpu=cortex-m3 -mthumb -O2 -std=c99 -Wall -Wextra -Werror -DCOUNT"
    sources = "model.c main.c cortex-m/startup.c -T cortex-m/link.ld -o model.elf"
    cross += " --specs=rdimon.specs -nostartfiles"
    made = subprocess.run(
        ["arm-none-eabi-gcc", *cross.split(), *sources.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if "rdimon" in made.stderr or "stdint.h" in made.stderr:
        pytest.skip("there is no newlib")
    assert (made.returncode, made.stderr) == (0, "")
    qemu = "qemu-system-arm -M mps2-an385 -nographic -semihosting -icount shift=0 -kernel model.elf"
    done = subprocess.run(
        qemu.split(),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    parts = [line.removesuffix(" instructions)").split(" (") for line in done.stdout.splitlines()]
    assert [line for line, _ in parts] == [f"{line}" for line in expected]
    assert all(10_000 < int(count) < 10_000_000 for _, count in parts)


def test_the_cmake_example_builds_and_gives_the_same_bits(example):
    folder, expected = example
    if not shutil.which("cmake"):
        pytest.skip("there is no cmake")
    compiler()
    for command in ("cmake -B build .", "cmake --build build"):
        done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run([folder / "build" / "digits"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == expected


# What the Arduino example needs of Arduino.h; a sketch is C++.
ARDUINO = """
#include <stddef.h>
#include <stdint.h>
struct { void begin(long) {} size_t readBytes(char *, size_t n) { return n; } void print(const char *) {}
         void println(unsigned long) {} } Serial;
unsigned long micros() { return 0; }
void setup();
void loop();
"""


def test_the_arduino_sketch_compiles_with_the_model_as_c(example):
    folder, _ = example
    if not shutil.which("g++"):
        pytest.skip("there is no g++")
    main = '#include "arduino/digits/digits.ino"\nint main() { setup(); loop(); }\n'
    (folder / "sketch.cpp").write_text(ARDUINO + main)
    strict = ("-Wall", "-Wextra", "-Werror", "-I.")
    subprocess.run([*compiler(), "-std=c99", "-c", "model.c", "-o", "model.o"], cwd=folder, check=True)
    subprocess.run(["g++", *strict, "sketch.cpp", "model.o", "-o", "sketch"], cwd=folder, check=True)
    subprocess.run([folder / "sketch"], check=True)


def test_a_value_too_large_for_c_is_refused(monkeypatch):
    case = digits("conv2")
    whole = integer.quantize(case.artifact.network, case.images)
    monkeypatch.setattr(c_integer_plan, "MOST_BYTES", 100)
    with pytest.raises(errors.InputError, match="bytes; in C at most 100 are allowed"):
        c_integer_plan.Plan(whole)

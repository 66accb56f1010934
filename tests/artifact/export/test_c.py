"""A network written as C compiles without a warning and computes the logits that JAX computes."""

from __future__ import annotations

import ctypes
import dataclasses
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from artifact.compiled import STRICT, artifact_of, compiler, library, logits
from artifact.drawn import drawn_network
from artifact.small import images_of, network_of

from ssm_jax import errors, graph
from ssm_jax.artifact import run
from ssm_jax.artifact.export import c
from ssm_jax.artifact.format import Artifact
from ssm_jax.core.initializers import he_uniform
from ssm_jax.core.topk import Multicoated


def by_jax(network: graph.Network, images: np.ndarray) -> np.ndarray:
    apply = jax.jit(lambda parameters, images: run.apply(network, parameters, images))
    return np.asarray(apply(run.parameters(network), images).astype(np.float32))


def dense_network(values: list[list[int]], scale: float = 0.5) -> graph.Network:
    """A dense layer on the standardized pixels of images of 1x2x1."""
    nodes = (
        graph.Standardize(inputs=(0,)),
        graph.Flatten(inputs=(1,)),
        graph.Dense(inputs=(2,), name="denses/0", kernel=graph.Kernel(np.int8(values), np.float32(scale))),
    )
    return graph.Network(image_shape=(1, len(values), 1), classes=len(values[0]), nodes=nodes)


def test_every_family_computes_what_jax_computes(family, tmp_path):
    network, images = network_of(*family), images_of(family[0])
    np.testing.assert_allclose(logits(network, images, tmp_path), by_jax(network, images), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "masking", "dtype"),
    [
        ("conv2", {"rule": Multicoated(density=0.5, coats=3)}, np.int8),
        ("conv2", {"kernel_init": he_uniform()}, np.float32),
        ("fcn", {"rule": None, "kernel_init": he_uniform()}, np.float32),
    ],
    ids=["coats", "floats", "dense"],
)
def test_so_do_kernels_of_other_numbers(name, masking, dtype, tmp_path):
    network, images = network_of(name, **masking), images_of(name)
    assert {layer.kernel.values.dtype for layer in network.layers()} == {np.dtype(dtype)}
    assert not any(layer.kernel.ternary for layer in network.layers())
    np.testing.assert_allclose(logits(network, images, tmp_path), by_jax(network, images), atol=1e-4, rtol=0)


def test_a_flat_image_is_nothing(tmp_path):
    network = dataclasses.replace(dense_network([[1, 0]] * 49), image_shape=(49, 1, 1))
    images = np.full((1, 49, 1, 1), 200, np.uint8)
    np.testing.assert_array_equal(by_jax(network, images), [[0, 0]])
    np.testing.assert_array_equal(logits(network, images, tmp_path), [[0, 0]])


def test_a_network_in_bfloat16_is_computed_in_float32(tmp_path):
    network, images = network_of("conv2", dtype="bfloat16"), images_of("conv2")
    theirs = by_jax(network, images)
    np.testing.assert_allclose(logits(network, images, tmp_path), theirs, atol=0.02 * np.abs(theirs).max())


@pytest.mark.parametrize("seed", range(4))
def test_every_operation_computes_what_jax_computes_in_any_order_and_shape(seed, tmp_path):
    network = drawn_network(seed)
    images = np.random.default_rng(seed).integers(0, 256, (2, *network.image_shape), np.uint8)
    theirs = by_jax(network, images)
    assert {type(node) for node in network.nodes} == {*graph.LAYERS.values()}
    assert np.ptp(theirs) > 0
    np.testing.assert_allclose(logits(network, images, tmp_path), theirs, atol=1e-4, rtol=0)


def test_any_operation_takes_constants(tmp_path):
    nodes = (
        graph.Constant(inputs=(), values=np.float32([1, -2])),
        graph.Elu(inputs=(1,)),
        graph.Binary(inputs=(1, 1), function="mul"),
        graph.Add(inputs=(2, 3)),
        graph.Flatten(inputs=(0,)),
        graph.Normalize(
            inputs=(1,), name="n", mean=np.ones(2, "f4"), variance=np.ones(2, "f4"), epsilon=1e-3
        ),
        graph.Add(inputs=(5, 4)),
        graph.Add(inputs=(7, 6)),
    )
    network = graph.Network(image_shape=(1, 2, 1), classes=2, nodes=nodes)
    images = np.uint8([[[[3], [4]]]])
    np.testing.assert_allclose(logits(network, images, tmp_path), by_jax(network, images), rtol=1e-5)


def test_without_vectors_it_is_the_same(tmp_path):
    network, images = drawn_network(0), images_of("conv2")[:, :7, :6]
    without = ("-U__AVX__", "-U__SSE__", "-U__ARM_NEON")
    np.testing.assert_allclose(
        logits(network, images, tmp_path, *without), by_jax(network, images), atol=1e-4
    )


def test_the_smallest_type_holds_the_distances():
    for inputs, kind in ((200, "uint8_t"), (300, "uint16_t"), (70_000, "uint32_t")):
        values = [[0]] * (inputs - 1) + [[1]]
        source, _ = c.sources(artifact_of(dense_network(values)), "n")
        assert f"static const SSM_TABLES {kind} denses_0_list[]" in source


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> pathlib.Path:
    """A program around a network of every operation, whose memory and arithmetic are watched."""
    folder = tmp_path_factory.mktemp("program")
    c.write(artifact_of(drawn_network(1)), folder / "net.c")
    (folder / "main.c").write_text("""\
#include "net.h"
#include "net.h"
#include <stdio.h>

int main(void)
{
    static uint8_t image[NET_HEIGHT * NET_WIDTH * NET_CHANNELS];
    static float logits[NET_CLASSES], scratch[NET_SCRATCH];
    if (fread(image, 1, sizeof image, stdin) != sizeof image)
        return 1;
    net_predict(image, logits, scratch);
    for (int i = 0; i < NET_CLASSES; i++)
        printf("%s %.9g\\n", net_class_names[i], logits[i]);
    return 0;
}
""")
    sanitize = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    files = (str(folder / "main.c"), str(folder / "net.c"))
    command = [*compiler(), *STRICT, *sanitize, "-o", str(folder / "main"), *files, "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "main"


def test_a_program_needs_the_header_alone_and_nothing_undefined_happens(program):
    network = drawn_network(1)
    image = np.random.default_rng(5).integers(0, 256, (1, *network.image_shape), np.uint8)
    done = subprocess.run([program], input=image.tobytes(), capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    names, numbers = zip(*(line.split() for line in done.stdout.decode().splitlines()), strict=True)
    assert names == ("0", "1", "2", "3")
    np.testing.assert_allclose(np.float32(numbers), by_jax(network, image)[0], atol=1e-4, rtol=0)


def test_nothing_is_allocated_and_nothing_linked(tmp_path):
    c.write(artifact_of(drawn_network(2)), tmp_path / "net.c")
    source = (tmp_path / "net.c").read_text() + (tmp_path / "net.h").read_text()
    assert set(re.findall(r"#include (\S+)", source)) == {'"net.h"', "<stdint.h>", "<math.h>"}
    command = [*compiler(), *STRICT, "-c", "-o", str(tmp_path / "net.o"), str(tmp_path / "net.c")]
    subprocess.run(command, check=True)
    listed = subprocess.run(["nm", "-u", tmp_path / "net.o"], capture_output=True, text=True, check=True)
    symbols = {line.split()[-1].lstrip("_") for line in listed.stdout.splitlines()}
    # What compilers call for loops that set or copy memory; stack_chk_fail where they protect the stack.
    assert symbols <= {"sqrtf", "memset", "memcpy", "memmove", "GLOBAL_OFFSET_TABLE_", "stack_chk_fail"}


def test_any_class_name_and_record_can_be_written(tmp_path):
    names = ('quote " and \\', "trigraph ??/", "Größe 0", "%s */ /*")
    record = {"network": "fcn */ int x; /*", "dataset": "a??/\nb", "test_accuracy": 97.123, "rule": "signed"}
    artifact = Artifact(dense_network([[1, 0, 1, 0], [-1, 0, 0, 1]]), names, record)
    path = tmp_path / "8 bit-net.c"
    c.write(artifact, path)
    written = (ctypes.c_char_p * 4).in_dll(library(path), "network_8_bit_net_class_names")
    assert tuple(name.decode() for name in written) == names
    header = path.with_suffix(".h").read_text()
    assert "test accuracy: 97.12 %" in header and "rule: signed" in header
    assert "weights: 8, of which 4 (50.00 %) are not 0" in header


def test_the_header_tells_flash_and_memory(tmp_path):
    c.write(artifact_of(dense_network([[1], [1]])), tmp_path / "net.c")
    header = (tmp_path / "net.h").read_text()
    # A list of four bytes and a constant; two pixels and a logit.
    assert "constant tables (flash): 8 bytes; scratch (RAM): 12 bytes" in header
    assert "#define NET_SCRATCH 3 " in header


def test_files_of_two_exports_do_not_compile(tmp_path):
    command = [*compiler(), *STRICT, "-c", "-o", str(tmp_path / "net.o"), str(tmp_path / "net.c")]
    c.write(artifact_of(dense_network([[1], [1]])), tmp_path / "net.c")
    subprocess.run(command, check=True)
    newer = c.sources(artifact_of(dense_network([[1], [-1]])), "net")[1]
    before = (tmp_path / "net.h").read_text()
    without = re.sub("#define NET_DIGEST.*\n", "", before)
    for header in (newer, without):
        (tmp_path / "net.h").write_text(header)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode and "this file and its header are of different exports" in done.stderr


def test_every_table_lies_where_the_user_says(tmp_path):
    network = drawn_network(1)
    images = np.random.default_rng(1).integers(0, 256, (2, *network.image_shape), np.uint8)
    # A pointer to a table that doesn't say so would not compile.
    made = logits(network, images, tmp_path, "-DSSM_TABLES=volatile")
    np.testing.assert_allclose(made, by_jax(network, images), atol=1e-4, rtol=0)
    tables = re.findall(r"^static const .*\[\] = ", (tmp_path / "net.c").read_text(), re.M)
    assert tables and all(table.startswith("static const SSM_TABLES ") for table in tables)


def test_a_path_that_is_no_c_file_is_refused(tmp_path):
    artifact = artifact_of(dense_network([[1], [1]]))
    with pytest.raises(
        errors.InputError, match=r"needs a path \*\.c, and puts its header beside; not .*net.h"
    ):
        c.write(artifact, tmp_path / "net.h")
    for name in ('a".c', "a\\.c", "what??(.c", "a\nb.c", "\x1b.c", "a\udcff.c"):
        with pytest.raises(errors.InputError, match="no C file can include"):
            c.write(artifact, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_numpy_is_all_that_writing_needs():
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['jax', 'flax', 'orbax']));"
        "import ssm_jax.artifact.export.c, ssm_jax.artifact.native"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

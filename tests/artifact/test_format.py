"""A file gives back the artifact, needs numpy alone, and does no harm whatever it holds."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from artifact import fuzz
from artifact.drawn import CLASSES as DRAWN_CLASSES
from artifact.drawn import drawn_network
from artifact.small import images_of, network_of
from hypothesis import given
from hypothesis import strategies as st

from ssm_jax import errors, graph
from ssm_jax.artifact import format, run, sizes
from ssm_jax.core.initializers import he_uniform

ROOT = pathlib.Path(__file__).parents[2]
NAMES = tuple("abcde")


def artifact_of(network: graph.Network) -> format.Artifact:
    return format.Artifact(network, NAMES, {"seed": 3, "test_accuracy": 97.5, "config": {"model.width": 0.1}})


def same(network: graph.Network, other: graph.Network) -> None:
    """Check that two networks are the same in every field and bit."""
    assert (network.image_shape, network.classes, network.dtype) == (
        other.image_shape,
        other.classes,
        other.dtype,
    )
    for node, twin in zip(network.nodes, other.nodes, strict=True):
        assert type(node) is type(twin)
        for field, value in vars(node).items():
            found = getattr(twin, field)
            if isinstance(value, graph.Kernel):
                assert value.scale == found.scale and found.scale.dtype == np.float32
                value, found = value.values, found.values
            if isinstance(value, np.ndarray):
                assert value.dtype == found.dtype
                np.testing.assert_array_equal(value, found)
            else:
                assert value == found and type(value) is type(found), field


def test_everything_comes_back(family, tmp_path):
    artifact = artifact_of(network_of(*family))
    format.write(artifact, tmp_path / "model.ssm")
    found = format.read(tmp_path / "model.ssm")
    same(artifact.network, found.network)
    assert (found.class_names, found.record) == (NAMES, artifact.record)
    assert [path.name for path in tmp_path.iterdir()] == ["model.ssm"]


@pytest.mark.parametrize("masking", [{}, {"kernel_init": he_uniform()}, {"dtype": jnp.bfloat16}])
def test_logits_are_bit_for_bit_those_of_the_network(masking):
    network = network_of("conv2", **masking)
    found = format.decode(format.encode(artifact_of(network))).network
    images = jnp.asarray(images_of("conv2"))
    logits = [
        np.asarray(
            jax.jit(lambda p, one=one: run.apply(one, p, images))(run.parameters(one)).astype(jnp.float32)
        )
        for one in (network, found)
    ]
    assert np.ptp(logits[0]) > 0
    np.testing.assert_array_equal(logits[0].view(np.uint32), logits[1].view(np.uint32))


@pytest.mark.parametrize(
    ("artifact", "others"), [(fuzz.small(), {}), (fuzz.general(), graph.LAYERS)], ids=["layers", "others"]
)
def test_every_operation_and_array_comes_back(artifact, others):
    expected = set(graph.LAYERS.values()) if not others else {*graph.OPERATIONS.values()} - {*others.values()}
    assert {type(node) for node in artifact.network.nodes} == expected
    found = format.decode(format.encode(artifact))
    same(artifact.network, found.network)
    assert (found.class_names, found.record) == (artifact.class_names, artifact.record)


# What JSON holds: texts without half a pair of surrogates, integers of up to 19 digits.
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXTS
VALUES = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PRINTABLE = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=20)
ARTIFACTS = st.builds(
    format.Artifact,
    st.integers(0, 2**32).map(drawn_network),
    st.lists(PRINTABLE, min_size=DRAWN_CLASSES, max_size=DRAWN_CLASSES).map(tuple),
    st.dictionaries(TEXTS, VALUES, max_size=3),
)


@given(ARTIFACTS)
def test_whatever_is_written_is_read_and_written_alike(artifact):
    data = format.encode(artifact)
    found = format.decode(data)
    same(artifact.network, found.network)
    assert (found.class_names, found.record) == (artifact.class_names, artifact.record)
    assert data == format.encode(found)


@pytest.mark.parametrize("gap", [0, 1, 253, 254, 255, 256, 509, 510, 511, 70_000])
def test_zeros_before_behind_and_between_weights_come_back(gap):
    for flat in ([0] * gap + [1, -1], [1] + [0] * gap + [-1], [1] + [0] * gap, [0] * (gap + 1)):
        for values in (np.int8([flat]), np.int8([flat]).T, 3 * np.int8([flat]), np.float32([flat]) / 3):
            dense = graph.Dense(inputs=(1,), name="d", kernel=graph.Kernel(values))
            shape, classes = (values.shape[0], 1, 1), values.shape[1]
            network = graph.Network(
                image_shape=shape, classes=classes, nodes=(graph.Flatten(inputs=(0,)), dense)
            )
            artifact = format.Artifact(network, ("",) * classes, {})
            if classes < 1000:  # names are in the header
                same(network, format.decode(format.encode(artifact)).network)


def example() -> bytes:
    """The file that docs/format.md shows."""
    lines = re.findall(
        r"^[0-9a-f]{4}  ((?:[0-9a-f]{2} ?){1,16})", (ROOT / "docs" / "format.md").read_text(), re.M
    )
    return bytes.fromhex("".join(lines))


def test_the_example_of_the_documentation_is_what_it_says():
    data = example()
    found = format.decode(data)
    assert [graph.operation(node) for node in found.network.nodes] == ["standardize", "flatten", "dense"]
    (layer,) = found.network.layers()
    expected = np.float32([[0, 0], [0, 0], [-0.5, 0], [0, 0.5], [0, 0], [0, 0]])
    np.testing.assert_array_equal(layer.kernel.dense(), expected)
    assert (found.class_names, found.record) == (("no", "yes"), {"seed": 0})
    header, packed, plain = fuzz.parts(data)
    assert (packed, plain) == (bytes.fromhex("020602"), b"")
    assert fuzz.parts(format.encode(found)) == (header, packed, plain)


def test_the_documentation_names_every_operation_and_field():
    text = (ROOT / "docs" / "format.md").read_text()
    for name, operation in graph.OPERATIONS.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` | ")]
        for field in vars(operation).get("__dataclass_fields__", {}):
            assert field in ("inputs", "arity") or f"`{field}`" in line.split("|")[2], (name, field)


WITHOUT_JAX = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
import numpy as np
from ssm_jax.artifact import format

found = format.read({path!r})
np.savez({saved!r}, *(layer.kernel.dense() for layer in found.network.layers()))
assert not {blocked} & set(sys.modules)
others = {{name.partition(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names)
assert others - {{name for name in others if name.startswith("_")}} <= {{"numpy", "ssm_jax"}}, others
"""


def test_a_file_is_read_where_nothing_but_numpy_is_installed(tmp_path):
    network = network_of("conv2")
    path, saved = tmp_path / "model.ssm", tmp_path / "kernels.npz"
    format.write(artifact_of(network), path)
    blocked = {"jax", "jaxlib", "flax", "optax", "orbax", "tensorflow_datasets", "ml_collections", "scipy"}
    program = WITHOUT_JAX.format(blocked=blocked, path=str(path), saved=str(saved))
    subprocess.run([sys.executable, "-S", "-c", program], check=True, cwd=ROOT, env=bare())
    with np.load(saved) as kernels:
        for kernel, layer in zip(kernels.values(), network.layers(), strict=True):
            np.testing.assert_array_equal(kernel, layer.kernel.dense())


def bare() -> dict[str, str]:
    """An environment in which this package and numpy are found, without what site packages start."""
    folders = [str(ROOT), str(ROOT / "tests"), str(pathlib.Path(np.__file__).parents[1])]
    return {"PYTHONPATH": ":".join(folders), "OPENBLAS_NUM_THREADS": "1"}


def test_mutations_are_read_or_refused():
    program = ROOT / "tests" / "artifact" / "fuzz.py"
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", str(program), "1500"],
        capture_output=True,
        text=True,
        env=bare(),
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers["read"] + answers["refused"] == 1500 and answers["read"] > 50
    assert answers["seconds"] < 20


@pytest.fixture(scope="module")
def hostile() -> dict[str, tuple[str, float]]:
    """What becomes of files that ask for much, and how long it takes."""
    program = ROOT / "tests" / "artifact" / "hostile.py"
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", str(program)],
        capture_output=True,
        text=True,
        env=bare(),
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("side", "not read: the side of layer's kernel is 8191; allowed is 1 to 64"),
        ("windows", "not read: the network takes 104,857,600 elements of a convolution's windows up to"),
        ("multiply_adds", "not read: the network takes 17,180,917,760 multiply-adds and comparisons"),
        ("phases", "not read: the network takes 69,632 positions in windows of convolutions"),
        ("pools", "not read: the network takes 512 positions in windows of pools"),
        ("variance", "not read: node 1.variance + epsilon is -0.99998"),
        (
            "numbers",
            "not in C: the network's kernels are 16,785,408 numbers or more in C; at most 16,777,216",
        ),
        ("coats", "not in C: the network's kernels are 33,292,415 numbers or more in C; at most 16,777,216"),
        ("margins", "not in C: the network works on 138,415,264 floats at once; in C at most 134,217,728"),
        ("chain", "all done"),
    ],
)
def test_what_asks_for_much_work_or_memory_is_refused_before_it_begins(hostile, name, said):
    answer, seconds = hostile[name]
    assert answer.startswith(said) and seconds < 5


def refusal(data: bytes, **limits: int) -> str:
    with pytest.raises(errors.InputError) as caught:
        format.decode(data, **limits)
    return str(caught.value)


@given(ARTIFACTS, st.data())
def test_a_file_that_lost_a_part_or_a_bit_is_refused(artifact, data):
    whole = format.encode(artifact)
    place = data.draw(st.integers(0, len(whole) - 1))
    assert re.search("no .ssm file|truncated", refusal(whole[:place]))
    assert "truncated" in refusal(whole + b"\0")
    changed = bytearray(whole)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    refusal(bytes(changed))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (0, b"PK", "it is no .ssm file"),
        (8, b"\3", "its format is 3; this version of ssm_jax reads formats 1 to 2"),
        (12, b"\xff\xff\xff\xff", "the length of its header is 4294967295; allowed is at most 2097152"),
        (40, b"\0", "it is damaged or truncated: its checksum is of other bytes"),
    ],
)
def test_what_is_wrong_is_said(place, value, said):
    data = example()
    assert said in refusal(data[:place] + value + data[place + len(value) :])


def changed(**values: object) -> bytes:
    """The example with other values in its header, or in that of its kernel."""
    text, packed, plain = fuzz.parts(example())
    header = json.loads(text)
    for key, value in values.items():
        (header if key in header else header["nodes"][2]["kernel"])[key] = value
    return fuzz.frame(json.dumps(header).encode(), packed, plain)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"classes": 3}, "the network gives (2,), not 3 logits"),
        ({"classes": True}, "classes is True; it must be an integer from 1 to 2147483647"),
        ({"class_names": ["a"]}, "class_names is ['a']; it must be a list of 2 to 2"),
        ({"class_names": ["a", "\x1b[31m"]}, "a class name is"),
        ({"dtype": "float64"}, "unknown dtype 'float64'"),
        ({"image_shape": [2, 3]}, "standardize can't take a value of shape (2, 3)"),
        ({"record": []}, "record is []; it must be an object"),
        ({"nodes": []}, "nodes is []; it must be a list of 1 to 2000"),
        ({"nodes": [3]}, "node 0 is 3; it must be an object"),
        ({"nodes": [{"operation": "conf", "inputs": [0]}]}, "unknown operation 'conf'; did you mean 'conv'?"),
        ({"nodes": [{"operation": "elu"}]}, "node 0 lacks inputs"),
        ({"nodes": [{"operation": "elu", "inputs": [0], "name": "x"}]}, "a key of node 0 is 'name'"),
        ({"nodes": [{"operation": "elu", "inputs": [1]}]}, "operation 0 takes values (1,), which it can't"),
        ({"gaps": 13}, "node 2.kernel.gaps is 13; it must be an integer from 0 to 12"),
        ({"gaps": 4}, "node 2.kernel needs 1 bytes more than are packed"),
        ({"gaps": 1}, "it holds packed bytes that are of nothing"),
        ({"shape": [3, 3]}, "node 2.kernel has weights behind its last place"),
        ({"scale": 0.1}, "node 2.kernel.scale is 0.1; it must be a number that float32 holds exactly"),
        ({"scale": 1e300}, "it must be a number that float32 holds exactly"),
        ({"shape": [12]}, "head with a kernel of shape (12,) can't take"),
        ({"shape": [-6, -2]}, "node 2.kernel.shape is -6; it must be an integer from 1 to 2147483647"),
        ({"shape": [2**31 - 1] * 4}, "which makes more weights than the 67,108,864 allowed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_header_that_lies_is_refused(values, said):
    assert said in refusal(changed(**values))


def test_a_constant_of_a_float32_kernel_is_neither_read_nor_written():
    kernel = graph.Kernel(np.float32([[0.3, 0.5]]), np.float32(2))
    nodes = (graph.Flatten(inputs=(0,)), graph.Dense(inputs=(1,), name="head", kernel=kernel))
    network = graph.Network(image_shape=(1, 1, 1), classes=2, nodes=nodes)
    said = "node 1.kernel.scale is 2.0; it must be 1.0 of a float32 kernel"
    with pytest.raises(errors.InputError, match=said):
        format.encode(format.Artifact(network, ("a", "b"), {}))
    plain = dataclasses.replace(nodes[1], kernel=graph.Kernel(kernel.values))
    network = dataclasses.replace(network, nodes=(nodes[0], plain))
    written = format.encode(format.Artifact(network, ("a", "b"), {}))
    header, packed, plain = fuzz.parts(written)
    assert said in refusal(fuzz.frame(header.replace(b'"scale":1.0', b'"scale":2.0'), packed, plain))


def test_bytes_that_belong_to_nothing_are_refused():
    header, packed, plain = fuzz.parts(example())
    assert "it has 1 bytes that are of no array" in refusal(fuzz.frame(header, packed, plain + b"\0"))
    assert "packed bytes that are of nothing" in refusal(fuzz.frame(header, packed + b"\0", plain))
    stream = example()[24:-32]
    for wrong, said in (
        (stream + b"\0", "packed bytes that are of nothing"),
        (stream[:-1], "the end can't be unpacked|packed bytes that are of nothing"),
        (stream[:50], "the header needs [0-9]+ bytes more than are packed"),
        (b"\xff" + stream[1:], "the header can't be unpacked"),
    ):
        data = fuzz.streamed(wrong, len(header), plain)
        assert re.search(said, refusal(data + hashlib.sha256(data).digest()))


def test_whole_numbers_that_no_kernel_has_are_refused():
    kernel = graph.Kernel(np.int8([[3, 7]]))
    nodes = (graph.Flatten(inputs=(0,)), graph.Dense(inputs=(1,), name="d", kernel=kernel))
    network = graph.Network(image_shape=(1, 1, 1), classes=2, nodes=nodes)
    header, packed, plain = fuzz.parts(format.encode(format.Artifact(network, ("a", "b"), {})))
    assert packed == bytes([0, 0, 3, 7])
    for value in (0, 0x80):
        said = "node 1.kernel holds whole numbers other than -127 to 127, or zeros"
        assert said in refusal(fuzz.frame(header, packed[:3] + bytes([value]), plain))


def test_numbers_that_are_not_finite_are_neither_read_nor_written():
    artifact = fuzz.small()
    node = next(node for node in artifact.network.nodes if isinstance(node, graph.Normalize))
    header, packed, plain = fuzz.parts(format.encode(artifact))
    place = plain.index(node.mean.tobytes())
    plain = plain[:place] + np.float32(np.nan).tobytes() + plain[place + 4 :]
    said = refusal(fuzz.frame(header, packed, plain))
    assert re.fullmatch(r"node \d+.mean holds numbers that are not finite", said)
    for value in (np.nan, np.inf):
        kernel = graph.Kernel(np.full((4, 5), value, np.float32))
        dense = graph.Dense(inputs=(1,), name="d", kernel=kernel)
        wrong = graph.Network(image_shape=(2, 2, 1), classes=5, nodes=(graph.Flatten(inputs=(0,)), dense))
        with pytest.raises(errors.InputError, match=r"node 1\.kernel holds numbers that are not finite"):
            artifact_of(wrong)


def test_a_few_bytes_make_no_more_weights_than_allowed():
    claims, more = (changed(shape=[2**13, columns]) for columns in (2**13, 2**13 + 1))
    tracemalloc.start()
    assert "which makes more weights than the 1,000 allowed" in refusal(claims, most_weights=1000)
    assert "which makes more weights" in refusal(more)
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20  # liblzma takes 4 MiB each time
    # What may be: then the network is refused, for it takes no such value.
    assert "can't take a value of shape" in refusal(claims)
    assert tracemalloc.get_traced_memory()[1] < 3 * 2**26
    tracemalloc.stop()


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_weights_take_ten_bytes_each_at_most(dtype):
    size = 2**20
    drawn = np.random.default_rng(0).integers(-1, 2, (size, 1)).astype(dtype)
    dense = graph.Dense(inputs=(1,), name="d", kernel=graph.Kernel(drawn))
    network = graph.Network(image_shape=(size, 1, 1), classes=1, nodes=(graph.Flatten(inputs=(0,)), dense))
    data = format.encode(format.Artifact(network, ("a",), {}))
    tracemalloc.start()
    format.decode(data)
    # Buffers of fixed sizes come on top, 4 MiB of liblzma among them.
    assert tracemalloc.get_traced_memory()[1] < 10 * size + 6 * 2**20
    tracemalloc.stop()


def test_as_many_operations_as_may_be_are_read():
    nodes = tuple(graph.Elu(inputs=(i,)) for i in range(1, 2000))
    network = graph.Network(image_shape=(1, 1, 5), classes=5, nodes=(graph.Flatten(inputs=(0,)), *nodes))
    assert len(format.decode(format.encode(artifact_of(network))).network.nodes) == 2000
    with pytest.raises(errors.InputError, match="the number of operations is 2001; allowed is 1 to 2000"):
        graph.Network(image_shape=(1, 1, 5), classes=5, nodes=(*network.nodes, graph.Elu(inputs=(2000,))))


def test_a_header_takes_forty_times_its_bytes_at_most():
    size = 2**18
    for unit in (b"[[[]]],", b'{"":[]},', b'{"a":{}},', b"[],"):
        inner = unit * (size // len(unit))
        data = fuzz.frame(b'{"record":[' + inner[:-1] + b"]}", b"")
        tracemalloc.start()
        assert "the header lacks" in refusal(data)
        assert tracemalloc.get_traced_memory()[1] < 40 * size + 5 * 2**20  # what liblzma takes
        tracemalloc.stop()


def test_a_file_that_cannot_be_used_is_named(tmp_path):
    path = tmp_path / "model.ssm"
    for made, said in (
        (lambda: None, "cannot read .*model.ssm: No such file"),
        (lambda: path.write_bytes(b""), "cannot use .*model.ssm: it is no .ssm file"),
        (lambda: path.unlink() or os.mkfifo(path), "cannot read .*model.ssm: not a regular file"),
    ):
        made()
        with pytest.raises(errors.InputError, match=said):
            format.read(path)


def test_a_file_that_is_too_long_is_not_read(tmp_path):
    path = tmp_path / "model.ssm"
    with path.open("wb") as file:
        file.truncate(format.MOST_BYTES + 1)
    with pytest.raises(errors.InputError, match="it has more than 1,073,741,824 bytes"):
        format.read(path)


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path):
    with pytest.raises(errors.RunError, match=r"cannot write .*: No such file or directory"):
        format.write(fuzz.small(), tmp_path / "missing" / "model.ssm")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"a": {1, 2}}, "not JSON serializable"),
        ({"a": float("nan")}, "JSON"),
        ({"a": "x" * 2**21}, "the header has"),
    ],
    ids=["set", "nan", "long"],
)
def test_a_record_that_no_header_holds_is_refused(record, said):
    with pytest.raises(errors.InputError, match=said):
        format.encode(format.Artifact(network_of("fcn"), NAMES, record))


def test_names_are_one_for_every_class():
    with pytest.raises(errors.InputError, match="there are 4 class names; allowed is 5, one a class"):
        format.Artifact(network_of("fcn"), NAMES[:4], {})
    with pytest.raises(errors.InputError, match="a class name is"):
        format.Artifact(network_of("fcn"), (*NAMES[:4], "a\n"), {})


def test_a_whole_conv8_is_little_larger_than_its_entropy():
    rng = np.random.default_rng(0)
    sides = [3, 64, 64, 128, 128, 256, 256, 512, 512]
    nodes: list[graph.Node] = [graph.Standardize(inputs=(0,))]

    def kernel(*shape: int) -> graph.Kernel:
        signs = rng.choice(np.int8([-1, 1]), shape)
        return graph.Kernel(np.where(rng.random(shape) < 0.0117, signs, np.int8(0)), np.float32(0.05))

    for i, (inputs, outputs) in enumerate(itertools.pairwise(sides)):
        nodes.append(
            graph.Conv(
                inputs=(len(nodes),),
                name=f"convs/{i}",
                kernel=kernel(3, 3, inputs, outputs),
                stride=1 + i % 2,
            )
        )
    nodes.append(graph.Flatten(inputs=(len(nodes),)))
    for i, (inputs, outputs) in enumerate(((2048, 256), (256, 256), (256, 10))):
        nodes.append(graph.Dense(inputs=(len(nodes),), name=f"denses/{i}", kernel=kernel(inputs, outputs)))
    network = graph.Network(image_shape=(32, 32, 3), classes=10, nodes=tuple(nodes))
    entropy = sum(sizes.entropy(layer.kernel) for layer in network.layers()) / 8
    data = format.encode(format.Artifact(network, tuple("0123456789"), {}))
    assert len(data) < 1.05 * entropy, (len(data), entropy)
    same(network, format.decode(data).network)


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_the_bytes_of_a_kernel_are_what_it_adds_to_a_file(dtype):
    def size(values: np.ndarray) -> int:
        kernel = graph.Kernel(values)
        nodes = (graph.Flatten(inputs=(0,)), graph.Dense(inputs=(1,), name="head", kernel=kernel))
        network = graph.Network(image_shape=(50, 40, 1), classes=3, nodes=nodes)
        return len(format.encode(format.Artifact(network, ("a", "b", "c"), {})))

    values = np.random.default_rng(0).integers(-1, 2, (2000, 3)).astype(dtype)
    added = size(values) - size(np.zeros_like(values))
    assert abs(format.kernel_bytes(graph.Kernel(values)) - added) < 30


def test_the_folder_of_a_run_is_told_how_to_become_a_file(tmp_path):
    with pytest.raises(errors.InputError, match=f"{tmp_path} is a folder; ssm-jax export {tmp_path} writes"):
        format.read(tmp_path)

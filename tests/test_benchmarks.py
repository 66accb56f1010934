"""The benchmark: counted operations, its PyTorch twin against JAX, its forms of convolution, its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks import contenders, flops, timing
from benchmarks.elsewhere import Elsewhere
from ssm_jax.data import batches
from ssm_jax.nn import convolution
from ssm_jax.nn.layers import Conv, Masking, masked_layers
from ssm_jax.nn.networks import BATCH_AXIS, build
from ssm_jax.training.from_config import from_config
from ssm_jax.training.programs import take_steps

MNIST, CIFAR = (28, 28, 1), (32, 32, 3)


def operations(name, image_shape, **options) -> list[int]:
    return flops.forward(lambda rngs: build(name, image_shape, 10, rngs=rngs, **options), image_shape)


def test_operations_of_fcn():
    counts = operations("fcn", MNIST)
    assert counts == [2 * 784 * 300, 2 * 300 * 100, 2 * 100 * 10]
    assert sum(counts) == 2 * 266_200
    assert flops.training(counts) == 6 * 266_200 - 2 * 784 * 300


def test_operations_of_a_strided_convolution():
    counts = operations("resnet20", CIFAR, normalization="batch")
    assert counts[0] == 2 * 32 * 32 * 9 * 3 * 16
    assert len(counts) == 1 + 9 * 2 + 3 + 1
    # The first blocks: a 1x1 convolution and a projection each, which in stages 2 and 3 halve the image.
    assert counts.count(2 * 32 * 32 * 16 * 16) == 2
    assert counts.count(2 * 8 * 8 * 32 * 64) == 4


@pytest.mark.parametrize(("window", "stride", "size"), [(1, 2, 5), (3, 1, 8), (3, 2, 5)])
def test_im2col_is_the_convolution(window, stride, size):
    layer = Conv(3, 4, window, stride, masking=Masking(), rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(1), (2, size, size, 3))
    expected = layer(images)
    with contenders.convolution("im2col"):
        np.testing.assert_allclose(layer(images), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(layer(images), expected)


def test_grouped_convolutions_are_those_that_vmap_makes():
    images, kernels = jnp.ones((4, 2, 6, 6, 3)), jnp.ones((4, 3, 3, 3, 5))

    def lowered(form):
        def gradient(images, kernels):
            return jax.grad(lambda kernel: jnp.sum(convolution.convolve(images, kernel, 1) ** 2))(kernels)

        with contenders.convolution(form):
            return jax.jit(jax.vmap(gradient)).lower(images, kernels).as_text()

    for form, grouped in (("conv", False), ("grouped", True), ("conv", False)):
        assert ("_group_count = 4" in lowered(form)) == grouped


class Sleeper:
    """A contender whose calls are counted."""

    def __init__(self, steps: int) -> None:
        self.steps, self.compile_seconds, self.calls = steps, 0.0, 0

    def call(self) -> None:
        self.calls += 1


def test_turns_are_counted_and_stop_in_time():
    made = {"a": Sleeper(2), "b": Sleeper(1)}
    results = timing.measure(made, repeats=5, seconds=0.0, until=np.inf)
    assert [len(result["ms_per_step"]) for result in results.values()] == [5, 5]
    assert made["a"].calls == 2 + 5
    results = timing.measure(made, repeats=5, seconds=0.0, until=0.0)
    assert len(results["b"]["ms_per_step"]) == timing.LEAST_REPEATS


def test_ratio_is_the_median_within_turns():
    above, below = ({"cold": False, "ms_per_step": v} for v in ([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]))
    assert timing.ratio(above, below) == 3.0
    assert timing.ratio(above, below, 4) == 12.0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run of the whole benchmark on fcn, in a process with one device."""
    path = tmp_path_factory.mktemp("benchmark") / "out.json"
    flags = "--networks fcn --batch 8 --examples 32 --repeats 1 --seconds 0 --matmul 64 --seeds 2 --no-torch"
    flags += " --densities"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "benchmarks.train", *flags.split(), "--json", str(path)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stderr
    return json.loads(path.read_text()), process.stdout


@pytest.mark.slow
def test_report_holds_every_measurement(run):
    report, _ = run
    assert {"python", "jax", "jaxlib", "flax"} <= set(report["versions"])
    assert report["device"]["count"] == 1 and report["device"]["kind"]
    assert report["settings"]["batch"] == 8 and report["date"]
    assert len(report["matmul"]["float32"]["tflops"]) == 5
    fcn = report["networks"]["fcn"]
    assert (fcn["weights"], fcn["epochs"], fcn["examples"]) == (266_200, 100, 60_000)
    unit = fcn["steps"]["float32"]
    assert set(unit["contenders"]) == {"signed", "dense"}
    for result in unit["contenders"].values():
        assert len(result["ms_per_step"]) == 1 and result["steps_per_call"] == 4
    signed, dense = (unit["contenders"][name]["median"] for name in ("signed", "dense"))
    assert unit["signed_over_dense"] == pytest.approx(signed / dense)
    assert unit["images_per_second"]["signed"] == pytest.approx(8 / signed * 1e3)
    assert unit["paper_run_seconds"] == pytest.approx(signed / 1e3 * 7_500 * 100)
    assert unit["torch_over_signed"] is None
    assert fcn["seeds"]["count"] == 2 and set(fcn["seeds"]["contenders"]) == {"one", "vmap"}


@pytest.mark.slow
def test_sparse_products_are_timed_at_the_density_of_the_paper(run):
    (unit,) = run[0]["networks"]["fcn"]["sparse"]
    assert unit["density"] == pytest.approx(0.0377, abs=1e-4)
    assert set(unit["contenders"]) == {"dense", "sparse", "bfloat16"}
    sparse, dense = (unit["contenders"][name]["median"] for name in ("sparse", "dense"))
    assert unit["sparse_over_dense"] == pytest.approx(sparse / dense)


def test_pytorch_in_another_process_takes_the_steps_that_it_is_told(monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho $3 $4 $5 $6 $7\nwhile read steps; do echo $steps; done\n")
    python.chmod(0o755)
    training = Elsewhere(str(python), "fcn", 0.4, 8, compiled=True)
    assert training.settings == "fcn 0.4 8 --compiled"
    training.call()
    training.close()
    python.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(RuntimeError, match="PyTorch ended with status 3"):
        Elsewhere(str(python), "fcn", 0.4, 8, compiled=False)


def test_more_than_one_device_is_refused(capsys):
    from benchmarks import train

    with pytest.raises(SystemExit):
        train.parse([])
    assert "one device is measured" in capsys.readouterr().err


def twin(name, image_shape, width):
    """A JAX training and its PyTorch twin with the same kernels, scores, thresholds and one batch."""
    pytorch = pytest.importorskip("benchmarks.pytorch", exc_type=ImportError)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (16, *image_shape), np.uint8)
    labels = generator.integers(0, 10, 16).astype(np.int32)
    config = contenders.config(name, 16, "float32")
    config.model.width = width
    config.optimizer.learning_rate, config.optimizer.weight_decay = 0.05, 0.01
    config.schedule.name, config.schedule.factor = "exponential", 0.9
    setup = from_config(config)
    task = setup.task(setup.network(image_shape, 10), 16)
    training = pytorch.Training(
        pytorch.build(name, image_shape, 10, width),
        images,
        labels,
        batch_size=16,
        learning_rate=0.05,
        weight_decay=0.01,
        decay_steps=10,
    )
    model = task.network(0)
    arrays = {
        path: tuple(
            np.asarray(values)
            for values in (layer.random_kernel(), layer.scores[...], layer.rule_state["threshold"][...])
        )
        for path, layer in masked_layers(model)
    }
    pytorch.load(training.network, arrays)
    return task, model, training, batches.with_statistics({"images": images, "labels": labels})


def on_one_device(function):
    """The function with the axis over which devices share a batch."""
    return jax.jit(jax.vmap(function, in_axes=None, out_axes=None, axis_name=BATCH_AXIS, axis_size=1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "image_shape", "width"),
    [("fcn", MNIST, 1.0), ("conv2", (8, 8, 3), 0.25), ("resnet20", (8, 8, 3), 0.25)],
)
def test_pytorch_takes_the_same_steps(name, image_shape, width):
    task, model, training, data = twin(name, image_shape, width)
    data = {key: jnp.asarray(array) for key, array in data.items()}
    logits = training.logits(training.images).detach().numpy()
    split = nnx.split(model)
    expected = on_one_device(lambda images: nnx.merge(*split, copy=True)(batches.standardize(images)))(
        data["images"]
    )
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    before = {path: np.asarray(layer.scores[...]) for path, layer in masked_layers(model)}

    # The whole data set is the batch, so its order does not matter. Two steps, for momentum and schedule.
    state, frozen = task.initialize(jnp.int32(0))
    order = jnp.arange(16, dtype=jnp.int32)[None]
    graph = task.graph(training=True)
    step = on_one_device(lambda state: take_steps(task, graph, state, frozen, order, data, 1))
    for _ in range(2):
        state = step(state)
    training.run(2)
    trained = nnx.merge(graph, state.params, frozen, state.rest)
    after = dict(masked_layers(trained))
    for path, layer in after.items():
        ours = np.asarray(layer.scores[...])
        theirs = training.network.get_submodule(path.replace("/", ".")).scores.detach().numpy()
        theirs = theirs.transpose(2, 3, 1, 0) if theirs.ndim == 4 else theirs
        assert np.abs(ours - before[path]).max() > 1e-4
        # Rounding adds up over twenty layers.
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4 if name == "resnet20" else 1e-5)
    if name == "resnet20":
        norm = training.network.stem_norm
        for ours, theirs in ((trained.stem_norm.scale, norm.weight), (trained.stem_norm.bias, norm.bias)):
            np.testing.assert_allclose(theirs.detach().numpy(), ours[...], rtol=1e-4, atol=1e-4)

"""Every file in configs/ and each of its variants: valid, documented, those of the stored results."""

from __future__ import annotations

import importlib
import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

import ssm_jax
from configs import common
from ssm_jax import config as configuration
from ssm_jax import errors
from ssm_jax.data import batches
from ssm_jax.experiments import record
from ssm_jax.nn.networks import BATCH_AXIS
from ssm_jax.training.from_config import from_config
from ssm_jax.training.layout import kernel_shapes
from ssm_jax.training.programs import take_steps

ROOT = pathlib.Path(__file__).parents[1]
FOLDER, STORED = ROOT / "configs", ROOT / "results" / "paper"

IMAGES = {"mnist": ((28, 28, 1), 10), "digits": ((8, 8, 1), 10)}
IMAGES |= {"cifar10": ((32, 32, 3), 10), "cifar100": ((32, 32, 3), 100)}

# The main rows as the paper has them: p, learning rate, decay, epochs.
PAPER = {
    "fcn": (0.4, 0.05, 5e-4, 100),
    "conv2": (0.4, 0.04, 5e-4, 100),
    "conv4": (0.4, 0.05, 5e-4, 100),
    "conv6": (0.4, 0.05, 5e-4, 100),
    "conv8": (0.4, 0.05, 5e-4, 100),
    "resnet20": (0.75, 0.3, 3e-4, 110),
    "resnet56": (0.75, 0.3, 1e-4, 110),
    "resnet110": (0.85, 0.08, 1e-5, 110),
}
FILES = sorted({path.stem for path in FOLDER.glob("*.py")} - {"common"})
each_file = pytest.mark.parametrize("name", FILES)


def module(name):
    return importlib.import_module(f"configs.{name}")


def load(row):
    name, _, variant = row.partition(":")
    return module(name).get_config(variant)


@each_file
def test_every_variant_can_be_trained_and_has_its_command_in_the_docstring(name):
    commands = {line.split("#")[0].strip() for line in module(name).__doc__.splitlines()}
    for variant in ("", *module(name).VARIANTS):
        config = load(f"{name}:{variant}")
        configuration.validate(config)
        from_config(config)
        if variant not in (*common.RIVALS, "twin"):
            row = f":{variant}" if variant else ""
            assert f"python train.py --config=configs/{name}.py{row}" in commands


@each_file
def test_a_rival_changes_the_mask_and_what_it_needs(name):
    main = dict(configuration.fields(load(name)))
    for rival in common.RIVALS:
        fields = dict(configuration.fields(load(f"{name}:{rival}")))
        changed = {field for field, value in fields.items() if value != main[field]}
        changed -= {"optimizer.learning_rate", "optimizer.weight_decay"}
        assert "mask.rule" in changed and all(field.startswith("mask.") for field in changed)


@pytest.mark.parametrize("row", ["fcn:best", "conv2:fast", "conv8:best", "resnet20:best"])
def test_a_twin_is_dense_by_the_same_recipe(row):
    masked, twin = load(row), load(f"{row},twin")
    from_config(twin)
    assert twin.mask.rule == "dense"
    for section in ("data", "schedule", "training"):
        assert twin[section].to_dict() == masked[section].to_dict()


@pytest.mark.parametrize("name", PAPER)
def test_main_rows_have_the_settings_of_the_paper(name):
    config = load(name)
    found = config.mask.threshold, config.optimizer.learning_rate, config.optimizer.weight_decay
    assert (*found, config.training.epochs) == PAPER[name]
    assert (config.mask.rule, config.init.kernel, config.training.batch_size) == ("signed", "elus", 128)


@pytest.mark.parametrize("name", ["conv6", "conv8"])
def test_deep_networks_start_clipped_and_forget_within_the_same_part_of_a_run(name):
    best, fast = load(f"{name}:best"), load(f"{name}:fast")
    assert best.optimizer.clip == fast.optimizer.clip == 0.5
    parts = [1 / (config.optimizer.weight_decay * config.training.epochs) for config in (best, fast)]
    assert parts[0] == pytest.approx(parts[1], rel=0.1)


def test_stored_results_are_of_the_configs_as_they_are():
    """A number in a table is what its command gives today."""
    for run in record.read(STORED).runs:
        config = load(run.setting.config.replace(".py", ""))
        summary = json.loads((STORED / f"{run.name}.json").read_text())
        requested = dict(configuration.fields(config)) | {"seed": run.seed, "seeds": run.seeds}
        requested |= {name: type(requested[name])(text) for name, text in run.setting.overrides.items()}
        stored = dict(configuration.fields(configuration.from_dict(summary["config"])))
        assert configuration.differences(requested, stored) == [], run.name


def test_variants_are_combined():
    config = load("resnet56:cifar10,batch_norm")
    assert (config.data.name, config.mask.threshold) == ("cifar10", 0.8)
    assert (config.model.normalization, config.optimizer.learning_rate) == ("batch_affine", 0.25)
    with pytest.raises(errors.InputError, match=r"variant 'batchnorm'.*did you mean 'batch_norm'\?"):
        load("resnet56:cifar10,batchnorm")


def test_a_hundred_and_twenty_epochs_on_cifar100_are_the_authors_93_840_steps():
    config = load("resnet56:batch_norm")
    steps = batches.steps_per_epoch(50_000, config.training.batch_size, config.data.passes)
    assert config.training.epochs * steps == 93_840


def test_the_default_is_the_fcn_row():
    assert load("fcn") == ssm_jax.default_config()


@pytest.mark.parametrize(
    "name",
    # Deeper networks take seconds each.
    [pytest.param(name, marks=[] if name in ("fcn", "digits") else pytest.mark.slow) for name in FILES],
)
def test_its_step_is_ready_for_gpus_and_tpus(name):
    """Several steps of its first variant's network lower for both, without what is slow there."""
    config, examples = load(name), 256
    config.cpu_products = "dense"  # those of other devices
    shape, classes = IMAGES[config.data.name]
    setup = from_config(config)
    task = setup.task(setup.network(shape, classes), examples)
    state, frozen = jax.eval_shape(task.initialize, jnp.int32(0))
    order = jax.ShapeDtypeStruct((task.steps_per_epoch, task.batch_size), jnp.int32)
    split = {
        "images": jax.ShapeDtypeStruct((examples, *shape), jnp.uint8),
        "labels": jax.ShapeDtypeStruct((examples,), jnp.int32),
    }
    data = jax.eval_shape(batches.with_statistics, split)
    graph = task.graph(training=True)

    def steps(state, frozen, order, data):
        return take_steps(task, graph, state, frozen, order, data, 2)

    steps = jax.vmap(steps, in_axes=None, out_axes=None, axis_name=BATCH_AXIS, axis_size=1)
    traced = jax.jit(steps).trace(state, frozen, order, data)
    for equation in equations(traced.jaxpr.jaxpr):
        # At a branch a GPU waits for the host; one between platforms is decided when the program is lowered.
        assert equation.primitive.name != "cond" or equation.params["branches_platforms"]
        assert "callback" not in equation.primitive.name
    convolutions = sum(len(shape) == 4 for shape in kernel_shapes(task).values())
    for platform in ("cuda", "tpu"):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        # Scatters are slow, the more so where they have to be deterministic; a TPU has one for its pools.
        slow = ("scatter",) if platform == "tpu" else ("scatter", "select_and_scatter")
        assert not any(f'stablehlo.{name}"' in program for name in slow)
        # Forward and both gradients; that of the images is for the compiler to drop.
        assert program.count("stablehlo.convolution") == 3 * convolutions


def equations(jaxpr):
    """All equations of a program, those inside others too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(equation.params, is_leaf=lambda value: hasattr(value, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)

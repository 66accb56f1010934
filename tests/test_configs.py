"""Every file in configs/ and each of its variants: the paper's settings, as literals, and its weights."""

from __future__ import annotations

import functools
import importlib
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

import ssm_jax
from ssm_jax import config as configuration
from ssm_jax import errors
from ssm_jax.data import batches
from ssm_jax.nn.networks import BATCH_AXIS
from ssm_jax.training.from_config import from_config
from ssm_jax.training.layout import kernel_shapes
from ssm_jax.training.programs import take_steps

FOLDER = pathlib.Path(__file__).parents[1] / "configs"

IMAGES = {"mnist": ((28, 28, 1), 10), "digits": ((8, 8, 1), 10)}
IMAGES |= {"cifar10": ((32, 32, 3), 10), "cifar100": ((32, 32, 3), 100)}

# rule and p, kernel and its factor, learning rate, decay, schedule, epochs.
SIGNED, DENSE = ("signed", "elus"), ("dense", "elu")
STAIRS = ("staircase", 0.96, 10.0)
TEN, FIVE = ("exponential", 0.9, 10.0), ("exponential", 0.9, 5.0)
FIFTH, TENTH = ("plateau", 0.2, 15, 5), ("plateau", 0.1, 15, 7)
IMPATIENT = ("plateau", 0.1, 10, 7)
COSINE = ("cosine",)
# The fields of each.
SCHEDULE = {
    "exponential": ("name", "factor", "epochs"),
    "staircase": ("name", "factor", "epochs"),
    "plateau": ("name", "factor", "patience", "times"),
    "cosine": ("name",),
}
ROWS = {
    "fcn": (SIGNED, 0.4, 0.05, 5e-4, TEN, 100),
    "fcn:dense": (DENSE, None, 0.01, 5e-4, TEN, 50),
    "fcn:extreme": (SIGNED, 0.6, 0.01, 5e-4, TEN, 100),
    "fcn:extreme_008_3e4": (SIGNED, 0.6, 0.008, 3e-4, TEN, 100),
    "fcn:older": (SIGNED, 0.4, 0.05, 5e-4, STAIRS, 100),
    "fcn:tuned": (SIGNED, 0.4, 0.05, 2e-4, TEN, 50),
    "fcn:best": (SIGNED, 0.4, 0.2, 1e-3, COSINE, 20),
    "fcn:fast": (SIGNED, 0.4, 0.2, 1e-3, COSINE, 5),
    "conv2": (SIGNED, 0.4, 0.04, 5e-4, TEN, 100),
    "conv2:dense": (DENSE, None, 0.008, 7e-4, FIVE, 50),
    "conv2:extreme": (SIGNED, 0.6, 0.01, 5e-4, FIVE, 100),
    "conv2:extreme_008_3e4": (SIGNED, 0.6, 0.008, 3e-4, TEN, 100),
    "conv2:older": (SIGNED, 0.4, 0.04, 5e-4, STAIRS, 100),
    "conv2:best": (SIGNED, 0.4, 0.05, 1e-3, COSINE, 50),
    "conv2:fast": (SIGNED, 0.4, 0.05, 1e-3, COSINE, 16),
    "conv4": (SIGNED, 0.4, 0.05, 5e-4, TEN, 100),
    "conv4:dense": (DENSE, None, 0.008, 7e-4, FIVE, 50),
    "conv4:extreme": (SIGNED, 0.6, 0.01, 5e-4, TEN, 100),
    "conv4:extreme_008_5e4": (SIGNED, 0.6, 0.008, 5e-4, TEN, 100),
    "conv4:extreme_008_3e4": (SIGNED, 0.6, 0.008, 3e-4, TEN, 100),
    "conv4:older": (SIGNED, 0.4, 0.05, 5e-4, STAIRS, 100),
    "conv4:best": (SIGNED, 0.4, 0.05, 1e-3, COSINE, 50),
    "conv4:fast": (SIGNED, 0.4, 0.05, 1e-3, COSINE, 16),
    "conv6": (SIGNED, 0.4, 0.05, 5e-4, TEN, 100),
    "conv6:dense": (DENSE, None, 0.01, 7e-4, FIVE, 50),
    "conv6:dense_staircase": (DENSE, None, 0.01, 7e-4, STAIRS, 50),
    "conv6:extreme": (SIGNED, 0.6, 0.01, 5e-4, TEN, 110),
    "conv6:extreme_008_5e4": (SIGNED, 0.6, 0.008, 5e-4, TEN, 100),
    "conv6:extreme_008_3e4": (SIGNED, 0.6, 0.008, 3e-4, TEN, 100),
    "conv6:older": (SIGNED, 0.4, 0.05, 5e-4, STAIRS, 100),
    "conv6:best": (SIGNED, 0.4, 0.05, 1e-3, COSINE, 50),
    "conv6:fast": (SIGNED, 0.4, 0.05, 1e-3, COSINE, 16),
    "conv8": (SIGNED, 0.4, 0.05, 5e-4, TEN, 100),
    "conv8:dense": (DENSE, None, 0.01, 7e-4, FIVE, 50),
    "conv8:dense_staircase": (DENSE, None, 0.01, 7e-4, STAIRS, 50),
    "conv8:extreme": (SIGNED, 0.6, 0.01, 5e-4, TEN, 110),
    "conv8:extreme_008_3e4": (SIGNED, 0.6, 0.008, 3e-4, TEN, 100),
    "conv8:older": (SIGNED, 0.4, 0.05, 5e-4, STAIRS, 100),
    "conv8:best": (SIGNED, 0.4, 0.05, 1e-3, COSINE, 50),
    "conv8:fast": (SIGNED, 0.4, 0.05, 1e-3, COSINE, 16),
    "resnet20": (SIGNED, 0.75, 0.3, 3e-4, FIFTH, 110),
    "resnet20:batch_norm": (SIGNED, 0.75, 0.3, 3e-4, FIFTH, 110),
    "resnet20:best": (SIGNED, 0.4, 0.2, 5e-4, COSINE, 60),
    "resnet20:dense": (DENSE, None, 0.3, 3e-4, FIFTH, 80),
    "resnet56": (SIGNED, 0.75, 0.3, 1e-4, TENTH, 110),
    "resnet56:batch_norm": (SIGNED, 0.75, 0.25, 1e-4, TENTH, 120),
    "resnet56:dense": (DENSE, None, 0.15, 1e-4, IMPATIENT, 90),
    "resnet56:cifar10": (SIGNED, 0.8, 0.15, 1e-4, TENTH, 120),
    "resnet110": (SIGNED, 0.85, 0.08, 1e-5, TENTH, 110),
    "resnet110:batch_norm": (SIGNED, 0.75, 0.1, 1e-4, TENTH, 120),
    "resnet110:dense": (DENSE, None, 0.15, 1e-4, IMPATIENT, 100),
    # No row of the paper.
    "digits": (SIGNED, 0.4, 0.2, 2e-3, COSINE, 40),
    "digits:dense": (DENSE, None, 0.05, 2e-3, COSINE, 40),
    "mcu": (SIGNED, 0.4, 0.05, 1e-3, COSINE, 60),
    "mcu:large": (SIGNED, 0.4, 0.05, 1e-3, COSINE, 60),
    "mcu:fast": (SIGNED, 0.4, 0.05, 1e-3, COSINE, 12),
}
# What a rival changes in any config: rule, its own fields, learning rate and decay (None: the config's).
TENTH_SCALED = {"density": 0.1, "rescale": 0.5}
RIVALS = {
    "binary": ("binary", {}, None, None),
    "binary_absolute": ("binary", {"relative": False, "threshold": 0.01}, None, None),
    "stochastic": ("stochastic", {"density": 0.0}, 100.0, 0.0),
    "edge_popup": ("edge_popup", TENTH_SCALED, None, 1e-5),
    "signed_topk": ("signed_topk", TENTH_SCALED, None, 1e-5),
    "biprop": ("biprop", TENTH_SCALED, None, 1e-5),
    "multicoated": ("multicoated", {"density": 0.1, "coats": 3, "rescale": 0.0}, 0.5, 1e-5),
    "2_of_4": ("n_of_m", {"density": 0.0, "n": 2, "m": 4, "rescale": 0.5}, None, 1e-5),
    "1_of_4": ("n_of_m", {"density": 0.0, "n": 1, "m": 4, "rescale": 0.5}, None, 1e-5),
    "tiles": ("tiles", TENTH_SCALED | {"side": 4}, 0.05, 1e-5),
    "sign_only": ("sign_only", {"density": 0.0}, 0.5, 1e-5),
}
# Those whose rate is another with convolutions.
CONV_RATES = {
    **dict.fromkeys(("edge_popup", "signed_topk", "biprop", "tiles"), 0.01),
    **dict.fromkeys(("2_of_4", "1_of_4"), 0.05),
    "sign_only": 0.15,
}
OLDER = {row for row in ROWS if row.endswith(":older")}
ELUS_FACTORS = dict.fromkeys(OLDER, 3.0) | {
    "fcn:tuned": 3.0,
    "resnet56:cifar10": 1.3,
    "resnet110": 1.3,
}
# The density to reach, in which share of the training, and the exponent that kernels are rescaled by.
DENSITIES = dict.fromkeys(("fcn:best", "fcn:fast"), (0.0377, 0.2, 0.25)) | {
    **dict.fromkeys(("conv2:best", "conv2:fast"), (0.006, 0.6, 0.25)),
    **dict.fromkeys(("conv4:best", "conv4:fast"), (0.029, 0.6, 0.25)),
    **dict.fromkeys(("conv6:best", "conv6:fast"), (0.0236, 0.6, 0.25)),
    **dict.fromkeys(("conv8:best", "conv8:fast"), (0.0117, 0.6, 0.25)),
    "resnet20:best": (0.21, 0.6, 0.0),
    **dict.fromkeys(("mcu", "mcu:large", "mcu:fast"), (0.4, 0.5, 0.25)),
}
AUGMENTED = {f"conv{depth}:{variant}" for depth in (2, 4, 6, 8) for variant in ("best", "fast")} | {
    "resnet20:best"
}
CLIPPED = OLDER | {"digits:dense", "conv8:best", "conv8:fast"}
ELU_SCORES = {"resnet56", "resnet110", "resnet110:batch_norm"}
NETWORKS = {"digits": "conv2", "mcu": "micro", "resnet110:dense": "resnet110_plain"}
DATA = {"fcn": "mnist", "digits": "digits", "mcu": "mnist"}  # the others: cifar10 or cifar100
CIFAR100 = {row for row in ROWS if re.match("resnet(56|110)", row)} - {"resnet56:cifar10"}
WEIGHTS = {
    "fcn": 266_200,
    "conv2": 4_300_992,
    "conv4": 2_425_024,
    "conv6": 2_261_184,
    "conv8": 5_275_840,
    "resnet20": 248_624,
    "resnet56": 834_992,
    "resnet56:cifar10": 829_232,
    "resnet110": 1_668_272,
    "resnet110:dense": 1_705_904,
    "mcu": 29_200,
    "mcu:large": 61_080,
    "digits": 9 * (32 + 32 * 32) + 512 * 128 + 128 * 128 + 128 * 10,
}
each_row = pytest.mark.parametrize("row", ROWS)
FILES = sorted({path.stem for path in FOLDER.glob("*.py")} - {"common"})
each_file = pytest.mark.parametrize("name", FILES)


def module(name):
    return importlib.import_module(f"configs.{name}")


def load(row):
    name, _, variant = row.partition(":")
    return module(name).get_config(variant)


def test_every_file_and_variant_is_in_the_table():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"common"}
    assert {row.partition(":")[0] for row in ROWS} == files
    for name in files:
        assert pathlib.Path(module(name).__file__).parent == FOLDER
        with pytest.raises(errors.InputError, match="unknown variant 'no'") as refused:
            load(f"{name}:no")
        allowed = str(refused.value).partition("(allowed: ")[2].rstrip(")")
        variants = {row.partition(":")[2] for row in ROWS if row.startswith(f"{name}:")}
        assert set(filter(None, allowed.split(", "))) - {"twin"} == variants | set(RIVALS)


@pytest.mark.parametrize("row", ["fcn:best", "conv2:fast", "conv8:best", "resnet20:best"])
def test_a_twin_is_dense_by_the_same_recipe(row):
    masked, twin = load(row), load(f"{row},twin")
    from_config(twin)
    assert twin.mask.rule == "dense"
    for section in ("data", "schedule", "training"):
        assert twin[section].to_dict() == masked[section].to_dict()


@each_row
def test_settings(row):
    config = load(row)
    configuration.validate(config)
    from_config(config)
    name = row.partition(":")[0]
    (rule, kernel), threshold, learning_rate, decay, schedule, epochs = ROWS[row]
    assert (config.mask.rule, config.init.kernel) == (rule, kernel)
    if rule == "signed":
        assert config.mask.threshold == threshold
        assert config.init.elus_factor == ELUS_FACTORS.get(row, 1.5)
        assert config.init.score == ("elu" if row in ELU_SCORES else "xavier_uniform")
    else:
        assert config.init.elu_factor == 0.75
    assert (config.mask.density, config.mask.ramp, config.mask.rescale) == DENSITIES.get(row, (0, 0.2, 0))
    found = config.optimizer
    assert (found.name, found.momentum) == ("nesterov", 0.9)
    assert (found.learning_rate, found.weight_decay) == (learning_rate, decay)
    assert tuple(config.schedule[field] for field in SCHEDULE[schedule[0]]) == schedule
    assert config.training.epochs == epochs
    assert config.training.batch_size == (16 if name == "digits" else 128)
    assert config.training.precision == "float32"
    cifar100 = row in CIFAR100
    assert config.data.name == ("cifar100" if cifar100 else DATA.get(name, "cifar10"))
    # On CIFAR-100 the authors augment, and count two passes as an epoch.
    crops = "crop_flip" if cifar100 or row in AUGMENTED else "none"
    assert config.data.augment == ("affine" if name == "mcu" else crops)
    assert config.data.passes == (2 if cifar100 else 1)
    # The older recipe takes the data as it comes.
    assert config.data.shuffle == (row not in OLDER)
    assert config.optimizer.clip == (0.5 if row in CLIPPED else 0)
    assert config.data.validation == 0
    assert config.model.name == NETWORKS.get(row, NETWORKS.get(name, name))
    everywhere = rule == "dense" or row.endswith(":batch_norm")
    normalization = "batch_affine" if everywhere else "batch" if row == "resnet20:best" else "paper"
    assert config.model.normalization == (normalization if name.startswith("resnet") else "none")
    assert config.optimizer.decay_normalization == (row != "resnet20:best")
    assert config.model.width == {"digits": 0.5, "digits:dense": 0.5, "mcu:large": 1.5}.get(row, 1)
    assert (config.seed, config.seeds) == (0, 1)


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("name", sorted({row.partition(":")[0] for row in ROWS}))
def test_a_rival_changes_the_mask_and_what_it_needs(name, rival):
    rule, settings, learning_rate, decay = RIVALS[rival]
    if name.startswith(("conv", "mcu")):
        learning_rate = CONV_RATES.get(rival, learning_rate)
    main, config = load(name), load(f"{name}:{rival}")
    configuration.validate(config)
    from_config(config)
    changed = {"mask.rule": rule} | {f"mask.{field}": value for field, value in settings.items()}
    own = {"optimizer.learning_rate": learning_rate, "optimizer.weight_decay": decay}
    changed |= {field: value for field, value in own.items() if value is not None}
    assert config == configuration.override(main, changed)


@functools.cache
def weights(network, width, rule, data):
    config = configuration.default()
    config.model.name, config.model.width, config.mask.rule = network, width, rule
    setup = from_config(config)
    task = setup.task(setup.network(*IMAGES[data]), 50_000)
    return sum(map(math.prod, kernel_shapes(task).values()))


@each_row
def test_its_network_has_the_papers_weights(row):
    config, name = load(row), row.partition(":")[0]
    found = weights(config.model.name, config.model.width, config.mask.rule, config.data.name)
    assert found == WEIGHTS.get(row, WEIGHTS[name])


@each_file
def test_the_docstring_names_the_command_of_every_variant(name):
    for row in ROWS:
        if row.partition(":")[0] == name:
            command = f"python train.py --config=configs/{name}.py{row.removeprefix(name)}"
            assert any(line.split("#")[0].strip() == command for line in module(name).__doc__.splitlines())


def test_variants_are_combined():
    config = load("resnet56:cifar10,batch_norm")
    assert (config.data.name, config.mask.threshold) == ("cifar10", 0.8)
    assert (config.model.normalization, config.optimizer.learning_rate) == ("batch_affine", 0.25)
    with pytest.raises(errors.InputError, match=r"variant 'batchnorm'.*did you mean 'batch_norm'\?"):
        load("resnet56:cifar10,batchnorm")


def test_a_hundred_and_twenty_epochs_on_cifar100_are_the_authors_93_840_steps():
    config = load("resnet56:batch_norm")
    setup = from_config(config)
    task = setup.task(setup.network(*IMAGES["cifar100"]), 50_000)
    assert config.training.epochs * task.steps_per_epoch == 93_840


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

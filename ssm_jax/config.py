"""Every setting of a run: its default, its meaning and the values it may take.

`default()` is the paper's FCN on MNIST; the files in `configs/` start from it and override a few
fields. `validate` is called before anything slow starts.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from ssm_jax import errors

DENSE = "dense"

# By a variant's name, the dotted fields that it changes and their values.
Variants = Mapping[str, Mapping[str, Any]]

_PRECISIONS = ("float32", "bfloat16")

# Fields that may differ when a run is resumed: they change a network of this library by rounding at most.
# (What a layer of one's own draws depends on `parallel`; the best state is one of an epoch that is logged.)
RESUME_SAFE_FIELDS = (
    "parallel",
    "profile",
    "compilation_cache",
    "cpu_products",
    "data.dir",
    "training.steps_per_call",
    "logging.eval_every_epochs",
    "logging.masks",
    "checkpoint.save_every_seconds",
)

# What fields were called when older runs were stored.
_FORMER_NAMES = {
    "mask.ramp": "mask.density_ramp",
    "schedule.epochs": "schedule.decay_epochs",
    "schedule.times": "schedule.max_reductions",
    "logging.epochs": "logging.eval_every_epochs",
    "checkpoint.seconds": "checkpoint.save_every_seconds",
}


def default() -> ConfigDict:
    """Make the settings of the paper's FCN on MNIST, locked; fields are explained beside their defaults."""
    config = ConfigDict()
    config.seed = 0  # of the first network
    config.seeds = 1  # how many networks: seed, seed + 1, ...
    # What the devices share: 'data' (every device trains on its part of the batch), 'seeds' (every
    # device trains networks of its own), or 'auto': data for one seed, else seeds.
    config.parallel = "auto"
    config.profile = False  # write a trace of some steps to <workdir>/profile
    config.compilation_cache = "auto"  # a folder; 'auto' is in the user's cache directory, '' is off

    # What computes the products of layers on a CPU. 'auto': our own at the cost of the weights that remain,
    # or XLA where there is no C++ compiler; 'sparse': our own, or an error; 'dense': XLA, as on a GPU.
    config.cpu_products = "auto"
    # In what our own multiply for a kernel's gradient: 'float32', or 'bfloat16', which is not always faster.
    config.cpu_gradient = "float32"

    config.model = ConfigDict()
    config.model.name = "fcn"  # see ssm_jax.nn.networks.NETWORKS
    config.model.width = 1.0  # multiplies every hidden layer
    config.model.normalization = "none"  # of ResNets: 'none', 'paper', 'batch', 'batch_affine'

    config.mask = ConfigDict()
    config.mask.rule = "signed"  # see ssm_jax.core.RULES, or 'dense': no mask, the kernel is trained
    config.mask.threshold = 0.4  # share of the largest initial score of the layer, p in the paper
    config.mask.relative = True  # or the threshold is in the units of the scores
    # Share of weights that remain; top-k rules need one. Thresholds move to reach it; 0: they stay.
    config.mask.density = 0.0
    config.mask.density_ramp = 0.2  # share of the training after which thresholds have reached that density
    config.mask.floor = 0.0  # least share of every layer under a density that thresholds reach
    config.mask.budget = "global"  # what such a density is a share of: 'global' or 'layer', of each layer
    config.mask.coats = 3  # of 'multicoated'
    config.mask.n = 2  # of 'n_of_m': how many remain ...
    config.mask.m = 4  # ... of so many neighbors along the input axis
    config.mask.side = 4  # of the blocks of 'tiles'
    config.mask.rescale = 0.0  # a: kernels are multiplied by density^-a of the layer's mask

    config.init = ConfigDict()
    config.init.kernel = "elus"  # see ssm_jax.core.initializers.kernel_initializer
    config.init.elus_factor = 1.5  # on He's variance
    config.init.elu_factor = 0.75  # likewise, of 'elu'
    config.init.score = "xavier_uniform"  # see ssm_jax.core.initializers.score_initializer

    config.data = ConfigDict()
    # 'digits', a TFDS name, the path of an .npz file, or a folder train/<class>/*.png: a path that ends in /
    config.data.name = "mnist"
    config.data.dir = ""  # '' is $TFDS_DATA_DIR or ~/tensorflow_datasets
    # Once standardized: 'crop_flip' pads by 4, crops and flips; 'affine' turns, scales and shifts.
    config.data.augment = "none"
    config.data.passes = 1  # through the training set in an epoch
    config.data.shuffle = True  # every pass anew; or the order of the data set, always the same
    config.data.validation = 0.0  # share of the training set that is held out
    config.data.test = 0.0  # share of it that is the test set, of data that has none
    config.data.image_size = 0  # of a folder: the side to which images are cut and resized; 0: as they are
    config.data.channels = 0  # of a folder: 1 is gray, 3 color, 0 as they are
    # Images stay on disk and are read while others are trained on: for data larger than memory, in a folder
    # or in a TFDS dataset prepared as array_record.
    config.data.stream = False

    config.optimizer = ConfigDict()
    config.optimizer.name = "nesterov"  # 'nesterov', 'sgd' or 'adam'
    config.optimizer.learning_rate = 0.05
    config.optimizer.weight_decay = 5e-4  # not multiplied by the learning rate
    config.optimizer.momentum = 0.9
    # Scales, offsets and biases decay too, as the paper's authors have it; or only scores and kernels.
    config.optimizer.decay_normalization = True
    config.optimizer.clip = 0.0  # largest L2 norm of a variable's gradient; 0 clips nothing

    config.schedule = ConfigDict()
    config.schedule.name = "exponential"  # see ssm_jax.training.optimizer.schedule
    config.schedule.factor = 0.9  # of 'exponential', 'staircase' and 'plateau'
    config.schedule.decay_epochs = 10.0  # in which 'exponential' and 'staircase' apply it once
    config.schedule.patience = 15  # of 'plateau': how many bad epochs it bears
    config.schedule.max_reductions = 5  # of 'plateau': training stops with this reduction

    config.training = ConfigDict()
    config.training.epochs = 100
    config.training.batch_size = 128  # over all devices
    config.training.precision = "float32"  # of the computation, or 'bfloat16'; scores stay float32
    config.training.steps_per_call = 0  # 0: an epoch, or one step for convolutions on a CPU
    config.training.seeds_per_device = 0  # trained side by side; 0: by network and device

    config.logging = ConfigDict()
    config.logging.eval_every_epochs = 1  # evaluate and report every so many epochs, and after the last
    config.logging.masks = False  # also write the masks to <workdir>/masks, and those before training

    config.checkpoint = ConfigDict()
    config.checkpoint.save_every_seconds = 300.0  # save so often; always at the end
    config.checkpoint.best = False  # also keep the state with the best (mean) validation accuracy
    return config.lock()


def override(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """Change fields of a config by their dotted names, in place; returns it.

    A mask rule of one's own checks settings of its own, such as `mask.temperature`, when it is made.

    Raises:
      InputError: A field is unknown or a value is of another type; names the nearest field.

    Examples:
      >>> override(default(), {"training.epochs": 3}).training.epochs
      3
    """
    known = dict(fields(config))
    for name, value in values.items():
        if name in known:
            _check_type(name, value, known[name])
        elif not _is_of_a_rule(name, value):
            raise errors.unknown("config field", name, known)
    with config.unlocked():
        config.update_from_flattened_dict(values)
    return config


def _is_of_a_rule(name: str, value: object) -> bool:
    """Whether a field may be a setting of a mask rule of one's own, which says so when it is made."""
    section, _, setting = name.partition(".")
    return section == "mask" and setting.isidentifier() and isinstance(value, bool | int | float | str)


def parse(
    config: ConfigDict, texts: Mapping[str, str], of_rule: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Read values that were written as text, each by the type of its field, for `override`.

    Args:
      of_rule: The settings of a mask rule of one's own and their defaults, which the config may lack.

    Raises:
      InputError: A field is unknown, or a text is no value of its type.

    Examples:
      >>> parse(default(), {"training.epochs": "3", "data.shuffle": "false"})
      {'training.epochs': 3, 'data.shuffle': False}
    """
    known = {**(of_rule or {}), **dict(fields(config))}
    booleans = {"true": True, "false": False}
    values = {}
    for name, text in texts.items():
        kind = type(errors.choose("config field", name, known))
        try:
            values[name] = booleans[text.lower()] if kind is bool else kind(text)
        except (KeyError, ValueError) as error:
            raise errors.InputError(
                f"config.{name} is {reprlib.repr(text)}; it must be of type {kind.__name__}"
            ) from error
    return values


def with_variant(config: ConfigDict, names: str | None, variants: Variants) -> ConfigDict:
    """Apply variants' overrides to a config, in place; returns it.

    `names` stands behind the colon of `--config=configs/resnet56.py:cifar10,batch_norm`: none, one or
    several, of which a later one overrides an earlier one.

    Raises:
      InputError: A variant is unknown.
    """
    for name in names.split(",") if names else ():
        if not variants:
            raise errors.InputError(f"unknown variant {name!r}: this config has none")
        override(config, errors.choose("variant", name, variants))
    return config


def fields(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Go through the fields of a config by their dotted names, in order."""
    for name in sorted(config):
        if isinstance(config[name], ConfigDict):
            yield from fields(config[name], f"{prefix}{name}.")
        else:
            yield prefix + name, config[name]


# Which values are allowed, and how to say so.
_Range = tuple[Callable[[float], bool], str]

_POSITIVE: _Range = (lambda value: value > 0, "above 0")
_NATURAL: _Range = (lambda value: value >= 1, "at least 1")
_NOT_NEGATIVE: _Range = (lambda value: value >= 0, "at least 0")
_SHARE: _Range = (lambda value: 0 <= value < 1, "at least 0 and below 1")

_RANGES: dict[str, _Range] = {
    "seed": (lambda seed: 0 <= seed < 2**31, "0 to 2147483647"),
    # Every one has its files: a number that nobody waits for would only be a mistake.
    "seeds": (lambda seeds: 1 <= seeds <= 100_000, "1 to 100000"),
    "model.width": _POSITIVE,
    "mask.density_ramp": (lambda share: 0 <= share <= 1, "0 to 1"),
    "init.elus_factor": _POSITIVE,
    "init.elu_factor": _POSITIVE,
    "data.passes": _NATURAL,
    "data.validation": _SHARE,
    "data.test": _SHARE,
    "data.image_size": (lambda side: 0 <= side <= 4096, "0 to 4096"),
    "data.channels": (lambda channels: channels in (0, 1, 3), "0, 1 or 3"),
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.weight_decay": _SHARE,
    "optimizer.momentum": _SHARE,
    "optimizer.clip": _NOT_NEGATIVE,
    "schedule.factor": (lambda factor: 0 < factor < 1, "above 0 and below 1"),
    "schedule.decay_epochs": (lambda epochs: 0 < epochs <= 1e6, "above 0 and at most 1000000"),
    # It looks `patience - 2` epochs back, whose losses the state holds.
    "schedule.patience": (lambda epochs: 3 <= epochs <= 10_000, "3 to 10000"),
    "schedule.max_reductions": (lambda times: 1 <= times <= 10_000, "1 to 10000"),
    "training.epochs": _NATURAL,
    "training.batch_size": _NATURAL,
    "training.steps_per_call": _NOT_NEGATIVE,
    "training.seeds_per_device": _NOT_NEGATIVE,
    "logging.eval_every_epochs": _NATURAL,
    "checkpoint.save_every_seconds": _POSITIVE,
}


_NAMES = {
    "training.precision": _PRECISIONS,
    "data.augment": ("none", "crop_flip", "affine"),
    "parallel": ("auto", "data", "seeds"),
    "cpu_products": ("auto", "dense", "sparse"),
    "cpu_gradient": _PRECISIONS,
}


def _check_type(name: str, value: object, default: object) -> None:
    kind = type(default)
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    # An integer beyond 2**53 is not every time a float.
    if not fits and not (kind is float and type(value) is int and abs(value) <= 2**53):
        raise errors.InputError(f"config.{name} is {reprlib.repr(value)}; it must be of type {kind.__name__}")


def validate(config: ConfigDict) -> None:
    """Check every field of a config, by itself and against the others.

    What a config names, such as a network, is checked by `training.from_config`.

    Raises:
      InputError: An unknown, missing or ill-typed field, a value that is not allowed, or settings
        that contradict each other. One line, with the nearest valid name.
    """
    allowed, values = dict(fields(default())), dict(fields(config))
    for name, value in values.items():
        if name not in allowed and not _is_of_a_rule(name, value):
            raise errors.unknown("config field", name, allowed)
    for name, value in allowed.items():
        if name not in values:
            raise errors.InputError(f"config field {name!r} is missing (default: {value!r})")
        _check_type(name, values[name], value)
    for name, value in values.items():
        inside, allowed_range = _RANGES.get(name, (lambda _: True, "a finite number"))
        if (isinstance(value, float) and not math.isfinite(value)) or not inside(value):
            raise errors.out_of_range(f"config.{name}", value, allowed_range)
        if name in _NAMES and value not in _NAMES[name]:
            raise errors.unknown(f"config.{name}", value, _NAMES[name])
    if config.cpu_gradient != "float32" and config.cpu_products == "dense":
        raise errors.InputError(
            "config.cpu_gradient='bfloat16' needs products that are not XLA's: set config.cpu_products='auto'"
        )
    if config.checkpoint.best and not config.data.validation:
        raise errors.InputError(
            "config.checkpoint.best=True needs a validation split: set config.data.validation above 0"
        )
    if config.seed + config.seeds > 2**31:
        raise errors.InputError(f"config.seed {config.seed} + config.seeds {config.seeds} exceeds 2147483648")


def differences(requested: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """List the fields that differ and change the result: `optimizer.momentum: 0.9 requested, 0.8 stored`."""
    names = sorted({*requested, *stored} - set(RESUME_SAFE_FIELDS))
    return [
        f"{name}: {requested.get(name)!r} requested, {stored.get(name)!r} stored"
        for name in names
        if requested.get(name) != stored.get(name)
    ]


def from_dict(values: object) -> ConfigDict:
    """Rebuild a whole, valid config from its `to_dict()`, such as JSON gives it.

    A field that is younger than the values gets its default, which has to be what runs did before.

    Raises:
      InputError: Values that are no config: an unknown field, a value of another type or out of range.
    """
    config = default()
    override(config, dict(_flattened(values, config)))
    validate(config)
    return config


def _flattened(values: object, sections: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(values, Mapping):
        name = f"config.{prefix}".removesuffix(".")
        raise errors.InputError(f"{name} is {reprlib.repr(values)}; it must hold fields by name")
    for name, value in values.items():
        if "." in name:  # `override` would take it for the field of a section
            raise errors.InputError(f"config holds {prefix + name!r} in one name; a field is in its section")
        inner = sections.get(name)
        if isinstance(inner, ConfigDict):
            yield from _flattened(value, inner, f"{prefix}{name}.")
        else:
            yield _FORMER_NAMES.get(prefix + name, prefix + name), value

"""The defaults, the range of every field, settings that contradict each other, and the JSON of a config."""

from __future__ import annotations

import json
import math

import pytest
from ml_collections import ConfigDict

from ssm_jax import config as configuration
from ssm_jax import errors

# Of some numbers: the ends of the range, and values that are not allowed.
RANGES = {
    "seed": ([0, 2**31 - 2], [-1, 2**31]),
    "seeds": ([1, 100_000], [0, -1, 100_001]),
    "model.width": ([1e-3, 3.5, 2], [0.0, -1.0]),
    "mask.density_ramp": ([0.0, 1.0], [-0.1, 1.1]),
    "data.validation": ([0.0, 0.99], [-0.1, 1.0]),
    "data.channels": ([0, 1, 3], [-1, 2, 4]),
    "schedule.factor": ([0.01, 0.99], [0.0, 1.0]),
    "schedule.decay_epochs": ([0.5, 1e6], [0.0, 1e20]),
    "schedule.patience": ([3, 10_000], [2, 3 * 10**9]),
    "training.epochs": ([1, 1000], [0, -1]),
}
NAMES = {
    "parallel": (("auto", "data", "seeds"), "dta"),
    "data.augment": (("none", "crop_flip", "affine"), "crop"),
    "training.precision": (("float32", "bfloat16"), "float16"),
}


def changed(**values) -> ConfigDict:
    """The default with some dotted fields changed, whatever their types."""
    config = configuration.default()
    with config.ignore_type():
        config.update_from_flattened_dict({name.replace("__", "."): value for name, value in values.items()})
    return config


def fault(config) -> str:
    with pytest.raises(errors.InputError) as caught:
        configuration.validate(config)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_default_is_the_papers_fcn_on_mnist_and_locked():
    config = configuration.default()
    configuration.validate(config)
    assert (config.model.name, config.data.name, config.mask.rule) == ("fcn", "mnist", "signed")
    with pytest.raises(AttributeError):
        config.model.nmae = "fcn"
    assert configuration.default() is not configuration.default()


def test_numbers_have_a_range():
    for name, (good, bad) in RANGES.items():
        for value in good:
            configuration.validate(changed(**{name: value}))
        for value in bad:
            message = fault(changed(**{name: value}))
            assert message.startswith(f"config.{name} is {value!r}; allowed is ")


def test_every_number_is_finite():
    for name, default in configuration.fields(configuration.default()):
        if isinstance(default, float):
            for value in (math.nan, math.inf, -math.inf):
                assert f"config.{name} is {value!r}" in fault(changed(**{name: value}))


@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    allowed, wrong = NAMES[name]
    for value in allowed:
        configuration.validate(changed(**{name: value}))
    message = fault(changed(**{name: wrong}))
    assert repr(wrong) in message
    assert "did you mean" in message
    for value in allowed:
        assert value in message


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("seeds", 1.0, "int"),
        ("seeds", True, "int"),
        ("model.width", "2", "float"),
        ("model.name", 2, "str"),
        ("profile", 1, "bool"),
        ("data.dir", None, "str"),
        ("training.epochs", [100], "int"),
    ],
)
def test_types(name, value, kind):
    assert f"config.{name} is {value!r}; it must be of type {kind}" in fault(changed(**{name: value}))


def test_an_unknown_field_names_the_nearest():
    config = configuration.default()
    with config.unlocked():
        config.optimizer.learning_rat = 0.1
    assert "config field 'optimizer.learning_rat'; did you mean 'optimizer.learning_rate'?" in fault(config)


def test_a_part_that_was_replaced_lacks_fields():
    config = configuration.default()
    config.model = ConfigDict({"name": "fcn", "width": 1.0})
    assert fault(config) == "config field 'model.normalization' is missing (default: 'none')"
    config = configuration.default()
    with config.ignore_type():
        config.model = "fcn"
    assert "unknown config field 'model'" in fault(config)


def test_the_best_state_needs_a_validation_split():
    assert "set config.data.validation above 0" in fault(changed(checkpoint__best=True))
    configuration.validate(changed(checkpoint__best=True, data__validation=0.1))


def test_the_last_seed_is_in_range():
    configuration.validate(changed(seed=2**31 - 5, seeds=5))
    assert "config.seed 2147483643 + config.seeds 6 exceeds" in fault(changed(seed=2**31 - 5, seeds=6))


def test_variants():
    variants = {"wide": {"model.width": 2.0, "mask.threshold": 0.6}, "dense": {}}
    config = configuration.default()
    assert configuration.with_variant(config, "wide", variants) is config
    assert (config.model.width, config.mask.threshold) == (2.0, 0.6)
    for none in ("", None):
        assert configuration.with_variant(configuration.default(), none, variants) == configuration.default()
    with pytest.raises(errors.InputError, match=r"variant 'dens'.*did you mean 'dense'\?"):
        configuration.with_variant(config, "dens", variants)
    with pytest.raises(errors.InputError, match="unknown variant 'wide': this config has none"):
        configuration.with_variant(config, "wide", {})


def test_of_several_variants_the_later_one_overrides():
    variants = {"wide": {"model.width": 2.0, "mask.threshold": 0.6}, "half": {"model.width": 0.5}}
    found = {}
    for names in ("wide,half", "half,wide"):
        config = configuration.with_variant(configuration.default(), names, variants)
        found[names] = config.model.width, config.mask.threshold
    assert found == {"wide,half": (0.5, 0.6), "half,wide": (2.0, 0.6)}
    for names in ("wide,", ",wide", "wide,half,tall", "wide half"):
        with pytest.raises(errors.InputError, match="unknown variant"):
            configuration.with_variant(configuration.default(), names, variants)


def test_fields_are_dotted_and_in_order():
    config = ConfigDict({"b": 1, "a": {"d": 2, "c": {"e": 3}}})
    assert list(configuration.fields(config)) == [("a.c.e", 3), ("a.d", 2), ("b", 1)]


def test_differences_ignores_what_does_not_change_a_result():
    requested = dict(configuration.fields(configuration.default()))
    assert configuration.differences(requested, dict(requested)) == []
    neutral = {
        "parallel": "seeds",
        "profile": True,
        "compilation_cache": "",
        "data.dir": "/elsewhere",
        "training.steps_per_call": 7,
        "logging.eval_every_epochs": 5,
        "checkpoint.save_every_seconds": 1.0,
    }
    assert configuration.differences(requested, requested | neutral) == []
    assert set(neutral) <= set(requested)


def test_differences_names_every_other_field():
    requested = dict(configuration.fields(configuration.default()))
    neutral = {
        name for name in requested if not configuration.differences(requested, requested | {name: "changed"})
    }
    assert neutral == set(configuration.RESUME_SAFE_FIELDS)
    stored = requested | {"optimizer.learning_rate": 0.1, "seed": 3}
    assert configuration.differences(requested, stored) == [
        "optimizer.learning_rate: 0.05 requested, 0.1 stored",
        "seed: 0 requested, 3 stored",
    ]


def test_overriding_changes_fields_by_their_dotted_names():
    config = configuration.override(configuration.default(), {"model.width": 2, "data.name": "digits"})
    assert config.model.width == 2.0 and config.data.name == "digits" and config.is_locked


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model.widht": 2.0}, "did you mean 'model.width'"),
        ({"model": 2.0}, "unknown config field 'model'"),
        ({"model.width": "2"}, "config.model.width is '2'; it must be of type float"),
        ({"model.width": 10**400}, "it must be of type float"),
    ],
)
def test_overriding_what_is_not_there_or_with_another_type(values, message):
    with pytest.raises(errors.InputError, match=message) as caught:
        configuration.override(configuration.default(), values)
    assert len(str(caught.value)) < 200


def test_a_config_comes_back_from_its_json():
    config = changed(model__width=2.5, data__name="cifar10", checkpoint__save_every_seconds=1e-3)
    again = configuration.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.is_locked
    configuration.validate(again)


def test_fields_that_a_stored_config_lacks_get_their_defaults():
    values = changed(model__width=2.5).to_dict()
    del values["mask"]["threshold"], values["schedule"], values["profile"]
    assert configuration.from_dict(values) == changed(model__width=2.5)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "config is []; it must hold fields by name"),
        (None, "config is None"),
        ({"training": 3}, "config.training is 3; it must hold fields by name"),
        ({"training": {"epochs": "3"}}, "config.training.epochs is '3'; it must be of type int"),
        ({"training": {"epochs": -3}}, "config.training.epochs is -3; allowed is at least 1"),
        ({"training": {"epoch": 3}}, "did you mean 'training.epochs'"),
        ({"training.epochs": 7}, "config holds 'training.epochs' in one name; a field is in its section"),
        ({"optimizer": {"momentum": math.nan}}, "config.optimizer.momentum is nan"),
        ({"seed": nested(5000)}, "config.seed is [[["),
        ({"seed": {"x": 1}}, "config.seed is {'x': 1}; it must be of type int"),
    ],
)
def test_what_is_no_config_is_refused_in_one_line(values, message):
    with pytest.raises(errors.InputError) as caught:
        configuration.from_dict(values)
    text = str(caught.value)
    assert message in text and "\n" not in text and len(text) < 300


def test_fields_of_older_runs_are_read_by_their_former_names():
    values = configuration.default().to_dict()
    values["mask"]["ramp"] = values["mask"].pop("density_ramp") + 0.1
    values["schedule"]["times"] = values["schedule"].pop("max_reductions") + 1
    values["schedule"]["epochs"] = values["schedule"].pop("decay_epochs") + 1
    values["logging"]["epochs"] = values["logging"].pop("eval_every_epochs") + 1
    values["checkpoint"]["seconds"] = values["checkpoint"].pop("save_every_seconds") + 1
    read, default = configuration.from_dict(values), configuration.default()
    assert read.mask.density_ramp == default.mask.density_ramp + 0.1
    assert read.schedule.max_reductions == default.schedule.max_reductions + 1
    assert read.schedule.decay_epochs == default.schedule.decay_epochs + 1
    assert read.logging.eval_every_epochs == default.logging.eval_every_epochs + 1
    assert read.checkpoint.save_every_seconds == default.checkpoint.save_every_seconds + 1

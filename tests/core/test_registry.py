"""A rule of one's own takes settings of its own from the config, without an edit of the package."""

from __future__ import annotations

import dataclasses

import jax
import pytest

from ssm_jax import config, core, errors


@dataclasses.dataclass(frozen=True)
class Soft(core.Rule):
    """A mask between 0 and 1."""

    temperature: float = 1.0

    def mask(self, scores, state, key=None):
        return jax.nn.sigmoid(scores / self.temperature)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(core.RULES, "soft", Soft)


def test_a_setting_of_ones_own_reaches_the_rule_and_comes_back_with_a_stored_config():
    settings = config.override(config.default(), {"mask.rule": "soft", "mask.temperature": 3.0})
    config.validate(settings)
    assert core.by_name("soft", settings.mask) == Soft(temperature=3.0)
    again = config.from_dict(settings.to_dict())
    assert again.mask.temperature == 3.0 and dict(config.fields(again)) == dict(config.fields(settings))


def test_a_setting_that_no_rule_has_is_refused_with_the_nearest():
    settings = config.override(config.default(), {"mask.rule": "soft", "mask.temprature": 3.0})
    with pytest.raises(errors.InputError, match=r"'mask\.temprature'; did you mean 'mask\.temperature'"):
        core.by_name("soft", settings.mask)
    with pytest.raises(errors.InputError, match="unknown config field"):
        config.override(config.default(), {"model.temperature": 3.0})

"""What a rule of one's own lacks is named."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import pytest

from ssm_jax import core, errors


@dataclasses.dataclass(frozen=True)
class Empty(core.Rule):
    """Forgets the one method that it must have."""


class Loose:
    """Is no subclass of the contract, and has half of it."""

    def init(self, scores):
        return {}

    def mask(self, scores, state, key=None):
        return jnp.ones_like(scores)


@pytest.mark.parametrize(("rule", "lacking"), [(Empty(), "mask"), (Loose(), "kernel, count")])
def test_what_a_rule_lacks_is_named(rule, lacking):
    with pytest.raises(errors.InputError, match=f"{type(rule).__name__} lacks {lacking}; a subclass"):
        core.Masking(rule=rule)

"""Masks: what turns trainable scores into the mask that multiplies a frozen kernel.

`RULES` names every rule that a config may ask for; a rule of one's own joins by an entry there, or is handed
to `ssm_jax.Masking` as an object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

from ml_collections import ConfigDict

from ssm_jax import errors
from ssm_jax.config import DENSE
from ssm_jax.masks.rule import Counts, Rule, State, count, straight_through
from ssm_jax.masks.threshold import Binary, Signed

__all__ = ["RULES", "Binary", "Counts", "Rule", "Signed", "State", "by_name", "count", "straight_through"]

RULES: dict[str, Callable[..., Rule]] = {"signed": Signed, "binary": Binary}


def by_name(name: str, settings: ConfigDict | None = None) -> Rule | None:
    """Make the rule of a name; the one place where `dense` becomes no mask.

    Args:
      name: A key of `RULES`, or `dense`.
      settings: `config.mask`; its fields that the rule has too become the rule's. None leaves its defaults.

    Returns:
      The rule, or None for a dense network whose kernels are trained.

    Raises:
      InputError: The name is unknown, or a setting out of range.
    """
    made = errors.choose("mask rule", name, {**RULES, DENSE: None})
    if made is None:
        return None
    fields = {field.name for field in dataclasses.fields(cast(Any, made))}
    try:
        return made(**{name: value for name, value in (settings or {}).items() if name in fields})
    except errors.InputError as error:  # of a setting, by the rule's own name of it
        raise errors.InputError(f"config.mask.{error}") from error

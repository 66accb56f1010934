"""How kernels are drawn and masked."""

from __future__ import annotations

import dataclasses
import reprlib

import jax.numpy as jnp
from jax.typing import DTypeLike

from ssm_jax import errors
from ssm_jax.core.blocks import Blocks, in_blocks
from ssm_jax.core.initializers import Initializer, elus, xavier_uniform
from ssm_jax.core.registry import by_name
from ssm_jax.core.rule import Rule
from ssm_jax.core.structured import Structured
from ssm_jax.core.threshold import Signed

_METHODS = ("init", "mask", "kernel", "count")


@dataclasses.dataclass(frozen=True)
class Masking:
    """How a layer's kernel is drawn and masked; one object serves a whole network.

    Attributes:
      rule: A mask rule, the name of one in `ssm_jax.core.RULES`, or None for a dense layer whose kernel is
        trained.
      kernel_init: Initializer of the kernel; the paper's ELUS by default.
      score_init: Initializer of the scores.
      dtype: Compute dtype of the effective kernel and of the layer's output, float32 or bfloat16; kernels and
        scores are always kept in float32.

    Raises:
      InputError: There is no rule of that name, a rule or an initializer is none, or a rule lacks a method.
    """

    rule: Rule | str | None = Signed()
    kernel_init: Initializer = elus()
    score_init: Initializer = xavier_uniform()
    dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        if isinstance(self.rule, str):
            object.__setattr__(self, "rule", by_name(self.rule))
        elif self.rule is not None:
            _check(self.rule)
        for name in ("kernel_init", "score_init"):
            if not callable(init := getattr(self, name)):
                raise errors.InputError(f"{name} is {reprlib.repr(init)}; it must be an initializer")

    def for_kernel(self, blocks: Blocks | None, dtype: DTypeLike) -> Masking:
        """Fit it to a kernel whose axes have other meanings than `(..., I, O)`.

        Args:
          blocks: What its axes mean; None where they are these.
          dtype: Compute dtype of the effective kernel.
        """
        rule = self.rule
        if isinstance(rule, Structured):
            rule = dataclasses.replace(rule, blocks=blocks)
        return dataclasses.replace(
            self,
            rule=rule,
            kernel_init=in_blocks(self.kernel_init, blocks),
            score_init=in_blocks(self.score_init, blocks),
            dtype=dtype,
        )


def _check(rule: Rule) -> None:
    kind = type(rule)
    lacking = [name for name in _METHODS if not callable(getattr(kind, name, None))]
    if isinstance(rule, type) or len(lacking) == len(_METHODS):
        raise errors.InputError(f"rule is {reprlib.repr(rule)}; it must be a Rule, its name or None")
    try:
        hash(rule)
    except TypeError as error:
        raise errors.InputError(f"the rule can't be hashed: {error} (freeze its dataclass)") from error
    if getattr(kind, "mask", None) is Rule.mask:
        lacking.append("mask")  # inherited from the contract, where it does nothing
    if lacking:
        raise errors.InputError(
            f"the rule {kind.__name__} lacks {', '.join(lacking)}; a subclass of Rule needs only `mask`"
        )

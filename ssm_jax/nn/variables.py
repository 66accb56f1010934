"""The types of variables that tell apart what a masked layer holds, and the parts of a model by them.

`split` gives what is trained (`Score`), what is frozen (`Kernel`, or `Signs` and `Constant`) and the rest
(`RuleState`, statistics).
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from flax import nnx


class Frozen(nnx.Variable):
    """What is drawn once and never trained."""


class Kernel(Frozen):
    """A frozen random kernel, float32, shape `(..., I, O)`."""


class Signs(Frozen):
    """The signs of a frozen kernel of signed constants, int8, shape `(..., I, O)`."""


class Constant(Frozen):
    """The size of every weight of a kernel of signed constants, a float32 scalar."""


class Score(nnx.Param):
    """The trainable scores of a layer, float32, in the shape of its kernel."""


class RuleState(nnx.Variable):
    """What a layer's mask rule keeps beside the scores, for example a threshold."""


class ModelSplit(NamedTuple):
    """A model taken apart; `nnx.merge(*parts)` puts it together again.

    Attributes:
      graph: Its definition, static.
      params: What is trained: scores, and any `nnx.Param` of other layers.
      frozen: What is drawn once, the random kernels.
      rest: Everything else: what mask rules keep, statistics of normalizations.
      random: The streams of random numbers that layers keep, as dropout does.
    """

    graph: nnx.GraphDef[Any]
    params: nnx.State
    frozen: nnx.State
    rest: nnx.State
    random: nnx.State


def split(model: nnx.Module) -> ModelSplit:
    """Take a model apart into what is trained, what is frozen, the rest and its streams of random numbers.

    Args:
      model: Any NNX module.
    """
    graph, params, frozen, random, rest = cast(
        tuple[Any, ...], nnx.split(model, nnx.Param, Frozen, nnx.RngState, ...)
    )
    return ModelSplit(graph, params, frozen, rest, random)

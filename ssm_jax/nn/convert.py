"""Any NNX model in one call: `supermask` masks the kernels of Flax's layers, and leaves the rest as it is."""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Iterable
from typing import Any, TypeVar

import jax
from flax import nnx

from ssm_jax import environment, errors
from ssm_jax.core.blocks import Blocks
from ssm_jax.core.tree import KERNELS
from ssm_jax.nn.blocks import LAYERS, of_layer
from ssm_jax.nn.kernel import MaskedKernel
from ssm_jax.nn.layers import Masked, Masking, restore_parameters
from ssm_jax.nn.variables import Frozen

Model = TypeVar("Model", bound=nnx.Module)

_NORMALIZATIONS = (nnx.BatchNorm, nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm, nnx.InstanceNorm)
_TREATMENTS = ("trained", "frozen", "dropped")
# How a variable is laid out over devices, as Flax keeps it.
_SHARDING = ("out_sharding", "sharding_rules", "mesh")


@environment.pinned()
def supermask(
    model: Model,
    masking: Masking = Masking(),
    *,
    rngs: nnx.Rngs | int = 0,
    kernels: str = "drawn",
    only: nnx.filterlib.Filter = ...,
    params: nnx.filterlib.Filter = False,
    stacked: int = 0,
    biases: str | None = None,
    embeddings: str = "trained",
    normalizations: str = "trained",
) -> Model:
    """Copy an NNX model with its kernels frozen and under masks of trainable scores.

    Every `nnx.Linear`, `nnx.LinearGeneral` (which projects in `nnx.MultiHeadAttention`), `nnx.Einsum`,
    `nnx.Conv` and `nnx.ConvTranspose`, and what is derived from them, and every dense layer of this library,
    gets a new kernel, drawn with its fans (inputs summed over, outputs made), or keeps the one it has. All
    else of a layer stays in force: its call, its dtypes, its precision. Layers that share a kernel share its
    mask.

    Train the scores and everything else that is trained with `ssm_jax.Optimizer`: a plain optimizer of
    `wrt=ssm_jax.Score` leaves embeddings, scales and offsets as they began, and without a decay of the scores
    hardly anything is pruned.

    Args:
      model: The model; it is not changed. Of layers that `nnx.vmap` has stacked, each gets a mask of its own.
      masking: How kernels are drawn and masked. Its `dtype` does not apply: layers keep their own.
      rngs: The streams `params` (kernels) and `scores`, or a seed.
      kernels: `drawn` draws new ones; `given` keeps those of the model, for example of a pretrained one. The
        scores of given kernels are positive and in the order of the sizes of the weights: a threshold rule
        begins with the model as it is, one that selects the largest scores with its largest weights.
      only: Which of these layers to mask, a filter of NNX on path and layer: a type of layers,
        `nnx.PathContains("mlp")`, `nnx.Not(...)` or a function `(path, layer) -> bool`. All by default.
      params: Which other `nnx.Param` to mask, a filter of NNX on path and variable. Their axes are
        `(..., I, O)`. None by default: they are trained without a mask, and `mask_table` lists them.
      stacked: How many of the first axes of `params` stack kernels, such as those of experts.
      biases: Of the masked layers: `trained`, `frozen` as they are, or `dropped`, as the paper has none. By
        default those of drawn kernels are dropped, and those of given ones frozen.
      embeddings: Of every `nnx.Embed`: `trained` or `frozen`.
      normalizations: Scales and offsets of every normalization of Flax: `trained`, `frozen` or `dropped`.

    Returns:
      The copy, an instance of the same class.

    Raises:
      InputError: There is nothing to mask, `only` selects nothing, a kernel does not have the shape that its
        layer says or is rewritten in every call, or another argument is not what it must be.

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> rngs = nnx.Rngs(0)
      >>> net = nnx.Sequential(nnx.Linear(4, 8, rngs=rngs), nnx.relu, nnx.Linear(8, 2, rngs=rngs))
      >>> masked = supermask(net)
      >>> masked(jnp.ones((3, 4))).shape
      (3, 2)
      >>> [path for path, _ in nnx.to_flat_state(nnx.state(masked, nnx.Param))]
      [('layers', 0, 'kernel', 'scores'), ('layers', 2, 'kernel', 'scores')]
    """
    if not isinstance(model, nnx.Module):
        raise errors.InputError(f"the model is of type {type(model).__name__}; it must be an nnx.Module")
    if not isinstance(masking, Masking):
        raise errors.InputError(
            f"masking is {reprlib.repr(masking)}; it must be a Masking, for example Masking(rule=...)"
        )
    errors.choose("kernels", kernels, dict.fromkeys(KERNELS))
    biases = biases or ("dropped" if kernels == "drawn" else "frozen")
    treated = {"biases": biases, "embeddings": embeddings, "normalizations": normalizations}
    for name, treatment in treated.items():
        allowed = _TREATMENTS[:2] if name == "embeddings" else _TREATMENTS
        errors.choose(name, treatment, dict.fromkeys(allowed))
    rngs = _streams(rngs)
    model = nnx.clone(model)
    restore_parameters(model)
    # Variables that are shared stay so: whatever is put in their place is made once.
    replaced: dict[int, Any] = {}
    put = functools.partial(_put, masking=masking, rngs=rngs, keep=kernels == "given", replaced=replaced)
    parameters = _parameters(model, params, stacked)
    layers = [] if parameters and not _known(model) else _selected(model, only)
    for path, layer in layers:
        if isinstance(layer, Masked):
            layer.mask_anew(masking, rngs, keep=kernels == "given")
            continue
        shape, blocks = of_layer(layer)
        put(layer, "kernel", path, shape, blocks, kind=type(layer).__name__)
        _treat(layer, ["bias"], biases, replaced)
    for path, module, name, variable in parameters:
        shape, kind = variable.shape[stacked:], type(variable).__name__
        put(module, name, path, shape, None, kind=kind, is_kernel_of_layer=False)
    for _, module in list(nnx.iter_graph(model)):
        if isinstance(module, nnx.Embed):
            _treat(module, ["embedding"], embeddings, replaced)
        elif isinstance(module, _NORMALIZATIONS):
            _treat(module, ["scale", "bias"], normalizations, replaced)
    return model


def _streams(rngs: nnx.Rngs | int) -> nnx.Rngs:
    try:
        rngs = rngs if isinstance(rngs, nnx.Rngs) else nnx.Rngs(environment.key(rngs))
    except (TypeError, ValueError) as error:
        raise errors.InputError(f"rngs is {reprlib.repr(rngs)}; it must be an nnx.Rngs or a seed") from error
    for name in ("params", "scores"):
        if name not in rngs and "default" not in rngs:
            raise errors.InputError(f"rngs has no stream {name!r}, which is drawn from, and no default")
    return rngs


def _known(model: nnx.Module) -> list[tuple[Any, Any]]:
    """The layers that can be masked, with their paths: those of Flax, and dense ones of ours."""
    return [(path, module) for path, module in nnx.iter_graph(model) if _can_be_masked(module)]


def _can_be_masked(module: Any) -> bool:
    if isinstance(module, Masked):
        return module.rule is None
    return isinstance(module, tuple(LAYERS)) and isinstance(getattr(module, "kernel", None), nnx.Variable)


def _selected(model: nnx.Module, only: nnx.filterlib.Filter) -> list[tuple[str, Any]]:
    """The layers to mask, by their path."""
    known = _known(model)
    if not known:
        kinds = ", ".join(f"nnx.{kind.__name__}" for kind in LAYERS)
        masked = any(isinstance(node, MaskedKernel) for _, node in nnx.iter_graph(model))
        why = "its layers are masked already" if masked else f"none of {kinds}"
        raise errors.InputError(f"the model has nothing to mask: {why}")
    try:
        predicate = nnx.filterlib.to_predicate(only)
        chosen = [(path, layer) for path, layer in known if predicate(path, layer)]
    except (TypeError, ValueError) as error:
        raise errors.InputError(f"`only` is no filter of NNX: {errors.one_line(error)}") from error
    if not chosen:
        raise errors.InputError(
            f"`only` selects none of the {len(known)} layers that can be masked: {_some(known)}"
        )
    for path, module in nnx.iter_graph(model):
        rewrites = isinstance(module, (nnx.WeightNorm, nnx.SpectralNorm))
        if rewrites and any(inner[: len(path)] == path for inner, _ in chosen):
            raise errors.InputError(
                f"{_name(path)} is an nnx.{type(module).__name__}, which rewrites the kernels of its layer: "
                "they can't be masked"
            )
    return [(_name(path), layer) for path, layer in chosen]


def _name(path: Iterable[object]) -> str:
    return "/".join(map(str, path)) or "the model itself"


def _some(layers: list[tuple[Any, Any]], limit: int = 6) -> str:
    names = ", ".join(_name(path) for path, _ in layers[:limit])
    return names + (f" and {len(layers) - limit} more" if len(layers) > limit else "")


def _parameters(
    model: nnx.Module, params: nnx.filterlib.Filter, stacked: int
) -> list[tuple[str, nnx.Module, str, nnx.Param[jax.Array]]]:
    """The parameters to mask that are no kernel of a layer: their path, module, name there and value."""
    try:
        predicate = nnx.filterlib.to_predicate(params)
    except (TypeError, ValueError) as error:
        raise errors.InputError(f"`params` is no filter of NNX: {errors.one_line(error)}") from error
    candidates = []
    for path, module in nnx.iter_graph(model):
        if isinstance(module, nnx.Module) and not isinstance(module, (*LAYERS, Masked)):
            for name, value in vars(module).items():
                if isinstance(value, nnx.Param) and value.ndim >= 2 + stacked:
                    candidates.append((path, module, name, value))
    chosen = [
        (_name((*path, name)), module, name, value)
        for path, module, name, value in candidates
        if predicate((*path, name), value)
    ]
    if params is not False and not chosen:
        known = _some([((*path, name), None) for path, _, name, _ in candidates]) or "none"
        raise errors.InputError(
            f"`params` selects no parameter of {2 + stacked} axes and more; there are: {known}"
        )
    return chosen


def _put(
    module: Any,
    name: str,
    path: str,
    shape: tuple[int, ...],
    blocks: Blocks | None,
    *,
    masking: Masking,
    rngs: nnx.Rngs,
    keep: bool,
    replaced: dict[int, Any],
    **options: Any,
) -> None:
    """Put a masked kernel in the place of a parameter; `shape` is that of one layer."""
    old = getattr(module, name)
    stack = tuple(old.shape[: len(old.shape) - len(shape)])
    if (*stack, *shape) != tuple(old.shape):
        raise errors.InputError(
            f"the kernel of {path} is {list(old.shape)}; by the layer's settings it is {list(shape)}"
        )
    if id(old) not in replaced:
        own = masking.for_kernel(blocks, old.dtype)
        value = old.get_value()
        given = value if keep else None
        kernel = MaskedKernel(shape, masking=own, rngs=rngs, stack=stack, given=given, like=value, **options)
        for _, variable in list(nnx.iter_graph(kernel)):
            if isinstance(variable, nnx.Variable) and variable.shape == tuple(old.shape):
                _lay_out(variable, old)
        replaced[id(old)] = kernel
    setattr(module, name, replaced[id(old)])


def _lay_out(variable: nnx.Variable[jax.Array], like: nnx.Variable[jax.Array]) -> None:
    """Keep how a variable is to be spread over devices as another of its shape."""
    for name, value in like.get_metadata().items():
        if name in _SHARDING:
            variable.set_metadata(name, value)


def _treat(module: Any, names: list[str], treatment: str, replaced: dict[int, Any]) -> None:
    """Freeze or drop parameters of a module."""
    for name in names:
        old = getattr(module, name, None)
        if treatment == "trained" or not isinstance(old, nnx.Param):
            continue
        if treatment == "frozen":
            if id(old) not in replaced:
                replaced[id(old)] = Frozen(old.get_value())
                _lay_out(replaced[id(old)], old)
            setattr(module, name, replaced[id(old)])
            continue
        setattr(module, name, nnx.data(None))
        if hasattr(module, f"use_{name}"):  # some layers ask this, and not whether there is one
            setattr(module, f"use_{name}", False)

"""Any NNX model in one call: `supermask` masks the kernels of Flax's layers, and leaves the rest as it is."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Iterable
from typing import Any, TypeVar

import jax
from flax import nnx

from ssm_jax import environment, errors
from ssm_jax.nn.blocks import LAYERS, in_blocks, of_layer
from ssm_jax.nn.layers import Frozen, MaskedKernel, Masking

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
    only: nnx.filterlib.Filter = ...,
    biases: str = "dropped",
    embeddings: str = "trained",
    normalizations: str = "trained",
) -> Model:
    """Copy an NNX model with its kernels random, frozen and under masks of trainable scores.

    Every `nnx.Linear`, `nnx.LinearGeneral` (which projects in `nnx.MultiHeadAttention`), `nnx.Einsum`,
    `nnx.Conv` and `nnx.ConvTranspose`, and what is derived from them, gets a new kernel, drawn with its fans:
    inputs summed over, outputs made. All else of a layer stays in force: its call, its dtypes, its precision.
    What the kernels were before does not matter. Layers that share a kernel share its mask.

    Train all of it with `nnx.Optimizer(model, tx, wrt=nnx.Param)`: a score is an `nnx.Param`, and so are the
    embeddings, scales, offsets and biases that are trained. `wrt=ssm_jax.Score` leaves these as they began,
    which costs accuracy. Many weights go only if they are made to: `examples/characters.py` has the recipe,
    an optimizer for scores that decays them, another for the rest, and `set_density` along the way.

    Args:
      model: The model; it is not changed. Stacks that `nnx.vmap` makes are masked layer by layer inside it;
        outside of it, their masks can't be told, set or stored.
      masking: How kernels are drawn and masked. Its `dtype` does not apply: layers keep their own.
      rngs: The streams `params` (kernels) and `scores`, or a seed.
      only: Which of these layers to mask, a filter of NNX on path and layer: a type of layers,
        `nnx.PathContains("mlp")`, `nnx.Not(...)` or a function `(path, layer) -> bool`. All by default.
      biases: Of the masked layers: `trained`, `frozen` as they are, or `dropped`, as the paper has none.
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
    treated = {"biases": biases, "embeddings": embeddings, "normalizations": normalizations}
    for name, treatment in treated.items():
        allowed = _TREATMENTS[:2] if name == "embeddings" else _TREATMENTS
        errors.choose(name, treatment, dict.fromkeys(allowed))
    rngs = _streams(rngs)
    model = nnx.clone(model)
    # Variables that are shared stay so: whatever is put in their place is made once.
    made: dict[int, Any] = {}
    for path, layer in _selected(model, only):
        _mask(path, layer, masking, rngs, made)
        _treat(layer, ["bias"], biases, made)
    for _, module in list(nnx.iter_graph(model)):
        if isinstance(module, nnx.Embed):
            _treat(module, ["embedding"], embeddings, made)
        elif isinstance(module, _NORMALIZATIONS):
            _treat(module, ["scale", "bias"], normalizations, made)
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


def _selected(model: nnx.Module, only: nnx.filterlib.Filter) -> list[tuple[str, Any]]:
    """The layers to mask, by their path."""
    modules: list[tuple[Any, Any]] = [
        (path, module) for path, module in nnx.iter_graph(model) if isinstance(module, tuple(LAYERS))
    ]
    known = [(path, layer) for path, layer in modules if isinstance(layer.kernel, nnx.Variable)]
    if not known:
        kinds = ", ".join(f"nnx.{kind.__name__}" for kind in LAYERS)
        why = "its layers are masked already" if modules else f"none of {kinds}"
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


def _mask(path: str, layer: Any, masking: Masking, rngs: nnx.Rngs, made: dict[int, Any]) -> None:
    """Put a masked kernel in the place of a layer's own."""
    old = layer.kernel
    shape, blocks = of_layer(layer)
    if tuple(old.shape) != shape:
        raise errors.InputError(
            f"the kernel of {path} is {list(old.shape)}; by the layer's settings it is {list(shape)} (mask "
            "the layers of a stack before they are stacked)"
        )
    if id(old) not in made:
        own = dataclasses.replace(
            masking,
            kernel_init=in_blocks(masking.kernel_init, blocks),
            score_init=in_blocks(masking.score_init, blocks),
            dtype=old.dtype,
        )
        kernel = MaskedKernel(shape, type(layer).__name__, masking=own, rngs=rngs)
        for _, variable in list(nnx.iter_graph(kernel)):
            if isinstance(variable, nnx.Variable) and variable.shape == shape:
                _lay_out(variable, old)
        made[id(old)] = kernel
    layer.kernel = made[id(old)]


def _lay_out(variable: nnx.Variable[jax.Array], like: nnx.Variable[jax.Array]) -> None:
    """Spread a variable over devices as another of its shape."""
    for name, value in like.get_metadata().items():
        if name in _SHARDING:
            variable.set_metadata(name, value)
    array = like.get_value()
    placed = isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer)
    if placed and len(array.devices()) > 1:
        variable.set_value(jax.device_put(variable.get_value(), array.sharding))


def _treat(module: Any, names: list[str], treatment: str, made: dict[int, Any]) -> None:
    """Freeze or drop parameters of a module."""
    for name in names:
        old = getattr(module, name, None)
        if treatment == "trained" or not isinstance(old, nnx.Param):
            continue
        if treatment == "frozen":
            if id(old) not in made:
                made[id(old)] = Frozen(old.get_value())
                _lay_out(made[id(old)], old)
            setattr(module, name, made[id(old)])
            continue
        setattr(module, name, nnx.data(None))
        if hasattr(module, f"use_{name}"):  # some layers ask this, and not whether there is one
            setattr(module, f"use_{name}", False)

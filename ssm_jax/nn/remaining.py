"""What the masks of a model leave: its remaining weights, as a number and as a table."""

from __future__ import annotations

import jax
import numpy as np
from flax import nnx

from ssm_jax import errors
from ssm_jax.core import tabulate
from ssm_jax.nn.layers import Masked, evaluated, masked_layers
from ssm_jax.nn.variables import Score


def _counts(model: nnx.Module) -> list[tuple[str, Masked, np.ndarray]]:
    """Path, layer and the numbers of -1, 0 and +1 of every masked layer."""
    layers = list(masked_layers(model))
    if not layers:
        raise errors.InputError("the model has no masked layer")
    counts = jax.device_get([evaluated(layer).counts for _, layer in layers])
    return [(path, layer, np.asarray(count)) for (path, layer), count in zip(layers, counts, strict=True)]


def remaining_weights(model: nnx.Module) -> float:
    """Compute the share of weights that masks do not hide, over all masked layers of a model.

    Args:
      model: Any NNX module with masked layers; a layer without mask keeps everything.

    Returns:
      The share, in [0, 1].

    Raises:
      InputError: The model has no masked layer.
    """
    return tabulate.remaining([count for _, _, count in _counts(model)])


def mask_table(model: nnx.Module) -> str:
    """Lay out the shares of -1, 0 and +1 of every masked layer and of all of them, and what has no mask.

    Args:
      model: Any NNX module with masked layers.

    Raises:
      InputError: The model has no masked layer.
    """
    rows = [tabulate.Row(path, layer.kind, layer.shape, count) for path, layer, count in _counts(model)]
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.All(nnx.Param, nnx.Not(Score)))):
        rows.append(tabulate.Row("/".join(map(str, path)), type(variable).__name__, variable.shape, None))
    return tabulate.lay_out(rows)

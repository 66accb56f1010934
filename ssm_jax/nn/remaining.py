"""What the masks of a model leave: its remaining weights, as a number and as a table."""

from __future__ import annotations

import jax
import numpy as np
from flax import nnx

from ssm_jax import errors
from ssm_jax.columns import aligned
from ssm_jax.nn.layers import Masked, evaluated, masked_layers


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
    total = np.sum([count for _, _, count in _counts(model)], axis=0, dtype=float)
    return float(1 - total[1] / total.sum())


def mask_table(model: nnx.Module) -> str:
    """Lay out the shares of -1, 0 and +1 of every masked layer and of all of them.

    Args:
      model: Any NNX module with masked layers.

    Raises:
      InputError: The model has no masked layer.
    """
    counts = _counts(model)
    rows = [("layer", "kind", "kernel", "weights", "-1 %", "0 %", "+1 %")]
    for path, layer, count in counts:
        rows.append((path, layer.kind, "x".join(map(str, layer.shape)), *_cells(count)))
    rows.append(("all", "", "", *_cells(np.sum([count for _, _, count in counts], axis=0, dtype=float))))
    return "\n".join(aligned(rows, left=3))


def _cells(count: np.ndarray) -> tuple[str, str, str, str]:
    total = float(count.sum())
    inverted, hidden, kept = (f"{100 * share:.2f}" for share in count / total)
    return f"{total:,.0f}", inverted, hidden, kept

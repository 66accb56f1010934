"""The test images that a network takes for something else."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from ssm_jax import graph
from ssm_jax.artifact import run
from ssm_jax.data import datasets

# Images that are evaluated at once.
BATCH = 500


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Mistakes:
    """The test images that a network takes for something else, the largest loss first.

    Attributes:
      images: uint8 `[N, H, W, C]`, only the first of them.
      labels: What they are, `[N]`.
      predictions: What the network says, `[N]`.
      sure: The probability of that, in [0, 1], `[N]`.
      true: The probability of what they are, `[N]`.
      wrong: Number of all that are taken for something else.
      total: Number of test images.
    """

    images: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    sure: np.ndarray
    true: np.ndarray
    wrong: int
    total: int


def find_mistakes(network: graph.Network, data: datasets.Dataset, most: int) -> Mistakes:
    """Find the test images that a network takes for something else.

    Args:
      network: The network.
      data: The dataset.
      most: The most of them to return.
    """
    parameters = run.parameters(network)
    apply = jax.jit(lambda parameters, images: run.apply(network, parameters, images))
    total = len(data.test_labels)
    # One shape is compiled once.
    batch = min(BATCH, total)
    starts = [min(start, total - batch) for start in range(0, total, batch)]
    logits = np.zeros((total, network.classes))
    for start in starts:
        images = np.asarray(data.test_images[start : start + batch])
        logits[start : start + batch] = np.asarray(apply(parameters, images), np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    predictions = logits.argmax(1)
    places = np.arange(total)
    losses = -log_probabilities[places, data.test_labels]
    wrong = np.flatnonzero(predictions != data.test_labels)
    first = wrong[np.argsort(-losses[wrong], kind="stable")][:most]
    return Mistakes(
        images=np.asarray(data.test_images[first]),
        labels=data.test_labels[first],
        predictions=predictions[first],
        sure=np.exp(log_probabilities[first, predictions[first]]),
        true=np.exp(-losses[first]),
        wrong=len(wrong),
        total=total,
    )

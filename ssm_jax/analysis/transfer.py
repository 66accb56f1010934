"""What a trained mask is worth on another draw of the kernel.

A mask says of every weight whether to keep, hide or invert it, so it is relative to the sign that the weight
was drawn with. Two things can be carried to another kernel: the mask, or the signs that it gives to the
weights of its own kernel, the effective signs `sign(kernel) * mask`, which make up the trained network.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from ssm_jax.data.batches import standardize
from ssm_jax.data.datasets import Dataset
from ssm_jax.nn.layers import apply_masks, masked_layers
from ssm_jax.training.layout import pad_split

# Images that are evaluated at once.
BATCH = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfer:
    """Test accuracies in % of one trained network's mask.

    On drawn kernels, and with random signs, there is one for every draw. Statistics of normalizations stay as
    they were trained.

    Attributes:
      trained: The kernel and mask that were trained together.
      without_signs: The same kernel, the mask without its signs: what was inverted is kept.
      random_signs: The same kernel with a random sign for every weight, the mask without its signs.
      drawn_effective_signs: The drawn kernel with the signs of the trained one, the mask: the same effective
        signs, hence the trained network again where all weights of a layer are of one size.
      drawn_mask: The drawn kernel, the mask.
      drawn_mask_without_signs: The drawn kernel, the mask without its signs.
      drawn_shuffled_mask: The drawn kernel, the mask shuffled within every layer.
    """

    trained: tuple[float, ...]
    without_signs: tuple[float, ...]
    random_signs: tuple[float, ...]
    drawn_effective_signs: tuple[float, ...]
    drawn_mask: tuple[float, ...]
    drawn_mask_without_signs: tuple[float, ...]
    drawn_shuffled_mask: tuple[float, ...]


def effective_signs(model: nnx.Module) -> dict[str, np.ndarray]:
    """Compute the signs of a network's effective kernels, int8, by the layer's path.

    Args:
      model: A network with masked layers.
    """
    return {
        path: np.sign(layer.random_kernel() * layer.stored_mask()).astype(np.int8)
        for path, layer in masked_layers(model)
    }


def transfer(
    trained: nnx.Module,
    drawn: Sequence[nnx.Module],
    accuracy: Callable[[nnx.Module], float],
    key: jax.Array,
) -> Transfer:
    """Evaluate a trained mask on its own kernel and on other draws of it.

    Args:
      trained: A trained network with masked layers, in evaluation mode.
      drawn: The same network with other kernels, as it is before training; one or more.
      accuracy: Evaluates a network without masks, such as `TestSet.accuracy`.
      key: The key of random signs and shuffles.
    """
    kernels = _kernels(trained)
    masks = {path: layer.mask() for path, layer in masked_layers(trained)}
    places = {path: jnp.abs(mask) for path, mask in masks.items()}

    def evaluate(kernels: Mapping[str, jax.Array], masks: Mapping[str, jax.Array]) -> float:
        return accuracy(dense(trained, kernels, masks))

    accuracies: dict[str, list[float]] = {
        "trained": [evaluate(kernels, masks)],
        "without_signs": [evaluate(kernels, places)],
    }
    for draw, other in enumerate(map(_kernels, drawn)):
        random, shuffled, signed = {}, {}, {}
        for place, (path, mask) in enumerate(masks.items()):
            signs, order = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, draw), place))
            random[path] = jnp.abs(kernels[path]) * jax.random.rademacher(signs, mask.shape, mask.dtype)
            shuffled[path] = jax.random.permutation(order, mask.ravel()).reshape(mask.shape)
            signed[path] = jnp.abs(other[path]) * jnp.sign(kernels[path])
        for name, pair in {
            "random_signs": (random, places),
            "drawn_effective_signs": (signed, masks),
            "drawn_mask": (other, masks),
            "drawn_mask_without_signs": (other, places),
            "drawn_shuffled_mask": (other, shuffled),
        }.items():
            accuracies.setdefault(name, []).append(evaluate(*pair))
    return Transfer(**{name: tuple(values) for name, values in accuracies.items()})


def _kernels(network: nnx.Module) -> dict[str, jax.Array]:
    return {path: layer.random_kernel() for path, layer in masked_layers(network)}


def dense(
    network: nnx.Module, kernels: Mapping[str, jax.Array], masks: Mapping[str, jax.Array]
) -> nnx.Module:
    """Make the dense network that a masked one would be with other kernels and masks.

    Args:
      network: A network with masked layers; it stays as it is.
      kernels: Kernels by the layer's path, float32.
      masks: Masks of the network's rule by the layer's path, float32.
    """
    network = nnx.clone(network)
    for path, layer in list(masked_layers(network)):
        layer.become_dense(layer.apply_rule(kernels[path], masks[path]))
    apply_masks(network)  # frees layers of Flax from what held their masks
    return network


class TestSet:
    """The test images on the device, for the evaluation of many networks of one architecture.

    Args:
      data: The dataset.
      dtype: Compute dtype of the images.
    """

    __test__ = False  # it is no test, whatever pytest reads in its name

    def __init__(self, data: Dataset, dtype: DTypeLike) -> None:
        self._size = len(data.test_labels)
        split = pad_split(np.asarray(data.test_images), data.test_labels, BATCH)
        starts = range(0, len(split["labels"]), BATCH)
        self._batches = [
            tuple(jnp.asarray(split[name][start : start + BATCH]) for name in ("images", "labels"))
            for start in starts
        ]
        self._correct = jax.jit(functools.partial(_correct, jnp.dtype(dtype)), static_argnums=0)

    def accuracy(self, network: nnx.Module) -> float:
        """Compute the test accuracy of a network, in %.

        Args:
          network: Maps standardized images to logits; compiled once for all that differ in values alone.
        """
        graph, state = nnx.split(network)
        correct = [self._correct(graph, state, *batch) for batch in self._batches]
        return 100 * sum(map(int, correct)) / self._size


def _correct(
    dtype: jnp.dtype, graph: nnx.GraphDef[nnx.Module], state: nnx.State, images: jax.Array, labels: jax.Array
) -> jax.Array:
    logits = nnx.merge(graph, state)(standardize(images).astype(dtype))
    return jnp.sum(logits.astype(jnp.float32).argmax(-1) == labels)

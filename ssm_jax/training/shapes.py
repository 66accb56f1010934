"""What a network looks like, found without computing anything."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from flax import nnx

from ssm_jax import core, errors
from ssm_jax.nn.layers import Conv, masked_layers, split
from ssm_jax.nn.networks import BATCH_AXIS
from ssm_jax.training.step import Task, merged
from ssm_jax.types import PyTree


def kernel_shapes(task: Task) -> dict[str, tuple[int, ...]]:
    """Find the kernel shapes of a network's masked layers by their path.

    Args:
      task: The task that holds the network.

    Raises:
      InputError: The network has no masked layer, or can't be built for the images.
    """
    try:
        model = task.abstract()
    except errors.InputError:
        raise
    except Exception as error:  # Whatever a network of the caller's own raises.
        raise errors.InputError(f"the network can't be built: {errors.one_line(error)}") from error
    shapes = {path: layer.shape for path, layer in masked_layers(model)}
    if not shapes:
        raise errors.InputError(
            "the network holds no ssm_jax.Dense or ssm_jax.Conv: nothing can be masked (ssm_jax.supermask "
            "masks the layers of any NNX model)"
        )
    return shapes


def mask_rules(task: Task) -> str:
    """Name the mask rule of a network, or all of them.

    Args:
      task: The task that holds the network.
    """
    return ", ".join(sorted({core.name_of(layer.rule) for _, layer in masked_layers(task.abstract())}))


def convolves(task: Task) -> bool:
    """Tell whether a task's network has a convolution.

    Args:
      task: The task that holds the network.
    """
    kinds = (Conv, nnx.Conv, nnx.ConvTranspose)
    return any(isinstance(module, kinds) for _, module in nnx.iter_graph(task.abstract()))


def check_logits(task: Task, image_shape: Sequence[int], classes: int) -> None:
    """Check that a network of the caller's own fits the dataset.

    Args:
      task: The task that holds the network.
      image_shape: The shape of an image, `(H, W, C)`.
      classes: The number of classes.

    Raises:
      InputError: It can't take such images, or doesn't give as many logits as there are classes.
    """
    model = task.abstract()
    model.eval()
    images = jax.ShapeDtypeStruct((2, *image_shape), task.dtype)
    try:
        logits = nnx.eval_shape(lambda model, images: model(images), model, images)
    except Exception as error:  # Whatever a network of the caller's own raises.
        raise errors.InputError(
            f"the network can't take images [B, {', '.join(map(str, image_shape))}]: {errors.one_line(error)}"
        ) from error
    if logits.shape != (2, classes):
        given = ", ".join(map(str, logits.shape[1:]))
        raise errors.InputError(f"the network gives [B, {given}]; the dataset needs logits [B, {classes}]")


def training_bytes(task: Task, image_shape: Sequence[int]) -> int:
    """Estimate the memory that one network takes in training beside others, in bytes.

    A little more than what compiled programs take: in float32 the kernel, scores, momentum, gradient,
    update and effective kernel, and every array that the forward pass keeps for the backward one.

    Args:
      task: The task that holds the network.
      image_shape: The shape of an image, `(H, W, C)`.
    """
    model = task.abstract()
    model.train()
    graph, params, *others = split(model)
    images = jax.ShapeDtypeStruct((task.batch_size, *image_shape), task.dtype)

    def kept(params: PyTree, others: PyTree, images: jax.Array) -> PyTree:
        return jax.vjp(lambda params: merged(graph, params, *others)(images), params)[1]

    # In an axis of one, for normalizations that average over devices.
    kept = jax.vmap(kept, in_axes=None, out_axes=None, axis_name=BATCH_AXIS, axis_size=1)
    residuals = jax.tree.leaves(jax.eval_shape(kept, params, others, images))
    weights = sum(array.size for array in jax.tree.leaves(params))
    return 6 * 4 * weights + sum(array.size * array.dtype.itemsize for array in residuals)

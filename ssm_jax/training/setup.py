"""From a config to what it describes: the network, the optimiser, the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from ssm_jax import config as configuration
from ssm_jax.nn import initializers
from ssm_jax.nn import networks
from ssm_jax.training import optimizer
from ssm_jax import errors, masks
from ssm_jax.data.batches import steps_per_epoch
from ssm_jax.nn.layers import Frozen, Masking, masked_layers
from ssm_jax.nn.networks import BATCH_AXIS
from ssm_jax.training.step import Build, Task


def check(config: ConfigDict, own_model: bool = False) -> None:
    """Find out whether there is everything that a config names.

    Args:
      config: a whole config, which `config.validate` let pass.
      own_model: whether the network is the caller's own, so that `config.model` does not apply.

    Raises:
      InputError: an unknown network, normalisation, mask rule, initialiser, optimiser or schedule; names
        the nearest.
    """
    names = {
        "mask.rule": (config.mask.rule, (*masks.RULES, configuration.DENSE)),
        "optimizer.name": (config.optimizer.name, optimizer.OPTIMIZERS),
        "schedule.name": (config.schedule.name, optimizer.SCHEDULES),
    }
    for name, (value, allowed) in names.items():
        if value not in allowed:
            raise errors.unknown(f"config.{name}", value, allowed)
    if not own_model:
        networks.check(config.model.name, config.model.width, config.model.normalization)
    initializers.kernel_initializer(config.init.kernel)
    initializers.score_initializer(config.init.score)


def masking(config: ConfigDict) -> Masking:
    """How a config wants kernels drawn and masked.

    Raises:
      InputError: a name is unknown.
    """
    init = config.init
    return Masking(
        rule=None if config.mask.rule == configuration.DENSE else config.mask.rule,
        threshold=config.mask.threshold,
        kernel_init=initializers.kernel_initializer(
            init.kernel, elus_factor=init.elus_factor, elu_factor=init.elu_factor
        ),
        score_init=initializers.score_initializer(init.score, elus_factor=init.elus_factor),
        dtype=jnp.dtype(config.training.precision),
    )


def network(config: ConfigDict, image_shape: Sequence[int], classes: int) -> Build:
    """The function that builds a config's network from its random streams.

    Args:
      config: a whole config.
      image_shape: `(H, W, C)` of the dataset.
      classes: of the dataset.
    """
    settings = masking(config)

    def build(rngs: nnx.Rngs) -> nnx.Module:
        return networks.build(
            config.model.name,
            tuple(image_shape),
            classes,
            width=config.model.width,
            normalization=config.model.normalization,
            masking=settings,
            rngs=rngs,
        )

    return build


def task(config: ConfigDict, build: Build, examples: int) -> Task:
    """The task of a config: its network, optimiser and batches.

    Args:
      config: a whole config.
      build: makes the network; `network(config, ...)` or the caller's own.
      examples: N, the size of the training set.
    """
    steps = steps_per_epoch(examples, config.training.batch_size)
    settings: dict[str, Any] = config.schedule.to_dict()
    schedule = optimizer.schedule(
        settings.pop("name"), steps_per_epoch=steps, total_epochs=config.training.epochs, **settings
    )
    choice = config.optimizer
    return Task(
        build=build,
        optimizer=optimizer.make(
            choice.name,
            learning_rate=choice.learning_rate,
            weight_decay=choice.weight_decay,
            momentum=choice.momentum,
            schedule=schedule,
        ),
        examples=examples,
        batch_size=config.training.batch_size,
        augment=config.data.augment == "crop_flip",
        dtype=jnp.dtype(config.training.precision),
    )


def kernel_shapes(task: Task) -> dict[str, tuple[int, ...]]:
    """The kernel shapes of a network's masked layers by their path, found without computing anything.

    Raises:
      InputError: the network has no layer of ours, keeps a random stream of its own, as dropout does, or
        can't be built for the images.
    """
    try:
        model = task.abstract()
    except errors.InputError:
        raise
    except Exception as error:  # Whatever a network of the caller's own raises.
        raise errors.InputError(f"the network can't be built: {_line(error)}") from error
    shapes = {path: tuple(layer.kernel.shape) for path, layer in masked_layers(model)}
    if not shapes:
        raise errors.InputError("the network holds no ssm_jax.Dense or ssm_jax.Conv: nothing can be masked")
    if jax.tree.leaves(nnx.state(model, nnx.RngState)):
        raise errors.InputError(
            "the network keeps a random stream of its own (dropout does): every random number of a run "
            "follows from its seed and step, so such layers can't be trained"
        )
    return shapes


def check_logits(task: Task, image_shape: Sequence[int], classes: int) -> None:
    """Find out, without computing anything, whether a network of the caller's own fits the dataset.

    Args:
      task: holds the network.
      image_shape: `(H, W, C)` of the dataset.
      classes: of the dataset.

    Raises:
      InputError: it can't take such images, or doesn't give as many logits as there are classes.
    """
    model = task.abstract()
    model.eval()
    images = jax.ShapeDtypeStruct((2, *image_shape), task.dtype)
    try:
        logits = nnx.eval_shape(lambda model, images: model(images), model, images)
    except Exception as error:  # Whatever a network of the caller's own raises.
        raise errors.InputError(
            f"the network can't take images [B, {', '.join(map(str, image_shape))}]: {_line(error)}"
        ) from error
    if logits.shape != (2, classes):
        given = ", ".join(map(str, logits.shape[1:]))
        raise errors.InputError(f"the network gives [B, {given}]; the dataset needs logits [B, {classes}]")


def training_bytes(task: Task, image_shape: Sequence[int]) -> int:
    """The memory that one network takes in training beside others, in bytes; found without computing.

    A little more than what compiled programs take: in float32 the kernel, scores, momentum, gradient,
    update and effective kernel, and every array that the forward pass keeps for the backward one.

    Args:
      task: holds the network.
      image_shape: `(H, W, C)` of the dataset.
    """
    graph, params, frozen, rest = nnx.split(task.abstract(), nnx.Param, Frozen, ...)
    images = jax.ShapeDtypeStruct((task.batch_size, *image_shape), task.dtype)

    def kept(params: Any, frozen: Any, rest: Any, images: jax.Array) -> Any:
        return jax.vjp(lambda params: nnx.merge(graph, params, frozen, rest)(images), params)[1]

    # In an axis of one, for normalisations that average over devices.
    kept = jax.vmap(kept, in_axes=None, out_axes=None, axis_name=BATCH_AXIS, axis_size=1)
    residuals = jax.tree.leaves(jax.eval_shape(kept, params, frozen, rest, images))
    weights = sum(array.size for array in jax.tree.leaves(params))
    return 6 * 4 * weights + sum(array.size * array.dtype.itemsize for array in residuals)


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__

"""From a config to what it describes: the network, the optimizer, the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from ssm_jax import core, errors
from ssm_jax.core import initializers
from ssm_jax.data.batches import steps_per_epoch
from ssm_jax.nn import networks
from ssm_jax.nn.layers import Masking
from ssm_jax.nn.products.use import choose, use
from ssm_jax.training import optimizer
from ssm_jax.training.step import Build, Task


def check(config: ConfigDict, own_model: bool = False) -> None:
    """Check that there is everything that a config names.

    Args:
      config: A whole config, which `config.validate` let pass.
      own_model: Whether the network is the caller's own, so that `config.model` does not apply.

    Raises:
      InputError: An unknown network, normalization, mask rule, initializer, optimizer or schedule; names
        the nearest.
    """
    errors.choose("config.optimizer.name", config.optimizer.name, optimizer.OPTIMIZERS)
    errors.choose("config.schedule.name", config.schedule.name, optimizer.SCHEDULES)
    if not own_model:
        networks.check(config.model.name, config.model.width, config.model.normalization)
    masking(config)


def masking(config: ConfigDict) -> Masking:
    """Make the masking of a config: how kernels are drawn and masked.

    Args:
      config: A whole config.

    Raises:
      InputError: A name is unknown, or a setting of the mask rule out of range.
    """
    init = config.init
    return Masking(
        rule=core.by_name(config.mask.rule, config.mask),
        kernel_init=initializers.kernel_initializer(
            init.kernel, elus_factor=init.elus_factor, elu_factor=init.elu_factor
        ),
        score_init=initializers.score_initializer(init.score, elus_factor=init.elus_factor),
        dtype=jnp.dtype(config.training.precision),
    )


def network(config: ConfigDict, image_shape: Sequence[int], classes: int) -> Build:
    """Make the function that builds a config's network from its random streams.

    Args:
      config: A whole config.
      image_shape: The shape of an image, `(H, W, C)`.
      classes: The number of classes.
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
    """Make the task of a config: its network, optimizer and batches.

    Args:
      config: A whole config.
      build: A function that makes the network; `network(config, ...)` or the caller's own.
      examples: N, the size of the training set.

    Raises:
      InputError: There are no such products here.
    """
    products, _ = choose(config.cpu_products, config.cpu_gradient, config.training.precision)

    def with_products(rngs: nnx.Rngs) -> nnx.Module:
        model = build(rngs)
        use(model, products)
        return model

    steps = steps_per_epoch(examples, config.training.batch_size, config.data.passes)
    settings: dict[str, Any] = config.schedule.to_dict()
    schedule = optimizer.schedule(
        settings.pop("name"), steps_per_epoch=steps, total_epochs=config.training.epochs, **settings
    )
    choice = config.optimizer
    return Task(
        build=with_products,
        optimizer=optimizer.make(
            choice.name,
            learning_rate=choice.learning_rate,
            weight_decay=choice.weight_decay,
            momentum=choice.momentum,
            decay_normalization=choice.decay_normalization,
            schedule=schedule,
            clip=choice.clip,
        ),
        examples=examples,
        batch_size=config.training.batch_size,
        passes=config.data.passes,
        shuffle=config.data.shuffle,
        augment=config.data.augment,
        dtype=jnp.dtype(config.training.precision),
        ramp=round(config.mask.ramp * config.training.epochs * steps),
    )

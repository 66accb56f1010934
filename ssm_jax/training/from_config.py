"""The room that reads a config: `from_config` turns it into typed parts, once. Below, nobody receives one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ml_collections import ConfigDict

from ssm_jax import config as configuration
from ssm_jax import core, errors
from ssm_jax.core import initializers
from ssm_jax.data import datasets
from ssm_jax.data.batches import steps_per_epoch
from ssm_jax.nn import networks
from ssm_jax.nn.layers import Masking
from ssm_jax.nn.products.handlers import Products
from ssm_jax.nn.products.use import choose, use
from ssm_jax.training import optimizer
from ssm_jax.training.step import Build, TrainSpec


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """How a run goes, whatever it trains.

    Attributes:
      mode: What the devices share, `data` or `seeds`.
      seeds_per_device: Networks that a device trains side by side; 0 leaves it to network and device.
      steps_per_call: Steps that a program takes at a time; 0 is an epoch where that is of use.
      evaluate_every: Epochs from one evaluation to the next.
      save_every: Seconds from one save to the next.
      keep_best: Whether the state with the best validation accuracy is kept too.
      store_masks: Whether the masks are stored at every evaluation.
      cache: The folder of compiled programs, see `use_compilation_cache`.
    """

    seed: int
    seeds: int
    mode: str
    seeds_per_device: int
    epochs: int
    steps_per_call: int
    evaluate_every: int
    save_every: float
    keep_best: bool
    store_masks: bool
    profile: bool
    cache: str


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a config describes.

    Attributes:
      load: Loads the data set; see `datasets.load` for `read_only`.
      build: Builds the network; see `networks.build` for what is left to say.
      products: Finds what computes the products of layers here, see `choose`.
      schedule: Makes the schedule of `steps_per_epoch` and `total_epochs`.
      optimizer: Makes the optimizer of a `schedule`.
      batch_size: B, over all devices.
      passes: How often an epoch goes through the training set.
      augment: A key of `batches.AUGMENTATIONS`, or `none`.
      ramp: The share of the training after which masks have reached the density that their rule asks for.
    """

    run: RunSettings
    load: Callable[..., datasets.Dataset]
    masking: Masking
    build: Callable[..., nnx.Module]
    products: Callable[[], tuple[Products | None, str]]
    schedule: Callable[..., optax.GradientTransformationExtraArgs]
    optimizer: Callable[..., optax.GradientTransformationExtraArgs]
    batch_size: int
    passes: int
    shuffle: bool
    augment: str
    dtype: np.dtype
    ramp: float

    def network(self, image_shape: Sequence[int], classes: int) -> Build:
        """Make the function that builds the network, for images `(H, W, C)`, from its random streams."""
        return lambda rngs: self.build(tuple(image_shape), classes, rngs=rngs)

    def steps_per_epoch(self, examples: int) -> int:
        """Count the steps of an epoch of so many examples."""
        return steps_per_epoch(examples, self.batch_size, self.passes)

    def task(self, build: Build, examples: int) -> TrainSpec:
        """Make the task: the network, its optimizer and its batches.

        Args:
          build: A function that makes the network; `network(...)` or the caller's own.
          examples: N, the size of the training set.

        Raises:
          InputError: There are no such products here.
        """
        products, _ = self.products()

        def with_products(rngs: nnx.Rngs) -> nnx.Module:
            model = build(rngs)
            use(model, products)
            return model

        steps = self.steps_per_epoch(examples)
        schedule = self.schedule(steps_per_epoch=steps, total_epochs=self.run.epochs)
        return TrainSpec(
            build=with_products,
            optimizer=self.optimizer(schedule=schedule),
            examples=examples,
            batch_size=self.batch_size,
            passes=self.passes,
            shuffle=self.shuffle,
            augment=self.augment,
            dtype=self.dtype,
            ramp=round(self.ramp * self.run.epochs * steps),
        )


def from_config(config: ConfigDict, own_model: bool = False) -> Setup:
    """Turn a config into typed parts, after a check of every value and every name.

    Args:
      own_model: Whether the network is the caller's own, so that `config.model` does not apply.

    Raises:
      InputError: See `config.validate`; or an unknown network, normalization, mask rule, initializer,
        optimizer or schedule; names the nearest.
    """
    configuration.validate(config)
    errors.choose("config.optimizer.name", config.optimizer.name, optimizer.OPTIMIZERS)
    errors.choose("config.schedule.name", config.schedule.name, optimizer.SCHEDULES)
    if not own_model:
        networks.check(**config.model)
    init, training = config.init, config.training
    masking = Masking(
        rule=core.by_name(config.mask.rule, config.mask),
        kernel_init=initializers.kernel_initializer(
            init.kernel, elus_factor=init.elus_factor, elu_factor=init.elu_factor
        ),
        score_init=initializers.score_initializer(init.score, elus_factor=init.elus_factor),
        dtype=jnp.dtype(training.precision),
    )
    spread = "seeds" if config.seeds > 1 else "data"
    return Setup(
        run=RunSettings(
            seed=config.seed,
            seeds=config.seeds,
            mode=spread if config.parallel == "auto" else config.parallel,
            seeds_per_device=training.seeds_per_device,
            epochs=training.epochs,
            steps_per_call=training.steps_per_call,
            evaluate_every=config.logging.eval_every_epochs,
            save_every=config.checkpoint.save_every_seconds,
            keep_best=config.checkpoint.best,
            store_masks=config.logging.masks,
            profile=config.profile,
            cache=config.compilation_cache,
        ),
        load=loader(config),
        masking=masking,
        build=functools.partial(
            networks.build,
            config.model.name,
            width=config.model.width,
            normalization=config.model.normalization,
            masking=masking,
        ),
        products=functools.partial(choose, config.cpu_products, config.cpu_gradient, training.precision),
        schedule=functools.partial(optimizer.schedule, **config.schedule),
        optimizer=functools.partial(optimizer.make, **config.optimizer),
        batch_size=training.batch_size,
        passes=config.data.passes,
        shuffle=config.data.shuffle,
        augment=config.data.augment,
        dtype=jnp.dtype(training.precision),
        ramp=config.mask.density_ramp,
    )


def loader(config: ConfigDict) -> Callable[..., datasets.Dataset]:
    """Make the function that loads a config's data set, which takes `read_only` as `datasets.load` does."""
    settings = config.data.to_dict()
    options = {name: settings[name] for name in ("validation", "test", "image_size", "channels", "stream")}
    return functools.partial(datasets.load, settings["name"], settings["dir"], **options)

"""A loop of one's own, with the optimizer alone added to it, beside `train_and_evaluate` on the digits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import ssm_jax
from ssm_jax.data import datasets
from ssm_jax.data.batches import epoch_order

DENSITY, EPOCHS, BATCH = 0.1, 12, 64


def build(rngs):
    hidden, head = nnx.Linear(64, 100, rngs=rngs), nnx.Linear(100, 10, rngs=rngs)
    net = nnx.Sequential(lambda images: images.reshape(len(images), -1), hidden, nnx.relu, head)
    masking = ssm_jax.Masking(rule=ssm_jax.Signed(density=DENSITY, rescale=0.25))
    return ssm_jax.supermask(net, masking, rngs=rngs)


@pytest.mark.slow
def test_it_has_the_same_accuracy_and_exactly_the_same_density(tmp_path):
    config = ssm_jax.default_config()
    config.data.name, config.compilation_cache = "digits", ""
    config.training.epochs, config.training.batch_size = EPOCHS, BATCH
    config.optimizer.learning_rate, config.optimizer.weight_decay = 0.2, 1e-3
    config.schedule.name = "cosine"
    summary = ssm_jax.train_and_evaluate(config, tmp_path / "run", model=build)

    digits = datasets.load("digits", "")
    images, labels = ssm_jax.standardize(jnp.asarray(digits.train_images)), jnp.asarray(digits.train_labels)
    steps = EPOCHS * len(epoch_order(jax.random.key(0), 0, len(images), BATCH))
    model = build(nnx.Rngs(0))
    # What masks add to a loop: the optimizer.
    tx = ssm_jax.score_optimizer(steps, learning_rate=0.2, scores=optax.trace(0.9, nesterov=True))
    optimizer = ssm_jax.Optimizer(model, tx, steps=steps)

    @nnx.jit
    def step(model, optimizer, indices):
        def loss(model):
            logits = model(images[indices])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[indices]).mean()

        optimizer.update(model, nnx.grad(loss)(model))

    for epoch in range(EPOCHS):
        for indices in epoch_order(jax.random.key(0), epoch, len(images), BATCH):
            step(model, optimizer, indices)
    logits = model(ssm_jax.standardize(jnp.asarray(digits.test_images)))
    accuracy = 100 * float(jnp.mean(logits.argmax(-1) == jnp.asarray(digits.test_labels)))
    assert ssm_jax.remaining_weights(model) == pytest.approx(DENSITY, abs=0.5 / 7400)
    assert summary.remaining_weights.mean == pytest.approx(DENSITY, abs=0.5 / 7400)
    assert accuracy > 90 and abs(accuracy - summary.test_accuracy.mean) < 3
    print(accuracy, summary.test_accuracy.mean)

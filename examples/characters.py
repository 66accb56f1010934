"""A transformer that predicts characters, masked in one call and trained in a loop of one's own.

    python -m examples.characters --steps=1500

It reads the source of Python's standard library, and is tested on modules that it has never seen: bits per
character with masks, without, and by the frequencies of characters alone.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import ssm_jax
from examples import record, text
from ssm_jax.cli import status
from ssm_jax.core.initializers import elus

CONTEXT, WIDTH, HEADS, BLOCKS, BATCH = 64, 128, 4, 2, 32


# Small kernels: a block adds to what it is given, and does well to begin with adding little. They grow as the
# mask empties, and stay small.
def masking(density: float) -> ssm_jax.Masking:
    """Say how to mask the model so that a share of its weights remains."""
    return ssm_jax.Masking(rule=ssm_jax.Signed(density=density, rescale=0.5), kernel_init=elus(0.1))


class Block(nnx.Module):
    """Causal attention and a perceptron, each added to what it is given."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norms = nnx.List([nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Map `[B, T, WIDTH]` to the same shape."""
        causal = nnx.make_causal_mask(hidden[..., 0])
        hidden = hidden + self.attention(self.norms[0](hidden), mask=causal)
        return hidden + self.down(nnx.gelu(self.up(self.norms[1](hidden))))


class Transformer(nnx.Module):
    """Embeddings of characters and places, blocks, and a linear output."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.characters = nnx.Embed(text.SYMBOLS, WIDTH, rngs=rngs)
        self.places = nnx.Embed(CONTEXT, WIDTH, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(BLOCKS)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, text.SYMBOLS, rngs=rngs)

    def __call__(self, codes: jax.Array) -> jax.Array:
        """Map characters `[B, T]` to logits of those that follow them, `[B, T, SYMBOLS]`."""
        hidden = self.characters(codes) + self.places(jnp.arange(codes.shape[1]))
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm(hidden))


def bits(model: Transformer, windows: jax.Array) -> jax.Array:
    """The bits that it takes to predict all characters but the first of windows `[B, T + 1]`: `[B, T]`."""
    logits, targets = model(windows[:, :-1]), windows[:, 1:]
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets) / math.log(2)


@nnx.jit
def step(model: Transformer, optimizer: nnx.Optimizer, windows: jax.Array) -> jax.Array:
    """Take one step of training; returns the mean bits per character."""
    value, gradient = nnx.value_and_grad(lambda model: bits(model, windows).mean())(model)
    optimizer.update(model, gradient)
    return value


def train(model: Transformer, codes: np.ndarray, steps: int, seed: int, learning_rate: float) -> float:
    """Train a model; returns the seconds, compilation included.

    Args:
      model: The model, changed in place.
      codes: The text.
      steps: Number of steps.
      seed: Decides what is read of the text.
      learning_rate: Of all that has no mask; scores have their own.
    """
    curve = optax.warmup_cosine_decay_schedule(0.0, learning_rate, max(1, steps // 20), max(2, steps))
    others = optax.adam(curve, b2=0.95)
    # All that masks need: an optimizer with a decay of the scores' own, which follows the density.
    optimizer = ssm_jax.Optimizer(model, ssm_jax.score_optimizer(steps, others=others), steps=steps)
    places, random, began = np.arange(CONTEXT + 1), np.random.default_rng(seed), time.perf_counter()
    for done in range(1, steps + 1):
        windows = jnp.asarray(codes[random.integers(len(codes) - CONTEXT, size=(BATCH, 1)) + places])
        value = step(model, optimizer, windows)
        if done % 100 == 0 or done == steps:
            print(f"step {done}/{steps}  {float(value):.3f} bits per character", flush=True)
    return time.perf_counter() - began


def test(model: Transformer, codes: np.ndarray) -> float:
    """The bits per character of a text that is read in windows that do not overlap."""
    windows = codes[: len(codes) // (CONTEXT + 1) * (CONTEXT + 1)].reshape(-1, CONTEXT + 1)
    compiled = nnx.jit(bits)
    parts = [compiled(model, jnp.asarray(windows[i : i + 256])) for i in range(0, len(windows), 256)]
    return float(np.concatenate(parts).mean())


def main(argv: Sequence[str] | None = None) -> None:
    """Train both and say what came of it."""
    given = record.arguments(__doc__, argv, steps=1500, seed=0, density=0.25)
    if not 0 < given.density < 1:
        raise ssm_jax.InputError(f"--density is {given.density}; allowed is above 0 and below 1")
    library = text.standard_library()
    dense = Transformer(nnx.Rngs(given.seed))
    masked = ssm_jax.supermask(dense, masking(given.density), rngs=given.seed)
    found = []
    # Frozen kernels keep their size; the scales of normalizations make up for it, and have a long way to go.
    for model, rate in ((masked, 3e-2), (dense, 3e-3)):
        trained = record.Trained(
            train_seconds=train(model, library.train, given.steps, given.seed, rate),
            seeds=(given.seed,),
            values=(test(model, library.test),),
            remaining_weights=(ssm_jax.remaining_weights(model) if model is masked else 1.0,),
        )
        found.append(trained)
    print(f"\n{ssm_jax.mask_table(masked)}")
    made = record.Record(
        example="characters",
        network="Transformer",
        data=text.name(),
        details=library.details,
        training={"steps": given.steps, "batch": BATCH, "context": CONTEXT},
        measure=record.BITS,
        weights=sum(layer.scores[...].size for _, layer in ssm_jax.masked_layers(masked)),
        baselines={"frequencies": library.frequencies()},
        masked=found[0],
        dense=found[1],
    )
    record.finish(made, given.json)


if __name__ == "__main__":
    sys.exit(status.run(main))

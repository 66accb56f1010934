"""Models that are not of this library's layers, small, with an input each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

import ssm_jax


class Readme(nnx.Module):
    """One layer of each kind, as the README has it."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.conv = ssm_jax.Conv(1, 4, rngs=rngs)
        self.head = ssm_jax.Dense(4, 3, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.head(nnx.relu(self.conv(images)).mean((1, 2)))


class UNet(nnx.Module):
    """Down, up by a transposed convolution, and both together."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.down = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.GroupNorm(4, num_groups=2, rngs=rngs)
        self.middle = nnx.Conv(4, 6, (3, 3), strides=2, rngs=rngs)
        self.up = nnx.ConvTranspose(6, 4, (2, 2), strides=(2, 2), rngs=rngs)
        self.head = nnx.Conv(8, 3, (1, 1), rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        wide = nnx.silu(self.norm(self.down(images)))
        deep = nnx.leaky_relu(self.up(nnx.gelu(self.middle(wide))))
        return self.head(jnp.concatenate([wide, deep], -1))


class Grouped(nnx.Module):
    """Groups, dilation, two strides, paddings, average and max-pools."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.dilated = nnx.Conv(3, 8, (3, 3), kernel_dilation=2, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.grouped = nnx.Conv(8, 8, (3, 3), feature_group_count=4, padding="VALID", rngs=rngs)
        self.depthwise = nnx.Conv(8, 8, (3, 5), strides=(2, 1), feature_group_count=8, rngs=rngs)
        self.head = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        hidden = nnx.avg_pool(nnx.relu(self.norm(self.dilated(images))), (2, 2), strides=(2, 2))
        hidden = nnx.hard_swish(self.grouped(hidden))
        hidden = nnx.max_pool(self.depthwise(hidden), (2, 2), strides=(2, 2), padding="SAME")
        return nnx.log_softmax(self.head(hidden.mean((1, 2))))


class ViT(nnx.Module):
    """Patches and a token of their class, attention and two normalizations."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(3, 8, (4, 4), strides=4, rngs=rngs)
        self.token = nnx.Param(jnp.full((1, 1, 8), 0.1))
        self.places = nnx.Param(jax.random.normal(jax.random.key(0), (1, 5, 8)))
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(8, rngs=rngs), nnx.RMSNorm(8, rngs=rngs)])
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        hidden = self.stem(images).reshape(len(images), -1, 8)
        token = jnp.tile(self.token[...], (len(images), 1, 1))
        hidden = jnp.concatenate([token, hidden], 1) + self.places[...]
        hidden = hidden + self.attention(self.norms[0](hidden))
        return self.head(self.norms[1](hidden)[:, 0])


class Text(nnx.Module):
    """Embeddings and a causal convolution over places."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.embedding = nnx.Embed(20, 8, rngs=rngs)
        self.conv = nnx.Conv(8, 6, (3,), padding="CAUSAL", rngs=rngs)
        self.head = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, codes: jax.Array) -> jax.Array:
        return self.head(nnx.tanh(self.conv(self.embedding(codes))).max(1))


class Residual(linen.Module):
    """A residual block of Linen."""

    @linen.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        hidden = linen.Conv(4, (3, 3), use_bias=False)(images)
        hidden = linen.relu(linen.BatchNorm(use_running_average=True)(hidden))
        inner = linen.BatchNorm(use_running_average=True)(linen.Conv(4, (3, 3))(hidden))
        hidden = linen.avg_pool(linen.relu(hidden + inner), (2, 2), (2, 2), padding="SAME")
        return linen.Dense(3)(hidden.mean((1, 2)))


def of_linen() -> Callable[[jax.Array], Any]:
    """The Linen model as a function."""
    model = Residual()
    variables = model.init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
    return lambda images: model.apply(variables, images)


def masked(model: nnx.Module) -> nnx.Module:
    """A model under masks that takes images as they are stored."""
    return nnx.Sequential(ssm_jax.standardize, ssm_jax.supermask(model, biases="trained"))


# How each is made, the shape of an input and its dtype.
MODELS: dict[str, tuple[Callable[[], Any], tuple[int, ...], str]] = {
    "readme": (Readme, (6, 6, 1), "float32"),
    "u-net": (UNet, (8, 8, 1), "float32"),
    "grouped": (lambda: masked(Grouped()), (12, 12, 3), "uint8"),
    "vit": (ViT, (8, 8, 3), "float32"),
    "text": (Text, (9,), "int32"),
    "linen": (of_linen, (6, 6, 1), "float32"),
}


def inputs_of(name: str, batch: int = 3) -> np.ndarray:
    """Random inputs of a model."""
    _, shape, dtype = MODELS[name]
    rng = np.random.default_rng(0)
    if dtype == "float32":
        return rng.normal(size=(batch, *shape)).astype(np.float32)
    return rng.integers(0, 20 if dtype == "int32" else 256, (batch, *shape)).astype(dtype)

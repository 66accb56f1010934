"""A run's products: chosen once, used by every layer that they fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ssm_jax import compilers, errors
from ssm_jax.nn import networks
from ssm_jax.nn.convert import supermask
from ssm_jax.nn.products import handlers, library, use
from ssm_jax.nn.products.handlers import Products


@pytest.fixture
def compiler() -> None:
    try:
        compilers.find("C++")
    except errors.InputError as error:
        pytest.skip(str(error))


@pytest.fixture
def no_compiler(monkeypatch) -> None:
    def fail() -> None:
        raise errors.InputError("a C++ compiler is needed; there is none")

    monkeypatch.setattr(library, "register", fail)


def test_auto_is_sparse_where_it_can_be(compiler):
    assert use.choose("auto", "float32", "float32") == (Products(0.2, False), "")
    assert use.choose("sparse", "bfloat16", "float32") == (Products(0.2, True), "")
    assert use.choose("dense", "float32", "float32") == (None, "")


def test_without_a_compiler_auto_is_xla_s_and_says_why(no_compiler):
    assert use.choose("auto", "float32", "float32") == (None, "a C++ compiler is needed; there is none")
    for mode, gradient in (("sparse", "float32"), ("auto", "bfloat16")):
        with pytest.raises(errors.InputError, match=r"a C\+\+ compiler is needed"):
            use.choose(mode, gradient, "float32")


def test_networks_in_bfloat16_have_none(compiler):
    assert use.choose("auto", "float32", "bfloat16") == (
        None,
        "sparse products compute in float32; config.training.precision is 'bfloat16'",
    )
    with pytest.raises(errors.InputError, match="compute in float32"):
        use.choose("sparse", "float32", "bfloat16")


def test_on_an_accelerator_there_are_none(monkeypatch, no_compiler):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert use.choose("sparse", "bfloat16", "float32") == (None, "")


class Plain(nnx.Module):
    """Convolutions and matrices of Flax that sparse products fit, and some that they don't."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs)
        self.grouped = nnx.Conv(4, 4, (3, 3), feature_group_count=2, rngs=rngs)
        self.valid = nnx.Conv(4, 5, (2, 2), padding="VALID", rngs=rngs)
        self.second = nnx.Conv(5, 4, (3, 1), strides=(1, 2), rngs=rngs)
        self.third = nnx.Conv(4, 6, 3, rngs=rngs, kernel_dilation=1)  # over one axis
        self.head = nnx.Linear(36, 5, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        hidden = nnx.relu(self.grouped(nnx.relu(self.first(images))))
        hidden = nnx.relu(self.second(nnx.relu(self.valid(hidden))))
        hidden = nnx.relu(self.third(hidden.reshape(len(hidden), -1, 4)))
        return self.head(hidden.reshape(len(hidden), -1))


def calls(model: nnx.Module, images: jax.Array) -> int:
    """How many of a model's products are sparse ones."""
    graph, state = nnx.split(model)
    return str(jax.make_jaxpr(lambda state, images: nnx.merge(graph, state)(images))(state, images)).count(
        "target_name=ssm_jax_forward"
    )


IMAGES = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)


def check(model: nnx.Module, expected: int) -> None:
    before = model(IMAGES)
    assert calls(model, IMAGES) == 0
    use.use(model, None)
    assert calls(model, IMAGES) == 0
    use.use(model, Products(1.0, False))
    assert calls(model, IMAGES) == expected
    assert calls(model, IMAGES[:3]) == 0
    np.testing.assert_allclose(model(IMAGES), before, rtol=1e-4, atol=1e-5)


@pytest.fixture
def any_matrix(monkeypatch) -> None:
    """However small, products of matrices are sparse ones."""
    monkeypatch.setattr(handlers, "_LEAST_MATRIX", 0)


@pytest.mark.slow
def test_layers_of_flax_that_fit_get_them(compiler, any_matrix):
    check(supermask(Plain(nnx.Rngs(0)), rngs=0), 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "normalization", "products"),
    [("conv2", "none", 5), ("resnet20", "batch", 23), ("fcn", "none", 3)],
)
def test_networks_get_them(compiler, any_matrix, name, normalization, products):
    model = networks.build(name, (8, 8, 3), 10, width=0.25, normalization=normalization, rngs=nnx.Rngs(0))
    model.eval()
    check(model, products)
    assert model(jnp.asarray(IMAGES)).dtype == jnp.float32

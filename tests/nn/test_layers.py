"""Layers against numpy and lax with an explicit `kernel * mask`; what they hold."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from ssm_jax import core, errors
from ssm_jax.core import initializers
from ssm_jax.nn.layers import Conv, Dense, Masking, apply_masks, masked_layers
from ssm_jax.nn.variables import Constant, Frozen, Kernel, RuleState, Score, Signs, split

pytestmark = pytest.mark.usefixtures("strict_arithmetic")
SIGNED = Masking()
DENSE = Masking(rule=None)


def layers(masking: Masking = SIGNED, seed: int = 0) -> dict[str, Dense | Conv]:
    return {
        "dense": Dense(6, 5, masking=masking, rngs=nnx.Rngs(seed)),
        "conv": Conv(3, 4, stride=2, masking=masking, rngs=nnx.Rngs(seed)),
    }


INPUTS = {
    "dense": np.random.default_rng(0).normal(size=(7, 6)).astype("f"),
    "conv": np.random.default_rng(0).normal(size=(2, 7, 5, 3)).astype("f"),
}
each_layer = pytest.mark.parametrize("name", ["dense", "conv"])


def explicit(name: str, inputs, kernel):
    """What a layer without any mask gives for that kernel."""
    if name == "dense":
        return jnp.asarray(inputs) @ kernel
    return lax.conv_general_dilated(
        jnp.asarray(inputs), kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def ternary(layer) -> np.ndarray:
    scores, threshold = np.asarray(layer.scores[...]), float(layer.rule_state["threshold"][...])
    return np.where(scores > threshold, 1.0, np.where(scores < -threshold, -1.0, 0.0)).astype("f")


@each_layer
def test_forward_is_that_of_kernel_times_mask(name):
    layer = layers()[name]
    mask = ternary(layer)
    assert set(np.unique(mask)) == {-1, 0, 1}
    np.testing.assert_array_equal(layer.mask(), mask)
    np.testing.assert_array_equal(layer.effective_kernel(), np.asarray(layer.random_kernel()) * mask)
    expected = explicit(name, INPUTS[name], np.asarray(layer.random_kernel()) * mask)
    np.testing.assert_allclose(layer(INPUTS[name]), expected, rtol=1e-5, atol=1e-6)


def test_dense_takes_any_leading_dimensions():
    assert layers()["dense"](jnp.ones((2, 3, 6))).shape == (2, 3, 5)


@each_layer
def test_one_split_tells_scores_frozen_and_the_rest_apart(name):
    _, params, frozen, rest, _ = split(layers()[name])
    assert {path: type(leaf) for path, leaf in nnx.to_flat_state(params)} == {("scores",): Score}
    assert {path: type(leaf) for path, leaf in nnx.to_flat_state(frozen)} == {
        ("signs",): Signs,
        ("constant",): Constant,
    }
    assert {path: type(leaf) for path, leaf in nnx.to_flat_state(rest)} == {
        ("rule_state", "threshold"): RuleState
    }


@each_layer
def test_a_kernel_that_is_no_signed_constant_is_kept_in_float32(name):
    layer = layers(Masking(kernel_init=initializers.he_uniform()))[name]
    assert {path: type(leaf) for path, leaf in nnx.to_flat_state(split(layer).frozen)} == {
        ("kernel",): Kernel
    }
    np.testing.assert_array_equal(layer.random_kernel(), layer.kernel[...])
    assert len(np.unique(layer.random_kernel())) > 2


@each_layer
def test_a_dense_baseline_has_only_a_trained_kernel(name):
    layer = layers(DENSE)[name]
    _, params, frozen, rest = nnx.split(layer, nnx.Param, Frozen, ...)
    assert {path: type(leaf) for path, leaf in nnx.to_flat_state(params)} == {("kernel",): nnx.Param}
    assert not jax.tree.leaves((frozen, rest))
    assert (layer.mask() == 1).all()
    expected = explicit(name, INPUTS[name], layer.random_kernel())
    np.testing.assert_allclose(layer(INPUTS[name]), expected, rtol=1e-5, atol=1e-6)


@each_layer
def test_masked_and_dense_layers_of_a_seed_share_their_kernel(name):
    masked, dense, other = layers()[name], layers(DENSE)[name], layers(seed=1)[name]
    np.testing.assert_array_equal(masked.random_kernel(), dense.random_kernel())
    assert (masked.random_kernel() != other.random_kernel()).any()
    assert (masked.scores[...] != other.scores[...]).any()


def test_kernel_and_scores_come_from_streams_of_their_own():
    one = Dense(6, 5, rngs=nnx.Rngs(params=0, scores=1))
    other = Dense(6, 5, rngs=nnx.Rngs(params=0, scores=2))
    np.testing.assert_array_equal(one.random_kernel(), other.random_kernel())
    assert (one.scores[...] != other.scores[...]).any()


@each_layer
def test_initializers_of_the_masking_are_used(name):
    masking = Masking(kernel_init=initializers.he_constant(), score_init=initializers.he_uniform())
    layer = layers(masking)[name]
    fan_in = {"dense": 6, "conv": 27}[name]
    np.testing.assert_allclose(np.abs(layer.random_kernel()), (2 / fan_in) ** 0.5, rtol=1e-6)
    largest = np.abs(layer.scores[...]).max()
    assert 0.8 * (6 / fan_in) ** 0.5 < largest <= (6 / fan_in) ** 0.5


@each_layer
@pytest.mark.parametrize("rule", ["signed", None])
def test_bfloat16_computes_while_float32_is_kept(name, rule):
    layer = layers(Masking(rule=rule, dtype=jnp.bfloat16))[name]
    kept = {leaf.dtype for leaf in jax.tree.leaves(nnx.state(layer))}
    assert kept - {jnp.dtype("int8")} == {jnp.dtype("float32")}  # signs
    assert layer.effective_kernel().dtype == jnp.bfloat16
    outputs = layer(INPUTS[name])
    assert outputs.dtype == jnp.bfloat16
    exact = layers(Masking(rule=rule))[name](INPUTS[name])
    np.testing.assert_allclose(np.float32(outputs), exact, rtol=0.05, atol=0.05)


@each_layer
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradient_touches_only_scores_and_is_kernel_times_that_of_the_effective_kernel(name, dtype):
    layer = layers(Masking(dtype=dtype))[name]
    weight = np.random.default_rng(3).normal(size=layer(INPUTS[name]).shape).astype("f")

    def loss(model):
        return jnp.sum(model(INPUTS[name]).astype(jnp.float32) * weight)

    gradient = nnx.grad(loss)(layer)
    assert [path for path, _ in nnx.to_flat_state(gradient)] == [("scores",)]
    (by_scores,) = jax.tree.leaves(gradient)
    assert by_scores.dtype == jnp.float32
    by_kernel = jax.grad(lambda kernel: jnp.sum(explicit(name, INPUTS[name], kernel) * weight))(
        jnp.asarray(np.asarray(layer.random_kernel()) * ternary(layer))
    )
    tolerance = 1e-5 if dtype == jnp.float32 else 0.05
    expected = np.asarray(layer.random_kernel()) * by_kernel
    np.testing.assert_allclose(by_scores, expected, rtol=tolerance, atol=tolerance)
    hidden = ternary(layer) == 0
    assert np.abs(np.asarray(by_scores))[hidden].min() > 0  # the hidden ones can come back


@pytest.mark.parametrize(("sides", "weights"), [((0, 10), "0"), ((2**16, 2**15), "2147483648")])
def test_a_layer_of_no_or_too_many_weights_is_refused(sides, weights):
    with pytest.raises(errors.InputError, match=f"is {weights}; allowed is 1 to 2147483647"):
        Dense(*sides, rngs=nnx.Rngs(0))


def test_masking_refuses_what_is_not_allowed():
    with pytest.raises(errors.InputError, match=r"mask rule 'sign'.*'signed'\?"):
        Masking(rule="sign")
    for rule in (core.Signed, 3, lambda scores: scores):
        with pytest.raises(errors.InputError, match=r"rule is .*; it must be a Rule, its name or None"):
            Masking(rule=rule)
    with pytest.raises(errors.InputError, match=r"the rule can't be hashed: .* \(freeze its dataclass\)"):
        Masking(rule=dataclasses.make_dataclass("Loose", [], bases=(core.Rule,))())
    with pytest.raises(errors.InputError, match="kernel_init is 'elus'; it must be an initializer"):
        Masking(kernel_init="elus")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Masking().rule = None


def test_a_rules_name_stands_for_the_rule():
    assert Masking(rule="binary").rule == core.Binary()
    assert Masking(rule="dense") == Masking(rule=None)


@dataclasses.dataclass(frozen=True)
class Coin(core.Rule):
    """Keeps every weight with even chances in training and all of them in evaluation."""

    def mask(self, scores, state, key=None):
        kept = jnp.ones(scores.shape, bool) if key is None else jax.random.bernoulli(key, 0.5, scores.shape)
        return core.straight_through(lambda scores: kept.astype(scores.dtype))(scores)


def test_rules_that_draw_at_random_do_so_in_training_by_the_layers_own_key():
    def drawn(key):
        model = nnx.List([Dense(8, 8, masking=Masking(rule=Coin()), rngs=nnx.Rngs(0)) for _ in range(2)])
        apply_masks(model, key)
        return [np.asarray(layer.kernel[...]) for layer in model]

    whole, one, other = drawn(None), drawn(jax.random.key(1)), drawn(jax.random.key(2))
    assert all((kernel != 0).all() for kernel in whole)
    assert ((one[0] == 0) != (one[1] == 0)).any() and (one[0] != other[0]).any()
    np.testing.assert_array_equal(one, drawn(jax.random.key(1)))


@each_layer
@pytest.mark.parametrize("masking", [SIGNED, DENSE, Masking(dtype=jnp.bfloat16)])
def test_a_network_with_its_masks_applied_computes_what_it_computed_before(name, masking):
    layer = layers(masking)[name]
    before = layer(INPUTS[name])
    apply_masks(layer)
    assert {path for path, _ in nnx.to_flat_state(nnx.state(layer))} == {("kernel",)}
    assert layer.kernel[...].dtype == masking.dtype and layer.rule is None
    np.testing.assert_array_equal(layer(INPUTS[name]), before)


class Own(nnx.Module):
    """A user's network of our layers and Flax's."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = Conv(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.blocks = nnx.List([Dense(4, 4, rngs=rngs), Dense(4, 4, masking=DENSE, rngs=rngs)])
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, images):
        hidden = nnx.elu(self.norm(self.conv(images))).mean((1, 2))
        for block in self.blocks:
            hidden = nnx.elu(block(hidden))
        return self.head(hidden)


@each_layer
def test_another_kernel_and_mask_are_applied_by_the_layers_rule(name):
    layer = layers(Masking(rule=core.Signed(rescale=1.0), dtype=jnp.bfloat16))[name]
    mask = jnp.zeros(layer.shape).at[..., 0].set(-1.0)
    found = layer.apply_rule(jnp.full(layer.shape, 3.0), mask)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype("f"), np.asarray(mask) * 3 * layer.shape[-1], rtol=1e-2)


@each_layer
def test_a_layer_becomes_the_dense_one_of_a_kernel(name):
    layer = layers()[name]
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=layer.shape).astype("f"))
    layer.become_dense(kernel)
    assert set(nnx.to_flat_state(nnx.state(layer)).paths) == {("kernel",)}
    np.testing.assert_allclose(
        layer(INPUTS[name]), explicit(name, INPUTS[name], kernel), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("rule", "dtype"), [(core.Signed(), "int8"), (None, "int8"), (core.Stochastic(), "float32")]
)
def test_a_mask_is_stored_as_whole_numbers_unless_it_is_an_expectation(rule, dtype):
    layer = layers(Masking(rule=rule))["dense"]
    assert layer.stored_mask().dtype == dtype
    np.testing.assert_array_equal(layer.stored_mask(), layer.mask())


@dataclasses.dataclass(frozen=True)
class Common(core.Rule):
    """The straight-through estimator as it is commonly written, which rounds."""

    def mask(self, scores, state, key=None):
        hard = jnp.where(jnp.abs(scores) > 0.1, jnp.sign(scores), 0)
        return hard + scores - jax.lax.stop_gradient(scores)


def test_a_mask_that_is_whole_but_for_rounding_is_stored_and_counted_whole():
    layer = Dense(40, 30, masking=Masking(rule=Common()), rngs=nnx.Rngs(0))
    scores, mask = layer.scores[...], layer.mask()
    hard = np.where(np.abs(scores) > 0.1, np.sign(scores), 0)
    assert (mask != hard).any()  # what the test is about
    np.testing.assert_array_equal(layer.stored_mask(), hard)
    expected = [(hard == value).sum() for value in (-1, 0, 1)]
    assert list(map(int, layer.count())) == expected
    # Nor does an error of rounding make a weight of a hidden one.
    assert [int(n) for n in core.count(jnp.float32([-1e-8, 1e-8, 0.9999999, -1.0000001]))] == [1, 2, 1]


def test_layers_inside_a_users_own_module():
    model = Own(nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (6, 8, 8, 3))
    with jax.numpy_rank_promotion("allow"):  # nnx.Linear adds its bias so
        outputs, gradient = nnx.jit(nnx.value_and_grad(lambda m: m(images).sum()))(model)
    assert np.isfinite(outputs)
    trained = {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(gradient)}
    assert trained == {
        "conv/scores",
        "norm/scale",
        "norm/bias",
        "blocks/0/scores",
        "blocks/1/kernel",
        "head/kernel",
        "head/bias",
    }
    assert (model.norm.mean[...] != 0).all()  # the statistics went on
    _, params, frozen, rest, _ = split(model)
    assert len(jax.tree.leaves(params)) == 7
    assert len(jax.tree.leaves(frozen)) == 4  # signs and constants
    assert len(jax.tree.leaves(rest)) == 4  # thresholds and statistics


def test_masked_layers_by_path_in_order():
    model = Own(nnx.Rngs(0))
    found = dict(masked_layers(model))
    assert set(found) == {"conv", "blocks/0", "blocks/1"}
    assert found["conv"] is model.conv
    assert found["blocks/1"] is model.blocks[1]
    assert list(found).index("blocks/0") < list(found).index("blocks/1")


def test_flax_shows_a_masked_layer():
    layer = Dense(4, 3, rngs=nnx.Rngs(0))
    expected = layer(jnp.ones((1, 4)))
    assert "scores" in nnx.tabulate(layer, jnp.ones((1, 4)), console_kwargs={"width": 200})
    nnx.display(layer)
    np.testing.assert_array_equal(layer(jnp.ones((1, 4))), expected)

"""Every rule of the registry keeps the contract: literal masks, gradient, vmap, dtypes, jit, cost."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ssm_jax import config, core, errors

pytestmark = pytest.mark.usefixtures("strict_arithmetic")

SCORES = np.array(
    [
        [0.50, -0.50, 0.10, -0.10],
        [0.25, -0.25, 0.26, -0.26],
        [0.00, -0.00, 1.00, -1.00],
        [0.24, 0.30, -0.24, -0.30],
    ],
    np.float32,
)
SIZES = [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1]]  # those of the eight largest in size
# A share of a quarter of the largest score makes a threshold of 0.25, which binary floating point holds.
EXPECTED = {
    "signed": (
        core.Signed(0.25),
        [[1, -1, 0, 0], [0, 0, 1, -1], [0, 0, 1, -1], [0, 1, 0, -1]],
    ),
    "binary": (
        core.Binary(0.25),
        [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 1, 0, 0]],
    ),
    "stochastic": (core.Stochastic(), 1 / (1 + np.exp(-SCORES))),
    "edge_popup": (core.EdgePopup(0.5), SIZES),
    "signed_topk": (
        core.SignedTopK(0.25),
        [[1, -1, 0, 0], [0, 0, 0, 0], [0, 0, 1, -1], [0, 0, 0, 0]],
    ),
    "biprop": (core.Biprop(0.5), SIZES),
    "multicoated": (
        core.Multicoated(0.5, coats=2),
        [[2, 2, 0, 0], [0, 0, 1, 1], [0, 0, 2, 2], [0, 1, 0, 1]],
    ),
    "sign_only": (
        core.SignOnly(),
        [[1, -1, 1, -1], [1, -1, 1, -1], [1, 1, 1, -1], [1, 1, -1, -1]],
    ),
}
EXPECTED["n_of_m"] = (
    core.NOfM(2, 4),
    [[1, -1, 0, 0], [1, 0, 1, 0], [0, 0, 1, -1], [0, 1, 0, -1]],
)
EXPECTED["tiles"] = (
    core.Tiles(0.5, side=2),
    [[1, -1, 0, 0], [1, -1, 0, 0], [0, 0, 1, -1], [0, 0, -1, -1]],
)
# dm/ds, the part of the gradient that goes from the mask to the scores: 1 unless the rule says otherwise.
PULLED = dict.fromkeys(("edge_popup", "biprop", "multicoated"), np.where(SCORES < 0, -1, 1))
PULLED["stochastic"] = np.exp(-SCORES) / (1 + np.exp(-SCORES)) ** 2
each_rule = pytest.mark.parametrize("name", core.RULES)


def made(name, dtype=jnp.float32):
    """The rule, the scores and the rule's state of them in that dtype, and the mask that is expected."""
    rule, expected = EXPECTED[name]
    state = {key: value.astype(dtype) for key, value in rule.init(jnp.asarray(SCORES)).items()}
    return rule, jnp.asarray(SCORES, dtype), state, np.array(expected, np.float32)


@each_rule
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_literal_mask(name, dtype):
    rule, scores, state, expected = made(name, dtype)
    mask = jax.jit(rule.mask)(scores, state)
    assert mask.dtype == dtype
    # Probabilities are rounded, the rest is exact.
    tolerance = 0 if name != "stochastic" else 1e-2 if dtype == jnp.bfloat16 else 1e-6
    np.testing.assert_allclose(np.float32(mask), expected, rtol=tolerance)


@each_rule
def test_vmap_gives_each_network_its_own_state(name):
    rule, scores, *_ = made(name)
    both = jnp.stack([scores, 2 * scores])
    states = jax.vmap(rule.init)(both)
    alone = [rule.mask(own, rule.init(own)) for own in both]
    np.testing.assert_allclose(jax.vmap(rule.mask)(both, states), alone, rtol=1e-6)


def applied(name, kernel, mask):
    """The effective kernel by the rule's definition."""
    if name == "biprop":
        return np.sign(kernel) * mask * np.mean(np.abs(kernel)[mask > 0])
    return kernel * mask


@each_rule
@pytest.mark.parametrize("rescale", [0.0, 0.5])
def test_the_effective_kernel_is_that_of_the_definition(name, rescale):
    rule, scores, state, expected = made(name)
    kernel = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)
    density = expected.mean() if name == "stochastic" else np.mean(expected != 0)
    rule = dataclasses.replace(rule, rescale=rescale)
    found = rule.kernel(jnp.asarray(kernel), rule.mask(scores, state), state)
    np.testing.assert_allclose(found, applied(name, kernel, expected) * density**-rescale, rtol=1e-6)


@each_rule
def test_a_layer_that_hides_everything_has_a_finite_kernel(name):
    rule = dataclasses.replace(EXPECTED[name][0], rescale=0.5)
    if name == "biprop":
        pytest.skip("the mean size of no weights has no value; top-k rules keep at least one")
    nothing = jnp.zeros((4, 4))
    np.testing.assert_array_equal(rule.kernel(jnp.ones((4, 4)), nothing, {}), nothing)


@each_rule
@pytest.mark.parametrize("rescale", [0.0, 0.5])
def test_gradient_is_straight_through(name, rescale):
    """dL/ds = dm/ds * w * dL/dw^, everywhere, of L = |x (w * t) - y|^2 / 2; the rule's state gets none.

    What multiplies the kernel of a layer, a scale or the factor of `rescale`, has no gradient of its own.
    """
    rule, scores, state, expected = made(name)
    rule = dataclasses.replace(rule, rescale=rescale)
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(5, 4)).astype("f"), rng.normal(size=(5, 4)).astype("f")
    kernel = rng.choice([-0.7, 0.7], (4, 4)).astype("f")
    density = expected.mean() if name == "stochastic" else np.mean(expected != 0)
    scaled = kernel * density**-rescale

    def loss(scores, state):
        effective = rule.kernel(jnp.asarray(kernel), rule.mask(scores, state), state)
        return 0.5 * jnp.sum((jnp.asarray(inputs) @ effective - targets) ** 2)

    by_scores, by_state = jax.jit(jax.grad(loss, (0, 1)))(scores, state)
    by_effective_kernel = inputs.T @ (inputs @ (scaled * expected) - targets)
    np.testing.assert_allclose(
        by_scores, PULLED.get(name, 1) * scaled * by_effective_kernel, rtol=1e-4, atol=1e-5
    )
    assert by_scores.dtype == jnp.float32
    assert not any(map(jnp.any, jax.tree.leaves(by_state)))


@each_rule
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradient_keeps_the_dtype(name, dtype):
    rule, scores, state, _ = made(name, dtype)
    gradient = jax.grad(lambda scores: 3 * rule.mask(scores, state).sum())(scores)
    assert gradient.dtype == dtype
    expected = np.broadcast_to(3 * PULLED.get(name, 1), (4, 4))
    np.testing.assert_allclose(np.float32(gradient), expected, rtol=1e-2 if name == "stochastic" else 0)


@each_rule
def test_counts_add_up(name):
    rule, scores, state, expected = made(name)
    counts = rule.count(rule.mask(scores, state))
    if name == "stochastic":
        np.testing.assert_allclose(counts, [0, np.sum(1 - expected), np.sum(expected)], rtol=1e-6)
        assert {part.dtype for part in counts} == {jnp.dtype("float32")}
        return
    literal = [np.sum(expected < 0), np.sum(expected == 0), np.sum(expected > 0)]
    assert [int(number) for number in counts] == literal
    assert {part.dtype for part in counts} == {jnp.dtype("int32")}


MASKS = {name: jax.jit(rule.mask) for name, (rule, _) in EXPECTED.items()}
# Some that tie, and any but those that XLA takes for 0.
FLOATS = st.sampled_from([-1.0, -0.5, -0.0, 0.0, 0.25, 0.5]) | st.floats(
    -1e4, 1e4, width=32, allow_subnormal=False
)


def mask_of(name, scores):
    rule = EXPECTED[name][0]
    return np.asarray(MASKS[name](jnp.asarray(scores), rule.init(jnp.asarray(scores))))


@each_rule
@given(scores=arrays(np.float32, (4, 4), elements=FLOATS))
def test_what_holds_for_every_mask(name, scores):
    rule = EXPECTED[name][0]
    mask = mask_of(name, scores)
    assert np.isfinite(mask).all() and (np.abs(mask) <= getattr(rule, "coats", 1)).all()
    counts = rule.count(jnp.asarray(mask))
    np.testing.assert_allclose(sum(counts), 16, rtol=1e-6)
    # A power of two has no rounding: masks go by the scores' order, whatever their unit is.
    if name != "stochastic":
        np.testing.assert_array_equal(mask_of(name, 4 * scores), mask)
    if name in ("signed", "sign_only", "n_of_m", "tiles"):
        np.testing.assert_array_equal(mask, np.where(scores < 0, -1, 1) * (mask != 0))
    # Outputs are alike: in another order they have their masks in that order.
    if name != "tiles":
        np.testing.assert_array_equal(mask_of(name, scores[:, ::-1]), mask[:, ::-1])


@each_rule
@given(scores=arrays(np.float32, (4, 4), elements=FLOATS))
def test_as_many_weights_remain_as_are_asked_for_and_ties(name, scores):
    rule = EXPECTED[name][0]
    kept = mask_of(name, scores) != 0
    if name in ("edge_popup", "biprop", "multicoated"):
        sizes = np.sort(np.abs(scores), axis=None)
        np.testing.assert_array_equal(kept, np.abs(scores) >= sizes[-8])
    elif name == "n_of_m":
        assert (kept.sum(0) == 2).all()
        assert (
            np.where(kept, np.abs(scores), np.inf).min(0) >= np.where(kept, 0, np.abs(scores)).max(0)
        ).all()
    elif name in ("signed", "binary"):
        bound = rule.init(jnp.asarray(scores))["threshold"]
        np.testing.assert_array_equal(kept, (np.abs(scores) if name == "signed" else scores) > bound)
    elif name == "tiles":
        blocks = kept.reshape(2, 2, 2, 2).all((1, 3))
        np.testing.assert_array_equal(kept, np.kron(blocks, np.ones((2, 2), bool)))
        assert blocks.sum() >= 2
    elif name == "sign_only":
        assert kept.all()


@each_rule
def test_a_rule_is_a_value(name):
    rule = EXPECTED[name][0]
    assert isinstance(rule, core.Rule)
    assert rule == type(rule)(**dataclasses.asdict(rule)) and hash(rule) == hash(dataclasses.replace(rule))


def test_rules_by_name_take_their_settings_from_the_config():
    settings = config.default().mask
    settings.threshold = 0.7
    assert core.by_name("signed", settings) == core.Signed(0.7)
    assert core.by_name("binary") == core.Binary(0.4)
    settings.density, settings.coats, settings.rescale = 0.3, 5, 0.5
    assert core.by_name("multicoated", settings) == core.Multicoated(0.3, coats=5, rescale=0.5)
    settings.relative = False
    assert core.by_name("binary", settings) == core.Binary(0.7, False, 0.3, rescale=0.5)
    settings.relative, settings.density = True, 0.0
    assert core.by_name("dense", settings) is None
    with pytest.raises(errors.InputError, match=r"mask rule 'singed'; did you mean 'signed'\?"):
        core.by_name("singed")
    settings.threshold = 2.0
    with pytest.raises(errors.InputError, match=r"^config\.mask\.threshold is 2.0; allowed is 0 to 1$"):
        core.by_name("signed", settings)


@pytest.mark.parametrize(
    ("rule", "field", "value", "allowed"),
    [
        ("signed", "threshold", -0.1, "0 to 1"),
        ("edge_popup", "density", 0.0, "above 0 and at most 1"),  # what a config has that asks for none
        ("signed_topk", "density", 1.5, "above 0 and at most 1"),
        ("biprop", "density", float("nan"), "above 0 and at most 1"),
        ("multicoated", "coats", 0, "1 to 127"),
        ("multicoated", "coats", 128, "1 to 127"),
        ("sign_only", "rescale", -1.0, "at least 0"),
        ("stochastic", "rescale", -1.0, "at least 0"),
    ],
)
def test_a_setting_out_of_range_is_one_line(rule, field, value, allowed):
    settings = config.default().mask
    settings.density = 0.5 if field == "coats" else 0.0
    settings[field] = value
    with pytest.raises(errors.InputError, match=rf"^config\.mask\.{field} is {value}; allowed is {allowed}$"):
        core.by_name(rule, settings)


def test_a_rule_of_ones_own_joins_by_an_entry(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Positive(core.Rule):
        def mask(self, scores, state, key=None):
            return core.straight_through(lambda scores: (scores > 0).astype(scores.dtype))(scores)

    monkeypatch.setitem(core.RULES, "positive", Positive)
    rule = core.by_name("positive", config.default().mask)
    assert rule == Positive() and rule.init(jnp.asarray(SCORES)) == {}
    np.testing.assert_array_equal(rule.mask(jnp.asarray(SCORES), {}), SCORES > 0)

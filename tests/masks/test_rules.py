"""Every rule of the registry keeps the contract: literal masks, gradient, vmap, dtypes, jit, cost."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from ssm_jax import config, errors, masks

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
# A share of a quarter of the largest score makes a threshold of 0.25, which binary floating point holds.
EXPECTED = {
    "signed": (
        masks.Signed(0.25),
        [[1, -1, 0, 0], [0, 0, 1, -1], [0, 0, 1, -1], [0, 1, 0, -1]],
    ),
    "binary": (
        masks.Binary(0.25),
        [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 1, 0, 0]],
    ),
}
each_rule = pytest.mark.parametrize("name", masks.RULES)


def made(name, dtype=jnp.float32):
    """The rule, the scores and the rule's state of them in that dtype, and the mask that is expected."""
    rule, expected = EXPECTED[name]
    state = {key: value.astype(dtype) for key, value in rule.init(jnp.asarray(SCORES)).items()}
    return rule, jnp.asarray(SCORES, dtype), state, np.array(expected, np.float32)


@each_rule
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_literal_mask(name, dtype, transform):
    rule, scores, state, expected = made(name, dtype)
    mask = transform(rule.mask)(scores, state)
    assert mask.dtype == dtype
    np.testing.assert_array_equal(np.float32(mask), expected)


@each_rule
def test_vmap_gives_each_network_its_own_state(name):
    rule, scores, _, expected = made(name)
    both = jnp.stack([scores, 2 * scores])
    states = jax.vmap(rule.init)(both)
    np.testing.assert_array_equal(jax.vmap(rule.mask)(both, states), [expected, expected])


@each_rule
def test_the_effective_kernel_is_kernel_times_mask(name):
    rule, scores, state, expected = made(name)
    kernel = jnp.full((4, 4), 0.5).at[0].set(-0.5)
    np.testing.assert_array_equal(
        rule.kernel(kernel, rule.mask(scores, state), state), np.asarray(kernel) * expected
    )


@each_rule
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_gradient_is_straight_through(name, transform):
    """dL/ds = w * dL/dw^, everywhere, of L = |x (w * t) - y|^2 / 2; the rule's state gets none."""
    rule, scores, state, expected = made(name)
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(5, 4)).astype("f"), rng.normal(size=(5, 4)).astype("f")
    kernel = rng.choice([-0.7, 0.7], (4, 4)).astype("f")

    def loss(scores, state):
        effective = rule.kernel(jnp.asarray(kernel), rule.mask(scores, state), state)
        return 0.5 * jnp.sum((jnp.asarray(inputs) @ effective - targets) ** 2)

    by_scores, by_state = transform(jax.grad(loss, (0, 1)))(scores, state)
    by_effective_kernel = inputs.T @ (inputs @ (kernel * expected) - targets)
    np.testing.assert_allclose(by_scores, kernel * by_effective_kernel, rtol=1e-4, atol=1e-5)
    assert by_scores.dtype == jnp.float32
    assert not any(map(jnp.any, jax.tree.leaves(by_state)))


@each_rule
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradient_keeps_the_dtype(name, dtype):
    rule, scores, state, _ = made(name, dtype)
    gradient = jax.grad(lambda scores: 3 * rule.mask(scores, state).sum())(scores)
    assert gradient.dtype == dtype
    np.testing.assert_array_equal(np.float32(gradient), np.full((4, 4), 3.0))


@each_rule
def test_counts_add_up(name):
    rule, scores, state, expected = made(name)
    counts = rule.count(rule.mask(scores, state))
    assert [float(number) for number in counts] == [np.sum(expected == value) for value in (-1, 0, 1)]


def primitives(function, *arguments) -> set[str]:
    """The names of all primitives of a function, those of inner functions included."""

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            yield equation.primitive.name
            for inner in jaxprs_in_params(equation.params):
                yield from visit(inner)

    return set(visit(jax.make_jaxpr(function)(*arguments).jaxpr))


@each_rule
def test_a_step_sorts_nothing(name):
    rule, scores, state, _ = made(name)
    for function in (rule.mask, jax.grad(lambda scores, state: rule.mask(scores, state).sum())):
        assert not primitives(function, scores, state) & {"sort", "top_k", "approx_top_k"}
    assert "sort" in primitives(lambda scores: jnp.sort(scores), scores)  # the search finds one


@each_rule
def test_a_rule_is_a_value(name):
    rule = EXPECTED[name][0]
    assert isinstance(rule, masks.Rule)
    assert rule == type(rule)(**dataclasses.asdict(rule)) and hash(rule) == hash(dataclasses.replace(rule))


def test_rules_by_name_take_their_settings_from_the_config():
    settings = config.default().mask
    settings.threshold = 0.7
    assert masks.by_name("signed", settings) == masks.Signed(0.7)
    assert masks.by_name("binary") == masks.Binary(0.4)
    assert masks.by_name("dense", settings) is None
    with pytest.raises(errors.InputError, match=r"mask rule 'singed'; did you mean 'signed'\?"):
        masks.by_name("singed")
    settings.threshold = 2.0
    with pytest.raises(errors.InputError, match=r"^config\.mask\.threshold is 2.0; allowed is 0 to 1$"):
        masks.by_name("signed", settings)


def test_a_rule_of_ones_own_joins_by_an_entry(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Positive(masks.Rule):
        def mask(self, scores, state, key=None):
            return masks.straight_through(lambda scores: (scores > 0).astype(scores.dtype))(scores)

    monkeypatch.setitem(masks.RULES, "positive", Positive)
    rule = masks.by_name("positive", config.default().mask)
    assert rule == Positive() and rule.init(jnp.asarray(SCORES)) == {}
    np.testing.assert_array_equal(rule.mask(jnp.asarray(SCORES), {}), SCORES > 0)

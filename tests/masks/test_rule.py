"""The signed mask against its definition: literal masks, the straight-through gradient, its cost."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from ssm_jax import errors, masks

pytestmark = pytest.mark.usefixtures("strict_arithmetic")

SCORES = np.array(
    [
        [0.50, -0.50, 0.10, -0.10],
        [0.25, -0.25, 0.26, -0.26],
        [0.00, -0.00, 9.00, -9.00],
        [0.24, 0.30, -0.24, -0.30],
    ],
    np.float32,
)
# A threshold of 0.25, which binary floating point holds exactly.
MASK = np.array([[1, -1, 0, 0], [0, 0, 1, -1], [0, 0, 1, -1], [0, 1, 0, -1]], np.float32)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_literal_mask(dtype, transform):
    mask = transform(masks.signed)(jnp.asarray(SCORES, dtype), jnp.asarray(0.25, dtype))
    assert mask.dtype == dtype
    np.testing.assert_array_equal(np.float32(mask), MASK)


def test_the_threshold_itself_is_hidden_on_both_sides_and_the_next_float_is_not():
    threshold = np.float32(0.3)
    above = np.nextafter(threshold, np.float32(1))
    scores = jnp.array([threshold, -threshold, above, -above])
    np.testing.assert_array_equal(masks.signed(scores, jnp.float32(0.3)), [0, 0, 1, -1])


def test_a_threshold_of_zero_hides_only_zeros():
    mask = masks.signed(jnp.array([1e-30, 0.0, -1e-30]), jnp.float32(0))
    np.testing.assert_array_equal(mask, [1, 0, -1])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_vmap_gives_each_network_its_own_threshold(dtype):
    scores = jnp.asarray(np.stack([SCORES, SCORES]), dtype)
    mask = jax.vmap(masks.signed)(scores, jnp.array([0.25, 0.6], dtype))
    np.testing.assert_array_equal(np.float32(mask[0]), MASK)
    expected = np.zeros((4, 4))
    expected[2] = [0, 0, 1, -1]
    np.testing.assert_array_equal(np.float32(mask[1]), expected)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_gradient_is_straight_through(transform):
    """dL/ds = w * dL/dw^, everywhere, of L = |x (w * t) - y|^2 / 2; the threshold gets none."""
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(5, 4)).astype("f"), rng.normal(size=(5, 4)).astype("f")
    kernel = rng.choice([-0.7, 0.7], (4, 4)).astype("f")

    def loss(scores, threshold):
        outputs = jnp.asarray(inputs) @ (jnp.asarray(kernel) * masks.signed(scores, threshold))
        return 0.5 * jnp.sum((outputs - targets) ** 2)

    by_scores, by_threshold = transform(jax.grad(loss, (0, 1)))(jnp.asarray(SCORES), jnp.float32(0.25))
    by_effective_kernel = inputs.T @ (inputs @ (kernel * MASK) - targets)
    np.testing.assert_allclose(by_scores, kernel * by_effective_kernel, rtol=1e-4, atol=1e-5)
    assert by_scores.dtype == jnp.float32
    assert by_threshold == 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradient_keeps_the_dtype(dtype):
    scores, threshold = jnp.asarray(SCORES, dtype), jnp.asarray(0.25, dtype)
    gradient = jax.grad(lambda s: 3 * masks.signed(s, threshold).sum())(scores)
    assert gradient.dtype == dtype
    np.testing.assert_array_equal(np.float32(gradient), np.full((4, 4), 3.0))


def primitives(function, *arguments) -> set[str]:
    """The names of all primitives of a function, those of inner functions included."""

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            yield equation.primitive.name
            for inner in jaxprs_in_params(equation.params):
                yield from visit(inner)

    return set(visit(jax.make_jaxpr(function)(*arguments).jaxpr))


def test_the_mask_is_elementwise_and_sorts_nothing():
    arguments = jnp.asarray(SCORES), jnp.float32(0.25)
    elementwise = {"gt", "lt", "neg", "sub", "select_n", "convert_element_type", "broadcast_in_dim"}
    calls = {"custom_vjp_call", "pjit", "jit", "closed_call"}
    assert primitives(masks.signed, *arguments) <= elementwise | calls
    gradient = primitives(jax.grad(lambda s, t: masks.signed(s, t).sum()), *arguments)
    assert "sort" not in gradient
    assert "top_k" not in gradient
    assert "sort" in primitives(lambda s, t: jnp.sort(s), *arguments)  # the search finds one


@pytest.mark.parametrize(("share", "threshold"), [(0.0, 0.0), (0.4, 3.6), (0.6, 5.4), (1.0, 9.0)])
def test_fixed_threshold_is_a_share_of_the_largest_score_of_either_sign(share, threshold):
    for scores in (SCORES, SCORES[:, ::2], SCORES[:, 1::2]):  # both, positive, negative 9.0
        found = masks.fixed_threshold(jnp.asarray(scores), share)
        assert found.shape == ()
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, threshold, rtol=1e-6)


def test_a_share_of_one_hides_every_weight_at_the_start():
    scores = jax.random.normal(jax.random.key(0), (50, 20))
    assert not masks.signed(scores, masks.fixed_threshold(scores, 1.0)).any()


def test_the_threshold_hides_its_share_of_uniform_scores():
    scores = jax.random.uniform(jax.random.key(0), (300, 300), minval=-0.2, maxval=0.2)
    mask = masks.signed(scores, masks.fixed_threshold(scores, 0.4))
    np.testing.assert_allclose(np.mean(np.asarray(mask) == 0), 0.4, atol=0.01)


def test_count():
    shares = masks.count(jnp.asarray(MASK))
    assert tuple(map(int, shares)) == (4, 8, 4) == (shares.inverted, shares.hidden, shares.kept)
    assert {part.dtype for part in shares} == {jnp.dtype("int32")}
    assert tuple(map(int, masks.count(jnp.array([[1, 0], [1, 1]])))) == (0, 1, 3)
    assert tuple(map(int, masks.count(jnp.zeros((3, 5), jnp.bfloat16)))) == (0, 15, 0)


def test_count_is_exact_where_float32_is_not():
    side = 4100  # 4100^2 is above 2^24
    assert int(jax.jit(masks.count)(jnp.ones((side, side), jnp.int8)).kept) == side**2


def test_rule_by_name():
    assert masks.rule("signed") is masks.signed
    with pytest.raises(errors.InputError, match=r"mask rule 'singed'; did you mean 'signed'\?"):
        masks.rule("singed")

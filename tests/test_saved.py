"""A model comes back from its file and trains on as if it had never stopped."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ssm_jax
from ssm_jax import core, errors


class Net(nnx.Module):
    """A rule that draws, a normalization's statistics and bfloat16: keys, counts and other dtypes."""

    def __init__(self, seed=0, width=6):
        rngs = nnx.Rngs(seed)
        self.first = nnx.Linear(4, width, param_dtype=jnp.bfloat16, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)

    def __call__(self, inputs):
        return self.norm(self.first(inputs))


def masked(seed=0, width=6, rule="stochastic"):
    return ssm_jax.supermask(Net(seed, width), core.Masking(rule=rule), rngs=seed, biases="trained")


@nnx.jit
def step(model, optimizer):
    gradient = nnx.grad(lambda model: jnp.sum(jnp.sin(model(jnp.eye(4)).astype(jnp.float32))))(model)
    optimizer.update(model, gradient)


def trained(model):
    return model, ssm_jax.Optimizer(model, steps=8)


def values(model):
    leaves = jax.tree.leaves(nnx.state(model))
    return [jax.random.key_data(leaf) if leaf.dtype.name.startswith("key") else leaf for leaf in leaves]


def test_a_model_and_its_optimizer_go_on_where_they_were(tmp_path):
    model, optimizer = trained(masked())
    step(model, optimizer)
    ssm_jax.save(model, tmp_path / "model.npz")
    ssm_jax.save(optimizer, tmp_path / "optimizer.npz")
    other, its = trained(masked(seed=1))
    assert ssm_jax.load_into(other, tmp_path / "model.npz") is other
    ssm_jax.load_into(its, tmp_path / "optimizer.npz")
    for pair in ((model, optimizer), (other, its)):
        step(*pair)
    for one, two in zip(values(model), values(other), strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(values(optimizer), values(its), strict=True):
        np.testing.assert_array_equal(one, two)


def test_masks_of_a_tree_come_back(tmp_path):
    params = {"kernel": jnp.ones((6, 5)), "bias": jnp.zeros(5)}
    masks = core.init(jax.random.key(0), params, core.Masking(rule=core.Signed(density=0.2)))
    ssm_jax.save(masks, tmp_path / "masks.npz")
    other = core.init(jax.random.key(1), params, core.Masking(rule=core.Signed(density=0.2)))
    found = ssm_jax.load_into(other, tmp_path / "masks.npz")
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(masks), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: masked(width=5), r"has '.*' as bfloat16 \[6\]; the model's is bfloat16 \[5\]"),
        (
            lambda: masked(rule="signed"),
            "has no 'first/kernel/rule_state/threshold/value': it is of",
        ),
    ],
)
def test_another_model_is_one_line(tmp_path, other, message):
    ssm_jax.save(masked(), tmp_path / "model.npz")
    with pytest.raises(errors.InputError, match=message):
        ssm_jax.load_into(other(), tmp_path / "model.npz")


def test_what_is_no_file_of_it_is_one_line(tmp_path):
    with pytest.raises(errors.InputError, match="there is no file"):
        ssm_jax.load_into(masked(), tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("text")
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    for name in ("text", "other"):
        with pytest.raises(errors.InputError, match="is no file of `save`"):
            ssm_jax.load_into(masked(), tmp_path / f"{name}.npz")

"""Statistics of normalizations, measured anew over some batches, against their definition in numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ssm_jax
from ssm_jax import errors
from ssm_jax.nn import statistics
from ssm_jax.nn.networks import BATCH_AXIS

rng = np.random.default_rng(0)
IMAGES = rng.normal(3.0, 2.0, (11, 3)).astype("f")
SIZES = (4, 4, 3)  # a last batch that is smaller
BATCHES = [jnp.asarray(part) for part in np.split(IMAGES, np.cumsum(SIZES)[:-1])]


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = ssm_jax.Dense(3, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, axis_name=BATCH_AXIS, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.second = ssm_jax.Dense(5, 4, rngs=rngs)
        self.inner = nnx.List([nnx.BatchNorm(4, rngs=rngs)])
        self.unused = nnx.BatchNorm(2, rngs=rngs)
        self.calls = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(self, inputs):
        self.calls[...] += 1
        hidden = nnx.relu(self.norm(self.first(inputs)))
        return self.inner[0](self.second(self.dropout(hidden)))


def expected():
    """Mean and variance of all examples, where every batch is normalized by itself."""
    net = Net(nnx.Rngs(0))
    first, second = (np.asarray(layer.effective_kernel()) for layer in (net.first, net.second))
    one, two = [], []
    for batch in map(np.asarray, BATCHES):
        hidden = batch @ first
        one.append(hidden)
        hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
        two.append(np.maximum(hidden, 0) @ second)
    return [(all_.mean(0), all_.var(0)) for all_ in map(np.concatenate, (one, two))]


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_statistics_are_those_of_all_examples(training):
    net = Net(nnx.Rngs(0))
    net.train() if training else net.eval()
    ssm_jax.recalibrate(net, BATCHES)
    for norm, (mean, variance) in zip((net.norm, net.inner[0]), expected(), strict=True):
        np.testing.assert_allclose(norm.mean[...], mean, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(norm.var[...], variance, rtol=1e-4, atol=1e-5)


def test_everything_else_stays_as_it_was():
    net = Net(nnx.Rngs(0))
    graph, before = nnx.split(nnx.clone(net))
    ssm_jax.recalibrate(net, BATCHES)
    after_graph, after = nnx.split(net)
    assert after_graph == graph  # mode, momentum and axis among it
    changed = set()
    for (path, old), (_, new) in zip(nnx.to_flat_state(before), nnx.to_flat_state(after), strict=True):
        old, new = (value[...] for value in (old, new))
        if jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
            old, new = map(jax.random.key_data, (old, new))
        if not np.array_equal(old, new):
            changed.add(path)
    measured = (("norm",), ("inner", 0))
    assert changed == {(*path, name) for path in measured for name in ("mean", "var")}


def test_what_the_statistics_were_does_not_matter():
    net, broken = Net(nnx.Rngs(0)), Net(nnx.Rngs(0))
    broken.norm.mean[...] = jnp.full(5, jnp.nan)
    broken.norm.var[...] = jnp.full(5, jnp.inf)
    for model in (net, broken):
        ssm_jax.recalibrate(model, iter(BATCHES))
    for one, other in zip(statistics.moments(net), statistics.moments(broken), strict=True):
        np.testing.assert_array_equal(one, other)


def test_layers_in_a_scan_have_statistics_of_their_own():
    class Stack(nnx.Module):
        def __init__(self):
            @nnx.split_rngs(splits=2)
            @nnx.vmap
            def make(rngs):
                return nnx.BatchNorm(3, use_scale=False, use_bias=False, rngs=rngs)

            self.norms = make(nnx.Rngs(0))

        def __call__(self, inputs):
            @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
            def forward(norm, hidden):
                return 2 * norm(hidden) + 1

            return forward(self.norms, inputs)

    net = Stack()
    ssm_jax.recalibrate(net, [BATCHES[0]])
    first = np.asarray(BATCHES[0])
    np.testing.assert_allclose(net.norms.mean[...], [first.mean(0), [1, 1, 1]], atol=1e-5)
    np.testing.assert_allclose(net.norms.var[...], [first.var(0), [4, 4, 4]], rtol=1e-4)


class Told(nnx.Module):
    """Says itself how to normalize."""

    def __init__(self):
        self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))

    def __call__(self, inputs):
        return self.norm(inputs, use_running_average=True)


@pytest.mark.parametrize(
    ("model", "batches", "message"),
    [
        (lambda: nnx.Linear(3, 2, rngs=nnx.Rngs(0)), BATCHES, "has no nnx.BatchNorm"),
        (lambda: Net(nnx.Rngs(0)), [], "no batch"),
        (Told, BATCHES, "leave use_running_average out"),
    ],
)
def test_what_cannot_be_measured(model, batches, message):
    with pytest.raises(errors.InputError, match=message):
        ssm_jax.recalibrate(model(), batches)

"""Any NNX model masked in one call: every layer of Flax computes with its effective kernel."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import ssm_jax
from ssm_jax import errors
from ssm_jax.nn.layers import masked_layers
from ssm_jax.nn.variables import split


def rngs():
    return nnx.Rngs(0)


# A layer, the shape that it takes, and the fan_in of its kernel: what is summed over for one output.
LAYERS = {
    "linear": (lambda: nnx.Linear(4, 6, rngs=rngs()), (3, 4), 4),
    "general": (lambda: nnx.LinearGeneral((2, 4), (3, 2), axis=(-2, -1), rngs=rngs()), (5, 2, 4), 8),
    "heads": (lambda: nnx.LinearGeneral(8, (2, 4), rngs=rngs()), (3, 8), 8),
    "einsum": (lambda: nnx.Einsum("bi,hio->bho", (2, 4, 3), (2, 3), rngs=rngs()), (5, 4), 4),
    "conv": (lambda: nnx.Conv(4, 6, (3, 3), strides=2, rngs=rngs()), (2, 5, 5, 4), 36),
    "conv_1d": (lambda: nnx.Conv(4, 6, 3, padding="CAUSAL", rngs=rngs()), (2, 5, 4), 12),
    "grouped": (lambda: nnx.Conv(4, 6, (3, 3), feature_group_count=2, rngs=rngs()), (2, 5, 5, 4), 18),
    "transposed": (lambda: nnx.ConvTranspose(4, 6, (3, 3), rngs=rngs()), (2, 5, 5, 4), 36),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


def plain(make, masked):
    """The layer of Flax whose kernel is the effective one; its bias is 0 at first."""
    layer = make()
    layer.kernel[...] = masked.kernel[...]
    return layer


@each_layer
def test_a_masked_layer_is_the_plain_one_with_the_effective_kernel(name):
    make, shape, fan_in = LAYERS[name]
    masked = ssm_jax.supermask(make(), rngs=1)
    ((path, layer),) = masked_layers(masked)
    inputs = jax.random.normal(jax.random.key(2), shape)
    expected = plain(make, masked)(inputs)
    np.testing.assert_allclose(masked(inputs), expected, rtol=1e-5, atol=1e-6)
    assert path == "" and layer.shape == make().kernel.shape
    # ELUS: a fair sign times sqrt(3 / fan_in).
    np.testing.assert_allclose(np.abs(layer.random_kernel()), np.sqrt(3 / fan_in), rtol=1e-6)
    assert set(np.unique(layer.mask())) == {-1, 0, 1}


@each_layer
def test_its_gradient_is_straight_through(name):
    """dL/ds = w * dL/dw^ of the plain layer."""
    make, shape, _ = LAYERS[name]
    masked = ssm_jax.supermask(make(), rngs=1)
    inputs = jax.random.normal(jax.random.key(2), shape)

    def loss(model):
        return jnp.sum(jnp.sin(model(inputs)))

    by_scores = jax.tree.leaves(nnx.grad(loss)(masked))
    by_kernel = nnx.grad(loss)(plain(make, masked)).kernel[...]
    ((_, layer),) = masked_layers(masked)
    assert len(by_scores) == 1
    np.testing.assert_allclose(by_scores[0], layer.random_kernel() * by_kernel, rtol=1e-4, atol=1e-5)


class Net(nnx.Module):
    """Convolution, normalization, attention, dropout, embedding and an output."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(1, 8, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.places = nnx.Embed(16, 8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, images: jax.Array, *, scale: float = 1.0) -> jax.Array:
        hidden = nnx.relu(self.norm(self.conv(images))).reshape(len(images), -1, 8)
        hidden = hidden + self.places(jnp.arange(hidden.shape[1]))
        return scale * self.head(self.dropout(self.attention(hidden)).mean(1))


IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("f")


@functools.cache
def net():
    return ssm_jax.supermask(Net(rngs()), rngs=1)


def test_every_projection_is_masked_and_the_model_left_alone():
    model = Net(rngs())
    before = jax.tree.leaves(nnx.state(model, nnx.Param))
    masked = ssm_jax.supermask(model)
    paths = {path for path, _ in masked_layers(masked)}
    projections = {f"attention/{name}" for name in ("query", "key", "value", "out")}
    assert paths == {"conv", "head"} | projections
    assert type(masked) is Net and isinstance(masked.attention.query, nnx.LinearGeneral)
    assert not list(masked_layers(model))
    for left, right in zip(before, jax.tree.leaves(nnx.state(model, nnx.Param)), strict=True):
        np.testing.assert_array_equal(left, right)


def test_calls_keep_their_signature():
    model = nnx.view(net(), deterministic=True, use_running_average=True)
    np.testing.assert_allclose(model(IMAGES, scale=2.0), 2 * model(IMAGES), rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_layers_compute_dtype_stays(dtype):
    masked = ssm_jax.supermask(nnx.Linear(4, 6, dtype=dtype, rngs=rngs()))
    assert masked(jnp.ones((2, 4))).dtype == dtype
    ((_, layer),) = masked_layers(masked)
    assert layer.scores[...].dtype == jnp.float32


def test_it_runs_under_jit_and_several_networks_side_by_side():
    def logits(seed):
        model = ssm_jax.supermask(nnx.Linear(4, 3, rngs=rngs()), rngs=nnx.Rngs(jax.random.key(seed)))
        return model(jnp.ones((2, 4)))

    side_by_side = jax.vmap(logits)(jnp.arange(3))
    for seed in range(3):
        np.testing.assert_allclose(side_by_side[seed], logits(seed), rtol=1e-5)
    assert not np.allclose(side_by_side[0], side_by_side[1])
    model = ssm_jax.supermask(nnx.Linear(4, 3, rngs=rngs()))
    compiled = nnx.jit(lambda model, inputs: model(inputs))(model, jnp.ones((2, 4)))
    np.testing.assert_allclose(compiled, model(jnp.ones((2, 4))), rtol=1e-5)


def test_scores_are_spread_over_devices_like_the_kernel():
    mesh = Mesh(np.array(jax.devices()[:2]), ("features",))
    sharding = NamedSharding(mesh, PartitionSpec(None, "features"))
    model = nnx.Linear(4, 6, rngs=rngs())
    model.kernel.set_value(jax.device_put(model.kernel[...], sharding))
    masked, alone = ssm_jax.supermask(model), ssm_jax.supermask(nnx.Linear(4, 6, rngs=rngs()))
    for variable in (masked.kernel.scores, masked.kernel.signs):
        assert variable.get_value().sharding == sharding
    np.testing.assert_allclose(masked(jnp.ones((2, 4))), alone(jnp.ones((2, 4))), rtol=1e-5)


def test_it_learns_in_a_loop_of_ones_own():
    images = np.random.default_rng(1).normal(size=(64, 8)).astype("f")
    labels = (images[:, 0] > 0).astype(int)
    layers = [nnx.Linear(8, 32, rngs=rngs()), nnx.relu, nnx.Linear(32, 2, rngs=rngs())]
    model = ssm_jax.supermask(nnx.Sequential(*layers))
    frozen = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model, ssm_jax.Frozen))]
    optimizer = nnx.Optimizer(model, optax.adam(0.02), wrt=ssm_jax.Score)

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            logits = model(images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, gradient = nnx.value_and_grad(loss, argnums=nnx.DiffState(0, ssm_jax.Score))(model)
        optimizer.update(model, gradient)
        return value

    losses = [float(step(model, optimizer)) for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    for before, after in zip(frozen, jax.tree.leaves(nnx.state(model, ssm_jax.Frozen)), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_filter_says_which_layers_are_masked():
    masked = ssm_jax.supermask(Net(rngs()), only=nnx.PathContains("attention"))
    assert {path.split("/")[0] for path, _ in masked_layers(masked)} == {"attention"}
    masked = ssm_jax.supermask(Net(rngs()), only=nnx.Linear)
    assert [path for path, _ in masked_layers(masked)] == ["head"]


@pytest.mark.parametrize("treatment", ["trained", "frozen", "dropped"])
def test_biases_and_normalizations_by_choice(treatment):
    masked = ssm_jax.supermask(Net(rngs()), biases=treatment, normalizations=treatment)
    kinds = {"trained": nnx.Param, "frozen": ssm_jax.Frozen, "dropped": type(None)}
    for value in (masked.conv.bias, masked.head.bias, masked.norm.scale, masked.norm.bias):
        assert type(value) is kinds[treatment]
    assert masked(IMAGES).shape == (4, 10)


def test_embeddings_by_choice():
    for treatment, kind in (("trained", nnx.Param), ("frozen", ssm_jax.Frozen)):
        masked = ssm_jax.supermask(Net(rngs()), embeddings=treatment)
        assert type(masked.places.embedding) is kind and masked(IMAGES).shape == (4, 10)


def test_layers_that_share_a_kernel_share_its_mask():
    one, other = nnx.Linear(4, 4, rngs=rngs()), nnx.Linear(4, 4, rngs=rngs())
    other.kernel = one.kernel
    masked = ssm_jax.supermask(nnx.Sequential(one, other))
    assert masked.layers[0].kernel is masked.layers[1].kernel
    assert len(jax.tree.leaves(split(masked).params)) == 1


def test_applied_masks_leave_a_dense_model_that_computes_the_same():
    model = nnx.view(nnx.clone(net()), deterministic=True, use_running_average=True)
    before = model(IMAGES)
    ssm_jax.apply_masks(model)
    np.testing.assert_allclose(model(IMAGES), before, rtol=1e-5, atol=1e-6)
    assert not jax.tree.leaves(nnx.state(model, ssm_jax.Score))


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda: nnx.BatchNorm(3, rngs=rngs()), {}, "the model has nothing to mask: none of nnx.Linear"),
        (net, {}, "its layers are masked already"),
        (lambda: Net(rngs()), {"only": nnx.Einsum}, "`only` selects none of the 6 layers"),
        (lambda: Net(rngs()), {"biases": "drop"}, "unknown biases 'drop'; did you mean 'dropped'"),
        (lambda: Net(rngs()), {"embeddings": "dropped"}, "unknown embeddings 'dropped'"),
        (lambda: "net", {}, "the model is of type str; it must be an nnx.Module"),
        (lambda: Net(rngs()), {"masking": "signed"}, "masking is 'signed'; it must be a Masking"),
        (lambda: Net(rngs()), {"rngs": "seed"}, "rngs is 'seed'; it must be an nnx.Rngs or a seed"),
        (lambda: Net(rngs()), {"rngs": nnx.Rngs(params=0)}, "rngs has no stream 'scores'"),
        (lambda: nnx.Linear(2, 3, rngs=rngs()), {"only": nnx.Conv}, "that can be masked: the model itself"),
        (
            lambda: nnx.WeightNorm(nnx.Linear(2, 3, rngs=rngs()), rngs=rngs()),
            {},
            "the model itself is an nnx.WeightNorm, which rewrites the kernels",
        ),
        (lambda: Net(rngs()), {"masking": ssm_jax.Signed()}, r"masking is Signed\(.*; it must be a Masking"),
    ],
)
def test_what_cannot_be_masked_is_one_line(make, arguments, message):
    with pytest.raises(errors.InputError, match=message) as refused:
        ssm_jax.supermask(make(), **arguments)
    assert "\n" not in str(refused.value)


def test_shapes_alone_are_masked_too():
    shapes = ssm_jax.supermask(nnx.eval_shape(lambda: nnx.Linear(2, 3, rngs=rngs())))
    assert shapes.kernel.scores.shape == (2, 3)


@nnx.split_rngs(splits=3)
@nnx.vmap(in_axes=0, out_axes=0)
def stacked(rngs):
    return nnx.Linear(3, 3, rngs=rngs)


class Stacked(nnx.Module):
    """Blocks stacked by `nnx.vmap` and run by `nnx.scan`, as transformers are written."""

    def __init__(self, rngs):
        self.blocks = stacked(rngs)

    def __call__(self, hidden):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def apply(hidden, layer):
            return nnx.remat(lambda layer, hidden: jnp.tanh(layer(hidden)))(layer, hidden)

        return apply(hidden, self.blocks)


@pytest.mark.parametrize("rule", [ssm_jax.Signed(density=0.3), "stochastic"])
def test_a_stack_is_masked_trained_counted_and_applied_as_its_layers_are(rule):
    model = ssm_jax.supermask(Stacked(rngs()), ssm_jax.Masking(rule=rule))
    assert model.blocks.kernel.shape == (3, 3, 3)
    optimizer = ssm_jax.Optimizer(model, steps=3)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(lambda model: jnp.sum(model(jnp.ones((2, 3)))))(model))

    for _ in range(3):
        step(model, optimizer)
    model.eval()
    if rule == "stochastic":
        assert "Linear  3x3x3" in ssm_jax.mask_table(model)
    else:
        assert ssm_jax.remaining_weights(model) == pytest.approx(0.3, abs=0.5 / 27)
        ssm_jax.set_density(model, 0.6)
        assert ssm_jax.remaining_weights(model) == pytest.approx(0.6, abs=0.5 / 27)
    expected = jnp.ones((2, 3))
    for kernel in model.blocks.kernel.effective_kernel():
        expected = jnp.tanh(expected @ kernel)
    np.testing.assert_allclose(model(jnp.ones((2, 3))), expected, rtol=1e-5)
    ssm_jax.apply_masks(model)
    assert type(model.blocks.kernel) is nnx.Param
    np.testing.assert_allclose(model(jnp.ones((2, 3))), expected, rtol=1e-5)


def test_layers_masked_inside_the_transformation_are_the_same_kind_of_stack():
    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=0, out_axes=0)
    def masked(rngs):
        return ssm_jax.supermask(nnx.Linear(3, 3, rngs=rngs), rngs=rngs)

    stack = masked(rngs())
    each = nnx.vmap(lambda layer: layer.kernel.count())(stack)
    assert [int(part.sum()) for part in each] == list(map(int, stack.kernel.count()))


def test_a_rule_that_draws_follows_train_and_eval():
    model = ssm_jax.supermask(nnx.Linear(4, 6, rngs=rngs()), ssm_jax.Masking(rule="stochastic"))
    inputs = jnp.ones((1, 4))
    expectation = inputs @ model.kernel.effective_kernel()
    drawn = [model(inputs) for _ in range(2)]
    assert not np.allclose(drawn[0], drawn[1])
    assert set(np.unique(np.abs(model.kernel.applied_kernel() / model.kernel.random_kernel()))) == {0, 1}
    by_scores = nnx.grad(lambda model: model(inputs).sum())(model)
    assert len(jax.tree.leaves(by_scores)) == 1
    model.eval()
    for _ in range(2):
        np.testing.assert_allclose(model(inputs), expectation, rtol=1e-6)
    training = nnx.view(model, deterministic=False)
    assert not np.allclose(training(inputs), training(inputs))


@pytest.mark.parametrize("rule", [ssm_jax.Signed(density=0.3), "stochastic"])
def test_tree_mode_trains_shows_and_takes_models_apart(rule):
    with nnx.set_graph_mode(False):
        model = ssm_jax.supermask(Stacked(rngs()), ssm_jax.Masking(rule=rule))
        optimizer = ssm_jax.Optimizer(model, steps=3)
        inputs = jnp.ones((2, 3))

        @nnx.jit
        def step(model, optimizer):
            graph, params, rest = nnx.split(model, nnx.Param, ...)
            # What is handed over may be changed: the streams of masks that are drawn.
            loss = lambda params, rest: nnx.merge(graph, params, rest)(inputs).sum()  # noqa: E731
            optimizer.update(model, nnx.grad(loss)(params, rest))

        before = model.blocks.kernel.scores[...]
        for _ in range(3):
            step(model, optimizer)
        assert not np.array_equal(model.blocks.kernel.scores[...], before)
        if rule != "stochastic":
            assert ssm_jax.remaining_weights(model) == pytest.approx(0.3, abs=0.5 / 27)
        model.eval()
        expected = inputs
        for kernel in model.blocks.kernel.effective_kernel():
            expected = jnp.tanh(expected @ kernel)
        np.testing.assert_allclose(nnx.merge(*nnx.split(model))(inputs), expected, rtol=1e-5)
        each = nnx.vmap(lambda layer, inputs: layer(inputs), in_axes=(0, None))(model.blocks, inputs)
        assert each.shape == (3, 2, 3)
        assert "Score" in nnx.tabulate(ssm_jax.supermask(nnx.Linear(3, 3, rngs=rngs())), inputs)
        nnx.display(model)
        ssm_jax.apply_masks(model)
        np.testing.assert_allclose(model(inputs), expected, rtol=1e-5)


def test_given_kernels_are_kept():
    model = nnx.view(Net(rngs()), deterministic=True, use_running_average=True)
    masked = ssm_jax.supermask(model, kernels="given")
    np.testing.assert_allclose(masked(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-6)
    assert type(masked.conv.bias) is ssm_jax.Frozen
    np.testing.assert_array_equal(masked.conv.kernel.kernel[...], model.conv.kernel[...])


def test_dense_networks_of_the_library_are_masked_over_the_kernels_that_they_have():
    dense = ssm_jax.build("conv2", (8, 8, 1), 3, width=0.1, masking=ssm_jax.Masking(rule=None), rngs=rngs())
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    given = ssm_jax.supermask(dense, kernels="given", only=lambda path, _: path != ("denses", 2))
    np.testing.assert_allclose(given(images), dense(images), rtol=1e-5, atol=1e-6)
    assert [layer.rule is None for _, layer in masked_layers(given)] == [False] * 4 + [True]
    np.testing.assert_array_equal(given.convs[1].kernel[...], dense.convs[1].kernel[...])
    assert type(given.convs[1].kernel) is not type(dense.convs[1].kernel)
    drawn = ssm_jax.supermask(dense)
    np.testing.assert_allclose(np.abs(drawn.denses[2].random_kernel()), np.sqrt(3 / 26), rtol=1e-6)


def test_a_model_that_was_trained_without_masks_is_masked_again():
    model = nnx.view(Net(rngs()), deterministic=True, use_running_average=True)
    dense = ssm_jax.supermask(model, ssm_jax.Masking(rule=None), kernels="given", biases="trained")
    again = ssm_jax.supermask(dense, kernels="given")
    np.testing.assert_allclose(again(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-6)
    assert {layer.rule for _, layer in masked_layers(again)} == {ssm_jax.Signed()}


class Raw(nnx.Module):
    """Keeps kernels as plain parameters, one of them in a list."""

    def __init__(self, rngs):
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (4, 3)))
        self.experts = nnx.List([nnx.Param(jax.random.normal(rngs.params(), (2, 3, 3)))])

    def __call__(self, inputs):
        return jnp.einsum("bi,eio->bo", inputs @ self.weight, self.experts[0][...])


def test_plain_parameters_are_masked_by_path():
    model = ssm_jax.supermask(Raw(rngs()), params=nnx.PathContains("experts"), stacked=1)
    assert {path: layer.layer().stack for path, layer in masked_layers(model)} == {"experts/0": (2,)}
    lines = ssm_jax.mask_table(model).splitlines()
    assert [line.split() for line in lines if "no mask" in line] == [
        ["weight", "Param", "4x3", "12", "no", "mask"]
    ]
    before = model(jnp.ones((2, 4)))
    ssm_jax.apply_masks(model)
    np.testing.assert_allclose(model(jnp.ones((2, 4))), before, rtol=1e-5)
    with pytest.raises(errors.InputError, match=r"`params` selects no parameter of 2 axes.*weight"):
        ssm_jax.supermask(Raw(rngs()), params=nnx.PathContains("bias"))


def test_a_kernel_of_another_shape_is_refused():
    layer = nnx.Linear(4, 6, rngs=rngs())
    layer.kernel = nnx.Param(jnp.ones((3, 6)))
    with pytest.raises(errors.InputError, match=r"kernel of .* is \[3, 6\]; by .* it is \[4, 6\]"):
        ssm_jax.supermask(layer)


@pytest.mark.slow
def test_a_model_of_ones_own_trains_with_dropout_and_comes_back(tmp_path):
    def build(rngs):
        return ssm_jax.supermask(Net(rngs), rngs=rngs)

    config = ssm_jax.default_config()
    config.data.name, config.training.epochs, config.compilation_cache = "digits", 1, ""
    summary = ssm_jax.train_and_evaluate(config, tmp_path / "net", model=build)
    assert 0 < summary.remaining_weights.mean < 1 and len(summary.layers) == 6
    trained = ssm_jax.restore(tmp_path / "net", model=build)
    assert trained.model(jnp.asarray(IMAGES)).shape == (4, 10)
    assert set(trained.masks) == {layer.name for layer in summary.layers}

"""Weight counts to the unit, shapes, forward passes against explicit ones, normalizations, errors."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ssm_jax import errors
from ssm_jax.nn.layers import Masking, masked_layers
from ssm_jax.nn.networks import BATCH_AXIS, build
from ssm_jax.nn.variables import Frozen, Score

MNIST, CIFAR = (28, 28, 1), (32, 32, 3)


@functools.cache
def shapes_of(name, image_shape=CIFAR, classes=10, dense=False, **options):
    """The network with shapes in place of values."""
    masking = Masking(rule=None) if dense else Masking()
    make = functools.partial(build, name, image_shape, classes, masking=masking, **options)
    return nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))


def weights(network) -> int:
    return sum(math.prod(layer.shape) for _, layer in masked_layers(network))


def trained(network) -> dict[str, type]:
    params = nnx.to_flat_state(nnx.state(network, nnx.Param))
    return {"/".join(map(str, path)): type(leaf) for path, leaf in params}


def not_scores(network) -> list[str]:
    return sorted(path for path, kind in trained(network).items() if kind is not Score)


def logits_of(network, image_shape, batch=2):
    return nnx.eval_shape(lambda model: model(jnp.zeros((batch, *image_shape))), network)


@pytest.mark.parametrize(
    ("name", "image_shape", "classes", "count"),
    [
        ("fcn", MNIST, 10, 266_200),
        ("conv2", CIFAR, 10, 4_300_992),
        ("conv4", CIFAR, 10, 2_425_024),
        ("conv6", CIFAR, 10, 2_261_184),
        ("conv8", CIFAR, 10, 5_275_840),
        ("resnet20", CIFAR, 10, 248_624),
        ("resnet56", CIFAR, 100, 834_992),
        ("resnet110", CIFAR, 100, 1_668_272),
        ("resnet110_plain", CIFAR, 100, 1_705_904),
        ("micro", MNIST, 10, 29_200),
    ],
)
def test_weights_are_those_of_the_paper(name, image_shape, classes, count):
    network = shapes_of(name, image_shape, classes)
    assert weights(network) == count
    # Every one of them has a score, and nothing else is trained.
    params = jax.tree.leaves(nnx.state(network, nnx.Param))
    assert sum(math.prod(leaf.shape) for leaf in params) == count
    assert not not_scores(network)


@pytest.mark.parametrize(("width", "count"), [(1.5, 558_600), (3.5, 3_036_264)])
def test_weights_of_wider_resnet20s_are_those_of_the_paper(width, count):
    assert weights(shapes_of("resnet20", width=width)) == count


def test_the_dense_baseline_has_the_same_weights_and_no_scores():
    network = shapes_of("conv2", dense=True)
    assert weights(network) == 4_300_992
    assert set(trained(network).values()) == {nnx.Param}
    assert not jax.tree.leaves(nnx.state(network, Frozen))


@pytest.mark.parametrize(
    ("name", "image_shape", "classes"),
    [
        ("fcn", (1, 3, 2), 2),
        ("conv2", (7, 5, 3), 100),
        ("conv6", (33, 47, 3), 2),
        ("micro", (7, 9, 2), 100),
        ("resnet20", (1, 1, 3), 100),
        ("resnet20", (33, 17, 4), 2),
    ],
)
def test_logits_for_any_image_shape_and_number_of_classes(name, image_shape, classes):
    network = shapes_of(name, image_shape, classes, width=0.1)
    assert logits_of(network, image_shape).shape == (2, classes)


@pytest.mark.parametrize(
    ("name", "given", "least"),
    [
        ("conv2", (1, 32, 3), "2x2"),
        ("conv4", (32, 3, 3), "4x4"),
        ("conv6", (7, 7, 1), "8x8"),
        ("conv8", (15, 15, 1), "16x16"),
        ("micro", (6, 28, 1), "7x7"),
    ],
)
def test_images_too_small_for_the_pools(name, given, least):
    with pytest.raises(errors.InputError) as caught:
        shapes_of(name, given)
    for part in (f"{given[0]}x{given[1]}", least, name):
        assert part in str(caught.value)
    enough = tuple(map(int, least.split("x")))
    assert logits_of(shapes_of(name, (*enough, 1)), (*enough, 1)).shape == (2, 10)


def kernels(network) -> dict[str, tuple[int, ...]]:
    return {path: layer.shape for path, layer in masked_layers(network)}


def test_an_odd_edge_is_dropped_by_every_pool():
    assert kernels(shapes_of("conv4", (31, 15, 3)))["denses/0"] == (7 * 3 * 128, 256)


def test_width_multiplies_every_hidden_layer():
    assert list(kernels(shapes_of("fcn", MNIST, width=0.5)).values()) == [(784, 150), (150, 50), (50, 10)]
    assert list(kernels(shapes_of("conv2", width=2)).values()) == [
        (3, 3, 3, 128),
        (3, 3, 128, 128),
        (16 * 16 * 128, 512),
        (512, 512),
        (512, 10),
    ]
    wide = kernels(shapes_of("resnet20", width=3.5))
    assert wide["stem"] == (3, 3, 3, 56)
    assert wide["blocks/8/conv2"] == (3, 3, 224, 224)
    assert wide["head"] == (224, 10)
    assert min(map(min, kernels(shapes_of("fcn", MNIST, width=1e-9)).values())) == 1


@pytest.mark.parametrize(
    ("name", "blocks", "projected"),
    [
        ("resnet20", 3, {0}),
        ("resnet56", 9, {0}),
        ("resnet110", 18, {0, 9}),
        ("resnet110_plain", 18, {0}),
    ],
)
def test_stages_of_resnets(name, blocks, projected):
    """Filters 16, 32, 64; a block with a projection begins and is bypassed 1x1, with its stage's stride."""
    network = shapes_of(name)
    layers = {path: (layer.shape, layer.stride) for path, layer in masked_layers(network)
              if path != "head"}  # fmt: skip
    expected = {"stem": ((3, 3, 3, 16), 1)}
    for stage, (before, filters, stride) in enumerate([(16, 16, 1), (16, 32, 2), (32, 64, 2)]):
        for block in range(blocks):
            path = f"blocks/{stage * blocks + block}"
            if block in projected:
                inputs = filters if block else before
                expected[f"{path}/conv1"] = expected[f"{path}/projection"] = ((1, 1, inputs, filters), stride)
            else:
                expected[f"{path}/conv1"] = ((3, 3, filters, filters), 1)
            expected[f"{path}/conv2"] = ((3, 3, filters, filters), 1)
    assert layers == expected
    assert kernels(network)["head"] == (64, 10)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def effective(layer) -> np.ndarray:
    """kernel * mask, by the definition."""
    if layer.rule is None:
        return np.asarray(layer.random_kernel())
    scores, threshold = np.asarray(layer.scores[...]), float(layer.rule_state["threshold"][...])
    return np.asarray(layer.random_kernel()) * ((scores > threshold) * 1.0 - (scores < -threshold) * 1.0)


def convolution(images, layer):
    """SAME padding, the larger part after the image, by the definition."""
    kernel, stride = effective(layer), layer.stride
    size = kernel.shape[0]
    sides = [-(-side // stride) for side in images.shape[1:3]]
    missing = [
        max((out - 1) * stride + size - side, 0) for out, side in zip(sides, images.shape[1:3], strict=True)
    ]
    padded = np.pad(images, ((0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)))
    outputs = np.zeros((len(images), *sides, kernel.shape[-1]))
    for row in range(size):
        for column in range(size):
            part = padded[:, row:, column:][:, ::stride, ::stride][:, : sides[0], : sides[1]]
            outputs += part @ kernel[row, column]
    return outputs


def images_of(shape, batch=3):
    return np.random.default_rng(0).normal(size=(batch, *shape)).astype("f")


def filled(network):
    """A network of shapes with drawn values; statistics start at mean 0 and variance 1."""
    rng = np.random.default_rng(1)
    graph, state = nnx.split(network)

    def value(path, leaf):
        if leaf.shape == ():
            return jnp.float32(0.2)  # a threshold
        if "mean" in path or "var" in path:
            return jnp.full(leaf.shape, float("var" in path))
        return jnp.asarray(rng.normal(size=leaf.shape) / math.prod(leaf.shape[:-1]) ** 0.5, jnp.float32)

    return nnx.merge(graph, nnx.map_state(lambda path, leaf: leaf.replace(value(path, leaf)), state))


def on_one_device(network, images):
    """Outputs `[B, ...]` and the statistics afterwards, with the axis over which devices share a batch."""
    graph, state = nnx.split(network)

    def apply(images):
        model = nnx.merge(graph, state, copy=True)
        return model(images), nnx.state(model, nnx.BatchStat)

    spread = jax.vmap(apply, in_axes=None, out_axes=None, axis_name=BATCH_AXIS, axis_size=1)
    outputs, statistics = jax.jit(spread)(jnp.asarray(images))
    return np.asarray(outputs), statistics


def test_fcn_is_the_composition_of_its_layers():
    network, images = filled(shapes_of("fcn", (4, 3, 2), width=0.1)), images_of((4, 3, 2))
    hidden = images.reshape(3, -1)
    for i in range(2):
        hidden = elu(hidden @ effective(network.denses[i]))
    np.testing.assert_allclose(
        nnx.jit(lambda m: m(images))(network), hidden @ effective(network.denses[2]), rtol=1e-4, atol=1e-5
    )


def test_conv4_is_the_composition_of_its_layers():
    network, images = filled(shapes_of("conv4", (5, 4, 2), width=0.1)), images_of((5, 4, 2))
    hidden = images
    for i, conv in enumerate(network.convs):
        hidden = elu(convolution(hidden, conv))
        if i in (1, 3):
            height, width = (side // 2 * 2 for side in hidden.shape[1:3])
            pooled = hidden[:, :height, :width].reshape(3, height // 2, 2, width // 2, 2, -1)
            hidden = pooled.max((2, 4))
    hidden = hidden.reshape(3, -1)
    for i in range(2):
        hidden = elu(hidden @ effective(network.denses[i]))
    np.testing.assert_allclose(
        nnx.jit(lambda m: m(images))(network), hidden @ effective(network.denses[2]), rtol=1e-4, atol=1e-5
    )


def normalized(images, scale, offset):
    """Batch normalization by the statistics of the batch."""
    mean, var = images.mean((0, 1, 2)), images.var((0, 1, 2))
    return (images - mean) / np.sqrt(var + 1e-3) * np.asarray(scale) + np.asarray(offset)


@pytest.mark.parametrize("normalization", ["none", "paper", "batch_affine"])
def test_resnet20_is_the_composition_of_its_layers(normalization):
    network = filled(shapes_of("resnet20", (6, 5, 2), width=0.125, normalization=normalization))
    images = images_of((6, 5, 2))

    def norm(hidden, layer):
        if normalization == "none" or (normalization == "paper" and layer is not network.stem_norm):
            return hidden
        return normalized(hidden, layer.scale[...], layer.bias[...])

    hidden = elu(norm(convolution(images, network.stem), network.stem_norm))
    padded = np.pad(hidden, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    hidden = np.max([padded[:, r : r + 6, c : c + 5] for r in range(3) for c in range(3)], 0)
    for i, block in enumerate(network.blocks):
        inner = norm(convolution(hidden, block.conv1), block.norm1)
        inner = norm(convolution(elu(inner), block.conv2), block.norm2)
        if i % 3 == 0:
            shortcut = norm(convolution(hidden, block.projection), block.projection_norm)
            hidden = elu(elu(inner) + shortcut)
        else:
            hidden = elu(inner + hidden)
    expected = hidden.mean((1, 2)) @ effective(network.head)
    np.testing.assert_allclose(on_one_device(network, images)[0], expected, rtol=1e-3, atol=1e-4)


def test_normalization_none_trains_only_scores():
    network = shapes_of("resnet20", normalization="none")
    assert not not_scores(network)
    assert not jax.tree.leaves(nnx.state(network, nnx.BatchStat))


def test_normalization_paper_is_a_batch_norm_in_the_stem_of_resnet20_alone():
    network = shapes_of("resnet20", normalization="paper")
    assert not_scores(network) == ["stem_norm/bias", "stem_norm/scale"]
    assert set(nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))) == {"stem_norm"}
    for deeper in ("resnet56", "resnet110"):
        network = shapes_of(deeper, normalization="paper")
        assert not not_scores(network)
        assert not jax.tree.leaves(nnx.state(network, nnx.BatchStat))


def test_normalization_batch_has_statistics_and_nothing_to_train():
    network = shapes_of("resnet20", normalization="batch")
    assert not not_scores(network)
    # Of the stem, of two convolutions in each of nine blocks and of three projections; mean and variance.
    assert len(jax.tree.leaves(nnx.state(network, nnx.BatchStat))) == 2 * (1 + 2 * 9 + 3)


def test_normalization_batch_affine_also_trains_scale_and_offset():
    network = shapes_of("resnet20", normalization="batch_affine")
    assert len(not_scores(network)) == 2 * (1 + 2 * 9 + 3)
    assert {path.rpartition("/")[2] for path in not_scores(network)} == {"scale", "bias"}
    assert len(jax.tree.leaves(nnx.state(network, nnx.BatchStat))) == 2 * (1 + 2 * 9 + 3)


def test_batch_norm_normalizes_the_batch_in_training_and_by_moving_statistics_in_evaluation():
    norm = filled(shapes_of("resnet20", (4, 4, 1), width=0.125, normalization="batch")).stem_norm
    images = 5 + 3 * images_of((4, 4, 2), batch=16)
    norm.train()
    outputs, statistics = on_one_device(norm, images)
    np.testing.assert_allclose(outputs, normalized(images, 1, 0), rtol=1e-4, atol=1e-5)
    # Momentum 0.99 from mean 0 and variance 1.
    np.testing.assert_allclose(statistics["mean"][...], 0.01 * images.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(statistics["var"][...], 0.99 + 0.01 * images.var((0, 1, 2)), rtol=1e-4)
    norm.eval()
    outputs, statistics = on_one_device(norm, images)
    np.testing.assert_array_equal((statistics["mean"][...], statistics["var"][...]), [[0, 0], [1, 1]])
    np.testing.assert_allclose(outputs, images / 1.001**0.5, rtol=1e-4)


@pytest.mark.parametrize("normalization", ["none", "paper", "batch_affine"])
def test_bfloat16_logits_of_float32_variables(normalization):
    masking = Masking(dtype=jnp.bfloat16)
    network = nnx.eval_shape(
        lambda: build(
            "resnet20", (8, 8, 3), 5, normalization=normalization, masking=masking, rngs=nnx.Rngs(0)
        )
    )
    network.eval()
    outputs = nnx.eval_shape(lambda model: model(jnp.zeros((2, 8, 8, 3), jnp.bfloat16)), network)
    assert outputs.dtype == jnp.bfloat16
    kept = {leaf.dtype for leaf in jax.tree.leaves(nnx.state(network))}
    assert kept - {jnp.dtype("int8")} == {jnp.dtype("float32")}  # signs


def test_unknown_names():
    with pytest.raises(errors.InputError, match=r"network 'resnet21'.*did you mean 'resnet20'\?"):
        shapes_of("resnet21")
    with pytest.raises(errors.InputError, match=r"normalization 'bach'.*did you mean 'batch'\?"):
        shapes_of("resnet20", normalization="bach")


def test_settings_that_contradict_the_network():
    with pytest.raises(errors.InputError, match=r"conv2 has no normalization.*'batch'"):
        shapes_of("conv2", normalization="batch")
    for width in (0, -1.0, float("nan")):
        with pytest.raises(errors.InputError, match=f"width is {width}; allowed is above 0"):
            shapes_of("fcn", width=width)

"""A mask on other kernels, by the networks that come of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ssm_jax
from ssm_jax import core
from ssm_jax.analysis.transfer import BATCH, TestSet, dense, effective_signs, transfer
from ssm_jax.core import initializers
from ssm_jax.data.datasets import Dataset
from ssm_jax.nn.layers import Masking, masked_layers


def network(seed, kernel_init=initializers.elus(), rule=core.Signed(threshold=0.5)):
    masking = Masking(rule=rule, kernel_init=kernel_init)
    model = ssm_jax.build("fcn", (4, 4, 1), 3, width=0.05, masking=masking, rngs=nnx.Rngs(seed))
    model.eval()
    return model


def recorded(trained, drawn):
    """By the field of the transfer, the kernels of the networks that were evaluated for it."""
    seen = []

    def accuracy(model):
        seen.append({path: np.asarray(layer.kernel[...]) for path, layer in masked_layers(model)})
        return float(len(seen) - 1)

    found = dataclasses.asdict(transfer(trained, drawn, accuracy, jax.random.key(0)))
    return {name: [seen[int(i)] for i in places] for name, places in found.items()}


@pytest.fixture(scope="module")
def uniform():
    """Kernels of all sizes: trained, drawn, and what was evaluated."""
    trained = network(0, initializers.elu())
    drawn = [network(seed, initializers.elu()) for seed in (1, 2)]
    return trained, drawn, recorded(trained, drawn)


def test_every_variant_is_what_its_name_says(uniform):
    trained, drawn, seen = uniform
    for path, layer in masked_layers(trained):
        kernel, mask = np.asarray(layer.random_kernel()), np.asarray(layer.mask())
        assert {-1, 0, 1} == set(np.unique(mask))
        np.testing.assert_array_equal(seen["trained"][0][path], kernel * mask)
        np.testing.assert_array_equal(seen["without_signs"][0][path], kernel * abs(mask))
        for draw, model in enumerate(drawn):
            other = np.asarray(dict(masked_layers(model))[path].random_kernel())

            def of(name, draw=draw, path=path):
                return seen[name][draw][path]

            np.testing.assert_array_equal(of("drawn_mask"), other * mask)
            np.testing.assert_array_equal(of("drawn_mask_without_signs"), other * abs(mask))
            np.testing.assert_array_equal(of("drawn_effective_signs"), abs(other) * np.sign(kernel) * mask)
            np.testing.assert_array_equal(abs(of("random_signs")), abs(kernel * mask))
            shuffled = np.sign(of("drawn_shuffled_mask")) * np.sign(other)
            assert sorted(shuffled.ravel()) == sorted(mask.ravel()) and (shuffled != mask).any()


def test_random_signs_and_shuffles_are_new_with_every_draw(uniform):
    _, _, seen = uniform
    assert [len(seen[name]) for name in ("trained", "without_signs", "random_signs")] == [1, 1, 2]
    for name in ("random_signs", "drawn_shuffled_mask"):
        first, second = (np.sign(kernels["denses/0"]) for kernels in seen[name])
        assert (first != second).any()
    first = np.sign(seen["random_signs"][0]["denses/0"])
    assert (first > 0).any() and (first < 0).any()


def test_effective_signs_on_another_kernel_of_constants_are_the_same_network():
    seen = recorded(network(0), [network(1)])
    for path, kernel in seen["trained"][0].items():
        np.testing.assert_array_equal(seen["drawn_effective_signs"][0][path], kernel)
        assert (seen["drawn_mask"][0][path] != kernel).any()


def test_the_scale_of_the_rule_stays():
    rule = core.Signed(threshold=0.5, rescale=0.5)
    trained = network(0, rule=rule)
    seen = recorded(trained, [network(1, rule=rule)])
    for path, layer in masked_layers(trained):
        size = np.asarray(jnp.abs(layer.effective_kernel())).max()
        for name in ("drawn_mask", "random_signs", "drawn_shuffled_mask"):
            assert abs(seen[name][0][path]).max() == pytest.approx(size)


def test_effective_signs_are_those_of_the_effective_kernel():
    model = network(0)
    signs = effective_signs(model)
    for path, layer in masked_layers(model):
        np.testing.assert_array_equal(signs[path], np.sign(layer.effective_kernel()))
        assert signs[path].dtype == np.int8


def test_layers_of_flax_get_kernels_too_and_the_network_stays():
    model = ssm_jax.supermask(nnx.Linear(4, 3, use_bias=False, rngs=nnx.Rngs(0)))
    ((path, layer),) = masked_layers(model)
    inputs = jnp.eye(4)
    before = model(inputs)
    changed = dense(model, {path: jnp.full((4, 3), 2.0)}, {path: layer.mask()})
    np.testing.assert_array_equal(changed(inputs), 2 * layer.mask())
    np.testing.assert_array_equal(model(inputs), before)


def test_accuracy_counts_every_test_image_once():
    count = BATCH + 7
    labels = np.arange(count, dtype=np.int32) % 3
    images = np.zeros((count, 1, 3, 1), np.uint8)
    images[np.arange(count), 0, labels] = 255
    images[:70, 0, :, 0] = [0, 255, 0]  # whose label is 1 every third time
    labels[:70] = 0
    data = Dataset("tiny", "1", 3, images[:3], labels[:3], images[:0], labels[:0], images, labels)

    class Brightest(nnx.Module):
        def __call__(self, images):
            return images.reshape(len(images), -1)

    assert TestSet(data, jnp.float32).accuracy(Brightest()) == pytest.approx(100 * (count - 70) / count)

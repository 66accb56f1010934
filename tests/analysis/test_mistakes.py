"""The mistakes of a network, the largest loss first."""

import numpy as np

from ssm_jax import graph
from ssm_jax.analysis.mistakes import find_mistakes
from ssm_jax.data import datasets


def dataset(images, labels):
    none = np.zeros((0, *images.shape[1:]), np.uint8), np.zeros(0, np.int32)
    return datasets.Dataset("made-up", "1", 2, *none, *none, images, labels)


def test_the_largest_loss_comes_first():
    # The logits are those of an image of two pixels: standardized, it is [1, -1] or [-1, 1], or [0, 0].
    kernel = graph.Kernel(np.int8([[1, 0], [0, 1]]))
    nodes = (
        graph.Standardize(inputs=(0,)),
        graph.Flatten(inputs=(1,)),
        graph.Dense(inputs=(2,), name="dense", kernel=kernel),
    )
    network = graph.Network(image_shape=(1, 2, 1), classes=2, nodes=nodes)
    images = np.uint8([[200, 0], [7, 7], [0, 200], [200, 0]]).reshape(4, 1, 2, 1)
    found = find_mistakes(network, dataset(images, np.int32([0, 1, 0, 1])), most=2)
    assert (found.wrong, found.total) == (3, 4)
    assert found.labels.tolist() == [0, 1] and found.predictions.tolist() == [1, 0]
    sigmoid = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(found.sure, [sigmoid] * 2, rtol=1e-6)
    np.testing.assert_allclose(found.true, [1 - sigmoid] * 2, rtol=1e-6)
    np.testing.assert_array_equal(found.images, images[2:])

"""The order of the examples, standardization and augmentation, against their definitions."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm_jax.data import batches

pytestmark = pytest.mark.usefixtures("strict_arithmetic")

KEY = jax.random.key(7)


@pytest.mark.parametrize(
    ("examples", "batch_size", "steps"),
    [(60_000, 128, 469), (50_000, 128, 391), (128, 128, 1), (129, 128, 2), (3, 8, 1)],
)
def test_steps_per_epoch(examples, batch_size, steps):
    assert batches.steps_per_epoch(examples, batch_size) == steps
    assert batches.steps_per_epoch(examples, batch_size, passes=3) == 3 * steps


order_of = jax.jit(batches.epoch_order, static_argnums=(2, 3), static_argnames=("passes", "shuffle"))


@pytest.mark.parametrize(("examples", "batch_size", "steps"), [(24, 8, 3), (21, 8, 3), (17, 8, 3), (3, 8, 1)])
def test_an_epoch_is_a_permutation_completed_from_its_own_start(examples, batch_size, steps):
    order = np.asarray(order_of(KEY, 0, examples, batch_size))
    assert order.shape == (steps, batch_size)
    assert order.dtype == np.int32
    flat = order.ravel()
    np.testing.assert_array_equal(np.sort(flat[:examples]), np.arange(examples))
    np.testing.assert_array_equal(flat[examples:], np.resize(flat[:examples], flat.size - examples))


def test_epochs_and_keys_differ_and_a_repetition_does_not():
    first, second = order_of(KEY, 0, 100, 10), order_of(KEY, 1, 100, 10)
    assert (first != second).any()
    assert (first != order_of(jax.random.key(8), 0, 100, 10)).any()
    np.testing.assert_array_equal(first, order_of(KEY, 0, 100, 10))
    assert (np.ravel(first) != np.arange(100)).any()


def test_every_pass_of_an_epoch_is_an_epoch_of_one_pass():
    """Each with a permutation of its own, completed from its own start."""
    found = np.asarray(order_of(KEY, 5, 21, 8, passes=2))
    assert found.shape == (6, 8)
    np.testing.assert_array_equal(found[:3], order_of(KEY, 10, 21, 8))
    np.testing.assert_array_equal(found[3:], order_of(KEY, 11, 21, 8))
    assert (found[:3] != found[3:]).any()


def test_without_shuffling_every_pass_has_the_order_of_the_data():
    for epoch in (0, 3):
        found = np.asarray(order_of(KEY, epoch, 6, 4, passes=2, shuffle=False))
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, [[0, 1, 2, 3], [4, 5, 0, 1]] * 2)


def standardized(images):
    """In numpy and float64."""
    images = images.astype(np.float64)
    mean = images.mean((1, 2, 3), keepdims=True)
    floor = 1 / np.sqrt(images[0].size)
    return (images - mean) / np.maximum(images.std((1, 2, 3), keepdims=True), floor)


@pytest.mark.parametrize("shape", [(5, 8, 8, 3), (2, 28, 28, 1), (3, 4, 7, 2)])
def test_standardize(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = batches.standardize(jnp.asarray(images))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, standardized(images), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.mean(found, (1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(found, (1, 2, 3)), 1, rtol=1e-4)


def test_standardize_has_a_floor_for_images_of_one_color():
    images = np.full((3, 4, 4, 1), 200, np.uint8)
    images[1, 0, 0] = 201  # deviation sqrt(15) / 16 = 0.242 is below the floor of 1 / 4
    images[2, :2] = 255
    found = np.asarray(batches.standardize(jnp.asarray(images)))
    assert not found[0].any()
    np.testing.assert_allclose(found[1, 0, 0], (1 - 1 / 16) * 4, rtol=1e-4)
    np.testing.assert_allclose(found, standardized(images), rtol=1e-4, atol=1e-5)


def test_standardize_by_known_statistics_is_the_same_but_for_rounding():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8))
    split = batches.with_statistics({"images": images, "labels": jnp.arange(5)})
    assert split["mean"].shape == split["deviation"].shape == (5,)
    known = split["mean"][1:3], split["deviation"][1:3]
    found, expected = batches.standardize(images[1:3], known), batches.standardize(images[1:3])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (31, 17, 3)])
def test_statistics_do_not_depend_on_how_many_images_there_are(shape):
    """Bit for bit: images that stay on disk have theirs found some at a time."""
    images = np.random.default_rng(0).integers(0, 256, (300, *shape), np.uint8)
    whole = batches.with_statistics({"images": images})
    for count in (1, 2, 63, 64, 65, 128):
        some = batches.with_statistics({"images": images[:count]})
        for name in ("mean", "deviation"):
            np.testing.assert_array_equal(some[name], whole[name][:count], f"{name} of {count}")


def test_statistics_of_many_images_take_little_memory(monkeypatch):
    """The pieces are as small as they may be, and what they give is put together in order."""
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 9, 3), np.uint8)
    whole = batches.with_statistics({"images": images})
    pieces = []
    compute = batches.statistics
    monkeypatch.setattr(batches, "statistics", lambda piece: pieces.append(len(piece)) or compute(piece))
    monkeypatch.setattr(batches, "_BYTES_AT_ONCE", 1)
    split = batches.with_statistics({"images": images})
    assert pieces == [64, 64]  # traced twice: for whole pieces, and for the last of 8 images
    for name in ("mean", "deviation"):
        np.testing.assert_array_equal(split[name], whole[name], name)
    assert not len(batches.with_statistics({"images": images[:0]})["mean"])


def test_standardize_takes_floats():
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("f")
    found = batches.standardize(jnp.asarray(images))
    np.testing.assert_allclose(found, standardized(images), rtol=1e-4, atol=1e-5)


def views(image) -> list[np.ndarray]:
    """All 9 x 9 crops of the image with a border of four zeros, as they are and mirrored."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    crops = [padded[r : r + height, c : c + width] for r in range(9) for c in range(9)]
    return crops + [crop[:, ::-1] for crop in crops]


crop_flip = jax.jit(batches.crop_flip)


def test_crop_flip_gives_every_crop_of_the_padded_image_and_its_mirror_image():
    count = 4000
    image = np.arange(1, 1 + 6 * 5 * 2, dtype=np.uint8).reshape(6, 5, 2)
    found = np.asarray(crop_flip(KEY, jnp.asarray(np.stack([image] * count)), jnp.arange(count)))
    assert found.dtype == np.uint8
    # With 5 columns, crops 4 to the left and 4 to the right still hold a column of the image.
    places = {view.tobytes(): place for place, view in enumerate(views(image))}
    assert len(places) == 162
    seen = np.bincount([places[view.tobytes()] for view in found], minlength=162)  # KeyError: no view
    assert seen.min() > 0
    # Each has its share of 4000 / 162 = 24.7; five deviations.
    assert seen.max() < 24.7 + 5 * 24.7**0.5
    assert abs(seen[:81].sum() - count / 2) < 4 * count**0.5 / 2


def test_crop_flip_works_on_each_image_by_itself():
    images = np.random.default_rng(0).integers(1, 256, (12, 8, 8, 3), np.uint8)
    found = np.asarray(crop_flip(KEY, jnp.asarray(images), jnp.arange(12)))
    for image, result in zip(images, found, strict=True):
        assert any((result == view).all() for view in views(image))


@pytest.mark.parametrize("shards", [2, 4, 8])
def test_crop_flip_does_not_depend_on_how_the_batch_is_divided(shards):
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8))
    whole = crop_flip(KEY, images, jnp.arange(16))
    size = 16 // shards
    parts = [
        crop_flip(KEY, images[start : start + size], jnp.arange(start, start + size))
        for start in range(0, 16, size)
    ]
    np.testing.assert_array_equal(jnp.concatenate(parts), whole)


def test_crop_flip_follows_its_key():
    images = jnp.asarray(np.random.default_rng(0).integers(1, 256, (16, 8, 8, 1), np.uint8))
    draw = functools.partial(crop_flip, images=images, positions=jnp.arange(16))
    first = draw(KEY)
    np.testing.assert_array_equal(first, draw(KEY))
    assert (first != draw(jax.random.key(8))).any()


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32, jnp.bfloat16])
def test_crop_flip_keeps_the_dtype(dtype):
    images = jax.eval_shape(batches.crop_flip, KEY, jnp.ones((2, 8, 8, 1), dtype), jnp.arange(2))
    assert images.dtype == dtype
    assert images.shape == (2, 8, 8, 1)


affine = jax.jit(batches.affine)


def test_affine_turns_scales_and_shifts_about_the_middle():
    """Two planes of coordinates become the coordinates that their pixels were taken from."""
    side, count = 21, 200
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    image = np.stack([rows, columns], -1).astype(np.float32)
    made = np.asarray(affine(KEY, jnp.asarray(np.stack([image] * count)), jnp.arange(count)), np.float64)
    middle = side // 2
    # The edge is not reached from here: what happens to neighbors is the matrix, column by column.
    down = made[:, middle + 1, middle] - made[:, middle, middle]
    right = made[:, middle, middle + 1] - made[:, middle, middle]
    shift = made[:, middle, middle] - middle
    scales = np.stack([np.hypot(*down.T), np.hypot(*right.T)])
    turn = np.arctan2(down[:, 1], down[:, 0])
    for distance, most in (
        (np.abs(scales - 1), batches.GROWTH),
        (np.abs(turn), batches.TURN),
        (np.abs(shift), batches.SHIFT),
    ):
        assert 0.95 * most < distance.max() <= most + 1e-4
    np.testing.assert_allclose(turn, np.arctan2(-right[:, 0], right[:, 1]), atol=1e-4)
    assert made.min() >= -1e-4 and made.max() <= side - 1 + 1e-4  # beyond the edge the edge goes on


def test_affine_follows_key_and_place_and_keeps_shape_and_dtype():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 6, 1)), jnp.float32)
    whole = affine(KEY, images, jnp.arange(8))
    assert (whole.shape, whole.dtype) == (images.shape, images.dtype)
    parts = [affine(KEY, images[i : i + 4], jnp.arange(i, i + 4)) for i in (0, 4)]
    np.testing.assert_allclose(jnp.concatenate(parts), whole, atol=1e-6)
    assert (whole != affine(jax.random.key(8), images, jnp.arange(8))).any()
    np.testing.assert_allclose(affine(KEY, jnp.full((2, 5, 5, 1), 3.0), jnp.arange(2)), 3, rtol=1e-6)

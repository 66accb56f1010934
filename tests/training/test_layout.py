"""Which device trains which networks, and how arrays get there and back."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ssm_jax import errors
from ssm_jax.data import batches
from ssm_jax.training.layout import Layout, pad_split, put, replicate

DEVICES = 8


def test_every_device_has_a_part_of_the_batch_or_networks_of_its_own():
    data, seeds = Layout("data", 3), Layout("seeds", 11)
    assert (data.shards, data.per_device) == (DEVICES, 3)
    np.testing.assert_array_equal(data.slots(), [[0, 1, 2]] * DEVICES)
    assert (seeds.shards, seeds.per_device) == (1, 2)
    # 16 slots for 11 networks: those left over repeat the last.
    slots = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 10], [10, 10], [10, 10]]
    np.testing.assert_array_equal(seeds.slots(), slots)
    np.testing.assert_array_equal(seeds.local_slots(), slots)


def test_unknown_mode():
    with pytest.raises(errors.InputError, match=r"parallel mode 'seed'; did you mean 'seeds'\?"):
        Layout("seed", 1)


@pytest.mark.parametrize("mode", ["data", "seeds"])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 17])
def test_gather_is_the_inverse_of_place(mode, count):
    layout = Layout(mode, count)
    rng = np.random.default_rng(count)
    tree = {
        "scores": rng.normal(size=(count, 3, 2)).astype("f"),
        "step": np.arange(count, dtype=np.int32),
        "flags": [rng.integers(0, 2, (count, 5)).astype(bool)],
    }
    placed = layout.place(tree)
    assert placed["scores"].shape == (DEVICES, layout.per_device, 3, 2)
    for device, shard in enumerate(placed["step"].addressable_shards):
        assert shard.device == jax.devices()[device]
        np.testing.assert_array_equal(shard.data[0], layout.slots()[device])
    gathered = layout.gather(placed)
    assert jax.tree.structure(gathered) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, gathered, tree)
    template = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), layout.template(placed))
    assert template == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), gathered)


def test_put_and_replicate_give_each_device_a_row():
    rows = np.arange(DEVICES * 3).reshape(DEVICES, 3)
    for device, shard in enumerate(put(rows).addressable_shards):
        np.testing.assert_array_equal(shard.data, rows[device : device + 1])
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), np.uint8)
    everywhere = replicate({"images": images, "labels": np.arange(5)})
    mean, deviation = batches.statistics(images)
    expected = {"images": images, "labels": np.arange(5), "mean": mean, "deviation": deviation}
    assert set(everywhere) == set(expected)
    for name, array in everywhere.items():
        assert len(array.addressable_shards) == DEVICES
        for shard in array.addressable_shards:
            np.testing.assert_allclose(shard.data, expected[name][None], rtol=1e-6)


def test_pad_split():
    images, labels = np.ones((13, 2, 2, 1), np.uint8), np.arange(13, dtype=np.int32)
    padded = pad_split(images, labels, 8)
    assert padded["images"].shape == (16, 2, 2, 1)
    assert padded["images"][:13].all() and not padded["images"][13:].any()
    assert padded["labels"].tolist() == [*range(13), -1, -1, -1]
    assert padded["images"].dtype == np.uint8
    assert padded["labels"].dtype == np.int32
    assert len(pad_split(images[:8], labels[:8], 8)["labels"]) == 8

"""Transfer: what masks and a new head add to a base, and the report of two tiny runs."""

from __future__ import annotations

import json
import pathlib
import re

import jax
import numpy as np
import pytest
from flax import nnx

import ssm_jax
from examples import transfer
from ssm_jax.nn.layers import masked_layers
from ssm_jax.nn.variables import split


@pytest.fixture(scope="module")
def base():
    return ssm_jax.build("conv2", (8, 8, 1), 5, width=0.1, masking=transfer.DENSE, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def model(base):
    return transfer.masked(base, nnx.Rngs(1))


def test_masks_keep_the_weights_of_the_base_and_train_a_new_head(base, model):
    assert [layer.rule is None for _, layer in masked_layers(model)] == [False] * 4 + [True]
    assert model.denses[-1].shape == (26, 10) and base.denses[-1].shape == (26, 5)
    np.testing.assert_array_equal(model.convs[0].random_kernel(), base.convs[0].random_kernel())


def test_a_head_alone_is_all_that_is_trained(base):
    model = transfer.head_alone(base, nnx.Rngs(1))
    assert [leaf.shape for leaf in jax.tree.leaves(split(model).params)] == [(26, 10)]
    assert transfer.task_bytes(model) == 4 * 26 * 10


def test_masks_are_counted_as_they_are_stored(model):
    ssm_jax.set_density(model, 0.5)
    # A bit for each of some 29,000 weights of which half remain; fewer than two.
    weights = sum(layer.random_kernel().size for _, layer in masked_layers(model)) - 260
    assert 4 * 260 + weights / 9 < transfer.task_bytes(model) < 4 * 260 + weights / 4


@pytest.mark.slow
def test_one_command_trains_base_masks_and_head_and_goes_on_where_it_stopped(tmp_path):
    random = np.random.default_rng(0)
    for name, classes in (("base", 7), ("task", 10)):
        arrays = {}
        for part, count in (("train", 128), ("test", 20)):
            arrays[f"{part}_images"] = random.integers(256, size=(count, 8, 8, 1), dtype=np.uint8)
            arrays[f"{part}_labels"] = np.arange(count) % classes
        np.savez(tmp_path / f"{name}.npz", **arrays)
    path = tmp_path / "found.json"
    flags = [f"--{name}={tmp_path / name}.npz" for name in ("base", "task")]
    flags += ["--base_epochs=1", "--epochs=1", "--width=0.05", f"--workdir={tmp_path}/runs", f"--json={path}"]
    transfer.main(flags)
    report = json.loads(path.read_text())
    assert [row["method"] for row in report["tasks"]] == ["masks", "head"]
    masks, head = report["tasks"]
    assert 0.3 <= masks["remaining_weights"] < 0.35 and head["remaining_weights"] == 1
    assert masks["bytes"] > head["bytes"] == 4 * 13 * 10
    rows = transfer.table(report).splitlines()
    assert rows[2].startswith("| masks | ") and rows[3].endswith(" | 100.0 | 520 |")
    transfer.main(flags)
    assert json.loads(path.read_text()) == report


def test_the_table_of_the_guide_is_what_the_file_says():
    root = pathlib.Path(__file__).parents[2]
    report = json.loads((root / "results" / "transfer" / "conv6.json").read_text())
    text = (root / "docs" / "guides" / "pretrained.md").read_text()
    found = re.search(r"<!-- transfer -->\n(.*?)\n<!-- end of transfer -->(.*?)\n## ", text, re.S)
    assert found and found[1] == transfer.table(report)
    base = report["base"]
    epochs = {row["epochs"] for row in report["tasks"]}
    assert f"The base has {base['epochs']} epochs and {base['accuracy']:.2f} % of" in found[2]
    assert f"{report['weights']:,} weights" in found[2] and report["n"] == 1 and epochs == {3}

"""Shares, flips, overlap and dead units of small masks, by hand."""

import numpy as np
import pytest

from ssm_jax import errors
from ssm_jax.analysis import masks
from ssm_jax.analysis.masks import Flips, Overlap, Shares, Units


def tree(**layers):
    return {name: np.array(values, np.int8) for name, values in layers.items()}


def test_shares_are_of_a_layer_and_of_all_weights():
    found = masks.shares(tree(a=[[1, 0], [-1, 0]], b=[[1, 1, 1, 1]]))
    assert found.layers == {
        "a": Shares(inverted=0.25, hidden=0.5, kept=0.25),
        "b": Shares(inverted=0.0, hidden=0.0, kept=1.0),
    }
    assert found.all == Shares(inverted=1 / 8, hidden=2 / 8, kept=5 / 8)
    assert found.all.remaining == 0.75


def test_a_weight_under_several_coats_is_one_weight():
    assert masks.shares(tree(a=[[3, 1], [0, 0]])).all == Shares(inverted=0.0, hidden=0.5, kept=0.5)


def test_shares_of_an_expectation_are_expected():
    found = masks.shares({"a": np.array([[0.25, 0.75], [0.0, 1.0]], np.float32)})
    assert found.all == Shares(inverted=0.0, hidden=0.5, kept=0.5)


def test_flips_tell_what_appeared_vanished_and_was_inverted():
    before = tree(a=[[0, 0, 1, -1], [1, -1, 1, 0]], b=[[1, 1]])
    after = tree(a=[[1, -1, 0, 0], [-1, -1, 1, 1]], b=[[1, 1]])
    found = masks.flips(before, after)
    assert found.layers["a"] == Flips(appeared=3 / 8, vanished=2 / 8, inverted=1 / 8)
    assert found.layers["b"] == Flips(appeared=0, vanished=0, inverted=0)
    assert found.all == Flips(appeared=0.3, vanished=0.2, inverted=0.1)
    assert found.layers["a"].changed == 6 / 8


def test_overlap_against_chance():
    first = tree(a=[[1, 1, -1, 0, 0, 0, 0, 0]])
    second = tree(a=[[1, -1, 0, 1, 0, 0, 0, 1]])
    found = masks.overlap(first, second).layers["a"]
    # By chance 3 * 4 / 8 weights are in both, of 3 + 4 less these in either; two thirds of the one and three
    # quarters of the other are positive.
    assert found == Overlap(
        jaccard=2 / 5,
        jaccard_by_chance=1.5 / 5.5,
        agreement=1 / 2,
        agreement_by_chance=pytest.approx(2 / 3 * 3 / 4 + 1 / 3 * 1 / 4),
    )


def test_chance_over_all_layers_knows_how_dense_each_is():
    # A layer that keeps everything overlaps with itself by all of its weights, and that is chance.
    first = tree(full=[[1, 1]], sparse=[[1, 0, 0, 0]])
    second = tree(full=[[1, 1]], sparse=[[0, 0, 0, 1]])
    found = masks.overlap(first, second)
    assert found.layers["full"].jaccard == found.layers["full"].jaccard_by_chance == 1
    assert found.layers["sparse"].jaccard == 0
    assert found.layers["sparse"].jaccard_by_chance == pytest.approx(0.25 / 1.75)
    assert found.all.jaccard == 2 / 4
    assert found.all.jaccard_by_chance == pytest.approx(2.25 / 3.75)


def test_masks_drawn_at_random_overlap_by_chance():
    generator = np.random.default_rng(0)
    first, second = (
        {"a": generator.choice(np.array([-1, 0, 1], np.int8), (400, 300), p=p)}
        for p in ([0.05, 0.9, 0.05], [0.1, 0.7, 0.2])
    )
    found = masks.overlap(first, second).all
    assert found.jaccard == pytest.approx(found.jaccard_by_chance, rel=0.05)
    assert found.agreement == pytest.approx(found.agreement_by_chance, rel=0.05)


def test_an_empty_mask_has_nothing_in_common():
    empty, some = tree(a=[[0, 0]]), tree(a=[[1, -1]])
    assert masks.overlap(empty, empty).all == Overlap(
        jaccard=None, jaccard_by_chance=None, agreement=None, agreement_by_chance=None
    )
    assert masks.overlap(empty, some).all == Overlap(
        jaccard=0.0, jaccard_by_chance=0.0, agreement=None, agreement_by_chance=None
    )


def test_a_dead_unit_is_found():
    dense = [[0, 1, 0], [0, 0, 0]]
    assert masks.units(tree(a=dense)).all == Units(inputs=2, dead_inputs=1, outputs=3, dead_outputs=2)


def test_a_channel_lives_by_any_weight_of_its_window():
    conv = np.zeros((3, 3, 2, 2), np.int8)
    conv[2, 0, 1, 0] = -1
    found = masks.units({"conv": conv, "dense": np.ones((4, 1), np.int8)})
    assert found.layers["conv"] == Units(inputs=2, dead_inputs=1, outputs=2, dead_outputs=1)
    assert found.all == Units(inputs=6, dead_inputs=1, outputs=3, dead_outputs=1)


@pytest.mark.parametrize("other", [tree(a=[[1]]), tree(b=[[1, 1]]), tree(a=[[1, 1]], b=[[1]])])
def test_other_layers_are_refused(other):
    for function in (masks.flips, masks.overlap):
        with pytest.raises(errors.InputError, match=r"of different networks: [ab] is"):
            function(tree(a=[[1, 1]]), other)


def test_means_go_field_by_field_and_leave_none_out():
    def made(**numbers):
        return Overlap(agreement_by_chance=None, **numbers)

    found = masks.mean(
        [
            masks.ByLayer(layers={"a": 1.0}, all=made(jaccard=1, jaccard_by_chance=3, agreement=None)),
            masks.ByLayer(layers={"a": 2.0}, all=made(jaccard=2, jaccard_by_chance=5, agreement=7)),
        ]
    )
    expected = made(jaccard=1.5, jaccard_by_chance=4, agreement=7)
    assert found == masks.ByLayer(layers={"a": 1.5}, all=expected)

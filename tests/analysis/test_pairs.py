"""Which networks are compared: those within a run, then those of one seed and of others between runs."""

import numpy as np

from ssm_jax.analysis import masks
from ssm_jax.analysis.pairs import Network, overlaps

ONE, OTHER = ({"dense": np.int8(mask)} for mask in ([[1, -1, 0, 0]], [[1, 0, 1, 0]]))


def kinds(networks):
    return [(pair.first, pair.second, pair.same_seed, pair.count) for pair in overlaps(networks)]


def test_every_pair_is_compared_once_and_by_its_seeds():
    first, second = ([Network(seed, ONE, OTHER) for seed in seeds] for seeds in ((0, 1, 2), (1, 2)))
    assert kinds({"a": first, "b": second}) == [
        ("a", "a", False, 3),
        ("b", "b", False, 1),
        ("a", "b", True, 2),
        ("a", "b", False, 4),
    ]


def test_a_seed_that_is_not_known_is_no_other_networks_seed():
    assert kinds({"a": [Network(None, ONE, ONE)], "b": [Network(None, ONE, ONE)]}) == [("a", "b", False, 1)]


def test_without_masks_the_effective_signs_are_compared_alone():
    (pair,) = overlaps({"a": [Network(0, None, ONE)], "b": [Network(0, ONE, OTHER)]})
    assert pair.masks is None and pair.effective_signs == masks.overlap(ONE, OTHER)
    assert pair.effective_signs.all.jaccard == 1 / 3

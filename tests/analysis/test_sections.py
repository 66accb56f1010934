"""What a report shows of all runs together."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra `report` is not installed")

from ssm_jax.analysis import masks, sections
from ssm_jax.analysis.panels import Card
from ssm_jax.trained import restore


def of(shown, *names):
    runs, networks = zip(*(shown[name] for name in names), strict=True)
    return {section.anchor: section for section in sections.sections(runs, networks)}


@pytest.fixture(scope="module")
def one(shown):
    return of(shown, "signed")


@pytest.fixture(scope="module")
def three(shown):
    return of(shown, "signed", "binary", "dense")


def rows(card, caption):
    (table,) = (table for table in card.tables if table.caption == caption)
    return {row[0]: list(row[1:]) for row in table.rows}


def test_settings_are_those_of_the_run(one, shown):
    (card,) = one["settings"].cards
    run, _ = shown["signed"]
    found, accuracy = rows(card, "The run"), run.summary.test_accuracy
    assert found["test accuracy"] == [f"{accuracy.mean:.2f} ± {accuracy.std:.2f} %"]
    assert found["seeds"] == ["5, 6"] and found["seed shown"] == ["5"]
    assert found["data"] == ["digits 1.0.0"] and found["mask rule"] == ["signed"]
    assert "failed seeds" not in found and "layers that hide everything" not in found
    changed = rows(card, "Settings that are not the defaults")
    assert changed["mask.density"] == ["0.2", "0.0"] and "optimizer.name" not in changed
    assert rows(card, "All settings")["optimizer.name"] == ["nesterov"]


def test_the_frontier_is_drawn_of_runs_on_one_dataset(three, shown):
    (card,) = three["frontier"].cards
    (drawing,) = card.figures
    assert drawing.caption.startswith("On digits;")
    found = rows(card, "Means over seeds, ± their standard deviation")
    summary = shown["dense"][0].summary
    assert found["dense"] == [f"{summary.test_accuracy.mean:.2f} %", "100.00 %", f"{summary.weights:,}"]
    run, network = shown["dense"]
    other = dataclasses.replace(run, record=dataclasses.replace(run.record, dataset="other"))
    (card,) = of(shown | {"other": (other, network)}, "signed", "other")["frontier"].cards
    assert not card.figures and len(card.tables) == 1


def test_seeds_of_a_run_are_compared_against_chance(one, signed):
    (card,) = one["overlap"].cards
    first, second = (restore(signed, seed=seed).masks for seed in (5, 6))
    expected = masks.overlap(first, second).all
    (found,) = card.tables[0].rows
    assert found[0] == "seed 5, seed 6"
    numbers = [expected.jaccard, expected.jaccard_by_chance, expected.agreement, expected.agreement_by_chance]
    assert [found[i] for i in (1, 2, 4, 5)] == [f"{100 * share:.2f}" for share in numbers]
    assert found[3] == f"{expected.jaccard / expected.jaccard_by_chance:.2f}" and len(card.figures) == 1


def test_masks_of_different_networks_are_left_out_with_a_note(shown):
    run, network = shown["binary"]
    smaller = dataclasses.replace(network, masks={"denses/0": network.masks["denses/0"]})
    runs, networks = (shown["signed"][0], run), (shown["signed"][1], smaller)
    (section,) = (one for one in sections.sections(runs, networks) if one.anchor == "overlap")
    assert section.cards == [Card(note="Left out, of different networks: signed and binary.")]


def test_a_mask_that_is_drawn_is_not_compared(shown):
    run, network = shown["signed"]
    drawn = {name: mask.astype(np.float32) for name, mask in network.masks.items()}
    networks = [dataclasses.replace(network, masks=drawn)]
    # Of one network or of masks that are drawn there is no section, not even an empty one.
    assert "overlap" not in [one.anchor for one in sections.sections([run], networks)]

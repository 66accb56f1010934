"""What a report shows of a run are the run's numbers."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra `report` is not installed")

from ssm_jax import graph
from ssm_jax.analysis import masks, panels
from ssm_jax.artifact.sizes import entropy


def cells(card, caption):
    (table,) = (table for table in card.tables if table.caption == caption)
    return {row[0]: list(row[1:]) for row in table.rows}


def percent(share):
    return f"{100 * share:.2f}"


def test_shares_are_those_of_the_summary(shown):
    run, network = shown["signed"]
    found = cells(panels.layers(run, network), "Shares by layer, means over seeds")
    for layer in run.summary.layers:
        shares = [percent(share) for share in (layer.inverted, layer.hidden, layer.kept)]
        assert found[layer.name] == ["x".join(map(str, layer.shape)), f"{layer.weights:,}", *shares]
    assert list(found)[-1] == "all"
    assert float(found["all"][3]) == pytest.approx(100 - 100 * run.summary.remaining_weights.mean, abs=0.006)


@pytest.mark.parametrize("card", [panels.layers, panels.image_mask, panels.units])
def test_of_a_dense_network_a_note_says_that_it_has_no_mask(shown, card):
    assert card(*shown["dense"]).note == "A dense network has no mask." and not card(*shown["dense"]).figures


def test_the_first_mask_is_folded_to_the_image(shown):
    run, network = shown["signed"]
    mask = network.masks["denses/0"]
    (drawing,) = panels.image_mask(run, network).figures
    empty = np.count_nonzero(~mask.any(1))
    assert (
        f"denses/0 takes the image of 8x8: its weights that remain by place, {np.count_nonzero(mask)} in all"
        in (drawing.caption)
    )
    assert f"{empty} of 64 places have none" in drawing.caption
    titles = [axes.get_title() for axes in drawing.figure.axes if axes.images]
    assert titles == ["remaining weights per place", "mean training image"]


def test_maps_of_features_are_folded_too_and_an_average_is_not(shown):
    run, network = shown["signed"]
    kernel = graph.Kernel(np.ones((3, 3, 1, 2), np.int8))
    head = (graph.Standardize(inputs=(0,)), graph.Conv(inputs=(1,), name="conv", kernel=kernel, stride=2))

    def of(*nodes, weights):
        mask = np.ones((weights, 10), np.int8)
        dense = graph.Dense(inputs=(3,), name="dense", kernel=graph.Kernel(mask))
        made = graph.Network(image_shape=(8, 8, 1), classes=10, nodes=(*head, *nodes, dense))
        artifact = dataclasses.replace(network.artifact, network=made)
        return panels.image_mask(run, dataclasses.replace(network, artifact=artifact, masks={"dense": mask}))

    (drawing,) = of(graph.Flatten(inputs=(2,)), weights=32).figures
    assert drawing.caption.startswith(
        "dense takes 2 maps of 4x4: its weights that remain by place, 320 in all"
    )
    assert of(graph.Mean(inputs=(2,)), weights=2).note.startswith("dense sees no image")


def test_dead_units_are_counted(shown):
    run, network = shown["signed"]
    card = panels.units(run, network)
    found = cells(card, "Dead units and unused inputs")
    units = masks.units(network.masks)
    for name, of in units.layers.items():
        middle = np.median(np.count_nonzero(network.masks[name], axis=0))
        dead = [f"{of.dead_outputs} of {of.outputs}", f"{of.dead_inputs} of {of.inputs}"]
        assert found[name] == [f"{middle:.0f}", *dead]
    assert found["all"][1] == f"{units.all.dead_outputs} of {units.all.outputs}"
    assert len(card.figures) == 1


def test_no_unit_of_a_mask_that_is_drawn_is_dead(shown):
    run, network = shown["signed"]
    drawn = {name: mask.astype(np.float32) for name, mask in network.masks.items()}
    assert "drawn" not in (card := panels.units(run, dataclasses.replace(network, masks=drawn))).note
    assert card.note.startswith("The rule signed draws its mask at random") and not card.figures


def test_mistakes_are_listed_with_their_probabilities(shown):
    run, network = shown["signed"]
    card = panels.mistakes(run, network)
    found, shown_rows = network.mistakes, cells(card, "The same in numbers")
    assert f"{found.wrong} of 360 test images" in card.figures[0].caption
    accuracy = run.summary.test_accuracy.values[0]
    assert f"({accuracy:.2f} % accuracy)" in card.figures[0].caption
    assert len(shown_rows) == len(found.labels)
    first = [
        str(found.labels[0]),
        str(found.predictions[0]),
        f"{100 * found.sure[0]:.1f}",
        f"{100 * found.true[0]:.2g}",
    ]
    assert shown_rows["1"] == first


def test_without_mistakes_or_data_a_note_says_so(shown):
    run, network = shown["signed"]
    none = dataclasses.replace(network.mistakes, wrong=0)
    assert panels.mistakes(run, dataclasses.replace(network, mistakes=none)).note == (
        "All 360 test images are recognized."
    )
    assert (
        panels.mistakes(run, dataclasses.replace(network, mistakes="no data")).note == "Not shown: no data."
    )


def test_sizes_are_of_the_kernels_and_of_the_file(shown):
    run, network = shown["signed"]
    card = panels.sizes(run, network)
    found = cells(card, "Sizes")
    layers = [layer.kernel for layer in network.graph.layers()]
    kernels = [kernel.values for kernel in layers]
    weights = run.summary.weights
    expected = {
        "dense, float32": 4 * weights,
        "2 bits a weight": sum(-(-kernel.size // 4) for kernel in kernels),
        "entropy": int(np.ceil(sum(map(entropy, layers)) / 8)),
        ".ssm file": network.size,
    }
    assert {name: row[0] for name, row in found.items()} == {name: f"{n:,}" for name, n in expected.items()}
    assert found[".ssm file"][1] == f"{4 * weights / network.size:,.1f}"
    by_layer = cells(card, "Entropy of a layer's signs")
    remaining = np.count_nonzero(kernels[0]) / kernels[0].size
    bits = entropy(layers[0]) / kernels[0].size
    assert by_layer["denses/0"][:2] == [percent(remaining), f"{bits:.3f}"]


def test_trained_kernels_have_no_entropy(shown):
    card = panels.sizes(*shown["dense"])
    assert list(cells(card, "Sizes")) == ["dense, float32", ".ssm file"] and len(card.tables) == 1

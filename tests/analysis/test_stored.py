"""Files stand beside runs: `.ssm` files by their effective kernels, saved models by their masks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from cli.own import Own
from flax import nnx

import ssm_jax
from ssm_jax import errors
from ssm_jax.analysis import analyze, masks, stored
from ssm_jax.analysis.transfer import effective_signs
from ssm_jax.artifact import format, to_graph


@pytest.fixture(scope="module")
def exported(signed, tmp_path_factory):
    """The first network of the signed run as a file."""
    path = tmp_path_factory.mktemp("stored") / "net.ssm"
    format.write(to_graph.of_run(signed), path)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A file of `ssm_jax.save`, and the model in it."""
    model, path = Own(nnx.Rngs(3)), tmp_path_factory.mktemp("stored") / "own.npz"
    ssm_jax.save(model, path)
    return path, model


def test_a_file_tells_what_the_run_told_but_for_the_mask(exported, signed):
    one, trained = stored.of_file(exported), ssm_jax.restore(signed)
    assert (one.network, one.dataset, one.rule, one.seeds) == ("fcn", "digits", "signed", (5,))
    assert (one.epochs, one.steps, one.has_masks, one.signs_alone) == ((2,), (24,), True, True)
    assert one.settings["mask.density"] == 0.2 and one.weights == 64 * 30 + 30 * 10 + 10 * 10
    for name, signs in effective_signs(trained.model).items():
        np.testing.assert_array_equal(one.masks[name], signs)
    remaining = sum(np.count_nonzero(mask) for mask in trained.masks.values()) / one.weights
    assert one.remaining_weights.mean == pytest.approx(remaining)
    assert {layer.name: layer.hidden for layer in one.layers} == pytest.approx(
        {name: np.mean(mask == 0) for name, mask in trained.masks.items()}
    )


def test_a_saved_model_keeps_its_masks(saved):
    path, model = saved
    one = stored.of_saved(path, Own, (8, 8, 1))
    assert (one.network, one.rule, one.seeds, one.signs_alone) == ("Own", "signed", (), False)
    for name in ("conv", "head"):
        np.testing.assert_array_equal(one.masks[name], np.asarray(getattr(model, name).mask()))
        signs = np.sign(getattr(model, name).effective_kernel())
        np.testing.assert_array_equal(one.effective_signs[name], signs)


def test_a_model_without_a_mask_is_refused(tmp_path):
    def build(rngs):
        return nnx.Linear(4, 2, rngs=rngs)

    ssm_jax.save(build(nnx.Rngs(0)), tmp_path / "linear.npz")
    with pytest.raises(errors.InputError, match="build has no masked layer"):
        stored.of_saved(tmp_path / "linear.npz", build, (4,), "float32")


def test_a_record_of_anything_is_bearable(exported):
    one = stored.of_file(exported)
    record = {
        "network": 3,
        "dataset": "\x1b[31m",
        "seed": "0",
        "epochs": [],
        "test_accuracy": {},
        "config": {"mask.density": [1], "no.such": 1},
        "versions": None,
    }
    odd = dataclasses.replace(one, artifact=dataclasses.replace(one.artifact, record=record))
    assert (odd.network, odd.dataset, odd.seeds, odd.epochs) == ("a network", "", (), ())
    assert odd.test_accuracy is None and odd.settings == {"mask.density": [1]}
    assert odd.facts()["versions"] == "" and analyze.analyze([odd]).runs[0].rule == "masked"


def test_an_analysis_takes_a_file_beside_its_run(exported, signed):
    report = analyze.analyze([signed, exported], draws=0)
    run, file = report.runs
    assert file.signs_alone and not run.signs_alone and file.moments is None and file.transfer is None
    assert file.units == masks.units(ssm_jax.restore(signed).masks)
    assert file.connectivity is not None and 0 < file.connectivity.connected.all <= 1
    same = next(pairs for pairs in report.overlaps if pairs.second == file.name and pairs.same_seed)
    assert same.masks is None and same.effective_signs.all.jaccard == 1
    assert same.effective_signs.all.agreement == 1 and report.differences == ()


def test_seeds_are_of_runs(exported):
    with pytest.raises(errors.InputError, match="seeds are of runs"):
        analyze.analyze([exported], seeds=[5])


def test_a_report_shows_files_beside_a_run(exported, saved, signed, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
    pytest.importorskip("jinja2", reason="the extra `report` is not installed")
    from analysis.pages import Page

    from ssm_jax.analysis import report

    own = stored.of_saved(saved[0], Own, (8, 8, 1))
    page = Page(report.write([signed, exported, own], tmp_path / "page.html").read_text())
    assert page.headings["h3"][:3] == ["signed", "net.ssm", "own.npz"]
    assert page.text.count("a file by itself names no test images") == 2
    shares = page.tables["Layers: Shares by layer of own.npz"]
    assert [row[0] for row in shares] == ["layer", "conv", "head", "all"]
    # Of a single file there is no training to show.
    alone = Page(report.write([exported], tmp_path / "alone.html").read_text())
    assert alone.headings["h1"] == ["net.ssm"] and "Curves" not in alone.headings["h2"]

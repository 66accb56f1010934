"""A report holds what the folders hold."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

import ssm_jax
from ssm_jax.analysis import analyze, masks
from ssm_jax.analysis.connectivity import connected
from ssm_jax.artifact import to_graph
from ssm_jax.runs.folder import RunFolder


@pytest.fixture(scope="module")
def report(signed, binary, dense):
    return analyze.analyze([signed, binary, dense], draws=2)


def test_a_run_is_told_by_what_its_folder_holds(report, signed):
    run, summary = report.runs[0], RunFolder(signed).read_summary()
    assert (run.network, run.dataset, run.rule, run.seeds) == ("fcn", "digits", "signed", (5, 6))
    assert (run.steps, run.epochs) == ((24, 24), (2.0, 2.0))
    assert run.test_accuracy == summary.test_accuracy
    assert run.remaining_weights.values == pytest.approx(summary.remaining_weights.values)
    assert (run.device, run.versions) == (summary.device, summary.versions)
    assert run.settings["mask.density"] == 0.2 and "data.dir" not in run.settings
    for layer in summary.layers:
        shares = run.shares.layers[layer.name]
        numbers = shares.inverted, shares.hidden, shares.kept
        assert numbers == pytest.approx((layer.inverted, layer.hidden, layer.kept))


def test_units_and_paths_are_means_over_the_seeds(report, signed):
    trees = [ssm_jax.restore(signed, seed=seed).masks for seed in (5, 6)]
    network = to_graph.network(ssm_jax.restore(signed, seed=5).model, (8, 8, 1))
    paths = [connected(tree, network) for tree in trees]
    run = report.runs[0]
    assert run.units == masks.mean(map(masks.units, trees))
    assert run.connectivity.units == masks.mean(map(masks.units, paths))
    shares = [
        sum(map(np.count_nonzero, path.values())) / sum(map(np.count_nonzero, tree.values()))
        for path, tree in zip(paths, trees, strict=True)
    ]
    assert run.connectivity.connected.all == pytest.approx(np.mean(shares))


def test_the_moments_are_the_stored_masks(report, signed):
    run = report.runs[0]
    assert [(moment.epoch, moment.step) for moment in run.moments] == [(0, 0), (1, 12), (2, 24)]
    assert run.moments[0].flips is None and run.moments[-1].shares == run.shares

    def stored(seed, step):
        with np.load(signed / "masks" / str(seed) / f"{step}.npz") as arrays:
            return dict(arrays)

    flips = [masks.flips(stored(seed, 12), stored(seed, 24)) for seed in (5, 6)]
    assert run.moments[2].flips == masks.mean(flips) and flips[0].all.changed > 0
    assert run.since_start == masks.mean(masks.overlap(stored(s, 0), stored(s, 24)) for s in (5, 6))


def test_what_a_run_did_not_store_or_does_not_have_is_left_out(report):
    _, binary, dense = report.runs
    assert binary.moments == () and binary.since_start is None and binary.units is not None
    assert dense.units is dense.connectivity is dense.transfer is None and dense.moments == ()
    assert {pairs.first for pairs in report.overlaps} | {pairs.second for pairs in report.overlaps} == {
        report.runs[0].name,
        report.runs[1].name,
    }


def test_pairs_are_within_a_run_and_between_runs_of_one_seed_and_of_two(report, signed, binary):
    first, second = (run.name for run in report.runs[:2])
    kinds = [(pairs.first, pairs.second, pairs.same_seed, pairs.count) for pairs in report.overlaps]
    assert kinds == [
        (first, first, False, 1),
        (second, second, False, 1),
        (first, second, True, 2),
        (first, second, False, 2),
    ]
    ours, theirs = (
        [ssm_jax.restore(folder, seed=seed).masks for seed in (5, 6)] for folder in (signed, binary)
    )
    assert report.overlaps[0].masks == masks.mean([masks.overlap(*ours)])
    same = [masks.overlap(*pair) for pair in zip(ours, theirs, strict=True)]
    assert report.overlaps[2].masks == masks.mean(same)
    # Of one seed the kernels are the same, so that signs agree as effective signs do.
    assert report.overlaps[2].masks.all.agreement == report.overlaps[2].effective_signs.all.agreement


def test_the_trained_network_has_the_accuracy_of_its_run_and_so_have_its_effective_signs(report):
    for run in report.runs[:2]:
        assert run.transfer.kernel_seeds == (7, 8)
        accuracy = run.transfer.accuracy
        assert accuracy["trained"].values == pytest.approx(run.test_accuracy.values)
        assert accuracy["drawn_effective_signs"].mean == pytest.approx(run.test_accuracy.mean)
        assert len(accuracy["drawn_mask"].values) == 4
        assert accuracy["drawn_mask"].mean < run.test_accuracy.mean


def test_inversion_is_compared_with_a_run_without_it(report):
    (difference,) = report.differences
    signed, binary, _ = report.runs
    assert (difference.inverting, difference.other) == (signed.name, binary.name)
    assert difference.density_ratio == pytest.approx(1, rel=0.05) and difference.other_settings == ()
    assert difference.accuracy == signed.test_accuracy.mean - binary.test_accuracy.mean


def test_the_report_is_json_without_a_path_of_this_machine(report, signed):
    text = json.dumps(dataclasses.asdict(report))
    assert json.loads(text)["runs"][0]["shares"]["all"]["hidden"] == pytest.approx(0.8, abs=0.01)
    assert str(signed.parent.parent) not in text


def test_one_seed_of_several_and_no_other_kernels(signed):
    report = analyze.analyze([signed], seeds=[6], draws=0)
    (run,) = report.runs
    assert run.name == "signed" and run.seeds == (6,) and run.transfer is None and report.overlaps == ()
    assert run.shares == masks.shares(ssm_jax.restore(signed, seed=6).masks)


def test_a_run_under_way_is_told_as_far_as_it_is(signed, tmp_path):
    shutil.copytree(signed, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "metrics.jsonl").unlink()
    (run,) = analyze.analyze([tmp_path / "run"], draws=0).runs
    assert run.device is run.versions is run.test_accuracy is None and len(run.moments) == 3


@pytest.mark.slow
def test_a_rule_that_draws_its_mask_has_expected_shares_alone(tmp_path, signed, train):
    changed = {"mask.rule": "stochastic", "mask.density": 0.0, "training.epochs": 1, "seeds": 1}
    folder = train(tmp_path / "run", **changed, **{"logging.masks": True})
    report = analyze.analyze([folder, signed], draws=0)
    run = report.runs[0]
    assert run.units is run.connectivity is run.since_start is None and run.shares.all.kept > 0
    assert [moment.flips for moment in run.moments] == [None, None]
    assert {pairs.first for pairs in report.overlaps} == {report.runs[1].name}


def test_what_cannot_be_analyzed_is_one_line(signed, tmp_path):
    def refused(match, *folders, **settings):
        with pytest.raises(ssm_jax.InputError, match=match) as caught:
            analyze.analyze(folders, **settings)
        assert "\n" not in str(caught.value)

    refused("holds no run", tmp_path)
    refused("holds no run", signed, tmp_path / "none")
    refused("there is no seed 7: it has 5 to 6", signed, seeds=[5, 7])
    refused("no seed was given", signed, seeds=[])
    refused("draws is -1; allowed is at least 0", signed, draws=-1)
    refused("signed is given twice", signed, signed.parent / "." / "signed")
    refused("no folder of a run was given")
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(signed / "run.json", begun)
    refused("has no checkpoint yet", begun)
    other = tmp_path / "other"
    shutil.copytree(signed, other)
    values = json.loads((other / "run.json").read_text())
    values["dataset_version"] = "0.9"
    (other / "run.json").write_text(json.dumps(values))
    refused(r"digits at hand is version .*, that of .*other was 0\.9", signed, other)
    values["config"]["model"]["width"] = 0.2
    (other / "run.json").write_text(json.dumps(values))
    refused(
        r"signed \(fcn on digits\) and .*other \(fcn on digits\) differ in number or shape", signed, other
    )
    values["model"] = "Own"
    (other / "run.json").write_text(json.dumps(values))
    refused("pass the same `model`, Own", other)


def test_a_network_that_failed_is_left_out(signed, tmp_path):
    shutil.copytree(signed, tmp_path / "run")
    path = tmp_path / "run" / "summary.json"
    values = json.loads(path.read_text())
    values["failed_seeds"] = [{"seed": 5, "step": 3, "metric": "loss"}]
    values["seeds"] = [6]
    for name in ("test_accuracy", "remaining_weights"):
        values[name]["values"] = values[name]["values"][1:]
    path.write_text(json.dumps(values))
    (run,) = analyze.analyze([tmp_path / "run"], draws=0).runs
    assert run.seeds == (6,)
    with pytest.raises(ssm_jax.InputError, match=r"seed 5 of the run in .* failed"):
        analyze.analyze([tmp_path / "run"], seeds=[5])


class Own(nnx.Module):
    """A network of the caller's own with a binary mask, whatever the config says of masks."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.dense = ssm_jax.Dense(64, 10, masking=ssm_jax.Masking(rule="binary"), rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.dense(images.reshape(len(images), -1))


@pytest.mark.slow
def test_a_network_of_the_callers_own_has_the_rule_of_its_layers(tmp_path):
    config = ssm_jax.default_config()
    config.data.name = "digits"
    config.training.epochs = 1
    ssm_jax.train_and_evaluate(config, tmp_path, model=Own)
    (run,) = analyze.analyze([tmp_path], draws=0, model=Own).runs
    assert run.rule == "binary" and run.connectivity.units.layers["dense"].inputs == 64
    assert run.shares.all.inverted == 0 < run.shares.all.kept < 1
    assert run.units.layers["dense"].outputs == 10

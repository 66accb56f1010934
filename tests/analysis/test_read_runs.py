"""Finished runs are read, restored and run over the test set."""

import pathlib
import shutil

import numpy as np
import pytest

from ssm_jax import errors
from ssm_jax.analysis import read_runs
from ssm_jax.artifact import format, to_graph
from ssm_jax.data import datasets


def test_mistakes_are_those_of_the_accuracy(shown):
    for run, network in shown.values():
        found, summary = network.mistakes, run.summary
        accuracy = summary.test_accuracy.values[summary.seeds.index(run.seed)]
        assert 100 * (1 - found.wrong / found.total) == pytest.approx(accuracy, abs=1e-4)
        assert len(found.labels) == min(20, found.wrong) and (found.labels != found.predictions).all()


def test_a_network_is_the_one_that_is_exported(shown, signed):
    run, network = next(iter(shown.values()))
    artifact = to_graph.of_run(signed)
    assert network.size == len(format.encode(artifact)) and run.seed == 5
    shares = [layer.kernel.remaining / layer.kernel.values.size for layer in artifact.network.layers()]
    assert [np.count_nonzero(mask) / mask.size for mask in network.masks.values()] == shares


def test_a_dense_network_has_no_mask(shown):
    masked = [(run.has_masks, bool(network.masks)) for run, network in shown.values()]
    assert masked == [(True, True), (True, True), (False, False)]


def test_names_are_as_short_as_they_tell_the_runs_apart(signed, binary):
    assert [run.name for run in read_runs.read([signed, binary])] == ["signed", "binary"]
    assert read_runs._names([pathlib.Path("/a/b/x"), pathlib.Path("/a/c/x")]) == ["b/x", "c/x"]


def test_another_seed_can_be_asked_for(signed):
    (run,) = read_runs.read([signed], seed=6)
    assert run.seed == 6
    with pytest.raises(errors.InputError, match=r"signed has no network of seed 7: it has 5, 6"):
        read_runs.read([signed], seed=7)


def test_what_is_no_finished_run_is_refused(signed, tmp_path):
    with pytest.raises(errors.InputError, match="no run is given"):
        read_runs.read([])
    with pytest.raises(errors.InputError, match=f"{tmp_path} holds no run"):
        read_runs.read([tmp_path])
    with pytest.raises(errors.InputError, match="is given twice"):
        read_runs.read([signed, f"{signed}/../{signed.name}"])
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(signed / "run.json", unfinished)
    with pytest.raises(errors.InputError, match="unfinished is not finished"):
        read_runs.read([unfinished])
    record = (signed / "run.json").read_text().replace('"model": null', '"model": "Small"')
    (unfinished / "run.json").write_text(record)
    shutil.copy(signed / "summary.json", unfinished)
    with pytest.raises(errors.InputError, match="pass the same `model`, Small"):
        read_runs.read([unfinished])


def test_data_that_are_not_at_hand_are_said_to_be(signed, monkeypatch):
    def refuse(*args, **kwargs):
        raise errors.InputError("no network")

    monkeypatch.setattr(datasets, "load", refuse)
    (network,) = read_runs.networks(read_runs.read([signed]))
    assert network.mistakes == "the data is not at hand: no network" and network.mean_image is None


def test_data_of_another_version_are_not_used(signed, monkeypatch):
    split = np.zeros((1, 8, 8, 1), np.uint8), np.int32([0])
    made = datasets.Dataset("made-up", "1", 2, *split, *split, *split)
    monkeypatch.setattr(datasets, "load", lambda *args, **kwargs: made)
    (network,) = read_runs.networks(read_runs.read([signed]))
    assert network.mistakes == "the data at hand is version 1, the run's was 1.0.0"

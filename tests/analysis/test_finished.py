"""Finished runs are read, restored and run over the test set."""

import pathlib
import shutil

import numpy as np
import pytest

from ssm_jax import errors, graph
from ssm_jax.analysis import finished
from ssm_jax.artifact import format, pack
from ssm_jax.data import datasets


def dataset(images, labels):
    none = np.zeros((0, *images.shape[1:]), np.uint8), np.zeros(0, np.int32)
    return datasets.Dataset("made-up", "1", 2, *none, *none, images, labels)


def test_the_largest_loss_comes_first():
    # The logits are those of an image of two pixels: standardized, it is [1, -1] or [-1, 1], or [0, 0].
    kernel = graph.Kernel(np.int8([[1, 0], [0, 1]]))
    nodes = (
        graph.Standardize(inputs=(0,)),
        graph.Flatten(inputs=(1,)),
        graph.Dense(inputs=(2,), name="dense", kernel=kernel),
    )
    network = graph.Network(image_shape=(1, 2, 1), classes=2, nodes=nodes)
    images = np.uint8([[200, 0], [7, 7], [0, 200], [200, 0]]).reshape(4, 1, 2, 1)
    found = finished.mistakes(network, dataset(images, np.int32([0, 1, 0, 1])), most=2)
    assert (found.wrong, found.total) == (3, 4)
    assert found.labels.tolist() == [0, 1] and found.predictions.tolist() == [1, 0]
    sigmoid = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(found.sure, [sigmoid] * 2, rtol=1e-6)
    np.testing.assert_allclose(found.true, [1 - sigmoid] * 2, rtol=1e-6)
    np.testing.assert_array_equal(found.images, images[2:])


def test_mistakes_are_those_of_the_accuracy(shown):
    for run, network in shown.values():
        found, summary = network.mistakes, run.summary
        accuracy = summary.test_accuracy.values[summary.seeds.index(run.seed)]
        assert 100 * (1 - found.wrong / found.total) == pytest.approx(accuracy, abs=1e-4)
        assert len(found.labels) == min(20, found.wrong) and (found.labels != found.predictions).all()


def test_a_network_is_the_one_that_is_exported(shown, signed):
    run, network = next(iter(shown.values()))
    artifact = pack.of_run(signed)
    assert network.size == len(format.encode(artifact)) and run.seed == 5
    shares = [layer.kernel.remaining / layer.kernel.values.size for layer in artifact.network.layers()]
    assert [np.count_nonzero(mask) / mask.size for mask in network.masks.values()] == shares


def test_a_dense_network_has_no_mask(shown):
    masked = [(run.masked, bool(network.masks)) for run, network in shown.values()]
    assert masked == [(True, True), (True, True), (False, False)]


def test_names_are_as_short_as_they_tell_the_runs_apart(signed, binary):
    assert [run.name for run in finished.read([signed, binary])] == ["signed", "binary"]
    assert finished._names([pathlib.Path("/a/b/x"), pathlib.Path("/a/c/x")]) == ["b/x", "c/x"]


def test_another_seed_can_be_asked_for(signed):
    (run,) = finished.read([signed], seed=6)
    assert run.seed == 6
    with pytest.raises(errors.InputError, match=r"signed has no network of seed 7: it has 5, 6"):
        finished.read([signed], seed=7)


def test_what_is_no_finished_run_is_refused(signed, tmp_path):
    with pytest.raises(errors.InputError, match="no run is given"):
        finished.read([])
    with pytest.raises(errors.InputError, match=f"{tmp_path} holds no run"):
        finished.read([tmp_path])
    with pytest.raises(errors.InputError, match="is given twice"):
        finished.read([signed, f"{signed}/../{signed.name}"])
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(signed / "run.json", unfinished)
    with pytest.raises(errors.InputError, match="unfinished is not finished"):
        finished.read([unfinished])
    record = (signed / "run.json").read_text().replace('"model": null', '"model": "Small"')
    (unfinished / "run.json").write_text(record)
    shutil.copy(signed / "summary.json", unfinished)
    with pytest.raises(errors.InputError, match="pass the same `model`, Small"):
        finished.read([unfinished])


def test_data_that_are_not_at_hand_are_said_to_be(signed, monkeypatch):
    def refuse(*args, **kwargs):
        raise errors.InputError("no network")

    monkeypatch.setattr(datasets, "load", refuse)
    (network,) = finished.networks(finished.read([signed]))
    assert network.mistakes == "the data is not at hand: no network" and network.mean_image is None


def test_data_of_another_version_are_not_used(signed, monkeypatch):
    made = dataset(np.zeros((1, 8, 8, 1), np.uint8), np.int32([0]))
    monkeypatch.setattr(datasets, "load", lambda *args, **kwargs: made)
    (network,) = finished.networks(finished.read([signed]))
    assert network.mistakes == "the data at hand is version 1, the run's was 1.0.0"

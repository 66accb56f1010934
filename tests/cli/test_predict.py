"""Labels and probabilities of images, and bad images in one line."""

import json
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import ssm_jax
from ssm_jax import graph
from ssm_jax.artifact import format
from ssm_jax.artifact.load import Model
from ssm_jax.cli import predict
from ssm_jax.data import datasets
from ssm_jax.graph import bounds


@pytest.fixture(scope="module")
def digits():
    """Images of digits."""
    return datasets.load("digits").test_images[:20]


@pytest.fixture(scope="module")
def probabilities(trained, digits):
    """What the trained network itself makes of them."""
    logits = ssm_jax.restore(trained).model(ssm_jax.standardize(jnp.asarray(digits)))
    return np.asarray(nnx.softmax(logits))


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("batch", [256, 8])
def test_probabilities_are_those_of_the_trained_network(
    ssm, network, digits, probabilities, tmp_path, monkeypatch, batch
):
    monkeypatch.setattr(predict, "_BATCH", batch)
    np.save(tmp_path / "images.npy", digits)
    status, out, err = ssm("predict", network, tmp_path / "images.npy", "--json", "--top=10")
    assert status == 0 and err == ""
    found = objects(out)
    assert [each["index"] for each in found] == list(range(20))
    assert {each["file"] for each in found} == {str(tmp_path / "images.npy")}
    assert [int(each["label"]) for each in found] == probabilities.argmax(1).tolist()
    for each, expected in zip(found, probabilities):
        best = [{"label": each["label"], "probability": each["probability"]}, *each["next"]]
        assert sorted(int(one["label"]) for one in best) == list(range(10))
        numbers = [one["probability"] for one in best]
        assert numbers == sorted(numbers, reverse=True)
        np.testing.assert_allclose(
            numbers, [expected[int(one["label"])] for one in best], rtol=1e-4, atol=1e-6
        )


def test_the_text_has_a_line_for_every_image(ssm, network, digits, probabilities, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("two.npy", digits[:2])
    np.save("one.npy", digits[2])
    Image.fromarray(digits[3, :, :, 0]).save("photo.png")
    status, out, err = ssm("predict", network, "two.npy", "one.npy", "photo.png")
    head, *lines = out.splitlines()
    assert status == 0 and err == "" and head.split() == ["image", "label", "probability", "next"]
    assert [line.split()[0] for line in lines] == ["two.npy[0]", "two.npy[1]", "one.npy", "photo.png"]
    for line, row in zip(lines, probabilities):
        order = np.argsort(-row)[:3]
        percent = [f"{label} {100 * row[label]:.2f} %" for label in order]
        assert " ".join(line.split()[1:]) == f"{percent[0]} {percent[1]}, {percent[2]}"


def test_bad_images_are_refused(refused, network, digits, tmp_path):
    for bad, text in (
        (digits / 255, "holds float64 of shape (20, 8, 8, 1); allowed is uint8"),
        (digits[:, 1:], "holds uint8 of shape (20, 7, 8, 1)"),
    ):
        np.save(tmp_path / "bad.npy", bad)
        assert text in refused("predict", network, tmp_path / "bad.npy")
    assert "cannot read none.png: No such file" in refused("predict", network, "none.png")


def test_a_file_of_images_without_end_is_refused(refused, network, digits, tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", digits)
    monkeypatch.setattr(predict, "_MOST", 19)
    assert "a.npy makes more than 19 images" in refused("predict", network, tmp_path / "a.npy")


def test_a_bad_file_among_others_is_named_and_the_others_are_labeled(ssm, network, digits, tmp_path):
    np.save(tmp_path / "good.npy", digits[:2])
    status, out, err = ssm("predict", network, "none.png", tmp_path / "good.npy", tmp_path, "--json")
    assert status == 2 and [each["index"] for each in objects(out)] == [0, 1]
    first, second, last = err.splitlines()
    assert first.startswith("error: cannot read none.png: No such file")
    assert second.startswith(f"error: cannot read {tmp_path}: not a regular file")
    assert last == "error: 2 of 3 files can't be read"


@pytest.mark.parametrize("top", [0, 11])
def test_more_labels_than_there_are_classes(refused, network, top):
    line = refused("predict", network, "none.png", f"--top={top}")
    assert f"--top is {top}; allowed is 1 to 10, the number of classes" in line


def test_what_is_missing_is_said(refused, network):
    assert "the following arguments are required: IMAGES" in refused("predict", network)
    assert "cannot read none.ssm: No such file" in refused("predict", "none.ssm", "a.png")
    folder = network.parent
    assert f"{folder} holds no run" in refused("predict", folder, "a.png")


def test_no_compiler_is_run(ssm, network, digits, tmp_path, monkeypatch):
    np.save(tmp_path / "one.npy", digits[0])
    monkeypatch.setattr(subprocess, "run", None)
    status, out, err = ssm("predict", network, tmp_path / "one.npy")
    assert (status, err) == (0, "") and len(out.splitlines()) == 2


def test_a_batch_is_smaller_where_its_values_would_not_fit(ssm, network, digits, tmp_path, monkeypatch):
    np.save(tmp_path / "images.npy", digits)
    expected = ssm("predict", network, tmp_path / "images.npy")[1]
    batches = []
    call = Model.__call__
    monkeypatch.setattr(
        Model, "__call__", lambda self, images: batches.append(len(images)) or call(self, images)
    )
    monkeypatch.setattr(predict, "_MOST_ELEMENTS", 8 * bounds.live(format.read(network).network))
    assert ssm("predict", network, tmp_path / "images.npy")[1] == expected
    assert batches == [8, 8, 8]


def test_a_network_of_two_classes_has_two_labels(ssm, tmp_path):
    kernel = graph.Kernel(np.int8([[1, -1]]))
    nodes = (
        graph.Standardize(inputs=(0,)),
        graph.Flatten(inputs=(1,)),
        graph.Dense(inputs=(2,), name="head", kernel=kernel),
    )
    made = graph.Network(image_shape=(1, 1, 1), classes=2, nodes=nodes)
    format.write(format.Artifact(made, ("no", "yes"), {}), tmp_path / "two.ssm")
    np.save(tmp_path / "one.npy", np.zeros((1, 1), np.uint8))
    status, out, _ = ssm("predict", tmp_path / "two.ssm", tmp_path / "one.npy")
    assert status == 0 and out.splitlines()[1].split()[1:] == ["no", "50.00", "%", "yes", "50.00", "%"]

"""The convolutional example: the model, its masks, and the record of a run of one step."""

from __future__ import annotations

import json

import pytest

from examples import convnet, record

WEIGHTS = 9 * (1 * 32 + 32 * 64 + 64 * 128) + 2048 * 10


@pytest.mark.slow
def test_one_command_trains_both_and_writes_the_record(tmp_path, images, capsys):
    path = tmp_path / "results" / "convnet.json"
    arguments = ["--epochs=1", "--seeds=1", f"--data={images}", f"--workdir={tmp_path}", f"--json={path}"]
    convnet.main(arguments)
    found = record.read(path)
    assert (found.example, found.network, found.data) == ("convnet", "ConvNet", "noise")
    assert found.training == {"epochs": 1, "batch": 128}
    assert (found.measure, found.weights) == ("accuracy %", WEIGHTS)
    for name, trained in (("masked", found.masked), ("dense", found.dense)):
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert list(trained.values) == summary["test_accuracy"]["values"]
        assert list(trained.seeds) == summary["seeds"] == [0]
    density = convnet.MASKING.rule.density
    assert found.masked.remaining_weights == pytest.approx([density], rel=0.01)
    assert found.dense.remaining_weights == (1.0,)
    printed = capsys.readouterr().out
    assert "signed, 112,928 weights" in printed and "dense, 112,928 weights" in printed
    assert f"masked: {found.masked.values[0]:.2f} accuracy %" in printed

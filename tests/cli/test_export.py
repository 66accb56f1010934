"""From a run to files, and nothing lost on the way."""

import shutil

import numpy as np
import pytest

import ssm_jax
from ssm_jax.artifact import export, format, integer, to_graph
from ssm_jax.artifact.export import c, c_integer
from ssm_jax.data import datasets
from ssm_jax.graph.compact import compact


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_becomes_one_file_in_its_folder(ssm, run_folder):
    status, out, err = ssm("export", run_folder)
    path = run_folder / "model.ssm"
    artifact = format.read(path)
    assert status == 0 and err == f"reading the checkpoint in {run_folder}\n"
    assert out.startswith("fcn on digits, signed, seed 0, 2 epochs")
    assert f"wrote {path}, {path.stat().st_size:,} bytes\n" in out
    weights = sum(mask.size for mask in ssm_jax.restore(run_folder).masks.values())
    assert f"{4 * weights:,} bytes" in out and f"{-(-weights // 4):,} bytes" in out
    for command in (f"ssm-jax inspect {path}", f"ssm-jax predict {path}", f"ssm_jax.load('{path}')"):
        assert command in out
    assert artifact.record["seed"] == 0


def test_the_network_is_that_of_the_seed(ssm, run_folder):
    output = run_folder / "one.ssm"
    assert ssm("export", run_folder, "--seed", 1, f"--output={output}")[0] == 0
    artifact, restored = format.read(output), ssm_jax.restore(run_folder, seed=1)
    assert artifact.record["seed"] == 1
    for layer, mask in zip(artifact.network.layers(), restored.masks.values()):
        np.testing.assert_array_equal(layer.kernel.values != 0, mask != 0)


def test_what_is_there_is_kept_without_force(ssm, refused, run_folder):
    path = run_folder / "model.ssm"
    path.write_bytes(b"before")
    line = refused("export", run_folder)
    assert f"{path} is there already: --force overwrites it" in line and path.read_bytes() == b"before"
    assert ssm("export", run_folder, "--force")[0] == 0
    format.read(path)


def test_the_header_of_c_is_kept_without_force(refused, network, tmp_path):
    shutil.copy(network, tmp_path / "net.ssm")
    (tmp_path / "net.h").write_text("before")
    assert "net.h is there already" in refused("export", tmp_path / "net.ssm", "--format=c")
    assert not (tmp_path / "net.c").exists()


@pytest.mark.parametrize("name", [name for name in export.FORMATS if name != "ssm"])
def test_a_network_is_converted_without_its_run(ssm, network, tmp_path, name):
    for package in export.FORMATS[name].needs:
        pytest.importorskip(package)
    source = tmp_path / "net.ssm"
    shutil.copy(network, source)
    status, out, err = ssm("export", source, "--format", name)
    ending = export.FORMATS[name].file.partition(".")[2]
    made = {path.name for path in tmp_path.iterdir()} - {"net.ssm"}
    assert status == 0 and err == ""
    assert made == ({f"net.{ending}", "net.h"} if name == "c" else {f"net.{ending}"})
    assert all(f"wrote {tmp_path / file}{'' if name == 'c' else ','}" in out for file in made)
    if name == "c":
        flash, ram = c.memory(format.read(network).network)
        assert f"tables (flash): {flash:,} bytes, scratch (RAM): {ram:,} bytes\n" in out


def test_a_run_becomes_c_in_whole_numbers_and_is_tested_as_such(ssm, run_folder):
    status, out, _ = ssm("export", run_folder, "--format=c", "--integer")
    artifact = to_graph.of_run(run_folder)
    data = datasets.load("digits")
    whole = integer.quantize(artifact.network, data.train_images[:256])
    flash, ram = c_integer.memory(whole)
    accuracy = 100 * (whole.logits(data.test_images).argmax(1) == data.test_labels).mean()
    assert status == 0 and f"tables (flash): {flash:,} bytes, scratch (RAM): {ram:,} bytes\n" in out
    assert f"test accuracy in whole numbers: {accuracy:.2f} % of 360 images\n" in out
    assert "int32_t *scratch" in (run_folder / "model.h").read_text()


def test_scales_follow_from_images_that_are_given(ssm, refused, network, tmp_path):
    shape = format.read(network).network.image_shape
    images = np.random.default_rng(0).integers(0, 256, (5, *shape), np.uint8)
    np.save(tmp_path / "images.npy", images)
    output = tmp_path / "net.c"
    wanted = ("export", network, "--format=c", f"--output={output}", f"--images={tmp_path / 'images.npy'}")
    assert "--images is for --integer" in refused(*wanted)
    status, out, _ = ssm(*wanted, "--integer")
    assert status == 0 and "tables (flash)" in out and "test accuracy in whole" not in out
    artifact = format.read(network)
    expected = c_integer.sources(artifact, integer.quantize(artifact.network, images), "net")
    assert (output.read_text(), (tmp_path / "net.h").read_text()) == expected


def test_units_that_contribute_nothing_are_left_out(ssm, network, tmp_path):
    output = tmp_path / "small.ssm"
    status, out, _ = ssm("export", network, "--compact", f"--output={output}")
    before, after = format.read(network), format.read(output)
    expected = [layer.kernel.shape for layer in compact(before.network).layers()]
    assert status == 0 and [layer.kernel.shape for layer in after.network.layers()] == expected
    counts = [sum(layer.kernel.values.size for layer in each.network.layers()) for each in (before, after)]
    assert f"compacted: {counts[0]:,} weights to {counts[1]:,}" in out
    assert after.record == before.record


def test_a_run_that_cannot_be_exported_is_refused_and_nothing_is_written(
    refused, run_folder, network, tmp_path
):
    (tmp_path / "empty").mkdir()
    before = files_of(tmp_path)
    none = tmp_path / "none"
    for arguments, text in (
        ([none], f"there is no {none}"),
        ([run_folder, "--format=onxx"], "unknown format 'onxx'; did you mean 'onnx'?"),
        ([run_folder, f"--output={none / 'model.ssm'}"], f"{none} is not a writable folder"),
        ([run_folder, f"--output={tmp_path}"], f"cannot write {tmp_path}: it is a folder"),
        ([run_folder, "--format=c", f"--output={tmp_path / 'model.txt'}"], "must end in .c for --format c"),
        ([run_folder, f"--output={tmp_path / 'net.onnx'}"], "ends as --format onnx does"),
        ([run_folder, "--integer"], "--integer is for --format c, not for --format ssm"),
        ([network, "--seed=0"], f"{network} holds one"),
        ([network, "--best"], f"{network} holds one"),
    ):
        assert text in refused("export", *arguments)
    assert files_of(tmp_path) == before


def test_a_run_without_a_finished_checkpoint_is_refused_in_one_line(refused, ssm, run_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no run" in refused("export", tmp_path / "empty")
    assert "there is no seed 7: it has 0 to 1" in refused("export", run_folder, "--seed=7")
    for arguments in (["--best"], []):
        if not arguments:
            shutil.rmtree(run_folder / "checkpoints")
        before = files_of(run_folder)
        status, out, err = ssm("export", run_folder, *arguments)
        assert status == 2 and out == "" and "no checkpoint" in err.splitlines()[-1]
        assert files_of(run_folder) == before
    (run_folder / "summary.json").unlink()
    assert "is not finished" in refused("export", run_folder)


def test_an_output_that_cannot_be_is_one_line(ssm, refused, network):
    assert "~no-such-user is not a writable folder" in refused("export", network, "--output=~no-such-user/x")
    status, _, err = ssm("export", network, f"--output={'x' * 300}")
    assert status == 1 and err == f"error: cannot write {'x' * 300}: File name too long\n"

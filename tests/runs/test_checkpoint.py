"""What was saved comes back; what cannot be is one clear line."""

import json
import types

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from ssm_jax import errors
from ssm_jax.runs.checkpoint import Checkpoints, flatten, unflatten

TREE = {
    "state": {"step": np.array([3, 3])},
    "frozen": {"kernel": np.array([[[0.5, -0.5]], [[0.25, 0.25]]], np.float32)},
}


META = {"seeds": (0, 1), "validation_accuracy": -1.0, "train_seconds": 1.5, "compile_seconds": 2.0}


def test_flatten_names_leaves_by_their_path_and_unflatten_is_its_inverse():
    leaves = flatten(TREE)
    assert set(leaves) == {"state/step", "frozen/kernel"}
    again = unflatten(TREE, leaves)
    assert again["state"]["step"] is TREE["state"]["step"]


def test_what_was_saved_comes_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "latest")
    assert checkpoints.latest() is None
    checkpoints.save(3, TREE, META)
    checkpoints.close()
    again = Checkpoints(tmp_path / "latest")
    assert again.latest() == 3
    tree, meta = again.restore(TREE)
    assert meta == META
    np.testing.assert_array_equal(tree["frozen"]["kernel"], TREE["frozen"]["kernel"])
    np.testing.assert_array_equal(tree["state"]["step"], TREE["state"]["step"])
    again.close()


def test_only_the_latest_stays_and_what_is_newer_can_be_discarded(tmp_path):
    checkpoints = Checkpoints(tmp_path / "latest")
    for step in (3, 5, 5):
        checkpoints.save(step, TREE, META)
    checkpoints.wait()
    assert sorted(path.name for path in (tmp_path / "latest").iterdir() if path.name.isdigit()) == ["5"]
    checkpoints.discard_after(5)
    assert checkpoints.latest() == 5
    checkpoints.discard_after(4)
    assert checkpoints.latest() is None
    checkpoints.close()


def flipped(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_a_bit_that_flips_never_gives_other_numbers(tmp_path):
    tree = {"frozen": {"kernel": np.random.default_rng(0).normal(size=(2, 16, 16)).astype(np.float32)}}
    checkpoints = Checkpoints(tmp_path / "latest")
    checkpoints.save(3, tree, META)
    checkpoints.close()
    files = [path for path in (tmp_path / "latest" / "3").rglob("*") if path.is_file()]
    trials = [(path, bit) for path in files for bit in range(0, 8 * path.stat().st_size, 501)]
    noticed = 0
    for path, bit in trials:
        flipped(path, bit)
        damaged = Checkpoints(tmp_path / "latest", read_only=True)
        try:
            again, meta = damaged.restore(tree)
        except errors.InputError as error:
            noticed += "checksum differs" in str(error)
        else:
            np.testing.assert_array_equal(again["frozen"]["kernel"], tree["frozen"]["kernel"])
            assert meta == META
        damaged.close()
        flipped(path, bit)
    assert noticed


def test_changed_json_values_are_noticed_and_those_without_a_checksum_read(tmp_path):
    checkpoints = Checkpoints(tmp_path / "latest")
    for step in (3, 4):
        checkpoints.save(step, TREE, META)
    checkpoints.wait()
    path = tmp_path / "latest" / "4" / "meta" / "metadata"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"validation_accuracy": 3.0}))
    for read in (checkpoints.meta, lambda: checkpoints.restore(TREE)):
        with pytest.raises(errors.InputError, match="its checksum differs"):
            read()
    del values["checksum"]
    path.write_text(json.dumps(values))
    assert checkpoints.restore(TREE)[1] == checkpoints.meta() == META
    checkpoints.close()


def test_checkpoints_side_by_side_wait_at_barriers_of_their_own(tmp_path, monkeypatch):
    prefixes = []

    def manager(directory, options):
        prefixes.append(options.multiprocessing_options.barrier_sync_key_prefix)
        return types.SimpleNamespace(latest_step=lambda: None)

    monkeypatch.setattr(ocp, "CheckpointManager", manager)
    for group in ("0", "5"):
        for which in ("latest", "best"):
            (tmp_path / group / which).mkdir(parents=True)
            for read_only in (False, True):
                Checkpoints(tmp_path / group / which, read_only).latest()
    assert prefixes == [name for name in ("0-latest", "0-best", "5-latest", "5-best") for _ in range(2)]


@pytest.mark.parametrize("read_only", [False, True])
def test_what_orbax_stumbles_over_is_one_line(tmp_path, read_only):
    checkpoints = Checkpoints(tmp_path / "latest")
    checkpoints.save(3, TREE, META)
    checkpoints.close()
    (tmp_path / "latest" / "²").mkdir()
    checkpoints.discard_after(3)
    (tmp_path / "latest" / "3" / "_CHECKPOINT_METADATA").write_text("[]")
    damaged = Checkpoints(tmp_path / "latest", read_only)
    for read in (damaged.latest, lambda: damaged.restore(TREE)):
        with pytest.raises(errors.InputError, match=r"cannot read the checkpoint .*Metadata") as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("28: ENOSPC No space left on device", "No space left on device"),
        ("24: EMFILE Too many open files", "Too many open files"),
    ],
)
def test_what_the_system_lacks_is_named(tmp_path, system, message):
    text = f"RESOURCE_EXHAUSTED: Error opening '{'x' * 300}' [OS error {system}] [source locations='a.cc:1']"
    assert str(Checkpoints(tmp_path)._failure(ValueError(text))).endswith(f": {message}")


def test_a_checkpoint_of_another_network_is_an_input_error(tmp_path):
    checkpoints = Checkpoints(tmp_path / "latest")
    checkpoints.save(3, TREE, META)
    checkpoints.wait()
    more = TREE | {"more": np.zeros(2)}
    with pytest.raises(errors.InputError, match="is of another network: it has no more"):
        checkpoints.restore(more)
    whole = TREE | {"frozen": {"kernel": np.zeros((2, 1, 2), np.int8)}}
    with pytest.raises(errors.InputError, match="is of another network: frozen/kernel is float32, not int8"):
        checkpoints.restore(whole)
    with pytest.raises(errors.InputError, match="is of another network: it has frozen/kernel as well"):
        checkpoints.restore({"state": TREE["state"]})
    checkpoints.close()


def test_a_shape_that_no_memory_could_hold_is_compared_and_not_allocated(tmp_path):
    checkpoints = Checkpoints(tmp_path / "latest")
    checkpoints.save(3, TREE, META)
    checkpoints.wait()
    huge = jax.ShapeDtypeStruct((10**9, 10**6, 10**6), np.float32)
    with pytest.raises(errors.InputError, match="frozen/kernel is"):
        checkpoints.restore(TREE | {"frozen": {"kernel": huge}})
    checkpoints.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_corrupt_checkpoint_is_one_line_and_only_a_writer_is_told_to_delete_it(tmp_path, read_only):
    checkpoints = Checkpoints(tmp_path / "latest")
    checkpoints.save(3, TREE, META)
    checkpoints.close()
    for path in (tmp_path / "latest" / "3" / "arrays").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    damaged = Checkpoints(tmp_path / "latest", read_only)
    with pytest.raises(errors.InputError, match="cannot read the checkpoint") as caught:
        damaged.restore(TREE)
    assert "\n" not in str(caught.value) and ("delete" in str(caught.value)) == (not read_only)
    damaged.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_seconds": "long"}, "train_seconds is 'long'; it must be a finite number"),
        ({"compile_seconds": -1}, "compile_seconds is -1; allowed is at least 0"),
        ({"validation_accuracy": None}, "validation_accuracy is None"),
    ],
)
def test_json_values_that_are_none_of_a_checkpoint(tmp_path, change, message):
    checkpoints = Checkpoints(tmp_path / "latest")
    checkpoints.save(4, TREE, {name: META[name] for name in META if name != "train_seconds"})
    checkpoints.wait()
    with pytest.raises(errors.InputError, match="it lacks train_seconds"):
        checkpoints.meta()
    checkpoints.save(5, TREE, META | change)
    checkpoints.wait()
    with pytest.raises(errors.InputError, match=message):
        checkpoints.meta()
    checkpoints.close()


def test_a_checkpoint_of_a_network_of_other_shapes_names_the_first(tmp_path):
    checkpoints = Checkpoints(tmp_path / "latest")
    checkpoints.save(3, TREE, META)
    checkpoints.wait()
    other = TREE | {"frozen": {"kernel": np.zeros((2, 1, 7), np.float32)}}
    with pytest.raises(errors.InputError, match=r"frozen/kernel is \[2, 1, 2\], not \[2, 1, 7\]"):
        checkpoints.restore(other)
    checkpoints.close()


def test_a_folder_that_cannot_be_written_is_a_run_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.RunError, match="cannot save a checkpoint"):
        Checkpoints(tmp_path / "file" / "latest").save(1, TREE, META)


def test_what_cannot_be_discarded_is_a_run_error(tmp_path):
    (tmp_path / "precious" / "5").mkdir(parents=True)
    (tmp_path / "best").symlink_to("precious")
    with pytest.raises(errors.RunError, match=r"cannot write .*best: "):
        Checkpoints(tmp_path / "best").discard_after(3)
    assert (tmp_path / "precious" / "5").is_dir()

"""What was saved comes back; what cannot be is one clear line."""

import numpy as np
import pytest

from ssm_jax import errors
from ssm_jax.runs.checkpoint import Checkpoints, flatten, unflatten

TREE = {
    "state": {"step": np.array([3, 3])},
    "frozen": {"kernel": np.array([[[0.5, -0.5]], [[0.25, 0.25]]], np.float32)},
}


def test_flatten_names_leaves_by_their_path_and_unflatten_is_its_inverse():
    leaves = flatten(TREE)
    assert set(leaves) == {"state/step", "frozen/kernel"}
    again = unflatten(TREE, leaves)
    assert again["state"]["step"] is TREE["state"]["step"]


def test_what_was_saved_comes_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "latest")
    assert checkpoints.latest() is None
    checkpoints.save(3, TREE, {"note": "hello"})
    checkpoints.close()
    again = Checkpoints(tmp_path / "latest")
    assert again.latest() == 3
    tree, meta = again.restore(TREE)
    assert meta["note"] == "hello"
    np.testing.assert_array_equal(tree["frozen"]["kernel"], TREE["frozen"]["kernel"])
    np.testing.assert_array_equal(tree["state"]["step"], TREE["state"]["step"])
    again.close()


def test_only_the_latest_stays_and_what_is_newer_can_be_discarded(tmp_path):
    checkpoints = Checkpoints(tmp_path / "latest")
    for step in (3, 5, 5):
        checkpoints.save(step, TREE, {})
    checkpoints.wait()
    assert sorted(path.name for path in (tmp_path / "latest").iterdir() if path.name.isdigit()) == ["5"]
    checkpoints.discard_after(5)
    assert checkpoints.latest() == 5
    checkpoints.discard_after(4)
    assert checkpoints.latest() is None
    checkpoints.close()


def test_a_checkpoint_of_another_network_is_an_input_error(tmp_path):
    checkpoints = Checkpoints(tmp_path / "latest")
    checkpoints.save(3, TREE, {})
    other = {"state": {"step": np.zeros(2, np.int64), "more": np.zeros(2)}}
    checkpoints.wait()
    with pytest.raises(errors.InputError, match="if it is corrupt or of another network"):
        checkpoints.restore(other)
    checkpoints.close()


def test_a_checkpoint_of_a_network_of_other_shapes_names_the_first(tmp_path):
    checkpoints = Checkpoints(tmp_path / "latest")
    checkpoints.save(3, TREE, {})
    checkpoints.wait()
    other = TREE | {"frozen": {"kernel": np.zeros((2, 1, 7), np.float32)}}
    with pytest.raises(errors.InputError, match=r"frozen/kernel is \[2, 1, 2\], not \[2, 1, 7\]"):
        checkpoints.restore(other)
    checkpoints.close()


def test_a_folder_that_cannot_be_written_is_a_run_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.RunError, match="cannot save a checkpoint"):
        Checkpoints(tmp_path / "file" / "latest").save(1, TREE, {})

"""Real processes, killed and started again."""

import json
import shutil
import signal

import numpy as np
import processes
import pytest
from processes import latest

from ssm_jax.runs.metrics import read_metrics

EPOCHS = 60
STEPS = 23 * EPOCHS
SETTINGS = [
    "--config.training.batch_size=64",
    f"--config.training.epochs={EPOCHS}",
    "--config.training.steps_per_call=5",
    "--config.checkpoint.save_every_seconds=0.3",
    "--config.logging.masks=true",
]


def facts(workdir):
    """The metrics without what a clock decides."""
    return [
        {name: value for name, value in line.items() if name != "time"}
        for line in read_metrics(workdir / "metrics.jsonl")
    ]


def masks(workdir):
    """By seed and step, the bytes of the masks over training."""
    paths = sorted((workdir / "masks").glob("*/[0-9]*.npz"))
    return {(path.parent.name, int(path.stem)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, cache):
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    processes.run(workdir, cache, *SETTINGS)
    return workdir


def assert_same_end(workdir, uninterrupted):
    resumed, expected = processes.arrays(workdir), processes.arrays(uninterrupted)
    assert resumed.keys() == expected.keys()
    for name in resumed:
        np.testing.assert_array_equal(resumed[name], expected[name], err_msg=name)
    assert facts(workdir) == facts(uninterrupted)
    assert masks(workdir) == masks(uninterrupted)
    results = ("test_accuracy", "remaining_weights", "layers", "steps")
    read = [json.loads((path / "summary.json").read_text()) for path in (workdir, uninterrupted)]
    assert [read[0][name] for name in results] == [read[1][name] for name in results]


@pytest.mark.slow
def test_a_killed_run_ends_bit_identical_to_an_uninterrupted_one(tmp_path, cache, uninterrupted):
    workdir = tmp_path / "run"
    process = processes.start(workdir, cache, *SETTINGS)
    processes.wait_until(lambda: latest(workdir) > 0, process)
    process.kill()
    process.communicate()
    stopped = latest(workdir)
    assert 0 < stopped < STEPS
    processes.run(workdir, cache, *SETTINGS)
    assert_same_end(workdir, uninterrupted)


@pytest.mark.slow
def test_masks_are_stored_of_every_epoch_and_before_the_first(uninterrupted):
    assert sorted(masks(uninterrupted)) == [("0", 23 * epoch) for epoch in range(EPOCHS + 1)]


@pytest.mark.slow
def test_sigterm_saves_mid_epoch_and_the_run_goes_on_from_there(tmp_path, cache, uninterrupted):
    workdir = tmp_path / "run"
    process = processes.start(workdir, cache, *SETTINGS)
    processes.wait_until(lambda: (workdir / "metrics.jsonl").exists(), process)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 143
    step = latest(workdir)
    assert f"seed 0 stopped by SIGTERM at step {step} of {STEPS}" in error and 0 < step < STEPS
    last = facts(workdir)[-1]["step"]
    assert last <= step < last + 2 * 23
    assert f"seed 0: continuing from step {step}\n" in processes.run(workdir, cache, *SETTINGS)
    assert_same_end(workdir, uninterrupted)


@pytest.mark.slow
def test_several_groups_of_seeds_go_on_in_the_group_that_was_killed(tmp_path, cache):
    flags = [
        "--config.seeds=3",
        "--config.parallel=data",
        "--config.training.seeds_per_device=1",
        "--config.training.batch_size=64",
        "--config.training.epochs=8",
        "--config.training.steps_per_call=5",
        "--config.checkpoint.save_every_seconds=0.1",
    ]
    processes.run(tmp_path / "whole", cache, *flags)
    killed = tmp_path / "killed"
    process = processes.start(killed, cache, *flags)
    # A finished group, seed 1, lies between the first and the one that is killed.
    processes.wait_until(lambda: (killed / "checkpoints" / "2" / "latest").exists(), process)
    process.kill()
    process.communicate()
    assert {line["seed"] for line in facts(killed)} >= {0, 1}
    processes.run(killed, cache, *flags)
    assert facts(killed) == facts(tmp_path / "whole")
    assert sorted({line["seed"] for line in facts(killed)}) == [0, 1, 2]


@pytest.mark.slow
def test_a_corrupt_checkpoint_is_one_clear_line(tmp_path, uninterrupted):
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted, workdir)
    (workdir / "summary.json").unlink()
    for file in (workdir / "checkpoints").rglob("*"):
        if (file.is_file() and "ocdbt" in str(file)) or file.parent.name == "d":
            file.write_bytes(b"damaged")
    # Compiled programs of its own: loading others may warn, of another processor or of a killed writer.
    process = processes.start(workdir, tmp_path / "cache", *SETTINGS)
    ((status, _, error),) = processes.finish(process)
    assert status == 2
    assert error.startswith("error: cannot read the checkpoint") and error.count("\n") == 1, error
    assert "corrupt" in error and "delete" in error

"""Real processes, killed and started again."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ssm_jax import reporting
from ssm_jax.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 23 * 40
SETTINGS = [
    "--config=configs/digits.py",
    "--config.model.width=0.1",
    "--config.training.batch_size=64",
    "--config.training.epochs=40",
    "--config.training.steps_per_call=5",
    "--config.checkpoint.seconds=0.3",
]


def command(workdir, *more):
    return [sys.executable, "train.py", *SETTINGS, f"--workdir={workdir}", *more]


def environment(cache, devices=2):
    return os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "XDG_CACHE_HOME": str(cache)}


def latest(workdir):
    steps = (workdir / "checkpoints" / "0" / "latest").glob("[0-9]*")
    return max((int(path.name) for path in steps if path.name.isdigit()), default=0)


def wait_until(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def start(workdir, cache):
    return subprocess.Popen(
        command(workdir),
        cwd=ROOT,
        env=environment(cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(workdir, cache, *more):
    return subprocess.run(
        command(workdir, *more), cwd=ROOT, env=environment(cache), capture_output=True, text=True, timeout=300
    )


def arrays(workdir):
    """Everything that the last checkpoint holds, by name."""
    import orbax.checkpoint as ocp

    checkpoints = Checkpoints(workdir / "checkpoints" / "0" / "latest")
    with ocp.CheckpointManager(checkpoints.directory.absolute()) as manager:
        restored = manager.restore(
            checkpoints.latest(), args=ocp.args.Composite(arrays=ocp.args.StandardRestore())
        )
    return dict(restored["arrays"])


def facts(workdir):
    """The metrics without what a clock decides."""
    return [
        {name: value for name, value in line.items() if name != "time"}
        for line in reporting.read_metrics(workdir / "metrics.jsonl")
    ]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, cache):
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    done = run(workdir, cache)
    assert done.returncode == 0, done.stderr
    return workdir


def assert_same_end(workdir, uninterrupted):
    ours, theirs = arrays(workdir), arrays(uninterrupted)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert facts(workdir) == facts(uninterrupted)
    results = ("test_accuracy", "remaining_weights", "layers", "steps")
    read = [json.loads((path / "summary.json").read_text()) for path in (workdir, uninterrupted)]
    assert [read[0][name] for name in results] == [read[1][name] for name in results]


def test_a_killed_run_ends_bit_identical_to_an_uninterrupted_one(tmp_path, cache, uninterrupted):
    workdir = tmp_path / "run"
    process = start(workdir, cache)
    wait_until(lambda: latest(workdir) > 0, process)
    process.kill()
    process.communicate()
    stopped = latest(workdir)
    assert 0 < stopped < STEPS
    done = run(workdir, cache)
    assert done.returncode == 0, done.stderr
    assert_same_end(workdir, uninterrupted)


def test_sigterm_saves_mid_epoch_and_the_run_goes_on_from_there(tmp_path, cache, uninterrupted):
    workdir = tmp_path / "run"
    process = start(workdir, cache)
    wait_until(lambda: (workdir / "metrics.jsonl").exists(), process)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143
    step = latest(workdir)
    assert f"stopped by SIGTERM at step {step} of {STEPS}" in error and 0 < step < STEPS
    last = facts(workdir)[-1]["step"]
    assert last <= step < last + 2 * 23
    done = run(workdir, cache)
    assert done.returncode == 0, done.stderr
    assert_same_end(workdir, uninterrupted)


def test_a_corrupt_checkpoint_is_one_clear_line(tmp_path, cache, uninterrupted):
    import shutil

    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted, workdir)
    (workdir / "summary.json").unlink()
    for file in (workdir / "checkpoints").rglob("*"):
        if (file.is_file() and "ocdbt" in str(file)) or file.parent.name == "d":
            file.write_bytes(b"damaged")
    done = run(workdir, cache)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: the checkpoint") and "corrupt" in line and "delete" in line

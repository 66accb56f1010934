"""Starting `train.py` in processes of its own, for the tests that stop, kill or connect them."""

import os
import pathlib
import socket
import subprocess
import sys
import time

import orbax.checkpoint as ocp

from ssm_jax.runs.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parents[1]
# FCN of 30 and 10 units on the digits.
SMALL = ["--config=configs/fcn.py", "--config.data.name=digits", "--config.model.width=0.1"]


def start(workdir, cache, *flags, devices=2, config=SMALL):
    """`train.py` under way, with its output in pipes. Its compiled programs are kept where nobody else looks
    for them: a process that is killed may leave half of one.
    """
    config = [*config, f"--config.compilation_cache={cache}"]
    return subprocess.Popen(
        [sys.executable, "train.py", *config, f"--workdir={workdir}", *flags],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    """Wait for processes; returns (exit status, standard output, standard error) of each."""
    outputs = [process.communicate(timeout=300) for process in processes]
    return [(p.returncode, *output) for p, output in zip(processes, outputs, strict=True)]


def run(workdir, cache, *flags, **settings):
    """What `train.py` prints from start to end, which must be a good one."""
    ((status, output, error),) = finish(start(workdir, cache, *flags, **settings))
    assert status == 0, error
    return output


def wait_until(condition, process, seconds=300):
    """Wait for something that a running process brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def latest(workdir):
    """The newest complete checkpoint's step, or 0."""
    steps = (workdir / "checkpoints" / "0" / "latest").glob("[0-9]*")
    return max((int(path.name) for path in steps if path.name.isdigit()), default=0)


def arrays(workdir):
    """Everything that the newest checkpoint holds, by name."""
    checkpoints = Checkpoints(workdir / "checkpoints" / "0" / "latest")
    with ocp.CheckpointManager(checkpoints.directory.absolute()) as manager:
        arguments = ocp.args.Composite(arrays=ocp.args.StandardRestore())
        return dict(manager.restore(checkpoints.latest(), args=arguments)["arrays"])


def free_port():
    """A port of 127.0.0.1 that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

"""Several hosts: joining the processes of one run."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import re
import secrets
import zlib
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from ssm_jax import errors, terminal

_log = logging.getLogger(__name__)


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    heartbeat: int = 100,
) -> None:
    """Join the other processes of this run, if there are any; before JAX is used for anything else.

    Without arguments the cluster's environment tells (TPU pod slice, Slurm, Open MPI, Kubernetes);
    outside a cluster nothing happens.

    Args:
      coordinator: Address `host:port` of process 0.
      processes: Number of processes.
      process: Number of this process, from 0.
      heartbeat: Seconds after which a silent process counts as lost, and the others abort.

    Raises:
      InputError: Only some of the three are given, they or what Slurm says can't be right, or the processes
        did not find each other.
    """
    flags = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in flags.items() if value is None]
    if 0 < len(missing) < len(flags):
        raise errors.InputError(
            f"without --{', --'.join(missing)}: --coordinator, --processes and --process belong together"
        )
    if coordinator is not None:
        host, _, port = coordinator.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 2**16):
            raise errors.InputError(
                f"--coordinator is {coordinator!r}; it must be host:port, such as 10.0.0.1:1234"
            )
    if process is not None and processes is not None and not 0 <= process < processes:
        raise errors.InputError(
            f"--process is {process}; with --processes={processes} it is 0 to {processes - 1}"
        )
    if coordinator is None:
        _check_slurm(os.environ)
    else:
        _log.info("process %s of %s: waiting for the others at %s", process, processes, coordinator)
    try:
        jax.distributed.initialize(coordinator, processes, process, heartbeat_timeout_seconds=heartbeat)
    except (ValueError, RuntimeError) as error:
        if str(error).startswith("coordinator_address should be defined"):
            return  # No cluster: this is the only process.
        raise errors.InputError(f"the processes did not find each other: {errors.one_line(error)}") from error


def _check_slurm(environment: Mapping[str, str]) -> None:
    """Check what Slurm tells a task: from a node that is none JAX would wait for minutes, then abort."""
    numbers = ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
    nodes = "SLURM_STEP_NODELIST"
    if not all(name in environment for name in (*numbers, nodes)):
        return  # no task of Slurm, for JAX neither
    for name in numbers:
        if not environment[name].isdecimal():
            raise errors.out_of_range(name, environment[name], "a number, as srun sets it")
    tasks, task = int(environment["SLURM_NTASKS"]), int(environment["SLURM_PROCID"])
    if task >= tasks:
        raise errors.InputError(f"SLURM_PROCID is {task} and SLURM_NTASKS {tasks}; start the tasks by srun")
    # node1, node1,node2, node[01-04,07],other
    if not re.match(r"[\w.-]+(\[\d[\d,-]*\])?[\w.-]*(,|$)", environment[nodes]):
        raise errors.out_of_range(nodes, environment[nodes], "a list of nodes, as srun sets it")


def _are_several() -> bool:
    # Asked in this order: to count the processes, JAX would start the devices, for an error perhaps.
    return jax.distributed.is_initialized() and jax.process_count() > 1


def say(text: str) -> None:
    """Print on standard output, on the first host alone."""
    if jax.process_index() == 0:
        terminal.say(text)


def barrier(where: str) -> None:
    """Wait until every host has come to the place of this name."""
    if _are_several():
        multihost_utils.sync_global_devices(where)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Let an error of one host in the context be an error of every host: the others would wait for it.

    Every host enters it, and none waits for another inside.

    Raises:
      InputError: Another host failed; this one did not.
    """
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    (failed,) = any_host(failure is not None)
    if failure is not None:
        raise failure
    if failed:
        raise errors.InputError("another host could not start the run; it says why")


def check_same(text: str, message: str) -> None:
    """Check that a text is the same on all hosts.

    Raises:
      InputError: It differs somewhere; raised on every host.
    """
    if not _are_several():
        return
    digests = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
    if len(set(digests.tolist())) > 1:
        raise errors.InputError(message)


def check_shared(folder: pathlib.Path) -> None:
    """Check that all hosts see what the first of them writes into a folder.

    Raises:
      InputError: One doesn't; raised on every host.
    """
    if not _are_several():
        return
    # A name that no host has looked for before: some file systems remember what was not there.
    (number, *_) = multihost_utils.process_allgather(np.uint32(secrets.randbits(32))).tolist()
    path = folder / f".hosts.{number:016x}"
    try:
        with together():
            if jax.process_index() == 0:
                path.touch(exist_ok=False)
        (missing,) = any_host(not path.exists())
    finally:
        if jax.process_index() == 0:
            path.unlink(missing_ok=True)
    if missing:
        raise errors.InputError(f"the workdir {folder} is not shared by all hosts: choose one that is")


def any_host(*flags: bool) -> tuple[bool, ...]:
    """Tell whether any host raises a flag, so that all of them, which give as many, act at the same step."""
    if not _are_several():
        return flags
    return tuple(bool(flag) for flag in multihost_utils.process_allgather(np.array(flags)).any(0))

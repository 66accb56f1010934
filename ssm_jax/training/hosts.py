"""Several hosts: joining the processes of one run."""

from __future__ import annotations

import logging
import zlib

import jax
import numpy as np
from jax.experimental import multihost_utils

from ssm_jax import errors

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
      coordinator: `host:port` of process 0.
      processes: how many there are.
      process: which one this is, from 0.
      heartbeat: seconds after which a silent process counts as lost, and the others abort.

    Raises:
      InputError: only some of the three are given or they can't be right, or the processes did not find
        each other.
    """
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
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
    if coordinator is not None:
        _log.info("process %s of %s: waiting for the others at %s", process, processes, coordinator)
    try:
        jax.distributed.initialize(coordinator, processes, process, heartbeat_timeout_seconds=heartbeat)
    except (ValueError, RuntimeError) as error:
        if str(error).startswith("coordinator_address should be defined"):
            return  # No cluster: this is the only process.
        raise errors.InputError(
            f"the processes did not find each other: {' '.join(str(error).split())}"
        ) from error


def barrier(where: str) -> None:
    """Wait until every host has come here.

    Args:
      where: a name of the place, the same on all hosts.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def check_same(what: str, text: str) -> None:
    """Find out whether all hosts were given the same.

    Args:
      what: was given, for the message.
      text: what this host was given.

    Raises:
      InputError: on every host, if it differs anywhere.
    """
    if jax.process_count() == 1:
        return
    digests = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
    if len(set(digests.tolist())) > 1:
        raise errors.InputError(f"the hosts were not given the same {what}: start the same command on each")


def any_host(*flags: bool) -> tuple[bool, ...]:
    """Whether any host raises a flag, so that all of them act at the same step.

    Args:
      flags: of this host; every host calls with as many.
    """
    if jax.process_count() == 1:
        return flags
    return tuple(bool(flag) for flag in multihost_utils.process_allgather(np.array(flags)).any(0))

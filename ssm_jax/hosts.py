"""Several hosts: joining the processes of one run."""

from __future__ import annotations

import jax
import numpy as np

from ssm_jax import errors


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
      InputError: only some of the three are given, or the processes did not find each other.
    """
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise errors.InputError(
            f"--{', --'.join(missing)} is missing: --coordinator, --processes and --process belong together"
        )
    try:
        jax.distributed.initialize(coordinator, processes, process, heartbeat_timeout_seconds=heartbeat)
    except ValueError:
        if coordinator is not None:
            raise
        # No cluster: this is the only process.
    except RuntimeError as error:
        raise errors.InputError(f"the processes did not find each other: {error}") from error


def any_host(*flags: bool) -> tuple[bool, ...]:
    """Whether any host raises a flag, so that all of them act at the same step.

    Args:
      flags: of this host; every host calls with as many.
    """
    if jax.process_count() == 1:
        return flags
    from jax.experimental import multihost_utils

    return tuple(bool(flag) for flag in multihost_utils.process_allgather(np.array(flags)).any(0))

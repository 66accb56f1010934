"""Saving and restoring the state of a group of networks, by Orbax.

A checkpoint holds plain arrays `[S, ...]` in the order of the group's seeds, whatever devices trained
them, and is written in the background. Frozen kernels are stored with it, so that a checkpoint does
not depend on a random generator staying the same.
"""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ssm_jax import errors


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """Name the leaves of a pytree by their path, for example `params/denses/0/scores`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {_name(path): leaf for path, leaf in leaves}


def _name(path: tuple[Any, ...]) -> str:
    # Variables of NNX are nodes with one child named `value`, which says nothing.
    parts = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path]
    return "/".join(part for part in parts if part != "value")


def unflatten(template: Any, leaves: dict[str, Any]) -> Any:
    """Invert `flatten`, in the structure of a template."""
    paths, structure = jax.tree_util.tree_flatten_with_path(template)
    return jax.tree_util.tree_unflatten(structure, [leaves[_name(path)] for path, _ in paths])


def _brief(error: Exception) -> str:
    if "RESOURCE_EXHAUSTED" in str(error) or "No space left" in str(error):
        return "no space left on the device"
    return errors.one_line(error)


class Checkpoints:
    """The checkpoints of one group of networks: the latest step only, replaced when a newer is safe.

    Args:
      directory: The group's folder; made at the first save.
      read_only: Whether nothing there may change, not even what a crashed save has left behind; a run
        may be going on.
    """

    def __init__(self, directory: pathlib.Path, read_only: bool = False) -> None:
        self.directory = directory
        self._read_only = read_only
        self._manager: ocp.CheckpointManager | None = None

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            if self._read_only:  # Orbax's own option of this name warns that it is set
                options = ocp.CheckpointManagerOptions(create=False)
            else:
                options = ocp.CheckpointManagerOptions(
                    max_to_keep=1, create=True, cleanup_tmp_directories=True
                )
            self._manager = ocp.CheckpointManager(self.directory.absolute(), options=options)
        return self._manager

    def latest(self) -> int | None:
        """Return the newest complete step, or None."""
        return self._open().latest_step() if self.directory.is_dir() else None

    def save(self, step: int, tree: Any, meta: dict[str, Any]) -> None:
        """Save in the background; a save under way is waited for first.

        Args:
          step: Number of steps taken; one that is saved already is left as it is.
          tree: Pytree of numpy arrays `[S, ...]`.
          meta: JSON values beside the arrays.

        Raises:
          RunError: Nothing can be written, for example because the disk is full.
        """
        try:
            manager = self._open()
            if step in manager.all_steps():
                return
            manager.save(
                step,
                args=ocp.args.Composite(
                    arrays=ocp.args.StandardSave(flatten(tree)),
                    meta=ocp.args.JsonSave(meta),
                ),
            )
        except (OSError, ValueError) as error:
            raise self._failure(error) from error

    def wait(self) -> None:
        """Wait until what was saved is safe.

        Raises:
          RunError: It could not be written.
        """
        if self._manager is not None:
            try:
                self._manager.wait_until_finished()
                self._manager.check_for_errors()
            except (OSError, ValueError) as error:
                raise self._failure(error) from error

    def _failure(self, error: Exception) -> errors.RunError:
        return errors.RunError(f"cannot save a checkpoint in {self.directory}: {_brief(error)}")

    def meta(self) -> dict[str, Any]:
        """Read the JSON values of the newest step.

        Raises:
          InputError: They cannot be read.
        """
        return self._read(meta=ocp.args.JsonRestore())["meta"]

    def _read(self, **items: Any) -> Any:
        step = self.latest()
        try:
            return self._open().restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax and TensorStore raise many types for a damaged file.
            raise errors.InputError(
                f"cannot read the checkpoint {self.directory / str(step)} ({_brief(error)}): if it is "
                f"corrupt or of another network, delete {self.directory} to begin again"
            ) from error

    def restore(self, template: Any) -> tuple[Any, dict[str, Any]]:
        """Read the newest step.

        Args:
          template: Pytree of arrays or shapes `[S, ...]`.

        Returns:
          The tree, with numpy arrays, and the JSON values.

        Raises:
          InputError: The checkpoint is corrupt or of another network.
        """
        wanted = flatten(template)
        blank = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in wanted.items()}
        leaves = self._read(arrays=ocp.args.StandardRestore(blank))["arrays"]
        for name, leaf in wanted.items():  # Orbax gives whatever shape there is.
            if leaves[name].shape != leaf.shape:
                found, given = (list(array.shape) for array in (leaves[name], leaf))
                raise errors.InputError(
                    f"the checkpoint {self.directory / str(self.latest())} is of another network than "
                    f"run.json: {name} is {found}, not {given}"
                )
        return unflatten(template, leaves), self.meta()

    def discard_after(self, step: int) -> None:
        """Delete everything if something is newer than a step, because training goes on from there.

        One host does so, before any of them opens the directory.

        Args:
          step: The step from which training goes on.
        """
        steps = (int(path.name) for path in self.directory.glob("*") if path.name.isdigit())
        if max(steps, default=0) > step:
            self.close()
            shutil.rmtree(self.directory)

    def close(self) -> None:
        """Wait for what is under way and release the directory."""
        if self._manager is not None:
            self.wait()
            self._manager.close()
            self._manager = None

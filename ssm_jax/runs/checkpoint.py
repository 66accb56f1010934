"""Saving and restoring the state of a group of networks, by Orbax.

A checkpoint holds plain arrays `[S, ...]` in the order of the group's seeds, whatever devices trained
them, and is written in the background. Frozen kernels are stored with it, so that a checkpoint does
not depend on a random generator staying the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ssm_jax import errors, files
from ssm_jax.runs import schema
from ssm_jax.types import PyTree

_CHANGED = "its checksum differs: it has changed since it was written"


def flatten(tree: PyTree) -> dict[str, np.ndarray]:
    """Name the leaves of a pytree by their path, for example `params/denses/0/scores`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {_name(path): leaf for path, leaf in leaves}


def _name(path: tuple[Any, ...]) -> str:
    # Variables of NNX are nodes with one child named `value`, which says nothing.
    parts = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path]
    return "/".join(part for part in parts if part != "value")


def unflatten(template: PyTree, leaves: dict[str, Any]) -> PyTree:
    """Invert `flatten`, in the structure of a template."""
    paths, structure = jax.tree_util.tree_flatten_with_path(template)
    return jax.tree_util.tree_unflatten(structure, [leaves[_name(path)] for path, _ in paths])


def _difference(wanted: dict[str, Any], leaves: dict[str, np.ndarray]) -> str:
    """Say in what arrays differ from a template's; the empty string where they don't."""
    for name, leaf in wanted.items():
        if name not in leaves:
            return f"it has no {name}"
        if leaves[name].shape != leaf.shape:
            return f"{name} is {list(leaves[name].shape)}, not {list(leaf.shape)}"
        if leaves[name].dtype != leaf.dtype:
            return f"{name} is {leaves[name].dtype}, not {leaf.dtype}"
    extra = sorted(leaves.keys() - wanted.keys())
    return f"it has {extra[0]} as well" if extra else ""


def _brief(error: Exception) -> str:
    text = errors.one_line(error, limit=10_000)
    # TensorStore calls a full disk and too many open files the same, and says behind it which it was.
    system = re.search(r"\[OS error \d+: \w+ ([^\]]+)\]", text)
    return system[1] if system else errors.one_line(error)


def _digest(leaves: Mapping[str, Any]) -> str:
    """Compute a digest of arrays, their names, shapes and dtypes: no file system tells of a changed bit."""
    digest = hashlib.sha256()
    for name, leaf in sorted(leaves.items()):
        array = np.asarray(leaf, order="C")
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _meta_digest(step: int | None, arrays: str, meta: Mapping[str, Any]) -> str:
    text = json.dumps([step, arrays, meta], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Meta:
    """What a checkpoint says beside its arrays.

    Attributes:
      seeds: Seeds of the networks.
      validation_accuracy: The best mean so far, in %; -1 before the first.
      train_seconds: Time in training steps, in seconds.
      compile_seconds: Time in initializing, tracing and compiling, in seconds.
    """

    seeds: tuple[schema.Natural, ...]
    validation_accuracy: Annotated[float, schema.Range(-1, 100)]
    train_seconds: schema.NotNegative
    compile_seconds: schema.NotNegative


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
            # Managers of one name would take each other's barriers for their own, and wait for ever.
            name = "-".join(self.directory.parts[-2:])
            between = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=name)
            if self._read_only:  # Orbax's own option of this name warns that it is set
                options = ocp.CheckpointManagerOptions(create=False, multiprocessing_options=between)
            else:
                options = ocp.CheckpointManagerOptions(
                    max_to_keep=1,
                    create=True,
                    cleanup_tmp_directories=True,
                    multiprocessing_options=between,
                )
            self._manager = ocp.CheckpointManager(self.directory.absolute(), options=options)
        return self._manager

    def latest(self) -> int | None:
        """Return the newest complete step, or None.

        Raises:
          InputError: What lies there is damaged.
        """
        if not self.directory.is_dir():
            return None
        try:
            return self._open().latest_step()
        except Exception as error:  # Orbax raises many types for what it did not write.
            raise self._unreadable(error, self.directory) from error

    def save(self, step: int, tree: PyTree, meta: dict[str, Any]) -> None:
        """Save in the background; a save under way is waited for first.

        Args:
          step: Number of steps taken; one that is saved already is left as it is.
          tree: Pytree of numpy arrays `[S, ...]`.
          meta: JSON values beside the arrays, the fields of a `Meta`.

        Raises:
          RunError: Nothing can be written, for example because the disk is full.
        """
        try:
            manager = self._open()
            if step in manager.all_steps():
                return
            leaves = flatten(tree)
            arrays = _digest(leaves)
            checksum = {"arrays": arrays, "meta": _meta_digest(step, arrays, meta)}
            manager.save(
                step,
                args=ocp.args.Composite(
                    arrays=ocp.args.StandardSave(leaves),
                    meta=ocp.args.JsonSave({**meta, "checksum": checksum}),
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
        """Read the JSON values of the newest step, the fields of a `Meta`.

        Raises:
          InputError: They cannot be read, are none of a checkpoint or have changed since they were written.
        """
        return self._meta()[0]

    def _meta(self) -> tuple[dict[str, Any], str | None]:
        """The JSON values of the newest step, and the digest of its arrays; older checkpoints have none."""
        values = self._read(meta=ocp.args.JsonRestore())["meta"]
        try:
            stored = values.pop("checksum", {}) if isinstance(values, dict) else {}
            digests = schema.decode(dict[str, str], stored, "checksum")
            arrays = digests.get("arrays", "")
            if digests and digests.get("meta") != _meta_digest(self.latest(), arrays, values):
                raise errors.InputError(_CHANGED)
            return dataclasses.asdict(schema.decode(Meta, values)), arrays or None
        except errors.InputError as error:
            raise self._unreadable(error) from error

    def _read(self, **items: Any) -> Any:
        try:
            return self._open().restore(self.latest(), args=ocp.args.Composite(**items))
        except errors.InputError:
            raise
        except Exception as error:  # Orbax and TensorStore raise many types for a damaged file.
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception, path: pathlib.Path | None = None) -> errors.InputError:
        path = path or self.directory / str(self.latest())
        advice = "" if self._read_only else f": if it is corrupt, delete {self.directory} to begin again"
        return errors.InputError(f"cannot read the checkpoint {path} ({_brief(error)}){advice}")

    def restore(self, template: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """Read the newest step.

        Args:
          template: Pytree of arrays or shapes `[S, ...]`.

        Returns:
          The tree, with numpy arrays, and the JSON values.

        Raises:
          InputError: The checkpoint is corrupt, has changed since it was written or is of another network.
        """
        # Read as it is: a template would make Orbax allocate, or complain of, whatever a file claims.
        leaves = self._read(arrays=ocp.args.StandardRestore())["arrays"]
        meta, digest = self._meta()
        if digest and digest != _digest(leaves):
            raise self._unreadable(errors.InputError(_CHANGED))
        difference = _difference(flatten(template), leaves)
        if difference:
            raise errors.InputError(
                f"the checkpoint {self.directory / str(self.latest())} is of another network: {difference}"
            )
        return unflatten(template, leaves), meta

    def discard_after(self, step: int) -> None:
        """Delete everything if something is newer than a step, because training goes on from there.

        One host does so, before any of them opens the directory.

        Raises:
          RunError: It cannot be deleted, for example because it is another user's.
        """
        steps = (int(path.name) for path in self.directory.glob("*") if path.name.isdecimal())
        if max(steps, default=0) > step:
            self.close()
            with files.writing(self.directory):
                shutil.rmtree(self.directory)

    def close(self) -> None:
        """Wait for what is under way and release the directory."""
        if self._manager is not None:
            self.wait()
            self._manager.close()
            self._manager = None

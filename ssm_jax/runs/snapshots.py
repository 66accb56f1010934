"""Masks over training: those of every report, and before the first step, in `masks/<seed>/<step>.npz`."""

from __future__ import annotations

import functools
import pathlib
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np

from ssm_jax import errors, files, npz


class Snapshots:
    """The masks over training of a run's networks."""

    def __init__(self, workdir: pathlib.Path) -> None:
        self._folder = workdir / "masks"

    def _path(self, seed: int, step: int) -> pathlib.Path:
        return self._folder / str(seed) / f"{step}.npz"

    def write(self, seed: int, step: int, masks: Mapping[str, np.ndarray]) -> None:
        """Write the masks of one network.

        Args:
          masks: By the path of a masked layer, int8 or float32 `(..., I, O)`.

        Raises:
          RunError: Nothing can be written, for example because the disk is full.
        """
        path = self._path(seed, step)
        with files.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(path, functools.partial(_write, masks))

    def steps(self, seed: int) -> list[int]:
        """List the steps of which there are masks, in order."""
        return sorted(int(path.stem) for path in self._paths(seed))

    def _paths(self, seed: int) -> list[pathlib.Path]:
        return [path for path in (self._folder / str(seed)).glob("*.npz") if path.stem.isdecimal()]

    def read(self, seed: int, step: int, like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Read the masks of one network.

        Args:
          like: Masks of the same network, of which the file's have names, shapes and dtypes.

        Returns:
          By the path of a masked layer, its mask.

        Raises:
          InputError: The file is damaged, cannot be read, or is of another network.
        """
        path = self._path(seed, step)
        try:
            members = npz.members(path)
            if members != {name: npz.Member(mask.shape, mask.dtype) for name, mask in like.items()}:
                raise ValueError("its masks are those of another network")
            return npz.read(path, members)
        except npz.DAMAGE as error:
            raise errors.InputError(f"cannot read {path}, remove it: {errors.one_line(error)}") from error

    def discard_after(self, seeds: Sequence[int], step: int) -> None:
        """Delete what was written after the step from which networks go on; at 0 they begin again.

        Raises:
          RunError: It cannot be deleted, for example because it is another user's.
        """
        for seed in seeds:
            folder = self._folder / str(seed)
            with files.writing(folder):
                if not step and folder.exists():
                    shutil.rmtree(folder)
                for path in folder.glob(".*.npz.*"):
                    path.unlink(missing_ok=True)  # a killed write has left it
                for path in self._paths(seed):
                    if int(path.stem) > step:
                        path.unlink(missing_ok=True)


def _write(masks: Mapping[str, np.ndarray], file: BinaryIO) -> None:
    # Not by numpy's `savez`, which takes names for arguments of its own.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, mask in masks.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(mask), allow_pickle=False)

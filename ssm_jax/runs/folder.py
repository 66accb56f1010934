"""The folder of a run: what it holds, where it lies, and who may use it."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from ml_collections import ConfigDict

from ssm_jax import errors, files
from ssm_jax.runs import schema
from ssm_jax.runs.schema import Count
from ssm_jax.runs.summary import Summary


def model_name(model: Callable[..., Any] | None) -> str | None:
    """Name the function that builds the caller's own network; None for one of the library's.

    Args:
      model: The function, a class for example.
    """
    return None if model is None else getattr(model, "__qualname__", type(model).__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What a run is, as `run.json` holds it from its first step on.

    Attributes:
      network: Name of the network, for messages.
      model: Name of the function that builds the network, see `model_name`.
      dataset: Name of the dataset.
      dataset_version: Version of the dataset, or a digest of it.
      image_shape: Shape (H, W, C) of one image.
      classes: Number of classes.
      examples: Size of the training set.
      seeds_per_group: Number of networks that are trained, and saved, together.
      config: The run's config; fields that it lacks because they are younger have their defaults.
    """

    format: ClassVar[int] = 1
    network: str
    model: str | None
    dataset: str
    dataset_version: str
    image_shape: tuple[Count, Count, Count]
    classes: Count
    examples: Count
    seeds_per_group: Count
    config: ConfigDict

    def __post_init__(self) -> None:
        seeds = self.config.seeds
        if self.seeds_per_group > seeds:
            raise errors.out_of_range("seeds_per_group", self.seeds_per_group, f"1 to {seeds}, config.seeds")

    @property
    def seeds(self) -> range:
        """The seeds of the run."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    def groups(self) -> Iterator[range]:
        """Yield the seeds of every group: those of networks that are trained and saved together."""
        for first in range(0, len(self.seeds), self.seeds_per_group):
            yield self.seeds[first : first + self.seeds_per_group]

    def group(self, seed: int) -> range:
        """Return the seeds of the group of one seed.

        Raises:
          InputError: The run has no such seed.
        """
        if seed not in self.seeds:
            first, last = self.seeds[0], self.seeds[-1]
            there = f"{first} alone" if first == last else f"{first} to {last}"
            raise errors.InputError(f"there is no seed {seed}: it has {there}")
        first = self.seeds.index(seed) // self.seeds_per_group * self.seeds_per_group
        return self.seeds[first : first + self.seeds_per_group]


class RunFolder:
    """The folder of one run. Nothing is made or changed before a method says so.

    Args:
      path: The folder, which need not exist.

    Attributes:
      path: The folder, with `~` expanded.

    Raises:
      InputError: The path is an address such as gs://.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if "://" in os.fspath(path):
            raise errors.InputError(f"the workdir {os.fspath(path)!r} is no path of a mounted file system")
        self.path = pathlib.Path(os.path.expanduser(path))

    @property
    def record_path(self) -> pathlib.Path:
        """The file that holds the run's `Record`."""
        return self.path / "run.json"

    @property
    def summary_path(self) -> pathlib.Path:
        """The file that holds the run's `Summary` once it is finished."""
        return self.path / "summary.json"

    def checkpoints(self, group: Sequence[int], which: str) -> pathlib.Path:
        """Return the folder of a group's checkpoints.

        Args:
          group: The seeds of the group.
          which: Which of its states, `latest` or `best`.
        """
        return self.path / "checkpoints" / str(group[0]) / which

    def read_record(self) -> Record | None:
        """Read what the run is; None for a folder without a run.

        Raises:
          InputError: The record is damaged or of another format; one line that names the file.
        """
        return schema.read(Record, self.record_path)

    def require_record(self) -> Record:
        """Read what the run is.

        Raises:
          InputError: There is none, or the record is damaged or of another format.
        """
        if self.path.is_file():
            raise errors.InputError(f"{self.path} is a file; a run is given by its folder")
        record = self.read_record()
        if record is None:
            raise errors.InputError(f"{self.path} holds no run: it has no run.json")
        return record

    def read_finished(self) -> tuple[Record, Summary]:
        """Read what the run is and what it has found.

        Raises:
          InputError: There is no run or it is not finished, or a file of it is damaged or of another format.
        """
        record, summary = self.require_record(), self.read_summary()
        if summary is None:
            raise errors.InputError(f"the run in {self.path} is not finished: give its command again")
        return record, summary

    def read_summary(self) -> Summary | None:
        """Read what the finished run has found; None for an unfinished one.

        Raises:
          InputError: The summary is damaged or of another format; one line that names the file.
        """
        return schema.read(Summary, self.summary_path)

    def check(self) -> None:
        """Check, without making anything, that a run can begin or go on here.

        Raises:
          InputError: The folder cannot be made or written to, or holds something else's files; names what
            stands in the way.
        """
        if not self.record_path.exists():
            for name in ("summary.json", "metrics.jsonl", "tensorboard", "checkpoints", "masks"):
                if (self.path / name).exists():
                    raise errors.InputError(
                        f"{self.path} holds {name} of something else, and no run.json: choose another "
                        "--workdir"
                    )
        folder = self.path.absolute()
        while not os.path.exists(folder):
            folder = folder.parent
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
            raise errors.InputError(
                f"cannot write to the workdir {self.path}: {folder} is not a writable folder"
            )

    def make(self) -> None:
        """Make the folder and its parents.

        Raises:
          InputError: The folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise errors.InputError(f"cannot make the workdir {self.path}: {files.reason(error)}") from error

    @contextlib.contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Keep other runs out of the folder while the context lasts.

        Args:
          wait: Whether to wait for another process instead of raising.

        Raises:
          InputError: Another process is using the folder, or its lock cannot be opened.
        """
        path = self.path / ".lock"
        try:
            files.check_regular(path)
            file = path.open("w")
        except OSError as error:
            raise errors.InputError(f"cannot lock the workdir with {path}: {files.reason(error)}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise errors.InputError(f"another run is using the workdir {self.path}") from error
            except OSError:
                pass  # A file system without locks.
            yield

    def write_record(self, record: Record) -> None:
        """Write what the run is.

        Raises:
          RunError: The file cannot be written.
        """
        schema.write(self.record_path, record)

    def write_summary(self, summary: Summary) -> None:
        """Write what the run has found.

        Raises:
          RunError: The file cannot be written.
        """
        schema.write(self.summary_path, summary)

"""The folder of a run: what it holds, where it lies, and who may use it."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import os
import pathlib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from ml_collections import ConfigDict

from ssm_jax import config as configuration
from ssm_jax import errors, files
from ssm_jax.runs import schema
from ssm_jax.runs.schema import Count
from ssm_jax.runs.summary import Summary

# Settings that a model of the caller's own does not have.
_OF_OUR_NETWORKS = ("model.", "mask.", "init.")


def model_name(model: Callable[..., Any] | None) -> str | None:
    """Name the function that builds the caller's own network; None for one of the library's."""
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
      products: What computed the products of its layers, `sparse` or `dense`, which is XLA.
      jax_settings: Settings of JAX by which results may differ, see `ssm_jax.environment.recorded`; None
        where an earlier version began the run.
      present: Number of classes that the test images have, likewise.
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
    products: str = "dense"
    jax_settings: dict[str, str] | None = None
    present: Count | None = None

    def __post_init__(self) -> None:
        seeds = self.config.seeds
        if self.seeds_per_group > seeds:
            raise errors.out_of_range("seeds_per_group", self.seeds_per_group, f"1 to {seeds}, config.seeds")

    @property
    def seeds(self) -> range:
        """The seeds of the run."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    def settings(self) -> dict[str, Any]:
        """The fields of the config that apply to the run, by their dotted names."""
        fields = dict(configuration.fields(self.config))
        if self.model:
            fields = {name: fields[name] for name in fields if not name.startswith(_OF_OUR_NETWORKS)}
        return fields

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
            known = f"{first} alone" if first == last else f"{first} to {last}"
            raise errors.InputError(f"there is no seed {seed}: it has {known}")
        first = self.seeds.index(seed) // self.seeds_per_group * self.seeds_per_group
        return self.seeds[first : first + self.seeds_per_group]


# What a run writes below its folder, and would write elsewhere through a link.
_WRITTEN = (
    *(".lock", "metrics.jsonl", "profile"),
    *("tensorboard", "tensorboard/*", "masks", "masks/*"),
    *("checkpoints", "checkpoints/*", "checkpoints/*/*"),
)


def _is_plain(letter: str) -> bool:
    """Whether a letter stands for itself in a path: TensorStore takes a backslash for a slash."""
    return letter != "\\" and unicodedata.category(letter) not in ("Cc", "Cs")


class RunFolder:
    """The folder of one run. Nothing is made or changed before a method says so.

    Raises:
      InputError: The path is an address such as gs://, or holds a character with which checkpoints would
        land elsewhere or nowhere.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if "://" in os.fspath(path):
            raise errors.InputError(f"the workdir {os.fspath(path)!r} is no path of a mounted file system")
        self.path = pathlib.Path(os.path.expanduser(path))
        self._held: tuple[tuple[int, pathlib.Path], ...] = ()
        # With the current folder: TensorStore, which writes the checkpoints, is given the whole path.
        whole = os.path.abspath(self.path)
        odd = sorted({letter for letter in whole if not _is_plain(letter)})
        if odd:
            raise errors.InputError(
                f"the workdir {whole!r} holds {', '.join(map(repr, odd))}, with which no checkpoint can be "
                "stored: choose another --workdir"
            )

    # Written whole by whoever holds the lock.
    _FILES: ClassVar = ("run.json", "summary.json", "metrics.jsonl", "experiment.json")

    @property
    def record_path(self) -> pathlib.Path:
        """The file that holds the run's `Record`."""
        return self.path / "run.json"

    @property
    def summary_path(self) -> pathlib.Path:
        """The file that holds the run's `Summary` once it is finished."""
        return self.path / "summary.json"

    def checkpoints(self, group: Sequence[int], which: str) -> pathlib.Path:
        """Return the folder of a group's checkpoints, `latest` or `best`, by the group's seeds."""
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

    def contents(self) -> str:
        """Write down in one line what a run would find here, to be compared with it later or elsewhere.

        Raises:
          InputError: A file cannot be read.
        """
        digests = []
        for path in (self.record_path, self.summary_path):
            try:
                digests.append(hashlib.sha256(files.read_whole(path)).hexdigest())
            except FileNotFoundError:
                digests.append("nothing")
            except OSError as error:
                raise errors.InputError(f"cannot read {path}: {files.reason(error)}") from error
        steps = (path for path in self.path.glob("checkpoints/*/*/*") if path.name.isdecimal())
        return " ".join([*digests, *sorted(str(path.relative_to(self.path)) for path in steps)])

    def check(self) -> None:
        """Check, without making anything, that a run can begin or go on here.

        Raises:
          InputError: The folder cannot be made or written to, holds something else's files, or a link through
            which something else would be written to; names what stands in the way.
        """
        if not self.record_path.exists():
            for name in ("summary.json", "metrics.jsonl", "tensorboard", "checkpoints", "masks"):
                if (self.path / name).exists():
                    raise errors.InputError(
                        f"{self.path} holds {name} of something else, and no run.json: choose another "
                        "--workdir"
                    )
        for path in itertools.chain.from_iterable(map(self.path.glob, _WRITTEN)):
            if path.is_symlink():
                raise errors.InputError(
                    f"{path} is a symbolic link, and a run writes into its own folder alone: put what it "
                    "points to in its place"
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
        with contextlib.ExitStack() as opened:
            try:
                lock = opened.enter_context(files.open_to_append(path)).fileno()
                folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                raise errors.InputError(
                    f"cannot lock the workdir with {path}: {files.reason(error)}"
                ) from error
            opened.callback(os.close, folder)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise errors.InputError(f"another run is using the workdir {self.path}") from error
            except OSError:
                pass  # A file system without locks.
            self._held = ((folder, self.path), (lock, path))
            try:
                self.check_held()  # a lock that was deleted before we had it keeps nobody out
                for name in self._FILES:
                    files.remove_leftovers(self.path / name)
                yield
            finally:
                self._held = ()

    def is_held(self) -> bool:
        """Tell whether the folder and the lock are those that `locked` opened; true where it was not called.

        Whoever deletes or moves either leaves the path to another run, or to nothing.
        """
        # Both are kept open: some file systems give a closed file another number.
        return all(_is_same(descriptor, path) for descriptor, path in self._held)

    def lost(self) -> errors.RunError:
        """Make the error for a folder that is no longer held."""
        return errors.RunError(
            f"the workdir {self.path} or its .lock was deleted, moved or replaced: the run stops, what it "
            "has saved is where the folder is"
        )

    def check_held(self) -> None:
        """Check that the folder and the lock are those that `locked` opened.

        Raises:
          RunError: Either was deleted, moved or replaced.
        """
        if not self.is_held():
            raise self.lost()

    def write_record(self, record: Record) -> None:
        """Write what the run is, or raise a `RunError`."""
        schema.write(self.record_path, record)

    def write_summary(self, summary: Summary) -> None:
        """Write what the run has found, or raise a `RunError`."""
        schema.write(self.summary_path, summary)


def _is_same(descriptor: int, path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # It cannot be told, as on a network that is away for a moment.
        return True

"""`metrics.jsonl` and TensorBoard files: the numbers of every epoch and seed."""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Protocol

from ssm_jax import errors, files
from ssm_jax.runs.events import Events

_COUNTS = ("epoch", "step", "seed")
# The most bytes of a line.
_LONGEST = 2**16


class Writer(Protocol):
    """Whatever takes the numbers of a run while it trains, for example to another program."""

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        """Take the numbers of an epoch.

        Args:
          lines: One of each seed: numbers by name, `epoch`, `step`, `seed`, `time` (Unix seconds),
            `train_loss`, `test_accuracy` and the like. A run that goes on from a checkpoint repeats those of
            the steps that it repeats.
        """


class Metrics:
    """`metrics.jsonl`, one line per epoch and seed, and the same numbers for TensorBoard and others.

    Args:
      workdir: The run's folder, in which nobody else writes.
    """

    def __init__(self, workdir: pathlib.Path, writers: Sequence[Writer] = ()) -> None:
        self._writers = writers
        self._path = workdir / "metrics.jsonl"
        self._events = Events(workdir / "tensorboard")
        self._steps: dict[int, int] | None = None  # the last of each seed that is on disk

    def discard_after(self, seeds: Collection[int], step: int) -> None:
        """Drop what was written of some seeds after the step from which they go on.

        The first call also mends what a killed process has left half-written.

        Raises:
          InputError: A line is damaged.
          RunError: Nothing can be written, for example because the disk is full.
        """
        if self._steps is not None and all(self._steps.get(seed, 0) <= step for seed in seeds):
            return
        lines = read_metrics(self._path)
        lines = [line for line in lines if line["seed"] not in seeds or line["step"] <= step]
        with files.writing(self._path):
            if self._path.exists():
                text = "".join(json.dumps(line) + "\n" for line in lines)
                files.write_text(self._path, text)
        self._events.rewrite(lines)
        self._steps = {line["seed"]: line["step"] for line in lines}

    def write(self, lines: Iterable[dict[str, Any]]) -> None:
        """Append lines.

        Args:
          lines: Numbers by name, with at least `epoch`, `step`, `seed` and `time` (Unix seconds).

        Raises:
          RunError: Nothing can be written, for example because the disk is full.
        """
        lines = list(lines)
        with files.writing(self._path), files.open_to_append(self._path) as file:
            file.writelines(f"{json.dumps(line)}\n".encode() for line in lines)
        for writer in (self._events, *self._writers):
            writer.write(lines)
        if self._steps is not None:
            self._steps.update((line["seed"], line["step"]) for line in lines)


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Read the lines of a `metrics.jsonl`, numbers by name, without a last one that was torn by a crash.

    Raises:
      InputError: The file cannot be read, or a line that is not the last is damaged; none is no error.
    """
    try:
        files.check_regular(path)
        with path.open("rb") as file:
            return list(_lines(file, path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise errors.InputError(f"cannot read {path}: {files.reason(error)}") from error


def _lines(file: BinaryIO, path: pathlib.Path) -> Iterator[dict[str, Any]]:
    for number in itertools.count(1):
        text = file.readline(_LONGEST + 1)
        if not text:
            return
        try:
            if len(text) > _LONGEST:
                raise ValueError(f"it has more than {_LONGEST:,} bytes")
            line = json.loads(text)
            if not (isinstance(line, dict) and all(map(_is_number, line.values()))):
                raise ValueError("it must hold numbers")
            if not all(_is_count(line.get(name)) for name in _COUNTS) or "time" not in line:
                raise ValueError(f"it must hold time, and as whole numbers {', '.join(_COUNTS)}")
        except (ValueError, RecursionError) as error:
            if len(text) <= _LONGEST and not file.read(1):
                return
            raise errors.InputError(
                f"line {number} of {path} is damaged, remove it: {errors.one_line(error)}"
            ) from error
        yield line


def _is_number(value: object) -> bool:
    # An integer may be too large for a float.
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31

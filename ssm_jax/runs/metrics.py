"""`metrics.jsonl` and TensorBoard files: the numbers of every epoch and seed."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tensorboardX import SummaryWriter

from ssm_jax import errors, files

# What tells of a line where it belongs; everything else in it is a measurement.
_ALWAYS = {"epoch", "step", "seed", "time"}


class Metrics:
    """`metrics.jsonl`, one line per epoch and seed, and the same numbers for TensorBoard.

    Args:
      workdir: The run's folder.
    """

    def __init__(self, workdir: pathlib.Path) -> None:
        self._path = workdir / "metrics.jsonl"
        self._folder = workdir / "tensorboard"
        self._writers: dict[int, SummaryWriter] = {}

    def truncate(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Drop what was written after the step from which a run goes on.

        TensorBoard's files can't be shortened: they are written again from the lines that stay.

        Args:
          keep: Says of a line whether it stays.

        Raises:
          InputError: A line is damaged.
          RunError: Nothing can be written, for example because the disk is full.
        """
        self.close()
        lines = [line for line in read_metrics(self._path) if keep(line)]
        shutil.rmtree(self._folder, ignore_errors=True)
        with self._writing():
            if self._path.exists():
                text = "".join(json.dumps(line) + "\n" for line in lines)
                files.write_whole(self._path, lambda file: file.write(text.encode()))
            for line in lines:
                self._to_tensorboard(line)

    def write(self, lines: Iterable[dict[str, Any]]) -> None:
        """Append lines.

        Args:
          lines: Numbers by name, with at least `epoch`, `step`, `seed` and `time` (Unix seconds).

        Raises:
          RunError: Nothing can be written, for example because the disk is full.
        """
        lines = list(lines)
        with self._writing():
            with self._path.open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
            for line in lines:
                self._to_tensorboard(line)
            for writer in self._writers.values():
                writer.flush()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise errors.RunError(f"cannot write {self._path}: {files.reason(error)}") from error

    def _to_tensorboard(self, line: dict[str, Any]) -> None:
        seed = line["seed"]
        if seed not in self._writers:
            self._writers[seed] = SummaryWriter(str(self._folder / f"seed_{seed}"))
        for name in line.keys() - _ALWAYS:
            self._writers[seed].add_scalar(name, line[name], line["step"], walltime=line["time"])

    def close(self) -> None:
        """Write what is still in memory."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Read a `metrics.jsonl`, without a last line that was torn by a crash.

    Args:
      path: The file, which need not exist.

    Returns:
      Its lines, numbers by name.

    Raises:
      InputError: The file cannot be read, or a line that is not the last is damaged.
    """
    try:
        texts = files.read_whole(path).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise errors.InputError(f"cannot read {path}: {files.reason(error)}") from error
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
            if not (
                isinstance(line, dict) and line.keys() >= _ALWAYS and all(map(_is_number, line.values()))
            ):
                raise ValueError(f"it must hold numbers, {', '.join(sorted(_ALWAYS))} among them")
        except (ValueError, RecursionError) as error:
            if number == len(texts):
                break
            raise errors.InputError(
                f"line {number} of {path} is damaged, remove it: {errors.one_line(error)}"
            ) from error
        lines.append(line)
    return lines


def _is_number(value: object) -> bool:
    return type(value) in (int, float)

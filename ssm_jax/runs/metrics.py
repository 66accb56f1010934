"""`metrics.jsonl` and TensorBoard files: the numbers of every epoch and seed."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tensorboardX import SummaryWriter

from ssm_jax import errors
from ssm_jax.runs.folder import write_atomically


class Metrics:
    """`metrics.jsonl`, one line per epoch and seed, and the same numbers for TensorBoard.

    Args:
      workdir: where both are written.
    """

    def __init__(self, workdir: pathlib.Path) -> None:
        self._path = workdir / "metrics.jsonl"
        self._folder = workdir / "tensorboard"
        self._writers: dict[int, SummaryWriter] = {}

    def cut(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Drop what was written after the step from which a run goes on.

        TensorBoard's files can't be shortened: they are written again from the lines that stay.

        Args:
          keep: whether a line stays.

        Raises:
          RunError: nothing can be written, for example because the disk is full.
        """
        self.close()
        lines = [line for line in read_metrics(self._path) if keep(line)]
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._path.exists():
            write_atomically(self._path, "".join(json.dumps(line) + "\n" for line in lines))
        with self._writing():
            for line in lines:
                self._to_tensorboard(line)

    def write(self, lines: Iterable[dict[str, Any]]) -> None:
        """Append lines, each with at least `epoch`, `step`, `seed` and `time` (Unix seconds).

        Raises:
          RunError: nothing can be written, for example because the disk is full.
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
            raise errors.RunError(f"cannot write {self._path}: {error.strerror}") from error

    def _to_tensorboard(self, line: dict[str, Any]) -> None:
        seed = line["seed"]
        if seed not in self._writers:
            self._writers[seed] = SummaryWriter(str(self._folder / f"seed_{seed}"))
        for name in line.keys() - {"epoch", "step", "seed", "time"}:
            self._writers[seed].add_scalar(name, line[name], line["step"], walltime=line["time"])

    def close(self) -> None:
        """Write what is still in memory."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, without a last one that was torn by a crash."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines

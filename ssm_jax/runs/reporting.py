"""What a run says: the progress line, `metrics.jsonl`, TensorBoard files, the table, `summary.json`."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from ssm_jax import errors
from ssm_jax.config import DENSE
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


def duration(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`.

    Examples:
      >>> duration(83), duration(3683)
      ('1:23', '1:01:23')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """One line per epoch: updated in place on a terminal, plain lines in a log.

    Args:
      epochs: in all.
      label: put before every line, for example `seeds 0-9`; may be empty.
      stream: a text stream; None is the process's standard output at the time.
    """

    def __init__(self, epochs: int, label: str = "", stream: Any = None) -> None:
        self._epochs = epochs
        self._label = f"{label}  " if label else ""
        self._stream = stream or sys.stdout
        self._terminal = self._stream.isatty()
        self._open = False

    def show(self, epoch: int, values: dict[str, float], left: float) -> None:
        """Report an epoch.

        Args:
          epoch: epochs done.
          values: means over seeds: `train_loss`, accuracies in %, `remaining_weights` as a share,
            `images_per_second`.
          left: seconds to go.
        """
        parts = [
            f"epoch {epoch:>{len(str(self._epochs))}}/{self._epochs}",
            f"loss {values['train_loss']:.4f}",
        ]
        for split in ("train", "validation", "test"):
            if f"{split}_accuracy" in values:
                parts.append(f"{split} {values[f'{split}_accuracy']:5.2f} %")
        parts.append(f"remaining {100 * values['remaining_weights']:5.2f} %")
        parts.append(f"{values['images_per_second']:,.0f} images/s")
        parts.append(f"{duration(left)} left")
        line = self._label + "  ".join(parts)
        if self._terminal:
            # A line that wraps could not be overwritten.
            line = line[: shutil.get_terminal_size().columns - 1]
        self._stream.write(f"\r{line}\x1b[K" if self._terminal else f"{line}\n")
        self._stream.flush()
        self._open = self._terminal

    def done(self) -> None:
        """End the line, so that what comes next begins on a new one."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
            self._open = False


def statistics(values: Iterable[float]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1; 0 for one value) and the values themselves.

    Examples:
      >>> statistics([1.0, 3.0])
      {'mean': 2.0, 'std': 1.4142135623730951, 'values': [1.0, 3.0]}
    """
    values = [float(value) for value in values]
    return {
        "mean": float(np.mean(values)) if values else None,
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        "values": values,
    }


def table(summary: dict[str, Any]) -> str:
    """The closing table: the shares of -1, 0 and +1 per masked layer, then the run's main numbers.

    Args:
      summary: the content of `summary.json`.
    """
    # A dense baseline has no mask.
    columns = {} if summary["method"] == DENSE else {"-1 %": "inverted", "0 %": "hidden", "+1 %": "kept"}
    rows: list[tuple[str, ...]] = [("layer", "kernel", "weights", *columns)]
    for layer in summary["layers"]:
        shares = (f"{100 * layer[name]:.2f}" for name in columns.values())
        rows.append((layer["name"], "x".join(map(str, layer["shape"])), f"{layer['weights']:,}", *shares))
    total = sum(layer["weights"] for layer in summary["layers"])
    means = (
        sum(layer[name] * layer["weights"] for layer in summary["layers"]) / total
        for name in columns.values()
    )
    rows.append(("all", "", f"{total:,}", *(f"{100 * mean:.2f}" for mean in means)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    lines.insert(len(lines) - 1, "-" * len(lines[0]))

    def spread(name: str, factor: float) -> str:
        numbers = summary[name]
        deviation = f" ± {factor * numbers['std']:.2f}" if len(numbers["values"]) > 1 else ""
        return f"{factor * numbers['mean']:.2f}{deviation} %"

    seeds = summary["seeds"]
    device = f"{summary['device_count']} x {summary['device']}"
    lines += [
        "",
        f"{summary['network']} on {summary['dataset']}, {summary['method']}, "
        + (f"{len(seeds)} seeds, " if len(seeds) > 1 else f"seed {seeds[0]}, " if seeds else "")
        + f"{summary['epochs']} epochs: test accuracy {spread('test_accuracy', 1)}, "
        f"remaining weights {spread('remaining_weights', 100)}",
        f"trained in {summary['train_seconds']:.1f} s ({summary['images_per_second']:,.0f} images/s) after "
        f"{summary['compile_seconds']:.1f} s of compilation on {device}",
    ]
    for failure in summary["failed_seeds"]:
        lines.append(
            f"seed {failure['seed']} failed: {failure['metric']} not finite at step {failure['step']}"
        )
    return "\n".join(lines)

"""TensorBoard's files of a run: a folder per seed, in each a file of events."""

from __future__ import annotations

import pathlib
import shutil
import time
from collections.abc import Iterable
from typing import Any

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from ssm_jax import files, tfrecord

# What tells of a line where it belongs; everything else in it is a measurement.
PLACE = ("epoch", "step", "seed", "time")


class Events:
    """The numbers of every epoch and seed, for TensorBoard.

    A file is open only while something is added to it: there may be more seeds than a process may have files.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        # A new start has new files: TensorBoard goes on to those of a later name.
        self._name = f"events.out.tfevents.{time.time():.6f}"

    def write(self, lines: Iterable[dict[str, Any]]) -> None:
        """Add lines, numbers by name, with at least those of `PLACE`.

        Raises:
          RunError: Nothing can be written, for example because the disk is full.
        """
        by_seed: dict[int, list[dict[str, Any]]] = {}
        for line in lines:
            by_seed.setdefault(line["seed"], []).append(line)
        for seed, ours in by_seed.items():
            path = self._folder / f"seed_{seed}" / self._name
            with files.writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with files.open_to_append(path) as file:
                    if not file.tell():
                        begin = Event(wall_time=ours[0]["time"], file_version="brain.Event:2")
                        file.write(tfrecord.record(begin.SerializeToString()))
                    file.writelines(tfrecord.record(_event(line)) for line in ours)

    def rewrite(self, lines: Iterable[dict[str, Any]]) -> None:
        """Write lines in place of everything that is there: these files can't be shortened. See `write`."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self.write(lines)


def _event(line: dict[str, Any]) -> bytes:
    values = [Summary.Value(tag=name, simple_value=line[name]) for name in sorted(line.keys() - set(PLACE))]
    event = Event(wall_time=line["time"], step=line["step"], summary=Summary(value=values))
    return bytes(event.SerializeToString())

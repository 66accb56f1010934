"""Text that every Python brings along: the source of its standard library."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import platform
import sys

import numpy as np

SYMBOLS = 128  # ASCII; what is beyond it is left out


@dataclasses.dataclass(frozen=True, eq=False)
class Text:
    """Characters as their codes below `SYMBOLS`, uint8.

    Attributes:
      train: What to train on, `[N]`.
      test: What to test on, `[M]`.
    """

    train: np.ndarray
    test: np.ndarray

    @property
    def details(self) -> dict[str, str]:
        """What tells this text from that of another Python."""
        digest = hashlib.sha256(self.train.tobytes() + self.test.tobytes()).hexdigest()
        return {"train": f"{self.train.size} characters", "test": f"{self.test.size}", "sha256": digest}

    def frequencies(self) -> float:
        """The bits per character of the test by the frequencies of characters in the training."""
        counts = np.bincount(self.train, minlength=SYMBOLS) + 1
        return float(-np.log2(counts / counts.sum())[self.test].mean())


def standard_library() -> Text:
    """Read the modules of the standard library that are one file; every tenth is for the test.

    The text is the same for all installations of one version of Python.
    """
    folder = pathlib.Path(os.__file__).parent
    paths = sorted(path for path in folder.glob("*.py") if path.stem in sys.stdlib_module_names)
    texts = [path.read_text("utf-8").encode("ascii", "ignore") for path in paths]
    test = texts[::10]
    del texts[::10]
    return Text(*(np.frombuffer(b"".join(part), np.uint8) for part in (texts, test)))


def name() -> str:
    """Name the text that `standard_library` reads."""
    return f"source of Python {platform.python_version()}"

"""The results sections of the README and its pages, made from the files of the collected experiments.

A section begins with a comment that names the kinds of experiments in it, `<!-- results: paper frontier -->`,
and ends with `<!-- end of results -->`.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Sequence

from ssm_jax import errors, files
from ssm_jax.experiments import record, tables
from ssm_jax.experiments.results import read_collected

END = "<!-- end of results -->"
SECTION = re.compile(rf"<!-- results:(?P<kinds>.*?)-->\n(?P<body>.*?){END}", re.S)
TITLES = {
    "overview": "The paper's rows",
    "paper": "The paper's rows, every setting",
    "frontier": "Accuracy against remaining weights",
    "rivals": "Mask rules side by side",
    "ablation": "Ablations",
    "rates": "Learning rates",
    "runs": "Single runs",
}
# What is shown of an experiment of another kind.
_SHORT = {"overview": "paper"}
# A longer table is folded.
_MOST_ROWS = 13


def section(folder: str | os.PathLike[str], root: str | os.PathLike[str], kinds: Sequence[str]) -> str:
    """Write a results section: a table and a figure of every collected experiment of some kinds.

    Args:
      folder: The folder of the results, one experiment in each folder below it.
      root: The folder of the page, from which links lead.
      kinds: Keys of `TITLES`, in the order in which they are shown; `overview` is a short table of `paper`.

    Raises:
      InputError: A kind is unknown, no experiment is of one of them, or a file is missing or damaged.
    """
    for kind in kinds:
        errors.choose("kind of experiment", kind, TITLES)
    # In the order of the kinds, then by name.
    experiments = [
        (place, path.parent, experiment)
        for path in sorted(pathlib.Path(folder).glob(f"*/{record.FILE}"))
        if (experiment := record.read(path.parent)) is not None
        for place, kind in enumerate(kinds)
        if experiment.kind == _SHORT.get(kind, kind)
    ]
    if not experiments:
        raise errors.InputError(f"{os.fspath(folder)} holds no collected experiment of {' or '.join(kinds)}")
    parts = []
    for place, path, experiment in sorted(experiments, key=lambda one: one[:2]):
        link = pathlib.PurePosixPath(os.path.relpath(path, root))
        shared = ", ".join(f"{name} {value}" for name, value in experiment.shared.items())
        title = f"{TITLES[experiment.kind]}: {shared}" if shared else TITLES[experiment.kind]
        results = read_collected(path)
        if kinds[place] in _SHORT:
            parts.append(tables.overview(results))
            continue
        table = tables.markdown(results)
        if len(results) > _MOST_ROWS:
            table = f"<details><summary>{len(results)} rows</summary>\n\n{table}\n\n</details>"
        parts += [f"**{title}** ([files]({link}))", table]
        for figure in ("frontier.png", "settings.png"):
            if (path / figure).exists():
                parts.append(f"![{title}]({link}/{figure})")
    return "\n\n".join(parts) + "\n"


def update(page: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Write the results section of a page anew; returns whether it has changed.

    Raises:
      InputError: The page cannot be read or has no such section, or the results cannot be used.
      RunError: The page cannot be written.
    """
    path = pathlib.Path(page)
    try:
        text = files.read_whole(path, files.MOST_TEXT).decode()
    except OSError as error:
        raise errors.InputError(f"cannot read {path}: {files.reason(error)}") from error
    except UnicodeDecodeError as error:
        raise errors.InputError(f"cannot read {path}: it is no text in UTF-8") from error
    match = SECTION.search(text)
    if match is None:
        raise errors.InputError(f"{path} has no section between <!-- results: <kinds> --> and {END}")
    start, stop = match.span("body")
    changed = text[:start] + section(folder, path.parent, match["kinds"].split()) + text[stop:]
    try:
        files.write_text(path, changed)
    except OSError as error:
        raise errors.RunError(f"cannot write {path}: {files.reason(error)}") from error
    return changed != text

"""The README's results section, made from the files of the collected experiments."""

from __future__ import annotations

import os
import pathlib
import re

from ssm_jax import errors, files
from ssm_jax.experiments import record, tables
from ssm_jax.experiments.results import read_collected

BEGIN, END = "<!-- results -->\n", "\n<!-- end of results -->"
TITLES = {
    "paper": "The paper's rows",
    "frontier": "Accuracy against remaining weights",
    "rivals": "Mask rules side by side",
    "ablation": "Ablations",
    "runs": "Single runs",
}
# A longer table is folded.
_MOST_ROWS = 12


def section(folder: str | os.PathLike[str], root: str | os.PathLike[str]) -> str:
    """Write the results section: a table and a figure of every collected experiment.

    Args:
      folder: The folder of the results, one experiment in each folder below it.
      root: The folder of the README, from which links lead.

    Raises:
      InputError: There is no experiment, or a file of one is missing or damaged.
    """
    # In the order of the titles, then by name.
    kinds = list(TITLES)
    found = [
        (kinds.index(experiment.kind), path.parent, experiment)
        for path in sorted(pathlib.Path(folder).glob(f"*/{record.FILE}"))
        if (experiment := record.read(path.parent)) is not None
    ]
    if not found:
        raise errors.InputError(f"{os.fspath(folder)} holds no collected experiment")
    parts = []
    for _, path, experiment in sorted(found, key=lambda one: one[:2]):
        link = pathlib.PurePosixPath(os.path.relpath(path, root))
        shared = ", ".join(f"{name} {value}" for name, value in experiment.shared.items())
        title = f"{TITLES[experiment.kind]}: {shared}" if shared else TITLES[experiment.kind]
        results = read_collected(path)
        table = tables.markdown(results)
        if len(results) > _MOST_ROWS:
            table = f"<details><summary>{len(results)} rows</summary>\n\n{table}\n\n</details>"
        parts += [f"**{title}** ([files]({link}))", table]
        for figure in ("frontier.png", "settings.png"):
            if (path / figure).exists():
                parts.append(f"![{title}]({link}/{figure})")
    return "\n\n".join(parts)


def update(readme: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Write the results section anew.

    Args:
      readme: The README, with the comments that begin and end the section.
      folder: The folder of the results.

    Returns:
      Whether the section has changed.

    Raises:
      InputError: The README cannot be read or has no such section, or the results cannot be used.
      RunError: The README cannot be written.
    """
    path = pathlib.Path(readme)
    try:
        text = files.read_whole(path).decode()
    except OSError as error:
        raise errors.InputError(f"cannot read {path}: {files.reason(error)}") from error
    if not re.search(f"{BEGIN}.*{END}", text, re.S):
        raise errors.InputError(f"{path} has no section between {BEGIN.strip()} and {END.strip()}")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    changed = f"{before}{BEGIN}{section(folder, path.parent)}{END}{after}"
    try:
        files.write_whole(path, lambda file: file.write(changed.encode()))
    except OSError as error:
        raise errors.RunError(f"cannot write {path}: {files.reason(error)}") from error
    return changed != text

"""A report of finished runs, one HTML file that needs nothing else; jinja2 and matplotlib make it."""

from __future__ import annotations

import dataclasses
import importlib.resources
import importlib.util
import logging
import os
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ssm_jax import errors, files
from ssm_jax.analysis import read_runs, style
from ssm_jax.analysis.panels import Drawing
from ssm_jax.analysis.read_runs import Finished, Network, Shown
from ssm_jax.analysis.sections import Section, sections
from ssm_jax.analysis.stored import Stored
from ssm_jax.training.step import Build
from ssm_jax.version import __version__

if TYPE_CHECKING:
    from markupsafe import Markup

_log = logging.getLogger(__name__)


def write(
    runs: Sequence[str | os.PathLike[str] | Stored],
    path: str | os.PathLike[str],
    *,
    seed: int | None = None,
    model: Build | None = None,
) -> pathlib.Path:
    """Write a report: settings, curves, masks, filters, units, mistakes, sizes; of several runs side by side.

    Args:
      runs: Folders of finished runs, `.ssm` files, or models in files of `ssm_jax.save`, see
        `ssm_jax.analysis.stored`; at least one. What a file does not hold is left out.
      path: The HTML file, replaced whole; its folder exists.
      seed: The network to show of every run, by default the first that was trained to the end.
      model: The function that built the networks of those runs that trained the caller's own.

    Returns:
      The file.

    Raises:
      InputError: jinja2 or matplotlib is missing, the folder of `path` does not exist, or a run can't be
        shown: there is none, it is not finished, has no such seed, or trained another model.
      RunError: The file can't be written.
    """
    style.require()
    if importlib.util.find_spec("jinja2") is None:
        raise errors.InputError('a report needs jinja2: pip install "ssm_jax[report]"')
    path = pathlib.Path(os.path.expanduser(path))
    if not path.parent.is_dir() or path.is_dir():
        raise errors.InputError(f"cannot write {path}: its folder must exist, and it must be a file")
    shown = read_runs.read(runs, seed, model)
    _log.info("reading the networks of %s", ", ".join(str(run.path) for run in shown))
    networks = list(read_runs.networks(shown))
    _log.info("drawing")
    text = page(shown, networks, list(sections(shown, networks)))
    try:
        files.write_whole(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise errors.RunError(f"cannot write {path}: {files.reason(error)}") from error
    return path


def page(runs: Sequence[Shown], networks: Sequence[Network], parts: Sequence[Section]) -> str:
    """Make the page of its sections.

    Args:
      runs: The runs.
      networks: The network that is shown of each.
      parts: The sections.

    Returns:
      HTML.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = importlib.resources.files("ssm_jax.analysis").joinpath("report.html.jinja")
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs: {', '.join(run.name for run in runs)}"
    return environment.from_string(template.read_text("utf-8")).render(
        title=title,
        subtitle=_subtitle(runs),
        numbers=_numbers(runs[0], networks[0]) if len(runs) == 1 else (),
        sections=[_with_drawings(part) for part in parts],
        footer=f"Made by ssm_jax {__version__}.",
    )


def _subtitle(runs: Sequence[Shown]) -> str:
    kinds = dict.fromkeys(
        f"{run.network}{f' on {run.dataset}' if run.dataset else ''}, {run.rule}" for run in runs
    )
    return "; ".join(kinds)


def _numbers(run: Shown, network: Network) -> list[tuple[str, str]]:
    numbers = [
        ("remaining weights", f"{run.remaining_weights.text(100)} %"),
        ("weights", f"{run.weights:,}"),
        ("artifact", style.in_bytes(network.size)),
    ]
    if run.test_accuracy is not None:
        numbers.insert(0, ("test accuracy", f"{run.test_accuracy.text()} %"))
    if isinstance(run, Finished):
        numbers += [("epochs", str(run.summary.epochs)), ("seeds", str(len(run.seeds)))]
    return numbers


def _with_drawings(section: Section) -> dict[str, Any]:
    """The section as the template takes it: its figures written down."""
    cards = []
    for i, card in enumerate(section.cards):
        drawn = [
            {"drawing": inline(drawing, f"{section.anchor}-{i}-{j}"), "caption": drawing.caption}
            for j, drawing in enumerate(card.figures)
        ]
        cards.append({"name": card.name, "figures": drawn, "tables": card.tables, "note": card.note})
    return {field.name: getattr(section, field.name) for field in dataclasses.fields(section)} | {
        "cards": cards
    }


def inline(drawing: Drawing, prefix: str) -> Markup:
    """Write a figure for a page that holds several: names of its own, ink in the color of the text.

    Args:
      drawing: The figure.
      prefix: What its names begin with, unique in the page.
    """
    import markupsafe

    text = style.svg(drawing.figure)
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would be of the whole page
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    text = re.sub(
        r' id="([^"]*)"', lambda match: f' id="{prefix}-{match[1]}"' if match[1] in used else "", text
    )
    text = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", text)
    text = text.replace(style.INK, "currentColor")
    alt = markupsafe.escape(drawing.caption)
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>',
        lambda match: f'<svg role="img" aria-label="{alt}" {match[1]}>',
        text,
        count=1,
    )
    return markupsafe.Markup(text)

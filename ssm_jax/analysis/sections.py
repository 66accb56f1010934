"""The sections of a report: what stands in them, as texts, tables and figures."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from ssm_jax import config as configuration
from ssm_jax import errors
from ssm_jax.analysis import figures, masks, read_runs
from ssm_jax.analysis.panels import KINDS, Card, Drawing, Table, number
from ssm_jax.analysis.read_runs import Finished, Network, Shown

# More lines than these can't be told apart in one figure.
_MOST_PAIRS = 6
# Of a run of many seeds, so many masks are compared.
_MOST_SEEDS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page.

    Attributes:
      anchor: Its name in the page.
      title: Its heading.
      text: What stands below that.
      cards: What it shows.
    """

    anchor: str
    title: str
    text: str = ""
    cards: Sequence[Card]


def sections(runs: Sequence[Shown], networks: Sequence[Network]) -> Iterator[Section]:
    """Yield the sections of a report.

    Args:
      runs: The runs.
      networks: The network that is shown of each.
    """
    yield Section(anchor="settings", title="Settings", cards=[_settings(runs)])
    if len(runs) > 1:
        yield _frontier(runs)
    trained = [run for run in runs if isinstance(run, Finished)]
    if trained:
        yield _curves(trained)
    for kind in KINDS:
        cards = [kind.card(run, network) for run, network in zip(runs, networks, strict=True)]
        if len(runs) > 1:
            cards = [dataclasses.replace(card, name=run.name) for card, run in zip(cards, runs, strict=True)]
        yield Section(anchor=kind.anchor, title=kind.title, text=kind.text, cards=cards)
        compared = _compared(runs, networks) if kind.anchor == "units" else []
        if len(compared) > 1:
            yield _overlap(compared)


def _settings(runs: Sequence[Shown]) -> Card:
    facts = [run.facts() for run in runs]
    told = dict.fromkeys(name for fact in facts for name, text in fact.items() if text)
    rows = [(name, *(fact.get(name, "") for fact in facts)) for name in told]
    names = [run.name for run in runs]
    default = dict(configuration.fields(configuration.default()))
    settings = [run.settings for run in runs]
    fields = [
        (name, *(str(fields.get(name, "")) for fields in settings))
        for name in default
        if any(name in fields for fields in settings)
    ]
    changed = [row for row in fields if any(cell not in ("", str(default[row[0]])) for cell in row[1:])]
    same: dict[str, Any] = {"texts": True, "wide": len(runs) > 1}
    tables = [Table(caption="Runs" if len(runs) > 1 else "The run", head=["", *names], rows=rows, **same)]
    if changed:
        head = ["setting", *names, "default"]
        cells = [(*row, str(default[row[0]])) for row in changed]
        tables.append(Table(caption="Settings that are not the defaults", head=head, rows=cells, **same))
    if fields:
        tables.append(
            Table(caption="All settings", head=["setting", *names], rows=fields, texts=True, folded=True)
        )
    return Card(tables=tables)


def _frontier(runs: Sequence[Shown]) -> Section:
    by_dataset: dict[str, list[Shown]] = {}
    for run in runs:
        if run.test_accuracy is not None:
            by_dataset.setdefault(run.dataset, []).append(run)
    drawings = []
    for dataset, group in by_dataset.items():
        if len(group) < 2:
            continue
        points = {run.name: (run.test_accuracy, run.remaining_weights) for run in group if run.test_accuracy}
        caption = f"On {dataset}; faint points are the seeds of a run, the large one is their mean."
        drawings.append(Drawing(figure=figures.frontier(points), caption=caption))
    rows = []
    for run in runs:
        accuracy, remaining = run.test_accuracy, run.remaining_weights
        tested = "–" if accuracy is None else f"{accuracy.text()} %"
        count = f"{remaining.mean * run.weights:,.0f}"
        rows.append((run.name, tested, f"{remaining.text(100)} %", count))
    head = ["run", "test accuracy", "remaining weights", "their number"]
    table = Table(caption="Means over seeds, ± their standard deviation", head=head, rows=rows)
    card = Card(figures=drawings, tables=[table])
    return Section(anchor="frontier", title="Accuracy against remaining weights", cards=[card])


def _curves(runs: Sequence[Finished]) -> Section:
    lines = {run.name: run.metrics for run in runs if run.metrics}
    captions = {
        "loss": "Cross-entropy over the epochs.",
        "accuracy": "Accuracy over the epochs.",
        "remaining": "Share of the weights that masks do not hide, over the epochs.",
    }
    several = len(lines) > 1
    drawings = []
    for what in figures.CURVES if lines else ():
        dashes = " Dashed: training." if several and what != "remaining" else ""
        drawings.append(Drawing(figure=figures.curves(lines, what), caption=captions[what] + dashes))
    note = "" if lines else "There are no metrics."
    text = "Means over seeds, which are faint lines." if any(len(run.seeds) > 1 for run in runs) else ""
    return Section(anchor="curves", title="Curves", text=text, cards=[Card(figures=drawings, note=note)])


def _overlap(compared: Sequence[tuple[str, masks.Masks]]) -> Section:
    return Section(
        anchor="overlap",
        title="Overlap of masks",
        text="Of the weights that remain in either of two masks, the share that remains in both; and what it "
        "would be if the weights of every layer lay at random. Of those in both, the share of equal signs, "
        "and likewise. Networks of one seed begin with the same kernels and scores.",
        cards=[_overlap_card(compared)],
    )


def _compared(runs: Sequence[Shown], networks: Sequence[Network]) -> list[tuple[str, masks.Masks]]:
    """Masks to compare: of every run that has one that stays the same, or of one run's seeds."""
    fixed = [
        (run, network)
        for run, network in zip(runs, networks, strict=True)
        if run.has_masks and not network.random
    ]
    if len(runs) > 1:
        return [(run.name, network.masks) for run, network in fixed if not run.signs_alone]
    if not fixed or not isinstance(run := runs[0], Finished):
        return []
    seeds = sorted(run.seeds, key=lambda seed: seed != run.seed)[:_MOST_SEEDS]
    by_seed = read_runs.masks_of(run, seeds)
    return [(f"seed {seed}", by_seed[seed]) for seed in seeds]


def _overlap_card(compared: Sequence[tuple[str, masks.Masks]]) -> Card:
    pairs: dict[str, masks.ByLayer[masks.Overlap]] = {}
    different = []
    for (first, one), (second, other) in itertools.combinations(compared, 2):
        try:
            pairs[f"{first}, {second}"] = masks.overlap(one, other)
        except errors.InputError:
            different.append(f"{first} and {second}")
    note = f"Left out, of different networks: {'; '.join(different)}." if different else ""
    if not pairs:
        return Card(note=note)
    by_network: dict[tuple[str, ...], dict[str, masks.ByLayer[masks.Overlap]]] = {}
    for name, pair in pairs.items():
        by_network.setdefault(tuple(pair.layers), {})[name] = pair
    drawings = []
    for group in by_network.values():
        shown = dict(itertools.islice(group.items(), _MOST_PAIRS))
        caption = "By layer; hollow marks are what chance gives."
        if len(shown) < len(group):
            caption += f" The first {len(shown)} of {len(group)} pairs."
        drawings.append(Drawing(figure=figures.overlap(shown), caption=caption))
    head = ["masks", "both %", "chance %", "ratio", "signs %", "chance %"]
    table = Table(
        caption="All layers together",
        head=head,
        rows=[_overlap_row(name, pair.all) for name, pair in pairs.items()],
    )
    return Card(figures=drawings, tables=[table], note=note)


def _overlap_row(name: str, pair: masks.Overlap) -> tuple[str, ...]:
    ratio = f"{pair.jaccard / pair.jaccard_by_chance:.2f}" if pair.jaccard and pair.jaccard_by_chance else "–"
    shares = (pair.jaccard, pair.jaccard_by_chance, pair.agreement, pair.agreement_by_chance)
    jaccard, chance, signs, signs_by_chance = map(number, shares)
    return name, jaccard, chance, ratio, signs, signs_by_chance

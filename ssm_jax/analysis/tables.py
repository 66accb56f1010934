"""A report as tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ssm_jax.analysis import inversion
from ssm_jax.analysis.findings import Difference, MaskSnapshot, Pairs, Report, RunReport, Transfers
from ssm_jax.analysis.masks import ByLayer, Overlap
from ssm_jax.columns import aligned
from ssm_jax.config import DENSE

# At most so many reports of the training are shown, those of the ends among them.
_ROWS = 25

_TRANSFERS = {
    "trained": ("its own", "trained"),
    "without_signs": ("its own", "trained, without its signs"),
    "random_signs": ("its own, random signs", "trained, without its signs"),
    "drawn_effective_signs": ("another, signs of its own", "trained"),
    "drawn_mask": ("another", "trained"),
    "drawn_mask_without_signs": ("another", "trained, without its signs"),
    "drawn_shuffled_mask": ("another", "trained, shuffled within layers"),
}


def text(report: Report) -> str:
    """Lay out everything that a report holds; what a run does not allow is said.

    Args:
      report: The report.
    """
    parts = ["\n\n".join(_run(run)) for run in report.runs]
    if report.overlaps:
        parts.append(_overlaps(report.overlaps))
    if len(report.runs) > 1:
        parts.append(_comparison(report))
    return "\n\n\n".join(parts)


def _run(run: RunReport) -> Iterator[str]:
    yield _headline(run)
    if run.rule == DENSE:
        yield "It has no mask."
        return
    yield _layers(run)
    if run.units is None:
        yield "The rule draws its mask at random: the shares are the expected ones, and nothing else is told."
    elif run.connectivity is None:
        yield "The network computes what connectivity is not followed through."
    if run.signs_alone:
        yield "A .ssm file holds effective kernels: -1 and +1 are their signs, not those of a mask."
    if run.moments:
        yield _training(run, run.moments)
    elif run.moments is not None:
        yield "Masks over training were not stored; --config.logging.masks=true stores them."
    if run.transfer is not None:
        yield _transfer(run.transfer)


def _headline(run: RunReport) -> str:
    parts = [run.network + (run.dataset and f" on {run.dataset}"), run.rule]
    if run.seeds:
        parts.append(f"{len(run.seeds)} seeds" if len(run.seeds) > 1 else f"seed {run.seeds[0]}")
    if run.epochs:
        ends = dict.fromkeys(f"{epoch:.4g}" for epoch in (min(run.epochs), max(run.epochs)))
        parts.append(f"{' to '.join(ends)} epochs")
    accuracy = run.test_accuracy
    tested = "not tested at this step" if accuracy is None else f"test accuracy {accuracy.text()} %"
    return f"{run.name}: {', '.join(parts)}: {tested}, remaining weights {run.remaining_weights.text(100)} %"


def _layers(run: RunReport) -> str:
    rows: list[Sequence[str]] = [("layer", "-1 %", "0 %", "+1 %")]
    for name, shares in (*run.shares.layers.items(), ("all", run.shares.all)):
        rows.append((name, *map(_percent, (shares.inverted, shares.hidden, shares.kept))))
    if run.units is not None:
        rows[0] = (*rows[0], "inputs", "dead", "outputs", "dead")
        for i, units in enumerate(run.units.layers.values(), start=1):
            counts = (units.inputs, units.dead_inputs, units.outputs, units.dead_outputs)
            rows[i] = (*rows[i], *map(_count, counts))
        rows[-1] = (*rows[-1], "", "", "", "")
    if run.connectivity is not None:
        rows[0] = (*rows[0], "on a path %", "inputs off", "outputs off")
        connectivity = run.connectivity
        for i, (name, units) in enumerate(connectivity.units.layers.items(), start=1):
            cells = map(_count, (units.dead_inputs, units.dead_outputs))
            rows[i] = (*rows[i], _percent(connectivity.connected.layers[name]), *cells)
        rows[-1] = (*rows[-1], _percent(connectivity.connected.all), "", "")
    title = "Shares of -1, 0 and +1"
    if run.units is not None:
        title += "; dead units, which the layer's own mask leaves no weight"
    if run.connectivity is not None:
        title += (
            ";\nweights on a path from the input to the output, of those that remain, and units off all paths"
        )
    return _titled(title, aligned(rows, left=1))


def _training(run: RunReport, moments: Sequence[MaskSnapshot]) -> str:
    head = ("epoch", "-1 %", "0 %", "+1 %", "appeared %", "vanished %", "inverted %")
    rows: list[Sequence[str]] = [head]
    for moment in _some(moments):
        shares = moment.shares.all
        kinds: Sequence[float | None] = (None, None, None)
        if moment.flips is not None:
            flips = moment.flips.all
            kinds = (flips.appeared, flips.vanished, flips.inverted)
        numbers = (*map(_percent, (shares.inverted, shares.hidden, shares.kept)), *map(_fine, kinds))
        rows.append((f"{moment.epoch:.4g}", *numbers))
    title = "Over training, in % of all weights; flips since the row before"
    parts = [_titled(title, aligned(rows, left=0, total=False))]
    parts.append(
        _titled(
            "Remaining % by layer and epoch",
            _by_epoch(moments, lambda moment: [s.remaining for s in moment.shares.layers.values()]),
        )
    )
    flipped = [moment for moment in moments if moment.flips is not None]
    if flipped:
        parts.append(
            _titled(
                "Flipped % since the epoch stored before, by layer and epoch",
                _by_epoch(flipped, _flipped),
            )
        )
    if run.since_start is not None:
        parts.append(
            _titled(
                f"Overlap of the masks of epoch {moments[0].epoch:.4g} and "
                f"{moments[-1].epoch:.4g}; by chance in brackets",
                _overlap_rows([("", run.since_start)]),
            )
        )
    return "\n\n".join(parts)


def _flipped(moment: MaskSnapshot) -> list[float]:
    return [] if moment.flips is None else [flips.changed for flips in moment.flips.layers.values()]


def _by_epoch(
    moments: Sequence[MaskSnapshot], numbers: Callable[[MaskSnapshot], Sequence[float]]
) -> list[str]:
    """Layers by the first epochs and then every twofold."""
    places = sorted({0, *(2**i for i in range(20)), len(moments) - 1} & set(range(len(moments))))
    columns = [numbers(moments[place]) for place in places]
    rows = [("layer", *(f"{moments[place].epoch:.4g}" for place in places))]
    for i, name in enumerate(moments[0].shares.layers):
        rows.append((name, *(_fine(column[i]) for column in columns)))
    return aligned(rows, left=1, total=False)


def _some(moments: Sequence[MaskSnapshot]) -> list[MaskSnapshot]:
    places = {round(i * (len(moments) - 1) / (_ROWS - 1)) for i in range(_ROWS)}
    return [moments[place] for place in sorted(places)]


def _transfer(transfers: Transfers) -> str:
    rows = [("kernel", "mask", "accuracy %")]
    rows += [(*_TRANSFERS[name], numbers.text()) for name, numbers in transfers.accuracy.items()]
    seeds = transfers.kernel_seeds
    title = (
        f"Test accuracy on other kernels, drawn by seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    )
    return _titled(title, aligned(rows, left=2, total=False))


def _overlaps(overlaps: Sequence[Pairs]) -> str:
    parts = []
    for pairs in overlaps:
        number = f"{pairs.count} pair{'s' * (pairs.count > 1)}"
        seeds = "of the same seed" if pairs.same_seed else "of different seeds"
        within = f"within {pairs.first}"
        runs = within if pairs.first == pairs.second else f"between {pairs.first} and {pairs.second}"
        table = [("effective signs", pairs.effective_signs)]
        if pairs.masks is not None:
            table.insert(0, ("mask", pairs.masks))
        parts.append(
            _titled(f"Overlap {runs}, {number} {seeds}; by chance in brackets", _overlap_rows(table))
        )
    return "\n\n".join(parts)


def _overlap_rows(table: Sequence[tuple[str, ByLayer[Overlap]]]) -> list[str]:
    """Layers by what remains in both masks, and by the signs there, of one kind or several."""
    places = table[0][1]
    rows: list[Sequence[str]] = [("layer", "in both, of either %", "", "times")]
    rows[0] = (*rows[0], *(cell for name, _ in table for cell in (f"same sign{name and f' ({name})'} %", "")))
    names = (*places.layers, "all")
    for i, name in enumerate(names):
        overlaps = [(*overlap.layers.values(), overlap.all)[i] for _, overlap in table]
        first, chance = overlaps[0].jaccard, overlaps[0].jaccard_by_chance
        ratio = f"{first / chance:.2f}" if first is not None and chance else "-"
        signs = (
            cell
            for overlap in overlaps
            for cell in (_percent(overlap.agreement), f"({_percent(overlap.agreement_by_chance)})")
        )
        rows.append((name, _percent(first), f"({_percent(chance)})", ratio, *signs))
    return aligned(rows, left=1)


def _comparison(report: Report) -> str:
    rows: list[Sequence[str]] = [
        ("run", "rule", "seeds", "epochs", "accuracy %", "remaining %", "-1, of these %")
    ]
    for run in report.runs:
        shares = run.shares.all
        known = run.rule != DENSE and not run.signs_alone and shares.remaining
        inverted = shares.inverted / shares.remaining if known else None
        rows.append(
            (
                run.name,
                run.rule,
                str(len(run.seeds) or "-"),
                f"{max(run.epochs):.4g}" if run.epochs else "-",
                "-" if run.test_accuracy is None else run.test_accuracy.text(),
                run.remaining_weights.text(100),
                _percent(inverted),
            )
        )
    lines = aligned(rows, left=2, total=False)
    lines += [f"\n{_difference(difference)}" for difference in report.differences]
    if not report.differences:
        lines.append("\nNo run whose masks invert weights can be compared with one whose masks invert none.")
    return _titled("What inversion buys at equal density", lines)


def _difference(difference: Difference) -> str:
    runs, ratio = f"{difference.inverting} against {difference.other}", difference.density_ratio
    density = "-" if ratio is None else f"{ratio:.2f}"
    if difference.accuracy is None:
        unequal = ratio is None or max(ratio, 1 / ratio) > 1 + inversion.TOLERANCE
        why = f"{density} times the weights remain" if unequal else "an accuracy is unknown"
        return f"{runs}: not comparable, {why}."
    error = "" if difference.standard_error is None else f" ± {difference.standard_error:.2f}"
    also = ", ".join(difference.other_settings)
    return (
        f"{runs}: {difference.accuracy:+.2f}{error} points{' (standard error)' * bool(error)}, at {density} "
        f"times the weights{f'; they also differ in {also}' if also else ''}."
    )


def _titled(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, "", *(line.rstrip() for line in lines)])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _fine(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.3f}"


def _count(number: float) -> str:
    return f"{number:.0f}" if number == round(number) else f"{number:.1f}"

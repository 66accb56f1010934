"""The sections of a report: what stands in them, as texts, tables and figures."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ssm_jax import config as configuration
from ssm_jax import errors
from ssm_jax.analysis import figures, gather, masks
from ssm_jax.analysis.gather import Finished, Mistakes, Network
from ssm_jax.artifact import coder, graph
from ssm_jax.runs.summary import Statistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# More lines than these can't be told apart in one figure.
_MOST_PAIRS = 6
# Of a run of many seeds, so many masks are compared.
_MOST_SEEDS = 4


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Drawing:
    """A figure and what it shows, in one or two sentences."""

    figure: Figure
    caption: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table; the first cell of a row says what the row is of.

    Attributes:
      caption: What it shows.
      head: Names of the columns.
      rows: Its cells.
      texts: Whether its cells are words rather than numbers.
      wide: Whether it takes the whole width.
      folded: Whether it is shown on demand.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: bool = False
    wide: bool = False
    folded: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """What a section shows of one run, or of all.

    Attributes:
      name: The run, empty if there is but one, or for all.
      figures: Figures.
      tables: Tables.
      note: Why something is not shown.
    """

    name: str = ""
    figures: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page."""

    anchor: str
    title: str
    text: str = ""
    cards: Sequence[Card]


def sections(runs: Sequence[Finished], networks: Sequence[Network]) -> Iterator[Section]:
    """Yield the sections of a report.

    Args:
      runs: The runs.
      networks: The network that is shown of each.
    """
    yield Section(anchor="settings", title="Settings", cards=[_settings(runs)])
    if len(runs) > 1:
        yield _frontier(runs)
    yield _curves(runs)
    pairs = list(zip(runs, networks, strict=True))
    for anchor, title, text, card in _PER_RUN:
        cards = [
            dataclasses.replace(card(*pair), name=pair[0].name if len(runs) > 1 else "") for pair in pairs
        ]
        yield Section(anchor=anchor, title=title, text=text, cards=cards)
        if anchor == "units":
            yield _overlap(runs, networks)


def percent(share: float | None, digits: int = 2) -> str:
    """Write a share in per cent, a dash where there is none.

    Args:
      share: The share.
      digits: Digits after the point.

    Examples:
      >>> percent(0.0377), percent(None)
      ('3.77 %', '–')
    """
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def spread(numbers: Statistics, factor: float = 1.0) -> str:
    """Write mean and deviation over seeds, in per cent.

    Args:
      numbers: The numbers.
      factor: What makes per cent of them.
    """
    deviation = f" ± {factor * numbers.std:.2f}" if len(numbers.values) > 1 else ""
    return f"{factor * numbers.mean:.2f}{deviation} %"


def _settings(runs: Sequence[Finished]) -> Card:
    facts = [_facts(run) for run in runs]
    rows = [(name, *(fact[name] for fact in facts)) for name in facts[0]]
    names = [run.name for run in runs]
    default = dict(configuration.fields(configuration.default()))
    given = [dict(configuration.fields(run.record.config)) for run in runs]
    fields = [(name, *map(str, (fields[name] for fields in given))) for name in default]
    changed = [row for row in fields if any(cell != str(default[row[0]]) for cell in row[1:])]
    same: dict[str, Any] = {"texts": True, "wide": len(runs) > 1}
    tables = [Table(caption="Runs" if len(runs) > 1 else "The run", head=["", *names], rows=rows, **same)]
    if changed:
        head = ["setting", *names, "default"]
        cells = [(*row, str(default[row[0]])) for row in changed]
        tables.append(Table(caption="Settings that are not the defaults", head=head, rows=cells, **same))
    tables.append(
        Table(caption="All settings", head=["setting", *names], rows=fields, texts=True, folded=True)
    )
    return Card(tables=tables)


def _facts(run: Finished) -> dict[str, str]:
    summary, record = run.summary, run.record
    remaining = summary.remaining_weights.mean * summary.weights
    emptied = sorted({layer for found in summary.emptied_layers for layer in found.layers})
    failed = [f"{one.seed} ({one.metric} at step {one.step})" for one in summary.failed_seeds]
    return {
        "network": f"{record.network}, {summary.weights:,} weights",
        "data": f"{record.dataset} {record.dataset_version}",
        "mask rule": summary.method,
        "seeds": ", ".join(map(str, summary.seeds)),
        "seed shown": str(run.seed),
        "epochs, steps": f"{summary.epochs}, {summary.steps:,}",
        "test accuracy": spread(summary.test_accuracy),
        "remaining weights": f"{spread(summary.remaining_weights, 100)}, {remaining:,.0f}",
        "failed seeds": ", ".join(failed) or "none",
        "layers that hide everything": ", ".join(emptied) or "none",
        "training": f"{summary.train_seconds:.1f} s, {summary.images_per_second:,.0f} images/s",
        "device": f"{summary.device_count} x {summary.device}",
        "versions": ", ".join(f"{name} {version}" for name, version in summary.versions.items()),
    }


def _frontier(runs: Sequence[Finished]) -> Section:
    points = {run.name: (run.summary.test_accuracy, run.summary.remaining_weights) for run in runs}
    rows = [
        (
            run.name,
            spread(run.summary.test_accuracy),
            spread(run.summary.remaining_weights, 100),
            f"{run.summary.remaining_weights.mean * run.summary.weights:,.0f}",
        )
        for run in runs
    ]
    head = ["run", "test accuracy", "remaining weights", "their number"]
    caption = "Accuracy against remaining weights; faint points are the seeds of a run, the large one is their mean."
    card = Card(
        figures=[Drawing(figure=figures.frontier(points), caption=caption)],
        tables=[Table(caption="Means over seeds, ± their standard deviation", head=head, rows=rows)],
    )
    return Section(anchor="frontier", title="Accuracy against remaining weights", cards=[card])


def _curves(runs: Sequence[Finished]) -> Section:
    lines = {run.name: run.metrics for run in runs if run.metrics}
    captions = {
        "loss": "Cross-entropy.",
        "accuracy": "Accuracy.",
        "remaining": "Share of weights that the mask does not hide.",
    }
    several = len(lines) > 1
    drawings = []
    for what in figures.CURVES if lines else ():
        dashes = " Dashed: training." if several and what != "remaining" else ""
        drawings.append(Drawing(figure=figures.curves(lines, what), caption=captions[what] + dashes))
    note = "" if lines else "There are no metrics."
    text = "Means over seeds, which are faint lines."
    return Section(anchor="curves", title="Curves", text=text, cards=[Card(figures=drawings, note=note)])


def _layers(run: Finished, network: Network) -> Card:
    layers = run.summary.layers
    names = ("inverted", "hidden", "kept")
    rows = []
    for layer in layers:
        shares = [percent(getattr(layer, name)) for name in names]
        rows.append((layer.name, "x".join(map(str, layer.shape)), f"{layer.weights:,}", *shares))
    means = [sum(getattr(layer, name) * layer.weights for layer in layers) for name in names]
    total = run.summary.weights
    rows.append(("all", "", f"{total:,}", *(percent(mean / total) for mean in means)))
    head = ["layer", "kernel", "weights", "-1", "0", "+1"]
    table = Table(caption="Shares by layer, means over seeds", head=head, rows=rows)
    if not run.masked:
        return Card(tables=[table], note="A dense network has no mask.")
    caption = "What the mask does to the weights of every layer."
    return Card(figures=[Drawing(figure=figures.layer_shares(layers), caption=caption)], tables=[table])


def _image_mask(run: Finished, network: Network) -> Card:
    found = _first_dense(network.graph)
    if not network.masks:
        return Card(note="A dense network has no mask.")
    if found is None:
        return Card(note="The first dense layer sees no image: what it takes has been averaged over it.")
    node, shape = found
    mask = network.masks[node.name]
    whole_image = shape == network.graph.image_shape
    image = network.mean_image if whole_image else None
    height, width, channels = shape
    what = f"the image of {height}x{width}" if whole_image else f"{channels} maps of {height}x{width}"
    remaining = np.count_nonzero(mask.reshape(height, width, -1), axis=2)
    caption = (
        f"{node.name} takes {what}: its remaining weights by place, {remaining.sum():,} in all. "
        f"{np.count_nonzero(remaining == 0):,} of {height * width:,} places have none."
    )
    return Card(figures=[Drawing(figure=figures.folded_mask(mask, shape, image), caption=caption)])


def _first_dense(network: graph.Network) -> tuple[graph.Dense, tuple[int, int, int]] | None:
    """The first dense layer and the shape of what it takes, if that is flattened from images."""
    shapes = network.shapes()
    node = next(node for node in network.nodes if isinstance(node, graph.Dense))
    before = network.nodes[node.inputs[0] - 1]
    if not isinstance(before, graph.Flatten):
        return None
    height, width, channels = shapes[before.inputs[0]]
    return node, (height, width, channels)


def _filters(run: Finished, network: Network) -> Card:
    node = network.graph.layers()[0]
    kernel = node.kernel.dense()
    if kernel.ndim == 2:
        kernel = kernel.reshape(*network.graph.image_shape, -1)
    most = 48
    units = kernel.shape[3]
    shown = (
        f"The {most} of {units} units with the most remaining weights"
        if units > most
        else f"All {units} units"
    )
    channels = "; a unit's channels stand side by side" if kernel.shape[2] > 1 else ""
    caption = f"{shown} of {node.name}: the signs of mask times frozen kernel{channels}."
    if not run.masked:
        caption = f"{shown} of {node.name}, whose kernel is trained{channels}."
    return Card(figures=[Drawing(figure=figures.filters(kernel, most), caption=caption)])


def _units(run: Finished, network: Network) -> Card:
    if not network.masks:
        return Card(note="A dense network has no mask.")
    if any(np.issubdtype(mask.dtype, np.floating) for mask in network.masks.values()):
        return Card(
            note=f"The mask of the rule {run.summary.method} is drawn at random: no unit is dead for certain."
        )
    counts = {name: figures.incoming(mask) for name, mask in network.masks.items()}
    found = masks.units(network.masks)
    rows = []
    for name, units in (*found.layers.items(), ("all", found.all)):
        middle = f"{np.median(counts[name]):,.0f}" if name in counts else ""
        dead = [
            f"{units.dead_outputs:,.0f} of {units.outputs:,.0f}",
            f"{units.dead_inputs:,.0f} of {units.inputs:,.0f}",
        ]
        rows.append((name, middle, *dead))
    head = ["layer", "median weights", "no weight into", "no weight out of"]
    caption = (
        "Half of a layer's units lie in the box, all between the ends of the line; the mark is the median, a cross "
        "says that some unit has none."
    )
    return Card(
        figures=[Drawing(figure=figures.weights_per_unit(counts), caption=caption)],
        tables=[
            Table(caption="Units without a weight: outputs of the layer, and inputs", head=head, rows=rows)
        ],
    )


def _overlap(runs: Sequence[Finished], networks: Sequence[Network]) -> Section:
    return Section(
        anchor="overlap",
        title="Overlap of masks",
        text="Which share of the weights that remain in either of two masks remains in both, and which would if each "
        "layer's mask lay at random. Networks of one seed begin with the same kernels and scores.",
        cards=[_overlap_card(_compared(runs, networks), len(runs))],
    )


def _compared(runs: Sequence[Finished], networks: Sequence[Network]) -> list[tuple[str, masks.Masks]]:
    """Masks to compare: of every run that has one, or of one run's seeds."""
    if len(runs) == 1 and runs[0].masked:
        seeds = sorted(runs[0].summary.seeds, key=lambda seed: seed != runs[0].seed)[:_MOST_SEEDS]
        return [(f"seed {seed}", gather.masks_of(runs[0], seed)) for seed in seeds] if len(seeds) > 1 else []
    return [(run.name, network.masks) for run, network in zip(runs, networks, strict=True) if network.masks]


def _overlap_card(compared: Sequence[tuple[str, masks.Masks]], runs: int) -> Card:
    pairs: dict[str, masks.ByLayer[masks.Overlap]] = {}
    refused = ""
    for (first, one), (second, other) in itertools.combinations(compared, 2):
        try:
            pairs[f"{first}, {second}"] = masks.overlap(one, other)
        except errors.InputError as error:
            refused = refused or f"{first} and {second} are left out: {error}."
    if not pairs:
        alone = "There is one mask." if runs == 1 else "There are no two masks of one network."
        return Card(note=refused or alone)
    rows = []
    for name, pair in pairs.items():
        both = pair.all
        more = both.jaccard / both.jaccard_by_chance if both.jaccard and both.jaccard_by_chance else math.nan
        rows.append(
            (
                name,
                percent(both.jaccard),
                percent(both.jaccard_by_chance),
                "–" if math.isnan(more) else f"{more:.2f}",
                percent(both.agreement),
                percent(both.agreement_by_chance),
            )
        )
    head = ["masks", "overlap", "by chance", "ratio", "equal signs", "by chance"]
    shown = dict(itertools.islice(pairs.items(), _MOST_PAIRS))
    first_layers = set(next(iter(shown.values())).layers)
    shown = {name: pair for name, pair in shown.items() if set(pair.layers) == first_layers}
    caption = "By layer; hollow marks are what chance gives."
    if len(shown) < len(pairs):
        caption += f" The first {len(shown)} of {len(pairs)} pairs."
    return Card(
        figures=[Drawing(figure=figures.overlap(shown), caption=caption)],
        tables=[Table(caption="All layers together", head=head, rows=rows)],
        note=refused,
    )


def _mistakes(run: Finished, network: Network) -> Card:
    found = network.mistakes
    if isinstance(found, str):
        return Card(note=f"Not shown: {found}.")
    if not found.wrong:
        return Card(note=f"All {found.total:,} test images are recognized.")
    return _mistakes_card(found)


def _mistakes_card(found: Mistakes) -> Card:
    labels, predictions = ([str(label) for label in values] for values in (found.labels, found.predictions))
    caption = (
        f"{found.wrong:,} of {found.total:,} test images are taken for something else "
        f"({100 * (1 - found.wrong / found.total):.2f} % accuracy). The {len(labels)} with the largest loss: what it "
        "is → what the network says, and how sure it is of that."
    )
    rows = [
        (str(place), label, prediction, percent(sure, 1), f"{100 * true:.2g} %")
        for place, (label, prediction, sure, true) in enumerate(
            zip(labels, predictions, found.sure, found.true, strict=True), start=1
        )
    ]
    head = ["", "label", "prediction", "probability", "of the label"]
    drawing = figures.hardest(found.images, labels, predictions, found.sure.tolist())
    return Card(
        figures=[Drawing(figure=drawing, caption=caption)],
        tables=[Table(caption="The same in numbers", head=head, rows=rows, folded=True)],
    )


def _sizes(run: Finished, network: Network) -> Card:
    layers = network.graph.layers()
    weights = sum(layer.kernel.values.size for layer in layers)
    sizes = {"dense, float32": 4 * weights}
    rows: list[Iterable[str]] = []
    if all(layer.kernel.ternary for layer in layers):
        sizes["2 bits a weight"] = sum(-(-layer.kernel.values.size // 4) for layer in layers)
    if all(layer.kernel.values.dtype == np.int8 for layer in layers):
        bits = {layer.name: coder.entropy(layer.kernel.values) for layer in layers}
        sizes["entropy"] = math.ceil(sum(bits.values()) / 8)
        rows = [_row(layer, bits[layer.name]) for layer in layers]
    return _sizes_card(sizes, [list(row) for row in rows])


def _row(layer: graph.Conv | graph.Dense, bits: float) -> tuple[str, ...]:
    size = layer.kernel.values.size
    share = percent(layer.kernel.remaining / size)
    return layer.name, f"{size:,}", share, f"{bits / size:.3f}", figures.in_bytes(bits / 8)


def _sizes_card(sizes: Mapping[str, int], rows: Sequence[Sequence[str]]) -> Card:
    dense = next(iter(sizes.values()))
    whole = [(name, f"{size:,}", f"{dense / size:,.1f}") for name, size in sizes.items()]
    tables = [Table(caption="Sizes", head=["", "bytes", "times smaller"], rows=whole)]
    if rows:
        head = ["layer", "weights", "remaining", "bits a weight", "entropy"]
        tables.append(Table(caption="Entropy of -1, 0 and +1 by layer", head=head, rows=rows))
    caption = "The kernels, as floating point numbers and as what there is to know of them."
    return Card(figures=[Drawing(figure=figures.sizes(sizes), caption=caption)], tables=tables)


_PER_RUN = (
    ("layers", "Layers", "", _layers),
    (
        "image-mask",
        "The first dense layer's mask on the image",
        "Where weights remain is where the network looks.",
        _image_mask,
    ),
    ("filters", "First-layer filters", "", _filters),
    ("units", "Weights per unit and dead units", "", _units),
    ("mistakes", "Hardest test images", "", _mistakes),
    ("size", "Size", "", _sizes),
)

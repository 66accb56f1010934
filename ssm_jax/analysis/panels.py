"""What a report shows of one run: texts, tables and figures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ssm_jax import graph
from ssm_jax.analysis import figures, masks, style
from ssm_jax.analysis.read_runs import Network, Shown
from ssm_jax.artifact.sizes import Sizes, entropy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_FILTERS = 48
# Longer tables are shown on demand.
_MOST_ROWS = 20
_DENSE = "A dense network has no mask."


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


def number(share: float | None) -> str:
    """Write a share in per cent, without the sign; a dash where there is none.

    Args:
      share: The share.

    Examples:
      >>> number(0.0377), number(None)
      ('3.77', '–')
    """
    return "–" if share is None else f"{100 * share:.2f}"


def layers(run: Shown, network: Network) -> Card:
    """Show the shares of -1, 0 and +1.

    Args:
      run: The run.
      network: Its network.
    """
    layers = run.layers
    names = ("inverted", "hidden", "kept")
    rows = []
    for layer in layers:
        shares = [number(getattr(layer, name)) for name in names]
        rows.append((layer.name, "x".join(map(str, layer.shape)), f"{layer.weights:,}", *shares))
    total = run.weights
    means = [sum(getattr(layer, name) * layer.weights for layer in layers) / total for name in names]
    rows.append(("all", "", f"{total:,}", *map(number, means)))
    head = ["layer", "kernel", "weights", "-1 %", "0 %", "+1 %"]
    caption = "Shares by layer" + ", means over seeds" * (len(run.seeds) > 1)
    table = Table(caption=caption, head=head, rows=rows, folded=len(rows) > _MOST_ROWS)
    if not run.has_masks:
        return Card(tables=[table], note=_DENSE)
    if run.signs_alone:
        drawing = figures.layer_shares(layers, ("negative", "hidden", "positive"))
        caption = "Signs of the effective kernels: the file does not tell which weights the mask inverts."
    else:
        drawing = figures.layer_shares(layers)
        caption = "What the mask does to the weights of every layer."
    return Card(figures=[Drawing(figure=drawing, caption=caption)], tables=[table])


def image_mask(run: Shown, network: Network) -> Card:
    """Show where in the image the weights of the first dense layer remain.

    Args:
      run: The run.
      network: Its network.
    """
    if not run.has_masks:
        return Card(note=_DENSE)
    node, shape = _first_dense(network)
    if node is None:
        return Card(note="No dense layer has a mask.")
    if shape is None:
        return Card(note=f"{node.name} sees no image: what it takes is no longer one.")
    mask = network.masks[node.name]
    whole = shape == network.graph.image_shape
    height, width, channels = shape
    remaining = masks.fold(mask, shape)
    caption = (
        f"{node.name} takes {'the image' if whole else f'{channels} maps'} of {height}x{width}: its weights "
        f"that remain by place, {remaining.sum():,.0f} in all. {np.count_nonzero(remaining == 0):,} of "
        f"{height * width:,} places have none."
    )
    drawing = figures.folded_mask(mask, shape, network.mean_image if whole else None)
    return Card(figures=[Drawing(figure=drawing, caption=caption)])


def _first_dense(network: Network) -> tuple[graph.Dense | None, tuple[int, int, int] | None]:
    """The first dense layer with a mask, and the shape `(H, W, C)` that is flattened before it, if one is."""
    nodes = network.graph.nodes
    masked = (node for node in nodes if isinstance(node, graph.Dense) and node.name in network.masks)
    node = next(masked, None)
    before = None if node is None else nodes[node.inputs[0] - 1]
    if not isinstance(before, graph.Flatten):
        return node, None
    shape = network.graph.shapes()[before.inputs[0]]
    return node, (shape[0], shape[1], shape[2]) if len(shape) == 3 else None


def filters(run: Shown, network: Network) -> Card:
    """Show the effective kernels of the first layer.

    Args:
      run: The run.
      network: Its network.
    """
    node, shape = network.graph.layers()[0], network.graph.image_shape
    kernel = node.kernel.dense()
    if kernel.ndim == 2 and len(shape) == 3 and math.prod(shape) == len(kernel):
        kernel = kernel.reshape(*shape, -1)
    if kernel.ndim != 4:
        return Card(note=f"The kernel of {node.name}, {list(kernel.shape)}, is no filter of an image.")
    count = kernel.shape[3]
    which = (
        f"The {_MOST_FILTERS} of {count} units with the most weights"
        if count > _MOST_FILTERS
        else "All units"
    )
    what = "the signs of mask times frozen kernel" if run.has_masks else "the trained kernel"
    channels = "; the channels of a unit side by side" if kernel.shape[2] > 1 else ""
    caption = f"{which} of {node.name}: {what}{channels}."
    return Card(figures=[Drawing(figure=figures.filters(kernel, _MOST_FILTERS), caption=caption)])


def units(run: Shown, network: Network) -> Card:
    """Show how many weights remain per unit, and which units are dead.

    Args:
      run: The run.
      network: Its network.
    """
    if not run.has_masks:
        return Card(note=_DENSE)
    if network.random:
        return Card(note=f"The rule {run.rule} draws its mask at random: no unit is dead for certain.")
    counts = {name: masks.incoming(mask) for name, mask in network.masks.items()}
    units = masks.units(network.masks)
    rows = []
    for name, of in (*units.layers.items(), ("all", units.all)):
        dead, unused = f"{of.dead_outputs:,} of {of.outputs:,}", f"{of.dead_inputs:,} of {of.inputs:,}"
        rows.append((name, f"{np.median(counts[name]):,.0f}" if name in counts else "", dead, unused))
    head = ["layer", "median", "dead units", "unused inputs"]
    caption = (
        "Half of a layer's units lie in the box, all between the ends of the line; the mark is the median, a "
        "cross says that some units have none. These are dead; an unused input has no weight out of it."
    )
    return Card(
        figures=[Drawing(figure=figures.weights_per_unit(counts), caption=caption)],
        tables=[
            Table(caption="Dead units and unused inputs", head=head, rows=rows, folded=len(rows) > _MOST_ROWS)
        ],
    )


def mistakes(run: Shown, network: Network) -> Card:
    """Show the test images that the network is farthest from.

    Args:
      run: The run.
      network: Its network.
    """
    mistakes = network.mistakes
    if isinstance(mistakes, str):
        return Card(note=f"Not shown: {mistakes}.")
    if not mistakes.wrong:
        return Card(note=f"All {mistakes.total:,} test images are recognized.")
    names = network.artifact.class_names
    labels, predictions = ([names[i] for i in values] for values in (mistakes.labels, mistakes.predictions))
    accuracy = f"{100 * (1 - mistakes.wrong / mistakes.total):.2f} % accuracy"
    which = f"The first {len(labels)}" if len(labels) < mistakes.wrong else "All"
    caption = (
        f"{mistakes.wrong:,} of {mistakes.total:,} test images are taken for something else ({accuracy}). "
        f"{which}, the largest loss first: what it is → what the network says, and how sure it is of that."
    )
    cells = zip(labels, predictions, mistakes.sure, mistakes.true, strict=True)
    rows = [
        (str(place), label, prediction, f"{100 * sure:.1f}", f"{100 * true:.2g}")
        for place, (label, prediction, sure, true) in enumerate(cells, start=1)
    ]
    head = ["", "label", "prediction", "its probability %", "the label's %"]
    drawing = figures.hardest(mistakes.images, labels, predictions, mistakes.sure.tolist())
    return Card(
        figures=[Drawing(figure=drawing, caption=caption)],
        tables=[Table(caption="The same in numbers", head=head, rows=rows, folded=True)],
    )


def sizes(run: Shown, network: Network) -> Card:
    """Show the size of the artifact beside what it could be.

    Args:
      run: The run.
      network: Its network.
    """
    layers = network.graph.layers()
    together = Sizes.of(layer.kernel for layer in layers)
    sizes = {"dense, float32": together.float32}
    if together.two_bits is not None:
        sizes["2 bits a weight"] = together.two_bits
    rows: list[tuple[str, ...]] = []
    if all(layer.kernel.values.dtype == np.int8 for layer in layers):
        sizes["entropy"] = together.entropy
        for layer in layers:
            count, own = layer.kernel.values.size, entropy(layer.kernel)
            remaining = number(layer.kernel.remaining / count)
            rows.append((layer.name, remaining, f"{own / count:.3f}", style.in_bytes(own / 8)))
    sizes[".ssm file"] = network.size
    whole = [
        (name, f"{size:,}", f"{sizes['dense, float32'] / max(size, 1):,.1f}") for name, size in sizes.items()
    ]
    tables = [Table(caption="Sizes", head=["", "bytes", "times smaller"], rows=whole)]
    if rows:
        head = ["layer", "remaining %", "bits a weight", "entropy"]
        folded = len(rows) > _MOST_ROWS
        tables.append(Table(caption="Entropy of a layer's signs", head=head, rows=rows, folded=folded))
    caption = (
        "The kernels as floating point numbers, with two bits a weight, and what there is to know of them by "
        "the shares of every layer; the file holds what else the network needs, and its record."
    )
    drawing = figures.sizes({name: max(size, 1) for name, size in sizes.items()})
    return Card(figures=[Drawing(figure=drawing, caption=caption)], tables=tables)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A section that has a card of every run.

    Attributes:
      anchor: Its name in the page.
      title: Its heading.
      text: What stands below that.
      card: Makes the card of a run.
    """

    anchor: str
    title: str
    text: str
    card: Callable[[Shown, Network], Card]


KINDS = (
    Kind("layers", "Layers", "", layers),
    Kind(
        "image-mask",
        "The first dense layer's mask on the image",
        "Where weights remain is where the network looks.",
        image_mask,
    ),
    Kind("filters", "First-layer filters", "", filters),
    Kind("units", "Weights per unit and dead units", "", units),
    Kind("mistakes", "Hardest test images", "", mistakes),
    Kind("size", "Size", "", sizes),
)

"""`ssm-jax predict`: labels and probabilities of images."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ssm_jax import errors, terminal
from ssm_jax.artifact.format import Artifact
from ssm_jax.cli import sources, status
from ssm_jax.cli.parser import Parser
from ssm_jax.data import images
from ssm_jax.graph import bounds
from ssm_jax.runs.progress import Counter

_ABOUT = """Label images by a trained network.

Images are .npy files of uint8 [H, W, C] or [B, H, W, C] (the C may be left out where it is 1), taken as they
are, or photos in PNG, JPEG, WebP, GIF, BMP, TIFF or PPM, of 8 bits a channel. A photo is cut in the middle
to the aspect of the network's images, resized bilinearly, and made gray for one channel; what is
transparent becomes black. It should look like those of the training: handwritten digits, for one, are
bright on dark there. A file that can't be read is named, and the others are labeled; the exit status is then
2."""

# So many images at a time, fewer where their values would take more than a gigabyte, and labels of each.
_BATCH = 256
_MOST_ELEMENTS = 2**28
_TOP = 3
_MOST = 1_000_000


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="ssm-jax predict",
        description=_ABOUT,
        examples=[
            "runs/digits/model.ssm photo.png",
            "runs/own images.npy --model own.py:build   # a run of your own model",
            "model.ssm images.npy photos/*.jpg --top 5",
            "model.ssm images.npy --json | jq .label",
        ],
    )
    parser.add_argument("network", metavar="NETWORK", help=sources.SOURCE)
    parser.add_argument("images", metavar="IMAGES", nargs="+", help=".npy files and photos")
    parser.add_argument("--top", metavar="K", type=int, help=f"labels of each image (default: {_TOP})")
    sources.add(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


@status.program("interrupted")
def main(argv: list[str]) -> None:
    """Do what the arguments say; returns the exit status."""
    arguments = _parser().parse_args(argv)
    artifact = sources.read(arguments, pathlib.Path(os.path.expanduser(arguments.network)))
    network = artifact.network
    height, width, channels = (*network.image_shape, 1, 1)[:3]
    if network.image_dtype != "uint8" or (len(network.image_shape), len(network.shapes()[-1])) != (3, 1):
        raise errors.InputError(
            f"{arguments.network} takes {network.image_dtype} {list(network.image_shape)} and gives "
            f"{list(network.shapes()[-1])}; predict is of uint8 images [H, W, C] and one label each"
        )
    classes = network.classes
    top = min(_TOP, classes) if arguments.top is None else arguments.top
    if not 1 <= top <= classes:
        raise errors.out_of_range("--top", top, f"1 to {classes}, the number of classes")
    with warnings.catch_warnings():
        # One line, without the place in this program.
        warnings.showwarning = lambda message, *_: terminal.complain(f"warning: {message}")
        pictures, faults = _read(arguments.images, (height, width, channels))
        if len(arguments.images) == 1 and faults:
            raise faults[0]
        for fault in faults:
            terminal.complain(f"error: {fault}")
        if pictures:
            _predict(artifact, pictures, top, as_json=arguments.json)
    if faults:
        raise errors.InputError(f"{len(faults)} of {len(arguments.images)} files can't be read")


def _predict(artifact: Artifact, pictures: Sequence[_Image], top: int, *, as_json: bool) -> None:
    # JAX takes a second to import, and what is wrong with the arguments has been said.
    from ssm_jax.artifact.load import Model

    model, names = Model(artifact), artifact.class_names
    widths = max(map(len, ("image", *map(str, pictures)))), max(map(len, ("label", *names)))
    lines = _json if as_json else functools.partial(_text, widths)
    if not as_json:
        terminal.say(_columns(widths, "image", "label", "probability", "next" * (top > 1)))
    counter = Counter(len(pictures), "images")
    size = max(1, min(_BATCH, len(pictures), _MOST_ELEMENTS // bounds.live(artifact.network)))
    for chunk, probabilities in _probabilities(model, pictures, size):
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        for image, order, row in zip(chunk, best.tolist(), probabilities.tolist()):
            terminal.say(lines(image, [(names[label], row[label]) for label in order]))
        counter.add(len(chunk))


@dataclasses.dataclass(frozen=True)
class _Image:
    """Where an image comes from; `index` is its place in a file of several."""

    file: str
    index: int | None
    array: np.ndarray

    def __str__(self) -> str:
        return self.file if self.index is None else f"{self.file}[{self.index}]"


def _read(
    paths: Sequence[str], image_shape: tuple[int, int, int]
) -> tuple[list[_Image], list[errors.InputError]]:
    """Read what can be read, and say what is wrong with the rest."""
    counter, pictures, faults = Counter(len(paths), "files read"), list[_Image](), list[errors.InputError]()
    for path in paths:
        try:
            array, batch = images.read(pathlib.Path(path), image_shape)
            if len(pictures) + len(array) > _MOST:
                raise errors.InputError(f"{path} makes more than {_MOST:,} images: label fewer at a time")
        except errors.InputError as error:
            faults.append(error)
        else:
            pictures += [_Image(path, i if batch else None, image) for i, image in enumerate(array)]
        counter.add(1)
    return pictures, faults


def _probabilities(
    model: Callable[[np.ndarray], Any], pictures: Sequence[_Image], size: int
) -> Iterator[tuple[Sequence[_Image], np.ndarray]]:
    """Yield up to `size` images and their probabilities, float64 `[B, classes]`, after one another."""
    for first in range(0, len(pictures), size):
        chunk = pictures[first : first + size]
        # Every batch has the same shape, which is compiled once.
        batch = np.zeros((size, *pictures[0].array.shape), np.uint8)
        batch[: len(chunk)] = [image.array for image in chunk]
        logits = np.asarray(model(batch), np.float64)[: len(chunk)]
        if not np.isfinite(logits).all():
            raise errors.RunError(f"the network's outputs for {chunk[0]} to {chunk[-1]} are not all finite")
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        yield chunk, exponentials / exponentials.sum(1, keepdims=True)


def _json(image: _Image, best: Sequence[tuple[str, float]]) -> str:
    (label, probability), *following = best
    return json.dumps(
        {
            "file": image.file,
            "index": image.index,
            "label": label,
            "probability": probability,
            "next": [{"label": label, "probability": probability} for label, probability in following],
        }
    )


def _text(widths: tuple[int, int], image: _Image, best: Sequence[tuple[str, float]]) -> str:
    (label, probability), *following = best
    rest = ", ".join(f"{label} {_percent(probability)}" for label, probability in following)
    return _columns(widths, str(image), label, _percent(probability), rest)


def _columns(widths: tuple[int, int], image: str, label: str, probability: str, rest: str) -> str:
    return f"{image:{widths[0]}}  {label:{widths[1]}}  {probability:>11}  {rest}".rstrip()


def _percent(probability: float) -> str:
    return f"{100 * probability:.2f} %"

"""The four arrays of a dataset: read from the user's .npz file, and checked."""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ssm_jax import files, npz
from ssm_jax.errors import InputError

_log = logging.getLogger("ssm_jax")

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
NAMES = "class_names"


def check(
    source: str,
    given: Mapping[str, Any],
    classes: int | None,
    others: Iterable[str] = (),
    test: float = 0.0,
) -> tuple[dict[str, Any], int]:
    """Bring the four arrays into the form of a dataset.

    Args:
      given: The arrays by name; images may be `stream.Images`, and remain so.
      classes: Number of classes; None where the labels tell.
      test: The share of the training images that become the test images, where there are none.

    Returns:
      The arrays, images uint8 `[N, H, W, C]` and labels int32 `[N]`, and the number of classes.

    Raises:
      InputError: They can't be brought into that form.
    """
    tested = [key for key in ARRAYS[2:] if key in given]
    if test and tested:
        raise InputError(f"{source} has {tested[0]} of its own: set config.data.test=0")
    missing = [key for key in ARRAYS if key not in given and not (test and key in ARRAYS[2:])]
    if missing:
        needed, held = ", ".join(ARRAYS), ", ".join(sorted([*given, *others])) or "nothing"
        hint = "" if tested or missing != list(ARRAYS[2:]) else "; config.data.test=0.1 holds a tenth out"
        raise InputError(f"{source} lacks {', '.join(missing)} (needed: {needed}; it holds {held}){hint}")
    if test:
        given = _with_test(source, given, test)
    arrays = {}
    for split in ("train", "test"):
        images, labels = given[f"{split}_images"], given[f"{split}_labels"]
        where = f"{source}: {split}_images"
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
            got = f"{images.dtype} {list(images.shape)}"
            raise InputError(f"{where} must be uint8 [N, H, W] or [N, H, W, C] and not empty, not {got}")
        images = images if images.ndim == 4 else images[..., None]
        where = f"{source}: {split}_labels"
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise InputError(f"{where} must be integers [N], not {labels.dtype} {list(labels.shape)}")
        if len(labels) != len(images):
            raise InputError(f"{where} must be one for each of the {len(images)} images, not {len(labels)}")
        low, high = int(labels.min()), int(labels.max())
        classes = high + 1 if classes is None else classes
        limit = min(classes, 2**31 - 1)
        if low < 0 or high >= limit:
            raise InputError(f"{where} must be in [0, {limit}), not {low if low < 0 else high}")
        on_disk = not isinstance(images, np.ndarray)
        arrays[f"{split}_images"] = images if on_disk else np.ascontiguousarray(images)
        arrays[f"{split}_labels"] = labels.astype(np.int32)
    train, other = (list(arrays[key].shape[1:]) for key in ("train_images", "test_images"))
    if train != other:
        raise InputError(f"{source}: test_images must be {train} (H, W, C) as train_images are, not {other}")
    assert classes is not None
    return arrays, classes


def held_out(source: str, count: int, share: float, seed: int) -> np.ndarray:
    """Choose the examples that are held out of a training set, always the same.

    Args:
      share: The share of them, above 0 and below 1.

    Returns:
      Whether an example is held out, bool `[count]`.

    Raises:
      InputError: Nothing would be held out, or nothing left.
    """
    held = round(share * count)
    if not 0 < held < count:
        what = "holds out no example" if not held else "leaves no example to train on"
        raise InputError(f"{source} {share!r} of {count} training examples {what}")
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(seed).permutation(count)[:held]] = True
    return chosen


def _with_test(source: str, arrays: Mapping[str, Any], share: float) -> dict[str, Any]:
    images, labels = arrays["train_images"], arrays["train_labels"]
    if images.ndim == 0 or labels.ndim == 0 or len(images) != len(labels):
        raise InputError(f"{source}: train_images and train_labels must be as many")
    chosen = held_out(f"{source}: data.test", len(images), share, seed=1)
    return {
        "train_images": images[~chosen],
        "train_labels": labels[~chosen],
        "test_images": images[chosen],
        "test_labels": labels[chosen],
    }


def find(name: str, root: Callable[[], pathlib.Path]) -> pathlib.Path:
    """Find the user's file, relative to the working directory or else to the folder that `root` returns.

    Raises:
      InputError: There is none.
    """
    path = pathlib.Path(os.path.expanduser(name))
    if os.path.exists(path):
        return path
    folder = root()
    if not os.path.exists(folder / path):
        raise InputError(f"no dataset file {name!r} in {pathlib.Path.cwd()} or in {folder}")
    return folder / path


def read_arrays(path: pathlib.Path, members: Mapping[str, npz.Member]) -> dict[str, np.ndarray]:
    """Read the four arrays, as far as they are there.

    Raises:
      npz.DAMAGE: They can't be read.
    """
    wanted = [name for name in ARRAYS if name in members]
    check_memory(str(path), sum(members[name].size for name in wanted))
    return npz.read(path, wanted)


def check_memory(source: str, needed: int, remedy: str = "") -> None:
    """Check that images fit into this machine's memory.

    Args:
      remedy: The end of the message.

    Raises:
      InputError: They don't.
    """
    memory = _memory()
    if needed > memory:
        raise InputError(
            f"the images of {source} take {needed / 1e9:,.1f} GB, and there is memory of {memory / 1e9:,.1f}"
            f"{remedy}"
        )


def _memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def names_of(path: pathlib.Path, members: Mapping[str, npz.Member]) -> list[str]:
    """Read the names of the classes, of which there may be none.

    Raises:
      InputError: They are no texts.
      npz.DAMAGE: They can't be read.
    """
    member = members.get(NAMES)
    if member is None:
        return []
    if member.dtype.kind != "U" or len(member.shape) != 1 or member.size > files.MOST_TEXT:
        got = f"{member.dtype} {list(member.shape)}"
        raise InputError(f"{path}: {NAMES} must be texts [classes], not {got}")
    return list(map(str, npz.read(path, [NAMES])[NAMES]))


def check_likely(source: str, arrays: Mapping[str, np.ndarray], classes: int, named: bool) -> None:
    """Refuse arrays that have a valid form and are most likely meant otherwise; warn of others.

    Raises:
      InputError: Channels come first, there is only one class, or labels are not numbered from 0.
    """
    rows, columns, channels = arrays["train_images"].shape[1:]
    shape = f"{source}: train_images are {[rows, columns, channels]} (H, W, C)"
    if channels > 4 and rows in (1, 3, 4):
        if columns == channels:
            raise InputError(f"{shape}: with channels first? Store images.transpose(0, 2, 3, 1)")
        _log.warning("%s, of %d channels", shape, channels)
    present = np.unique(arrays["train_labels"])
    labels = f"{source}: train_labels"
    if len(present) == 1:
        raise InputError(f"{labels} are all {present[0]}; at least two classes are needed")
    if present[0] == 1 and not named and len(present) == classes - 1:
        raise InputError(f"{labels} are 1 to {classes - 1}; the first class is 0: subtract 1")
    if 2 * len(present) < classes:
        raise InputError(
            f"{labels} name {len(present)} classes, the last of them {present[-1]}: number them from 0 on"
        )
    if len(present) < classes:
        missing = np.setdiff1d(np.arange(classes), present)
        some = ", ".join(map(str, missing[:5])) + ", ..." * (len(missing) > 5)
        _log.warning("%s have no example of %d of %d classes: %s", labels, len(missing), classes, some)

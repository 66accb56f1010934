"""Image files as the uint8 images that a network takes."""

from __future__ import annotations

import contextlib
import math
import pathlib
import threading
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps

from ssm_jax import errors, files

_NPY = b"\x93NUMPY"

# What pillow may take a file for: of others it starts programs, such as Ghostscript for PostScript.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

# By number of channels: gray and color.
_MODES = {1: "L", 3: "RGB"}

# What a photo may have, and what of it is decoded: at most 1.2 GB. A larger JPEG is decoded at a half, a
# quarter or an eighth of its size.
_MOST_PIXELS = 2**28
_DECODED_PIXELS = 2**27


def read(path: pathlib.Path, image_shape: tuple[int, int, int]) -> tuple[np.ndarray, bool]:
    """Read a numpy file or a photo; a large numpy file stays on disk until it is used.

    A photo is turned as its camera says, cut in the middle to the network's aspect and resized bilinearly; it
    becomes gray for one channel, and what is transparent black.

    Args:
      path: A `.npy` of uint8 `[H, W, C]` or `[B, H, W, C]`, the C left out or not where it is 1, or a photo
        in one of `FORMATS`.
      image_shape: `(H, W, C)` of the network.

    Returns:
      uint8 `[B, H, W, C]`, and whether it is a batch: False for a photo and for an array of one image.

    Raises:
      InputError: The file can't be read, or holds something else.
    """
    try:
        files.check_regular(path)
        with path.open("rb") as file:
            start = file.read(len(_NPY))
    except OSError as error:
        raise errors.InputError(f"cannot read {path}: {files.reason(error)}") from error
    if start == _NPY:
        return _array(path, image_shape)
    return read_photo(path, image_shape)[None], False


def shape_of(path: pathlib.Path) -> tuple[int, int, int]:
    """Tell the shape (H, W, C) of a photo, turned as its camera says: C is 1 of a gray one, else 3.

    Raises:
      InputError: It can't be read, or holds something else.
    """
    with _opened(path) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) > 4
        width, height = reversed(image.size) if turned else image.size
        return height, width, 1 if image.mode in ("1", "L", "LA", "La") else 3


def _array(path: pathlib.Path, image_shape: tuple[int, int, int]) -> tuple[np.ndarray, bool]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    # Of a damaged header numpy raises whatever reads it as Python, such as `tokenize.TokenError`.
    except Exception as error:
        raise errors.InputError(f"cannot read {path}: {errors.one_line(error)}") from error
    whole, gray = image_shape, image_shape[:2]
    allowed = [whole, *([gray] if whole[2] == 1 else [])]
    if array.dtype != np.uint8 or not array.size or not {array.shape, array.shape[1:]} & set(allowed):
        shapes = " or ".join("x".join(map(str, shape)) for shape in allowed)
        raise errors.InputError(
            f"{path} holds {array.dtype} of shape {array.shape}; allowed is uint8 (0 to 255), one image of "
            f"{shapes} or a batch of them"
        )
    return array.reshape(-1, *whole), array.shape not in allowed


def read_photo(path: pathlib.Path, image_shape: tuple[int, int, int], *, resize: bool = True) -> np.ndarray:
    """Read a photo, turned as its camera says; see `read`.

    Args:
      path: A photo in one of `FORMATS`.
      image_shape: `(H, W, C)` of the network.
      resize: Whether it may be of another size, and is cut and resized then.

    Returns:
      uint8 `[H, W, C]`.

    Raises:
      InputError: The file can't be read, or holds something else.
    """
    height, width, channels = image_shape
    if channels not in _MODES:
        raise errors.InputError(
            f"{path} is no .npy file, and the network takes images of {channels} channels"
        )
    with _opened(path) as image:
        _shrink(image, path)
        ImageOps.exif_transpose(image, in_place=True)
        if not resize and image.size != (width, height):
            raise errors.InputError(
                f"{path} is {image.height}x{image.width}, others are {height}x{width}: set "
                "config.data.image_size"
            )
        if image.has_transparency_data:
            # Colors multiplied by their opacity, which is what they are in front of black.
            turned = (image if image.mode == "RGBA" else image.convert("RGBA")).convert("RGBa")
        else:
            turned = image if image.mode == _MODES[channels] else image.convert(_MODES[channels])
        # An image of the network's size stays as it is.
        fitted = ImageOps.fit(turned, (width, height), Image.Resampling.BILINEAR)
        if fitted.mode == "RGBa":
            fitted = Image.merge("RGB", fitted.split()[:3]).convert(_MODES[channels])
        return np.asarray(fitted).reshape(image_shape)


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[ImageFile.ImageFile]:
    """Open a photo, and turn whatever is wrong with it into an `InputError`."""
    try:
        files.check_regular(path)
        with any_size(), Image.open(path, formats=FORMATS) as image:
            _check(image, path)
            yield image
    except errors.InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise errors.InputError(f"cannot read {path}: {_kind(path)}") from error
    # Pillow raises whatever its decoders raise, on files that are damaged.
    except Exception as error:
        raise errors.InputError(f"cannot read {path}: {errors.one_line(error)}") from error


_inside: list[int | None] = []  # pillow's limit, once for everyone inside `any_size`
_entering = threading.Lock()


@contextlib.contextmanager
def any_size() -> Iterator[None]:
    """Let pillow open large images, in every thread; how large they may be is checked before anything is
    decoded.
    """
    with _entering:
        _inside.append(_inside[0] if _inside else Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _entering:
            limit = _inside.pop()
            if not _inside:
                Image.MAX_IMAGE_PIXELS = limit


def _check(image: ImageFile.ImageFile, path: pathlib.Path) -> None:
    """Refuse what would be read in part."""
    # Of color that has 16 bits a channel, pillow drops the lower ones; gray it would clip, as floats.
    wide = image.mode.startswith(("I", "F"))
    for tile in image.tile:
        deepest = tile.args[1] if tile.codec_name == "ppm" and isinstance(tile.args, tuple) else 0
        wide = wide or ";16" in str(tile.args) or int(deepest or 0) > 255
    if wide:
        raise errors.InputError(f"{path} has more than 8 bits a channel: convert it to 8")
    # A JPEG with several pictures holds the photo first, then previews of it.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise errors.InputError(f"{path} holds several pictures ({image.format}): save the one you mean")


def _shrink(image: ImageFile.ImageFile, path: pathlib.Path) -> None:
    """Have a large JPEG decoded at a part of its size; refuse what remains too large."""
    size, pixels = image.size, math.prod(image.size)
    if _DECODED_PIXELS < pixels <= _MOST_PIXELS:
        factor = 2 ** math.ceil(math.log(pixels / _DECODED_PIXELS, 4))
        image.draft(image.mode, (size[0] // factor, size[1] // factor))
    if pixels > _MOST_PIXELS or math.prod(image.size) > _DECODED_PIXELS:
        most = _MOST_PIXELS if image.format in ("JPEG", "MPO") else _DECODED_PIXELS
        raise errors.InputError(
            f"{path} has {size[0]} x {size[1]} pixels; allowed are {most / 1e6:.0f} million: make it smaller"
        )


def _kind(path: pathlib.Path) -> str:
    """Say what a file is that pillow may not read."""
    allowed = f"allowed are {', '.join(FORMATS)} and .npy"
    with path.open("rb") as file:
        start = file.read(8)
    if start[4:] == b"ftyp":
        return f"it is HEIC, or a relative of it: convert it to JPEG ({allowed})"
    return f"neither a .npy file nor an image ({allowed})"

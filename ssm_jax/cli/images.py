"""Image files as the uint8 images that a network takes."""

from __future__ import annotations

import pathlib

import numpy as np
from PIL import Image, ImageOps

from ssm_jax import errors, files

_NPY = b"\x93NUMPY"

# By number of channels: gray and color. What has 16 bits or floats a channel would be clipped.
_MODES = {1: "L", 3: "RGB"}
_WIDE = ("I", "F")


def read(path: pathlib.Path, image_shape: tuple[int, int, int]) -> tuple[np.ndarray, bool]:
    """Read a numpy file or a photo; a large numpy file stays on disk until it is used.

    A photo is turned as its camera says, cut in the middle to the network's aspect and resized bilinearly; it
    becomes gray for one channel, and what is transparent black.

    Args:
      path: A `.npy` of uint8 `[H, W, C]` or `[B, H, W, C]`, the C left out or not where it is 1, or whatever
        pillow reads.
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
    return _photo(path, image_shape)[None], False


def _array(path: pathlib.Path, image_shape: tuple[int, int, int]) -> tuple[np.ndarray, bool]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    # Of a damaged header numpy raises whatever reads it as Python, such as `tokenize.TokenError`.
    except Exception as error:
        raise errors.InputError(f"cannot read {path}: {errors.one_line(error)}") from error
    whole, one = image_shape, image_shape[:2]
    allowed = [whole, *([one] if whole[2] == 1 else [])]
    if array.dtype != np.uint8 or not array.size or not {array.shape, array.shape[1:]} & set(allowed):
        shapes = " or ".join("x".join(map(str, shape)) for shape in allowed)
        raise errors.InputError(
            f"{path} holds {array.dtype} of shape {array.shape}; allowed is uint8 (0 to 255), one image of "
            f"{shapes} or a batch of them"
        )
    return array.reshape(-1, *whole), array.shape not in allowed


def _photo(path: pathlib.Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    height, width, channels = image_shape
    if channels not in _MODES:
        raise errors.InputError(
            f"{path} is no .npy file, and the network takes images of {channels} channels"
        )
    try:
        with Image.open(path) as image:
            if image.mode.startswith(_WIDE):
                raise errors.InputError(f"{path} has more than 8 bits a channel ({image.mode}): convert it")
            turned = ImageOps.exif_transpose(image)
            if turned.has_transparency_data:
                turned = turned.convert("RGBA")
                turned = Image.alpha_composite(Image.new("RGBA", turned.size, "black"), turned)
            turned = turned.convert(_MODES[channels])
            # An image of the network's size stays as it is.
            fitted = ImageOps.fit(turned, (width, height), Image.Resampling.BILINEAR)
    except errors.InputError:
        raise
    # Pillow raises whatever its decoders raise, on files that are damaged or no images.
    except Exception as error:
        text = "neither a .npy file nor an image" if isinstance(error, Image.UnidentifiedImageError) else ""
        raise errors.InputError(f"cannot read {path}: {text or errors.one_line(error)}") from error
    return np.asarray(fitted).reshape(image_shape)

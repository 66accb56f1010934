"""Image files become the uint8 images that a network takes, or are refused in one line."""

import os

import numpy as np
import pytest
from PIL import Image

from ssm_jax import errors
from ssm_jax.cli import images

GREY, COLOR = (2, 3, 1), (2, 3, 3)


def save(path, array):
    np.save(path, array)
    return path


def fault(path, image_shape=GREY):
    with pytest.raises(errors.InputError) as caught:
        images.read(path, image_shape)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    return text


@pytest.mark.parametrize(
    ("shape", "image_shape", "batch"),
    [
        ((2, 3, 3), COLOR, False),
        ((4, 2, 3, 3), COLOR, True),
        ((1, 2, 3, 3), COLOR, True),
        ((2, 3, 1), GREY, False),
        ((2, 3), GREY, False),
        ((4, 2, 3, 1), GREY, True),
        ((4, 2, 3), GREY, True),
    ],
)
def test_an_array_is_taken_as_it_is(tmp_path, shape, image_shape, batch):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    read, is_batch = images.read(save(tmp_path / "a.npy", array), image_shape)
    assert is_batch is batch and read.shape[1:] == image_shape and read.dtype == np.uint8
    np.testing.assert_array_equal(read.ravel(), array.ravel())


@pytest.mark.parametrize(
    ("array", "image_shape", "given"),
    [
        (np.zeros((2, 3, 3), np.float32), COLOR, "float32 of shape (2, 3, 3)"),
        (np.zeros((2, 3, 3), np.int64), COLOR, "int64 of shape (2, 3, 3)"),
        (np.zeros((2, 3), np.uint8), COLOR, "uint8 of shape (2, 3)"),
        (np.zeros((3, 2, 3), np.uint8), COLOR, "uint8 of shape (3, 2, 3)"),
        (np.zeros((0, 2, 3, 3), np.uint8), COLOR, "uint8 of shape (0, 2, 3, 3)"),
        (np.uint8(3), COLOR, "uint8 of shape ()"),
    ],
)
def test_an_array_of_another_type_or_shape_is_refused(tmp_path, array, image_shape, given):
    text = fault(save(tmp_path / "a.npy", array), image_shape)
    assert f"holds {given}; allowed is uint8 (0 to 255), one image of 2x3x3 or a batch of them" in text


def test_both_shapes_of_one_channel_are_named(tmp_path):
    assert "one image of 2x3x1 or 2x3 or a batch" in fault(
        save(tmp_path / "a.npy", np.zeros((3, 3), np.uint8))
    )


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([print], object), allow_pickle=True)
    assert "Python objects" in fault(tmp_path / "a.npy")


def test_a_truncated_array_is_refused(tmp_path):
    path = save(tmp_path / "a.npy", np.zeros((2, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-1])
    assert fault(path).startswith("cannot read")


@pytest.mark.parametrize(("mode", "image_shape"), [("L", GREY), ("RGB", COLOR)])
def test_a_photo_of_the_networks_size_is_taken_as_it_is(tmp_path, mode, image_shape):
    array = np.arange(np.prod(image_shape), dtype=np.uint8).reshape(image_shape)
    Image.fromarray(array.squeeze()).convert(mode).save(tmp_path / "a.png")
    read, batch = images.read(tmp_path / "a.png", image_shape)
    np.testing.assert_array_equal(read[0], array)
    assert not batch


def test_a_photo_is_cut_in_the_middle_and_resized(tmp_path):
    # Of 16 columns the 6 in the middle have the network's aspect; the filter reaches a little beyond.
    array = np.zeros((4, 16), np.uint8)
    array[:, 3:13] = 200
    Image.fromarray(array).save(tmp_path / "a.png")
    assert (images.read(tmp_path / "a.png", GREY)[0] == 200).all()


def test_color_becomes_grey_and_grey_color(tmp_path):
    Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / "red.png")
    assert (images.read(tmp_path / "red.png", GREY)[0] == 76).all()  # 0.299 of 255, ITU-R 601
    Image.new("L", (3, 2), 9).save(tmp_path / "grey.png")
    assert (images.read(tmp_path / "grey.png", COLOR)[0] == 9).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_becomes_black(tmp_path, mode):
    Image.new("RGBA", (3, 2), (255, 255, 255, 0)).convert(mode).save(tmp_path / "a.png")
    assert not images.read(tmp_path / "a.png", GREY)[0].any()


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    Image.fromarray(np.uint8([[1, 2], [3, 4], [5, 6]])).save(tmp_path / "a.png", exif=exif)
    assert images.read(tmp_path / "a.png", GREY)[0][0, :, :, 0].tolist() == [[5, 3, 1], [6, 4, 2]]


def test_a_photo_of_16_bits_is_refused(tmp_path):
    Image.fromarray(np.zeros((2, 3), np.uint16)).save(tmp_path / "a.png")
    assert "more than 8 bits a channel" in fault(tmp_path / "a.png")


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    assert "neither a .npy file nor an image" in fault(tmp_path / "a.txt")
    assert "No such file" in fault(tmp_path / "none.png")
    assert "not a regular file" in fault(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in fault(tmp_path / "pipe")


def test_a_truncated_photo_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("a.png", "a.jpg"):
        path = tmp_path / name
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:800])
        assert fault(path, COLOR).startswith("cannot read")


def test_a_network_of_other_channels_takes_no_photos(tmp_path):
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    assert "the network takes images of 2 channels" in fault(tmp_path / "a.png", (2, 3, 2))

"""Image files become the uint8 images that a network takes, or are refused in one line."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from ssm_jax import errors
from ssm_jax.data import images

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


@pytest.mark.parametrize(
    "header", [b"{'descr': (", b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,)}" % 2**70]
)
def test_a_damaged_header_of_an_array_is_refused(tmp_path, header):
    header = header + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + bytes([len(header), 0]) + header)
    assert fault(tmp_path / "a.npy").startswith("cannot read")


def test_no_program_is_started_for_a_photo(tmp_path, monkeypatch):
    # Pillow hands PostScript to Ghostscript, whatever the file's name.
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was started"))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    header = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "photo.jpg").write_bytes(header)
    assert "neither a .npy file nor an image (allowed are PNG, JPEG" in fault(tmp_path / "photo.jpg")


@pytest.mark.parametrize("name", [b"heic", b"mif1", b"avif"])
def test_a_photo_that_pillow_cannot_read_is_to_be_converted(tmp_path, name):
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftyp" + name + bytes(100))
    assert "it is HEIC, or a relative of it: convert it to JPEG" in fault(tmp_path / "photo.heic")


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(path, size, depth, color, rows=b""):
    """Write a PNG of any header."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))
    return path


def test_colors_of_16_bits_are_refused_as_grays_are(tmp_path):
    row = b"\0" + struct.pack(">6H", *range(1, 7))
    assert "more than 8 bits a channel" in fault(png(tmp_path / "a.png", (2, 2), 16, 2, 2 * row))
    (tmp_path / "a.ppm").write_bytes(b"P6 2 1 65535\n" + bytes(12))
    assert "more than 8 bits a channel" in fault(tmp_path / "a.ppm")
    (tmp_path / "b.ppm").write_bytes(b"P6 3 2 255\n" + bytes(18))
    assert not images.read(tmp_path / "b.ppm", COLOR)[0].any()


@pytest.mark.parametrize("ending", ["gif", "webp", "tiff"])
def test_several_pictures_in_a_file_are_refused(tmp_path, ending):
    first, second = (Image.new("RGB", (3, 2), color) for color in ("red", "blue"))
    path = tmp_path / f"a.{ending}"
    first.save(path, save_all=True, append_images=[second])
    assert f"holds several pictures ({ending.upper()}): save the one you mean" in fault(path, COLOR)
    first.save(path)
    images.read(path, COLOR)


def test_a_photo_too_large_is_refused_before_it_is_decoded(tmp_path):
    path = png(tmp_path / "a.png", (12_000, 12_000), 8, 6)
    assert f"{path} has 12000 x 12000 pixels; allowed are 134 million: make it smaller" in fault(path)
    image = Image.new("L", (8, 8))
    image.save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data.replace(b"\0\x08\0\x08", b"\xff\xff\xff\xff", 1))
    assert "has 65535 x 65535 pixels; allowed are 268 million" in fault(tmp_path / "a.jpg")


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_DECODED_PIXELS", 64 * 64)
    Image.new("L", (256, 128), 200).save(tmp_path / "a.jpg")
    fitted, fit = [], ImageOps.fit
    monkeypatch.setattr(ImageOps, "fit", lambda image, *rest: fitted.append(image.size) or fit(image, *rest))
    before = Image.MAX_IMAGE_PIXELS
    assert (images.read(tmp_path / "a.jpg", GREY)[0] == 200).all()
    assert fitted == [(64, 32)] and before == Image.MAX_IMAGE_PIXELS


def test_whatever_pillow_raises_is_one_line(tmp_path, monkeypatch):
    path = png(tmp_path / "a.png", (3, 2), 8, 0, bytes(8))

    def fit(*_):
        raise NotImplementedError("first\nsecond")

    monkeypatch.setattr("PIL.ImageOps.fit", fit)
    assert fault(path) == f"cannot read {path}: first second"

"""Images in folders of their class."""

import numpy as np
import pytest
from PIL import Image

from ssm_jax.data import arrays, datasets
from ssm_jax.errors import InputError


def save(path, value, size=(6, 4), mode="RGB"):
    """A picture of one color; size is width, height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes of three and two training images, one test image; cats are red, dogs blue."""
    for split, counts in (("train", {"cat": 3, "dog": 2}), ("test", {"dog": 1})):
        for name, count in counts.items():
            for i in range(count):
                save(tmp_path / split / name / f"{i}.png", (9 + i, 0, 0) if name == "cat" else (0, 0, 200))
    (tmp_path / "train" / "cat" / ".hidden").write_text("no image")
    return tmp_path


def load(folder, **options):
    return datasets.load(f"{folder}/", **options)


def refused(folder, **options):
    with pytest.raises(InputError) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_read_by_class_and_name(folder):
    data = load(folder)
    assert data.image_shape == (4, 6, 3) and data.classes == 2 and data.name == folder.name
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1] and data.test_labels.tolist() == [1]
    assert data.train_images[:, 0, 0, 0].tolist() == [9, 10, 11, 0, 0]
    assert (data.test_images == [0, 0, 200]).all()
    assert datasets.class_names(f"{folder}/", classes=2) == ("cat", "dog")


def test_the_version_is_of_every_pixel(folder):
    before = load(folder).version
    assert load(folder).version == before
    save(folder / "train" / "cat" / "0.png", (10, 0, 0))
    assert load(folder).version != before


@pytest.mark.parametrize(("options", "shape"), [({"image_size": 8}, (8, 8, 3)), ({"channels": 1}, (4, 6, 1))])
def test_images_are_resized_and_made_gray_as_asked(folder, options, shape):
    data = load(folder, **options)
    assert data.image_shape == shape
    dog = data.test_images
    assert (dog == ([0, 0, 200] if shape[2] == 3 else 23)).all()  # 0.114 of blue, ITU-R 601


def test_gray_images_have_one_channel(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "train" / name / "0.png", 7, mode="L")
        save(tmp_path / "test" / name / "0.png", 7, mode="L")
    assert load(tmp_path).image_shape == (4, 6, 1)


def test_a_share_is_held_out_where_there_are_no_test_images(folder):
    (folder / "test" / "dog" / "0.png").unlink()
    (folder / "test" / "dog").rmdir()
    (folder / "test").rmdir()
    assert "config.data.test=0.1 holds a tenth out" in refused(folder)
    data = load(folder, test=0.4)
    assert (len(data.train_labels), len(data.test_labels)) == (3, 2)
    again = load(folder, test=0.4)
    np.testing.assert_array_equal(again.test_images, data.test_images)
    whole = sorted([*data.train_images[:, 0, 0, 0], *data.test_images[:, 0, 0, 0]])
    assert whole == [0, 0, 9, 10, 11]


def test_what_a_folder_may_not_hold(folder, tmp_path):
    assert "has test_images of its own" in refused(folder, test=0.5)
    save(folder / "train" / "cat" / "3.png", (0, 0, 0), size=(5, 5))
    assert "3.png is 5x5, others are 4x6: set config.data.image_size" in refused(folder)
    (folder / "train" / "cat" / "3.png").write_text("no image")
    assert "3.png: neither a .npy file nor an image" in refused(folder)
    (folder / "test" / "cow").mkdir()
    assert "has a folder 'cow', and train has none" in refused(folder)


@pytest.mark.parametrize("made", [[], ["train"], ["train/cat"]])
def test_a_folder_without_classes_is_refused(tmp_path, made):
    for name in made:
        (tmp_path / name).mkdir(parents=True)
    assert "train" in refused(tmp_path)


def test_settings_of_a_folder_are_of_a_folder():
    with pytest.raises(InputError, match=r"image_size is of a folder of images, and data\.name is 'digits'"):
        datasets.load("digits", image_size=8)


def test_a_streamed_folder_holds_what_a_loaded_one_holds(folder):
    whole, streamed = (load(folder, stream=stream) for stream in (False, True))
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(np.asarray(getattr(streamed, name)), getattr(whole, name))
    assert streamed.image_shape == whole.image_shape and streamed.classes == whole.classes
    halves = [load(folder, stream=stream, validation=0.4) for stream in (False, True)]
    np.testing.assert_array_equal(np.asarray(halves[1].validation_images), halves[0].validation_images)
    np.testing.assert_array_equal(np.asarray(halves[1].train_images), halves[0].train_images)


def test_the_version_of_a_streamed_folder_is_of_names_and_sizes(folder):
    before = load(folder, stream=True).version
    assert load(folder, stream=True).version == before
    (folder / "train" / "cat" / "2.png").rename(folder / "train" / "cat" / "3.png")
    renamed = load(folder, stream=True).version
    save(folder / "train" / "cat" / "3.png", (9, 9, 9), size=(60, 40))
    assert len({before, renamed, load(folder, stream=True).version}) == 3


def test_a_streamed_image_is_checked_when_it_is_read(folder):
    save(folder / "train" / "cat" / "3.png", (0, 0, 0), size=(5, 5))
    images = load(folder, stream=True).train_images
    with pytest.raises(InputError, match=r"3\.png is 5x5, others are 4x6: set config\.data\.image_size"):
        np.asarray(images)


def test_a_folder_that_does_not_fit_into_memory_can_be_streamed(folder, monkeypatch):
    monkeypatch.setattr(arrays, "_memory", lambda: 100)
    assert refused(folder).endswith("; config.data.stream=true reads them while it trains")
    assert len(load(folder, stream=True).train_images) == 5

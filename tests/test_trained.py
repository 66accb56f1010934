import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ssm_jax
from ssm_jax import config
from ssm_jax.data import batches, datasets
from ssm_jax.nn import layers
from ssm_jax.trained import restore_each


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two seeds."""
    settings = config.default()
    settings.update_from_flattened_dict(
        {"data.name": "digits", "model.width": 0.1, "training.epochs": 2, "seed": 5, "seeds": 2}
    )
    workdir = tmp_path_factory.mktemp("trained") / "run"
    return workdir, ssm_jax.train_and_evaluate(settings, workdir)


@pytest.mark.parametrize("place", [0, 1])
def test_the_restored_network_has_the_accuracy_of_the_summary(run, place):
    workdir, summary = run
    trained = ssm_jax.restore(workdir, seed=5 + place)
    data = datasets.load("digits")
    logits = trained.logits(data.test_images)
    accuracy = 100 * np.mean(logits.argmax(-1) == data.test_labels)
    assert summary.test_accuracy.values[place] == pytest.approx(accuracy)
    themselves = trained.model(batches.standardize(jnp.asarray(data.test_images)))
    np.testing.assert_allclose(logits, themselves, atol=1e-5)


def test_logits_are_of_images_as_they_are(run):
    trained = ssm_jax.restore(run[0])
    for images, said in (
        (np.zeros((1, 8, 8, 1), np.float32), r"images are float32 \[1, 8, 8, 1\]; allowed is uint8"),
        (np.zeros((8, 8, 1), np.uint8), r"images are uint8 \[8, 8, 1\]; allowed is uint8 \[B, H, W, C\]"),
    ):
        with pytest.raises(ssm_jax.InputError, match=said):
            trained.logits(images)


def test_masks_are_the_scores_beyond_the_threshold(run):
    trained = ssm_jax.restore(run[0])
    for path, layer in layers.masked_layers(trained.model):
        scores, threshold = np.asarray(layer.scores[...]), float(layer.rule_state["threshold"][...])
        expected = np.where(scores > threshold, 1, np.where(scores < -threshold, -1, 0))
        np.testing.assert_array_equal(trained.masks[path], expected)
        assert trained.masks[path].dtype == np.int8


def test_config_seed_and_step_come_back(run):
    trained = ssm_jax.restore(run[0])
    assert (trained.seed, trained.step) == (5, 2 * 12) and trained.config.model.width == 0.1


def test_all_networks_are_restored_one_after_another(run):
    found = list(restore_each(run[0]))
    assert [one.seed for one in found] == [5, 6]
    for one in found:
        expected = ssm_jax.restore(run[0], seed=one.seed)
        for path, mask in expected.masks.items():
            np.testing.assert_array_equal(one.masks[path], mask)
    assert [one.seed for one in restore_each(run[0], [6])] == [6]


def test_what_is_not_there_is_named(run, tmp_path):
    with pytest.raises(ssm_jax.InputError, match="holds no run"):
        ssm_jax.restore(tmp_path)
    with pytest.raises(ssm_jax.InputError, match="is a file; a run is given by its folder"):
        ssm_jax.restore(run[0] / "run.json")
    with pytest.raises(ssm_jax.InputError, match="no seed 7: it has 5 to 6"):
        ssm_jax.restore(run[0], seed=7)
    with pytest.raises(ssm_jax.InputError, match=r"no checkpoint.*only config\.checkpoint\.best keeps one"):
        ssm_jax.restore(run[0], best=True)


def test_another_model_is_refused_by_name(run, tmp_path):
    with pytest.raises(ssm_jax.InputError, match="trained fcn: leave `model` out"):
        ssm_jax.restore(run[0], model=nnx.Module)
    values = json.loads((run[0] / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(values | {"model": "Own", "network": "Own"}))
    for model in (None, nnx.Module):
        with pytest.raises(ssm_jax.InputError, match="trained Own: pass the same `model`, Own"):
            ssm_jax.restore(tmp_path, model=model)


def test_a_run_that_has_just_begun_has_no_checkpoint_yet(run, tmp_path):
    shutil.copy(run[0] / "run.json", tmp_path)
    with pytest.raises(ssm_jax.InputError, match=r"no checkpoint in .* yet"):
        ssm_jax.restore(tmp_path)


def test_restoring_leaves_a_save_under_way_alone_and_says_nothing(run, caplog):
    folder = run[0] / "checkpoints" / "5" / "latest"
    saving = folder / "99.orbax-checkpoint-tmp"
    saving.mkdir()
    ssm_jax.restore(run[0])
    assert saving.is_dir() and not caplog.records
    saving.rmdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 9}, r"is of another network: .*\[2, 10, 10\], not \[2, 10, 9\]"),
        (
            {"image_shape": [8, 9, 1]},
            r"is of another network: .*\[2, 64, 30\], not \[2, 72, 30\]",
        ),
        ({"seeds_per_group": 1}, r"is of another network"),
        (
            {"seeds_per_group": 10**5, "config": {None: {"seeds": 10**5}}},
            r"is of another network: .*is \[2\], not \[100000\]",
        ),
        ({"seeds_per_group": 3}, r"run\.json: seeds_per_group is 3; allowed is 1 to 2"),
        ({"image_shape": [2**31 - 1] * 3, "classes": 2**31 - 1}, r"run\.json"),
        ({"config": {"model": {"name": "conv9"}}}, r"run\.json: unknown network 'conv9'"),
    ],
)
def test_a_record_that_contradicts_the_checkpoint(run, tmp_path, change, message):
    shutil.copytree(run[0], tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    values = json.loads(path.read_text())
    for section, fields in change.pop("config", {}).items():
        (values["config"][section] if section else values["config"]).update(fields)
    path.write_text(json.dumps(values | change))
    with pytest.raises(ssm_jax.InputError, match=message) as caught:
        ssm_jax.restore(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_run_that_knew_fewer_settings_is_restored(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    values = json.loads(path.read_text())
    del values["config"]["schedule"], values["config"]["mask"]["threshold"]
    path.write_text(json.dumps(values))
    expected, trained = ssm_jax.restore(run[0]), ssm_jax.restore(tmp_path / "run")
    assert trained.config == expected.config
    for name, mask in expected.masks.items():
        np.testing.assert_array_equal(trained.masks[name], mask)

"""The transformer: what it sees, how it is trained, and the record of two steps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ssm_jax
from examples import characters, record, text

CODES = np.frombuffer(b"to keep, to hide or to invert: " * 20, np.uint8)


@pytest.fixture(scope="module", autouse=True)
def small():
    """A network of one narrow block that reads nine characters."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("CONTEXT", 8), ("WIDTH", 16), ("HEADS", 2), ("BLOCKS", 1), ("BATCH", 4)):
            patch.setattr(characters, name, value)
        yield


def model():
    return characters.Transformer(nnx.Rngs(0))


@pytest.mark.slow
def test_no_character_sees_those_that_follow():
    net, codes = model(), jnp.asarray(CODES[:8])[None]
    changed = jnp.abs(net(codes) - net(codes.at[0, 5].set(7))).max(-1)[0] > 1e-6
    assert changed.tolist() == [False] * 5 + [True] * 3


def test_every_projection_is_masked_and_embeddings_stay():
    masked = nnx.eval_shape(lambda: ssm_jax.supermask(model()))
    names = {name for name, _ in ssm_jax.masked_layers(masked)}
    projections = {f"blocks/0/attention/{name}" for name in ("query", "key", "value", "out")}
    assert names == {"blocks/0/up", "blocks/0/down", "head"} | projections
    assert type(masked.characters.embedding) is type(masked.places.embedding) is nnx.Param


@pytest.mark.slow
@pytest.mark.parametrize("density", [0.2, 1.0])
def test_a_step_moves_what_is_trained_and_leaves_random_kernels_alone(density):
    net = ssm_jax.supermask(model(), characters.masking(density)) if density < 1 else model()
    kinds = [ssm_jax.Frozen, nnx.Param]
    before = [jax.tree.map(np.asarray, jax.tree.leaves(nnx.state(net, kind))) for kind in kinds]
    characters.train(net, CODES, 3, 0, 1e-3)
    after = [jax.tree.leaves(nnx.state(net, kind)) for kind in kinds]
    frozen, trained = (
        [np.array_equal(*pair) for pair in zip(*sides, strict=True)]
        for sides in zip(before, after, strict=True)
    )
    assert all(frozen) and not any(trained)
    if density < 1:
        assert ssm_jax.remaining_weights(net) == pytest.approx(density, rel=0.05)


@pytest.mark.slow
def test_it_learns_a_sentence_under_masks():
    net = ssm_jax.supermask(model(), characters.masking(0.5))
    before = characters.test(net, CODES)
    characters.train(net, CODES, 40, 0, 1e-2)
    assert characters.test(net, CODES) < 0.7 * before


@pytest.mark.slow
def test_the_test_counts_every_character_but_the_first_of_a_window():
    net = model()
    windows = jnp.asarray(CODES[:18].reshape(2, 9))
    logits = jax.nn.log_softmax(net(windows[:, :-1]))
    expected = -np.mean([logits[i, j, windows[i, j + 1]] for i in range(2) for j in range(8)]) / np.log(2)
    assert characters.test(net, CODES[:20]) == pytest.approx(expected, rel=1e-4)


def test_a_density_that_is_none_is_refused_before_anything_is_read(monkeypatch):
    monkeypatch.setattr(text, "standard_library", None)
    for density in (0, 1, 2):
        with pytest.raises(ssm_jax.InputError, match="allowed is above 0 and below 1"):
            characters.main([f"--density={density}"])


@pytest.mark.slow
def test_one_command_trains_both_and_writes_the_record(tmp_path, monkeypatch, capsys):
    library = text.Text(CODES[:300], CODES[300:])
    monkeypatch.setattr(text, "standard_library", lambda: library)
    path = tmp_path / "characters.json"
    characters.main(["--steps=2", "--seed=3", "--density=0.3", f"--json={path}"])
    found = record.read(path)
    assert (found.example, found.network, found.measure) == ("characters", "Transformer", record.BITS)
    assert found.training == {"steps": 2, "batch": 4, "context": 8}
    assert found.weights == 4 * 16 * 16 + 2 * 16 * 64 + 16 * text.SYMBOLS
    assert found.details == library.details and found.data == text.name()
    assert found.masked.seeds == found.dense.seeds == (3,)
    assert found.masked.remaining_weights == pytest.approx([0.3], rel=0.02)
    assert found.dense.remaining_weights == (1.0,)
    assert found.baselines == {"frequencies": pytest.approx(library.frequencies())}
    printed = capsys.readouterr().out
    assert "blocks/0/attention/query" in printed and f"{found.dense.values[0]:.2f}" in printed

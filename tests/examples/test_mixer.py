"""The mixer: what it mixes, its masks, and the record of a run of one step."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ssm_jax
from examples import mixer, record


@pytest.mark.slow
def test_one_command_trains_both_and_writes_the_record(tmp_path, images):
    path = tmp_path / "mixer.json"
    arguments = ["--epochs=1", "--seeds=1", f"--data={images}", f"--workdir={tmp_path}", f"--json={path}"]
    mixer.main(arguments)
    found = record.read(path)
    assert (found.example, found.network, found.training) == ("mixer", "Mixer", {"epochs": 1, "batch": 128})
    assert found.masked.remaining_weights == pytest.approx([mixer.MASKING.rule.density], rel=0.01)
    assert found.dense.remaining_weights == (1.0,)
    model = ssm_jax.restore(tmp_path / "masked", model=mixer.masked).model
    assert model(jnp.ones((2, 28, 28, 1))).shape == (2, 10)
    assert ssm_jax.remaining_weights(model) == found.masked.remaining_weights[0]

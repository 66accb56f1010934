"""The step's program as training makes it, lowered for the devices that tests have."""

import jax
import pytest

from benchmarks.compiled.lowering import Program, lower


@pytest.mark.parametrize("seeds", [1, 8])
def test_an_epoch_is_lowered_for_devices_that_share_batches_or_seeds(seeds):
    devices = jax.devices()
    program = Program("h100", "fcn", False, "float32", seeds, len(devices), 128)
    lowered, steps = lower(program, devices)
    text = lowered.as_text()
    assert steps == 469 and "stablehlo.while" in text
    assert ("all_reduce" in text) == (seeds == 1)
    assert f"tensor<{128 // len(devices) if seeds == 1 else 128}x784xf32>" in text

"""Records of examples: what they hold, and the table that is made from them."""

from __future__ import annotations

import pathlib

import pytest

from examples import record
from ssm_jax import errors
from ssm_jax.runs import schema

ROOT = pathlib.Path(__file__).parents[2]


def trained(*values, remaining=1.0):
    return record.Trained(
        seeds=tuple(range(len(values))),
        values=values,
        remaining_weights=(remaining,) * len(values),
        train_seconds=2.5,
    )


def made(**changes):
    fields = {
        "example": "net",
        "network": "Net",
        "data": "digits",
        "training": {"epochs": 3, "batch": 1024},
        "measure": record.ACCURACY,
        "weights": 1200,
        "masked": trained(98.0, 99.0, remaining=0.031),
        "dense": trained(99.0),
    }
    return record.Record(**fields | changes)


def test_it_is_written_and_read(tmp_path):
    written = made(baselines={"chance": 10.0})
    record.finish(written, tmp_path / "new" / "net.json")
    found = record.read(tmp_path / "new" / "net.json")
    assert found == written
    assert found.device_count == 8 and {"python", "jax", "flax"} <= set(found.versions)


def test_what_is_no_record_is_refused(tmp_path):
    with pytest.raises(errors.InputError, match=r"there is no record .*net\.json"):
        record.read(tmp_path / "net.json")


def test_the_table_has_a_row_for_each_record(tmp_path):
    schema.write(tmp_path / "b.json", made())
    schema.write(tmp_path / "a.json", made(measure=record.BITS, masked=trained(2.5, remaining=0.25)))
    head, rule, first, second = record.table(tmp_path).splitlines()
    assert head == "| model | data | training | n | weights | remaining % | masked | dense |"
    assert rule == "|" + " --- |" * 8
    middle = "| net.Net | digits | epochs 3, batch 1,024 |"
    assert first == f"{middle} 1 | 1,200 | 25.00 | 2.50 bits per character | 99.00 |"
    assert second == f"{middle} 2 | 1,200 | 3.10 ± 0.00 | 98.50 ± 0.71 accuracy % | 99.00 |"


def test_flags_have_the_types_of_their_defaults():
    given = record.arguments("text", ["--epochs=2", "--json=x.json"], epochs=5, density=0.5, workdir="runs/x")
    assert (given.epochs, given.density, given.workdir) == (2, 0.5, "runs/x")
    assert given.json == pathlib.Path("x.json")
    with pytest.raises(errors.InputError, match="invalid float value: 'half'"):
        record.arguments("text", ["--density=half"], density=0.5)

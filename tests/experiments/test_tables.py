"""Tables of made-up results, against intervals computed by hand."""

import csv
import io
import math

import pytest

from ssm_jax.experiments import tables
from ssm_jax.experiments.results import results
from ssm_jax.runs.summary import Failure, Statistics

# Student's t for 95 % and 1, 2 and 19 degrees of freedom, from a printed table.
T = {1: 12.706, 2: 4.303, 19: 2.093}


@pytest.mark.parametrize(("values", "std"), [([1.0, 3.0], math.sqrt(2)), ([1.0, 2.0, 3.0], 1.0)])
def test_an_interval_is_students(values, std):
    expected = T[len(values) - 1] * std / math.sqrt(len(values))
    assert tables.half_width(Statistics.of(values)) == pytest.approx(expected, rel=1e-3)


def test_twenty_values_have_their_own_t():
    values = [0.0, 2.0] * 10
    std = math.sqrt(20 / 19)
    expected = T[19] * std / math.sqrt(20)
    assert tables.half_width(Statistics.of(values)) == pytest.approx(expected, rel=1e-3)


def test_one_value_has_no_interval():
    assert tables.half_width(Statistics.of([5.0])) is None


def cells(markdown):
    """The rows of a Markdown table, by column."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_row_holds_what_its_summaries_say(planned, summarized):
    runs = [
        (planned("fcn", row="fcn"), summarized([97.0, 98.0], [0.03, 0.04])),
        (planned("fcn", seed=2, row="fcn"), summarized([99.0], [0.05], seed=2)),
        (planned("fcn-dense", row="fcn"), summarized([98.0], [1.0], method="dense", epochs=50)),
    ]
    text = tables.markdown(results(runs))
    masked, dense = cells(text)
    assert masked == {
        "row": "fcn",
        "epochs": "100",
        "n": "3",
        "accuracy %": "98.00 ± 1.00",
        "accuracy, 95 %": "95.52 to 100.48",
        "remaining %": "4.00 ± 1.00",
        "remaining, 95 %": "1.52 to 6.48",
        "paper %": "97.48 at 3.77",
        "difference": "+0.52 at +0.23",
    }
    assert (dense["epochs"], dense["n"], dense["accuracy, 95 %"]) == ("50", "1", "")
    assert (dense["accuracy %"], dense["paper %"], dense["difference"]) == ("98.00", "97.42", "+0.58")
    assert text.endswith("All rows: 1 x cpu, Python 3.13.0, jax 0.12.")


def test_rows_of_several_devices_name_their_own(planned, summarized):
    runs = [
        (planned("a", rule="signed"), summarized([97.0], [0.03])),
        (planned("b", rule="binary"), summarized([97.0], [0.03], method="binary", device="H100")),
    ]
    text = tables.markdown(results(runs))
    assert [row["device"] for row in cells(text)] == ["1 x cpu", "1 x H100"]
    assert "versions" not in cells(text)[0] and text.endswith("All rows: Python 3.13.0, jax 0.12.")


def test_networks_that_failed_are_counted(planned, summarized):
    lost = (Failure(seed=1, step=5, metric="loss"),)
    (row,) = cells(tables.markdown(results([(planned("a"), summarized([97.0], [0.1], failed_seeds=lost))])))
    assert row["failed"] == "1" and row["n"] == "1"


def test_the_csv_holds_the_numbers_in_full(planned, summarized):
    runs = [
        (planned("fcn", row="fcn"), summarized([97.0, 98.0, 99.0], [0.03, 0.04, 0.05])),
        (planned("conv2", row="conv2"), summarized([70.0], [0.01], network="conv2")),
    ]
    first, second = csv.DictReader(io.StringIO(tables.to_csv(results(runs))))
    assert first["seeds"] == "0 1 2" and first["n"] == "3"
    assert float(first["accuracy_half_width"]) == pytest.approx(T[2] / math.sqrt(3), rel=1e-3)
    assert float(first["remaining_mean"]) == pytest.approx(0.04)
    assert float(first["paper_remaining"]) == 0.0377
    assert float(first["accuracy_difference"]) == pytest.approx(98 - 97.48)
    assert second["accuracy_half_width"] == second["accuracy_std"] == ""
    assert float(second["accuracy_difference"]) == pytest.approx(70 - 68.37)

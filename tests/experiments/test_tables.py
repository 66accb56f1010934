"""Tables of made-up results, against intervals computed by hand."""

import csv
import dataclasses
import io
import math

import pytest

from ssm_jax.experiments import tables
from ssm_jax.experiments.results import results
from ssm_jax.runs.summary import Failure, Statistics

# Student's t for 95 % and 2 and 19 degrees of freedom, from a printed table.
T = {2: 4.303, 19: 2.093}


def test_an_interval_is_students():
    expected = T[2] * 1.0 / math.sqrt(3)
    assert tables.half_width(Statistics.of([1.0, 2.0, 3.0])) == pytest.approx(expected, rel=1e-3)


def test_twenty_values_have_their_own_t():
    values = [0.0, 2.0] * 10
    std = math.sqrt(20 / 19)
    expected = T[19] * std / math.sqrt(20)
    assert tables.half_width(Statistics.of(values)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("values", [[5.0], [5.0, 6.0]])
def test_fewer_than_three_values_have_no_interval(values):
    assert tables.half_width(Statistics.of(values)) is None


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


def test_a_rate_is_told_by_held_out_images(planned, summarized):
    run, curve = (
        planned("tiles-0.1", rule="tiles", rate="0.1"),
        [{"epoch": 1, "n": 1, "validation_accuracy": 91.234}],
    )
    (result,) = results([(run, summarized([97.0], [0.1]))])
    head, _, row, *_ = tables.markdown([dataclasses.replace(result, curve=curve)]).splitlines()
    assert dict(zip(head.split(" | "), row.split(" | "), strict=True))["held out %"] == "91.23"
    assert "held out" not in tables.markdown([result])


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
    assert row["n"] == "1 of 2"


def test_a_network_that_collapsed_is_counted_and_in_no_mean(planned, summarized):
    """The made-up networks have two classes: half of the images are right by chance."""
    (row,) = cells(tables.markdown(results([(planned("a"), summarized([50.0, 88.0, 90.0], [0.1] * 3))])))
    assert (row["n"], row["accuracy %"]) == ("2 of 3", "89.00 ± 1.41")


def test_where_every_network_collapsed_their_own_mean_is_shown(planned, summarized):
    (row,) = cells(tables.markdown(results([(planned("a"), summarized([50.0, 52.0], [0.1] * 2))])))
    assert (row["n"], row["accuracy %"]) == ("0 of 2", "51.00 ± 1.41")


def test_the_overview_has_a_line_a_network_with_its_dense_twin(planned, summarized):
    runs = [
        (planned("fcn-fast", row="fcn", config="fcn.py:fast"), summarized([97.0], [0.03])),
        (planned("fcn-best", row="fcn", config="fcn.py:best"), summarized([98.0, 99.0], [0.0377] * 2)),
        (
            planned("fcn-best,twin", row="fcn", config="fcn.py:best,twin"),
            summarized([99.0], [1.0], method="dense"),
        ),
        (planned("fcn-dense", row="fcn", config="fcn.py:dense"), summarized([90.0], [1.0], method="dense")),
    ]
    (row,) = cells(tables.overview(results(runs)))
    assert list(row.values()) == [
        "fcn", "mnist", "`best`, 100", "2", "**98.50 ± 0.71**", "99.00", "3.77", "97.48 at 3.77",
    ]  # fmt: skip


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

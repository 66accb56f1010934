"""The tables of reports, and what they say where something is not there."""

import dataclasses

from ssm_jax.analysis import analyze, tables
from ssm_jax.analysis.findings import (
    Connectivity,
    Difference,
    MaskSnapshot,
    Pairs,
    Report,
    RunReport,
    Transfers,
)
from ssm_jax.analysis.masks import ByLayer, Flips, Overlap, Shares, Units
from ssm_jax.runs.summary import Statistics


def all_of(numbers):
    """The same numbers of one layer and of all."""
    return ByLayer(layers={"denses/0": numbers}, all=numbers)


HALF = all_of(Shares(inverted=0.25, hidden=0.5, kept=0.25))
UNITS = all_of(Units(inputs=4, dead_inputs=1.5, outputs=2, dead_outputs=0))
FLIPS = all_of(Flips(appeared=0.01, vanished=0.02, inverted=0.0))
OVERLAP = all_of(Overlap(jaccard=0.3, jaccard_by_chance=0.2, agreement=None, agreement_by_chance=None))
RUN = RunReport(
    name="run",
    network="fcn",
    dataset="mnist",
    rule="signed",
    settings={},
    seeds=(0, 1),
    steps=(20, 20),
    epochs=(2.0, 2.0),
    test_accuracy=Statistics.of([97.0, 98.0]),
    remaining_weights=Statistics.of([0.5, 0.5]),
    device="cpu",
    versions={},
    shares=HALF,
    units=UNITS,
    connectivity=Connectivity(connected=all_of(0.875), units=UNITS),
    moments=(
        MaskSnapshot(epoch=0.0, step=0, shares=HALF, flips=None),
        MaskSnapshot(epoch=1.0, step=10, shares=HALF, flips=FLIPS),
    ),
    since_start=OVERLAP,
    transfer=Transfers(
        kernel_seeds=(2, 3),
        accuracy={name: Statistics.of([10.0, 12.0]) for name in ("trained", "drawn_mask")},
    ),
)


def told(*runs, overlaps=(), differences=()):
    report = Report(runs=runs, overlaps=overlaps, differences=differences, device="cpu", versions={})
    return tables.text(report)


def row(text, *cells):
    """Whether a line of the text holds just these cells."""
    return list(cells) in [line.split() for line in text.splitlines()]


def test_one_run_has_every_table():
    text = told(RUN)
    assert text.startswith(
        "run: fcn on mnist, signed, 2 seeds, 2 epochs: test accuracy 97.50 ± 0.71 %, remaining weights 50.00"
    )
    assert row(text, "denses/0", "25.00", "50.00", "25.00", "4", "1.5", "2", "0", "87.50", "1.5", "0")
    assert row(text, "all", "25.00", "50.00", "25.00", "87.50")
    assert row(text, "0", "25.00", "50.00", "25.00", "-", "-", "-")
    assert row(text, "1", "25.00", "50.00", "25.00", "1.000", "2.000", "0.000")
    assert row(text, "denses/0", "50.000", "50.000") and row(text, "denses/0", "3.000")
    assert row(text, "all", "30.00", "(20.00)", "1.50", "-", "(-)")
    assert "drawn by seeds 2, 3" in text and row(text, "another", "trained", "11.00", "±", "1.41")
    assert "What inversion buys" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_what_is_not_there_is_said():
    unfinished = dataclasses.replace(
        RUN, seeds=(3,), epochs=(0.5,), test_accuracy=None, moments=(), since_start=None, transfer=None
    )
    text = told(unfinished)
    assert "seed 3, 0.5 epochs: not tested at this step, remaining" in text
    assert "--config.logging.masks=true stores them" in text and "other kernels" not in text
    assert "connectivity is not followed through" in told(dataclasses.replace(RUN, connectivity=None))
    assert "draws its mask at random" in told(dataclasses.replace(RUN, units=None, connectivity=None))
    text = told(dataclasses.replace(RUN, rule="dense"))
    assert text.splitlines()[2:] == ["It has no mask."]


def test_a_long_training_is_told_by_some_of_its_reports():
    moments = [
        MaskSnapshot(epoch=float(i), step=i, shares=HALF, flips=FLIPS if i else None) for i in range(101)
    ]
    text = told(dataclasses.replace(RUN, moments=tuple(moments)))
    epochs = [line.split()[0] for line in text.splitlines() if line.endswith(" 0.000") or "- " in line]
    epochs = [int(epoch) for epoch in epochs if epoch.isdigit()]
    assert len(epochs) == 25 and epochs[0] == 0 and epochs[-1] == 100
    assert row(text, "layer", "0", "1", "2", "4", "8", "16", "32", "64", "100")
    assert row(text, "layer", "1", "2", "3", "5", "9", "17", "33", "65", "100")


def test_several_runs_are_compared():
    other = dataclasses.replace(RUN, name="other", rule="binary", seeds=(0,), epochs=(3.0,))
    pairs = Pairs(
        first="run", second="other", same_seed=True, count=1, masks=OVERLAP, effective_signs=OVERLAP
    )
    difference = Difference(
        inverting="run",
        other="other",
        density_ratio=1.02,
        accuracy=0.154,
        standard_error=0.05,
        other_settings=("training.epochs",),
    )
    text = told(
        RUN,
        other,
        overlaps=[pairs, dataclasses.replace(pairs, second="run", count=3)],
        differences=[difference],
    )
    assert "Overlap between run and other, 1 pair of the same seed" in text
    assert "Overlap within run, 3 pairs of the same seed" in text
    assert row(text, "run", "signed", "2", "2", "97.50", "±", "0.71", "50.00", "±", "0.00", "50.00")
    line = "run against other: +0.15 ± 0.05 points (standard error), at 1.02 times the weights; they also "
    assert f"{line}differ in training.epochs." in text


def test_a_real_report_is_laid_out(signed, dense):
    text = tables.text(analyze.analyze([signed, dense], draws=0))
    head = next(line for line in text.splitlines() if line.startswith("layer"))
    assert head.split("  ")[-3:] == ["on a path %", "inputs off", "outputs off"]
    assert "It has no mask." in text

"""The command: one row for each program, whatever becomes of the others, and a file that is kept."""

import dataclasses
import json
import subprocess

import pytest

from benchmarks.compiled import __main__ as command
from benchmarks.compiled import audit, report, targets
from benchmarks.compiled.kernels import Kernel
from benchmarks.compiled.lowering import Program

PROGRAM = Program("v5e", "fcn", False, "bfloat16", 1, 1, 128)


def result(program, microseconds=10.0):
    """What an audit gives of a program of one kernel."""
    kernel = Kernel("fusion.1", "elementwise", "mask", False, 0, 1000, None, False, 1e-6 * microseconds)
    memory = {"argument": 1.0, "output": 1.0, "alias": 0.0, "temp": 2.0}
    counted = audit.report([kernel], 0, targets.TARGETS[program.target], program.precision)
    return {"program": dataclasses.asdict(program), "memory_mb": memory, **counted}


@pytest.fixture
def run(monkeypatch):
    """The command with compilers that take ten microseconds a seed, and fail on Conv2."""
    monkeypatch.setattr(targets, "_installed", lambda module: True)

    def compiled(program):
        if program.network == "conv2":
            return {"program": dataclasses.asdict(program), "failed": "exit status -11: no message"}
        return result(program, 10.0 * program.seeds**0.5 / (2 if program.dense else 1))

    monkeypatch.setattr(command, "run", compiled)
    return lambda line: command.main(line.split())


def test_every_program_is_printed(run, capsys):
    assert run("--target v5e --networks fcn --seeds 1 4 --kernels") == 0
    printed = capsys.readouterr()
    assert "197 TFLOP/s in bfloat16" in printed.out and "0.82 TB/s" in printed.out
    assert "v5e, fcn, signed, bfloat16, seeds 4, devices 1" in printed.out
    assert "1 kernels (1 elementwise)" in printed.out and "estimate: 20 µs a step" in printed.out
    assert "elementwise  mask       fusion.1" in printed.out
    assert len(printed.err.splitlines()) == 2  # progress


def test_a_program_that_fails_costs_one_row(run, capsys, tmp_path):
    path = tmp_path / "new" / "v5e.json"
    assert run(f"--target v5e --networks conv2 fcn --json {path}") == 1
    assert "failed: exit status -11" in capsys.readouterr().out
    fcn, conv2 = json.loads(path.read_text())["programs"]
    assert fcn["estimate_us"]["total"] == 10.0 and conv2["failed"]


def test_a_file_keeps_other_programs_and_replaces_the_same(run, tmp_path):
    path = tmp_path / "v5e.json"
    for line in ("--seeds 4", "--dense", "", "--seeds 4"):
        assert run(f"--target v5e --networks fcn --json {path} {line}") == 0
    stored = json.loads(path.read_text())
    programs = [(p["program"]["seeds"], p["program"]["dense"]) for p in stored["programs"]]
    assert programs == [(1, False), (1, True), (4, False)]
    assert stored["figures"]["bandwidth"] == 0.82e12 and "kernel_list" not in stored["programs"][0]


def test_the_table_compares_with_the_dense_network_and_with_one_seed_after_another(run, tmp_path):
    path = tmp_path / "v5e.json"
    for line in ("--seeds 1 4", "--dense"):
        run(f"--target v5e --networks fcn conv2 --json {path} {line}")
    head, _, one, four = report.markdown([json.loads(path.read_text())]).splitlines()
    assert one == "| v5e | fcn | 1 | 1 | 1 |  |  | 0 | 0.00 | 0 | 10 | 2.00 |  |"
    assert four == "| v5e | fcn | 4 | 1 | 1 |  |  | 0 | 0.00 | 0 | 20 |  | 2.00 |"
    assert head.count("|") == one.count("|")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--target v5 --networks fcn", "unknown target 'v5'; did you mean"),
        ("--target v5e --networks fnc", "unknown network 'fnc'; did you mean 'fcn'?"),
        ("--target v5e --networks fcn --devices 9", "--devices is 9; allowed is 1 to 4 on v5e"),
        ("--target h100 --networks fcn --json {file}", "holds programs for v5e, not for h100"),
        ("--target v5e --networks fcn --json {other}", "holds no results of an audit"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, capsys, tmp_path, line, message):
    file, other = tmp_path / "file.json", tmp_path / "other.json"
    file.write_text('{"target": "v5e", "programs": []}')
    other.write_text("[]")
    assert run(line.format(file=file, other=other)) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and message in printed.err
    assert len(printed.err.splitlines()) == 1


def test_a_process_that_ends_badly_says_how(monkeypatch):
    def crash(command, **options):
        assert options["env"]["JAX_PLATFORMS"] == "cpu" and options["env"]["JAX_NUM_CPU_DEVICES"] == "1"
        return subprocess.CompletedProcess(command, -11, "", "first\nlast line\n")

    monkeypatch.setattr(subprocess, "run", crash)
    assert command.run(PROGRAM)["failed"] == "exit status -11: last line"

    def hang(command, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert command.run(PROGRAM)["failed"] == "not compiled after 1800 s"


def test_a_process_that_cannot_start_its_program_says_why():
    impossible = Program("v5e", "no_network", False, "bfloat16", 1, 1, 128)
    failed = command.run(impossible)["failed"]
    assert failed.startswith("exit status 1: ") and "\n" not in failed

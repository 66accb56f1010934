"""The README's snippet runs, and its results table holds what the files in `results/` say."""

import json
import pathlib
import re

import pytest

from benchmarks.compiled import report
from ssm_jax.runs import schema
from ssm_jax.runs.summary import Summary

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMPILED = set((ROOT / "benchmarks" / "results").glob("compiled-*.json"))
MEASURED = set((ROOT / "benchmarks" / "results").glob("*.json")) - COMPILED
# What the paper says of a row: dense accuracy, accuracy and remaining weights in %.
PAPER = {
    "fcn": "97.48 at 3.77",
    "fcn-tuned": "97.48 at 3.77",
    "fcn-tuned-20-epochs-float32": "97.48 at 3.77",
    "fcn-tuned-20-epochs-bfloat16": "97.48 at 3.77",
    "conv2-40-epochs": "68.37 at 0.60 (100 epochs)",
}


def row(path):
    summary = schema.read(Summary, path)
    seeds = len(summary.seeds)

    def spread(numbers, factor):
        deviation = f" ± {factor * numbers.std:.2f}" if seeds > 1 else ""
        return f"{factor * numbers.mean:.2f}{deviation}"

    cells = [
        f"`{path.stem}`",
        summary.network,
        summary.dataset,
        str(summary.epochs),
        str(seeds),
        spread(summary.test_accuracy, 1),
        spread(summary.remaining_weights, 100),
        PAPER.get(path.stem, ""),
    ]
    return f"| {' | '.join(cells)} |"


def table():
    head = "| file | network | data | epochs | seeds | accuracy % | remaining % | paper % |"
    rows = [row(path) for path in sorted((ROOT / "results").glob("*.json"))]
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *rows])


def speed_row(name, path):
    report = json.loads(path.read_text())
    unit = report["networks"][name]["steps"]["float32"]
    times = {contender: values["median"] for contender, values in unit["contenders"].items()}

    def digits(value):
        return f"{value:.2f}" if value < 10 else f"{value:.0f}"

    torch = f"{digits(times['torch'])} ({unit['torch_over_signed']:.2f})" if "torch" in times else ""
    cells = [
        name,
        report["versions"]["jax"],
        digits(times["signed"]),
        f"{unit['signed_over_dense']:.2f}",
        torch,
        f"{unit['images_per_second']['signed']:,.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def speed_table():
    head = "| network | jax | ms a step | over dense | PyTorch ms (ratio) | images/s |"
    rows = []
    for path in sorted(MEASURED):
        networks = json.loads(path.read_text())["networks"]
        rows += [speed_row(name, path) for name, facts in networks.items() if facts["steps"]]
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *rows])


def test_the_speed_table_is_what_the_files_say():
    found = re.search(r"<!-- speed -->\n(.*?)\n<!-- end of speed -->", README, re.S)
    assert found and found[1] == speed_table()


def test_the_compiled_table_is_what_the_files_say():
    found = re.search(r"<!-- compiled -->\n(.*?)\n<!-- end of compiled -->", README, re.S)
    assert found and found[1] == report.markdown([json.loads(path.read_text()) for path in sorted(COMPILED)])


def test_the_results_table_is_what_the_files_say():
    found = re.search(r"<!-- results -->\n(.*?)\n<!-- end of results -->", README, re.S)
    assert found and found[1] == table()


def test_the_snippet_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"<!-- snippet -->\n```python\n(.*?)```", README, re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.strip().endswith("(256, 10)")


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links_lead_to_files(link):
    assert (ROOT / link).exists()

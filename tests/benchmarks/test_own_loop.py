"""The benchmark of loops of one's own: what is trained, and the table of the guide."""

from __future__ import annotations

import json
import pathlib
import re

import pytest

from benchmarks import own_loop

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_a_report_holds_what_it_has_and_is_a_table(tmp_path, capsys):
    path = tmp_path / "report.json"
    flags = ["--json", str(path), "--epochs", "1", "--seeds", "1", "--models", "CNN", "--rates", "0.01"]
    own_loop.main(flags)
    report = json.loads(path.read_text())
    assert [row["remaining_weights"][0] for row in report["rows"][:2]] == [1.0, 1.0]
    assert abs(report["rows"][2]["remaining_weights"][0] - 0.2) < 1e-4
    report["rows"][3] |= {"accuracy": [87.25], "remaining_weights": [0.05]}
    path.write_text(json.dumps(report))
    capsys.readouterr()
    own_loop.main(flags)  # trains nothing anew
    lines = capsys.readouterr().out.splitlines()
    assert "| CNN | `ssm_jax.Optimizer` | 5 | 5.0 | **87.2** |" in lines


def test_the_table_of_the_guide_is_what_the_file_says():
    report = json.loads((ROOT / "results" / "own-loop" / "digits.json").read_text())
    text = (ROOT / "docs" / "guides" / "own-loop.md").read_text()
    found = re.search(r"<!-- own loop -->\n(.*?)\n<!-- end of own loop -->", text, re.S)
    assert found and found[1] == own_loop.table(report)
    assert all(len(row["accuracy"]) == own_loop.SEEDS for row in report["rows"])
    assert f"jax {report['versions']['jax']}" in text and f"{report['training']['epochs']} epochs" in text

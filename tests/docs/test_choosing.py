"""The page on choosing a decoder says what is registered and what was measured."""

import json
import runpy
from dataclasses import asdict
from pathlib import Path

from remask.evaluation.frontier import Point

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "make_choosing_a_decoder.py"), run_name="script")


def test_the_page_is_up_to_date():
    assert (DOCS / "choosing_a_decoder.md").read_text(encoding="utf-8") == SCRIPT["page"](), "run python docs/make_choosing_a_decoder.py"


def test_a_measured_frontier_becomes_a_table_with_and_without_losses(tmp_path):
    points = [
        Point("low_confidence", "low_confidence", 0.9, (0.85, 0.95), 64.0, 0.5, "x"),
        Point("threshold", "threshold:tau=0.9", 0.895, (0.84, 0.94), 8.0, 4.0, "x", (-0.005, -0.01, 0.002), None, -0.004),
        Point("dus", "dus", 0.5, (0.4, 0.6), 4.0, 8.0, "x", (-0.4, -0.5, -0.3), None, -0.4),
    ]
    about = {"task": "sums", "window": "whole", "chosen_on": 64, "items": 100, "environment": {"device": "cpu", "dtype": "float32"}}
    (tmp_path / "new.jsonl").write_text("".join(json.dumps({**asdict(point), **about}) + "\n" for point in points))
    lines = SCRIPT["frontier"](tmp_path / "new.jsonl")
    assert lines[0] == "### sums"
    assert "0.900 at 64.0 forwards" in lines[2]
    rows = [line for line in lines if line.startswith("| `")]
    assert [row.count("|") for row in rows] == [11, 11, 11]
    assert "`threshold:tau=0.9` | 8.00 | 4.0 | -0.005 (-0.010 to +0.002)" in rows[1]
    assert "| none |" in rows[2]
    old = [{name: value for name, value in asdict(point).items() if name not in ("lost", "gained", "kept")} for point in points]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps({**record, "items": 100, "environment": about["environment"]}) + "\n" for record in old))
    rows = [line for line in SCRIPT["frontier"](tmp_path / "old.jsonl") if line.startswith("| `")]
    assert [row.count("|") for row in rows] == [7, 7, 7]

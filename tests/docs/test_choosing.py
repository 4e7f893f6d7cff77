"""The page on choosing a decoder says what is registered and what was measured."""

import json
import runpy
from dataclasses import asdict
from pathlib import Path

import remask
from remask.evaluation.frontier_points import Point

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


def test_every_registered_decoder_is_in_the_table_of_all():
    table = SCRIPT["page"]().partition("### Every decoder")[2].partition("\n###")[0]
    listed = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(listed) == sorted(remask.decoders())


def test_runs_of_one_task_share_a_table_and_each_line_says_where_it_was_measured(tmp_path):
    """The run of more items speaks for a decoder; the reference alone does not hide another run's sweep of it; what is nowhere near comes last."""

    def run(name, items, card, *points):
        about = {"task": "sums", "chosen_on": items // 4, "items": items, "environment": {"device": card}}
        (tmp_path / name).write_text("".join(json.dumps({**asdict(point), **about}) + "\n" for point in points))
        return tmp_path / name

    def point(spec, accuracy, forwards, lost):
        return Point(spec.partition(":")[0], spec, accuracy, (0.0, 1.0), forwards, 1.0, "", (lost, lost, lost), None, lost)

    base = point("low_confidence", 0.9, 64.0, 0.0)
    small = run("a.jsonl", 100, "small card", base, point("low_confidence:steps=8", 0.895, 8.0, -0.005), point("threshold:tau=0.9", 0.9, 3.0, 0.0), point("dus", 0.5, 4.0, -0.4))
    large = run("b.jsonl", 2000, "large card", base, point("threshold:tau=0.95", 0.895, 5.0, -0.005), point("threshold:tau=0.5", 0.5, 2.0, -0.4))
    lines = SCRIPT["together"]([small, large])
    assert lines[0] == "### Every decoder, sums"
    assert [line.split("|")[2].strip() for line in lines[6:-1]] == ["`threshold:tau=0.95`", "`low_confidence:steps=8`", "", "`dus`"]
    assert [line.split("|")[7].strip() for line in lines[6:-1]] == ["500, 2000", "25, 100", "", "25, 100"]
    assert [line.split("|")[8].strip() for line in lines[6:-1]] == ["large card", "small card", "", "small card"]
    assert lines[-2] == "| `dus` | `dus` | 4.00 | 1.0 | 0.500 | -0.400 (-0.400 to -0.400) | 25, 100 | small card |"

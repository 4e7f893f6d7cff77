"""The frontier: what is kept of a sweep, its area, paired intervals, and a run that is continued."""

import json
import math
import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest

import remask
from remask import RemaskError, parse_decoder
from remask.evaluation import tasks
from remask.evaluation.against import at_equal_forwards
from remask.evaluation.example import spelled
from remask.evaluation.frontier import frontier
from remask.evaluation.frontier_page import page
from remask.evaluation.frontier_plot import picture
from remask.evaluation.frontier_points import Point, area, at_loss, chosen
from remask.evaluation.intervals import paired_difference
from remask.evaluation.results import append_records, read_records
from remask.evaluation.sweeps import SWEEPS, settings
from remask.files import file_name
from remask.text.ending import before_end
from remask.text.tokenizer import Tokenizer
from remask.trace.file import read
from remask.trace.record import replay
from tests.browser import open_browser


def point(forwards, accuracy, name="a"):
    return Point(name, f"{name}:{forwards}", accuracy, (accuracy / 2, accuracy), forwards, 1.0, "<b>text</b>")


def test_only_settings_that_nothing_as_cheap_equals_are_kept():
    found = {"slow": (8.0, 0.9), "fast": (2.0, 0.5), "worse": (4.0, 0.4), "tie": (4.0, 0.5), "better": (4.0, 0.7), "same": (9.0, 0.9)}
    assert chosen(found) == ["fast", "better", "slow"]


def test_the_area_is_the_mean_of_the_best_accuracy_over_log_budgets():
    assert area([point(1, 1.0)], 16) == pytest.approx(1)
    assert area([point(4, 1.0)], 16) == pytest.approx(0.5)
    assert area([point(2, 0.4), point(8, 0.8), point(9, 0.1)], 16) == pytest.approx((0.4 * math.log(4) + 0.8 * math.log(2)) / math.log(16))
    with pytest.raises(RemaskError, match="more than 1"):
        area([point(1, 1.0)], 1.0)


def test_a_paired_interval_is_narrow_where_the_items_agree():
    right = [True] * 60 + [False] * 40
    assert paired_difference(right, right) == (0.0, 0.0, 0.0)
    mean, low, high = paired_difference([True] * 70 + [False] * 30, right)
    assert mean == pytest.approx(0.1)
    assert 0.03 < low < 0.1 < high < 0.17
    with pytest.raises(RemaskError, match="same items"):
        paired_difference([True], [])


def test_items_are_drawn_as_pythons_own_generator_draws_them():
    chance = random.Random(3)
    first, second = ([chance.random() < share for _ in range(97)] for share in (0.8, 0.7))
    gaps = [int(a) - int(b) for a, b in zip(first, second, strict=True)]
    draws = random.Random(5)
    means = sorted(sum(draws.choices(gaps, k=97)) / 97 for _ in range(200))
    assert paired_difference(first, second, draws=200, seed=5) == (sum(gaps) / 97, means[5], means[195])


def test_every_setting_of_every_sweep_parses_and_has_a_file_of_its_own():
    assert set(SWEEPS) <= set(remask.decoders())
    specs = [spec for name in remask.decoders() for spec in settings(name)]
    for spec in specs:
        parse_decoder(spec)
    assert len({file_name(spec) for spec in specs}) == len(specs)


def records(right, forwards):
    return [{"index": place, "right": bool(one), "forwards": cost} for place, (one, cost) in enumerate(zip(right, forwards, strict=True))]


def test_a_decoder_is_held_against_what_the_frontier_has_at_its_forwards():
    """Half-way between 2 and 8 forwards on a logarithmic scale, a frontier of .2 and .6 has .4."""
    cheap, dear = records([1, 0, 0, 0, 0] * 40, [2] * 200), records([1, 1, 1, 0, 0] * 40, [8] * 200)
    mean, low, high = at_equal_forwards(records([1, 1, 1, 1, 0] * 40, [4] * 200), [dear, cheap])
    assert mean == pytest.approx(0.4)
    assert 0.33 < low < 0.4 < high < 0.47
    assert at_equal_forwards(dear, [cheap, dear])[0] == pytest.approx(0)
    assert at_equal_forwards(records([1] * 200, [1] * 200), [cheap, dear]) is None
    assert at_equal_forwards(cheap, [cheap]) is None
    with pytest.raises(RemaskError, match="other items"):
        at_equal_forwards(records([1], [3]), [cheap, dear])


def test_the_interval_at_equal_forwards_is_paired():
    """Where all items agree nothing is left to chance but the forwards."""
    right = [1, 0] * 100
    costs = [3 + place % 3 for place in range(200)]
    mean, low, high = at_equal_forwards(records(right, costs), [records(right, [2] * 200), records(right, [9] * 200)])
    assert (mean, low, high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_the_cheapest_setting_that_kept_its_accuracy_is_chosen_without_looking_at_the_test_split():
    points = [point(64, 0.9), point(2, 0.95, "b"), point(5, 0.5, "b"), point(9, 0.9, "b"), point(3, 0.9, "c")]
    kept = [0.0, -0.2, -0.01, 0.0, -0.011]
    found = at_loss([replace(one, kept=loss) for one, loss in zip(points, kept, strict=True)])
    assert {name: one and one.forwards for name, one in found.items()} == {"a": 64, "b": 5, "c": None}


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RemaskError, match=r"remask\[plot\]"):
        picture([point(1, 0.2)], "a title", tmp_path / "p.png")


def test_a_perfect_and_a_hopeless_setting_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    shares = [(1.0, (0.99, 1 - 2**-53)), (0.0, (2**-60, 0.01))]  # as Wilson's formula rounds them
    picture([replace(point(1 + number, share), interval=bounds) for number, (share, bounds) in enumerate(shares)], "a title", tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_draws_every_point_and_escapes_what_models_write():
    made = page([point(1, 0.2), point(4, 0.8), point(2, 0.5, "b")], "a <title>")
    assert made.count("<circle") == 3
    assert "a (0.200)" in made, "the area: .2 for every budget from 1 to 4"
    assert "b (0.250)" in made, "nothing for the first half of them"
    assert "<b>text" not in made
    assert "&lt;b&gt;text" in made
    assert "http" not in made


def test_the_point_that_is_pointed_at_tells_its_setting_and_its_example(tmp_path):
    driver = open_browser()
    try:
        (tmp_path / "page.html").write_text(page([point(1, 0.2), replace(point(4, 0.8), example="1: a_\n2: <i>ab")], "a title"), encoding="utf-8")
        driver.get((tmp_path / "page.html").as_uri())
        told = driver.find_element("tag name", "pre")
        assert "a:4" not in told.text
        driver.execute_script("document.querySelectorAll('circle')[1].focus()")
        assert told.text.startswith("a:4\naccuracy 0.800 (0.400-0.800), forwards 4.00")
        assert told.text.endswith("1: a_\n2: <i>ab")
        driver.execute_script("document.querySelectorAll('circle')[0].dispatchEvent(new Event('pointerenter'))")
        assert told.text.startswith("a:1\n")
        assert len(driver.find_elements("css selector", ".shown")) == 1
        assert not driver.get_log("browser")
    finally:
        driver.quit()


def swept(checkpoint, folder, reports=None, decode=True, **about):
    """One setting of a tiny network."""
    task, model = tasks.get("sudoku4"), remask.load(str(checkpoint))
    items = task.sample(3, seed=0, split="valid"), task.sample(4, seed=0, split="test")
    report = None if reports is None else lambda *said: reports.append(said)
    parts = {"max_new_tokens": 16, "batch": 2, "sweep": False, "decode": decode}
    return frontier(model, ["threshold:tau=0.5"], *items, folder, make=lambda spec: {"decoder": parse_decoder(spec)}, about=about, report=report, **parts)


def test_progress_is_told_with_what_there_is_to_do_and_not_again_for_what_is_kept(checkpoint, tmp_path):
    said = []
    points = swept(checkpoint, tmp_path, said)
    assert said == [(f"{split} {spec}", done, total) for split, total in (("valid", 3), ("test", 4)) for spec in ("low_confidence", "threshold:tau=0.5") for done in (2, total)]
    assert swept(checkpoint, tmp_path, again := []) == points
    assert again == []


def test_an_item_is_encoded_once_however_many_settings_there_are(checkpoint, tmp_path, monkeypatch):
    asked = []
    own = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, text: (asked.append(text), own(self, text))[1])
    swept(checkpoint, tmp_path)
    task = tasks.get("sudoku4")
    prompts = [item.prompt for split, count in (("valid", 3), ("test", 4)) for item in task.sample(count, seed=0, split=split)]
    examples = [prompts[3]] * 2  # traced apart
    assert sorted(asked) == sorted([*prompts, *examples])


def test_a_folder_of_other_settings_is_refused(checkpoint, tmp_path):
    swept(checkpoint, tmp_path, window="whole")
    with pytest.raises(RemaskError, match="window whole, not blocks:4; name another folder"):
        swept(checkpoint, tmp_path, window="blocks:4")
    swept(checkpoint, tmp_path, window="whole")


@pytest.mark.parametrize(("left", "why"), [('{"window": ', "is not valid JSON"), ("[1]", "holds list, not an object")])
def test_a_note_that_is_broken_is_named(left, why, checkpoint, tmp_path):
    (tmp_path / "run.json").write_text(left)
    with pytest.raises(RemaskError, match=rf"run.json {why}.*; begin anew in another folder"):
        swept(checkpoint, tmp_path)


def test_a_run_that_was_cut_off_is_reported_as_far_as_it_came_and_on_another_device(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(RemaskError, match="no run was begun"):
        swept(checkpoint, tmp_path, decode=False)
    points = swept(checkpoint, tmp_path)
    for name in ("run.json", "environment.json"):
        noted = json.loads((tmp_path / name).read_text())
        (tmp_path / name).write_text(json.dumps({**noted, "device": "cuda (a card)"}))
    monkeypatch.setattr("remask.evaluation.harness.complete", None)
    monkeypatch.setattr("remask.evaluation.example.generate", None)
    assert swept(checkpoint, tmp_path, decode=False) == points
    for made in (tmp_path / "test" / "threshold~tau=0.5.jsonl", *(tmp_path / "examples").iterdir()):
        made.write_bytes(made.read_bytes()[:-9])  # torn
    (left,) = swept(checkpoint, tmp_path, decode=False)
    assert left == replace(points[0], example="")
    assert json.loads((tmp_path / "frontier.jsonl").read_text())["environment"]["device"] == "cuda (a card)"
    for split in ("test", "valid"):
        (tmp_path / split / "low_confidence.jsonl").unlink()
        with pytest.raises(RemaskError, match=f"does not hold low_confidence on the {split} items yet.*continue the run"):
            swept(checkpoint, tmp_path, decode=False)


def test_a_report_changes_nothing_but_itself(checkpoint, tmp_path):
    """The run it reports may go on meanwhile."""
    swept(checkpoint, tmp_path)
    torn = tmp_path / "valid" / "threshold~tau=0.5.jsonl"
    torn.write_bytes(torn.read_bytes()[:-9])
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.is_file() and path.name != "frontier.jsonl"}
    assert len(before) == 8
    swept(checkpoint, tmp_path, decode=False)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.is_file() and path.name != "frontier.jsonl"} == before


def test_a_torn_line_is_read_over_and_cut_off_when_lines_are_added_none_written_anew(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    held = '{"index": 0, "text": "ä\u2028"}\n{"index": 1}\n'
    path.write_text(held + '{"ind', encoding="utf-8")
    monkeypatch.setattr(type(path), "write_text", None)
    monkeypatch.setattr(type(path), "write_bytes", None)
    assert sorted(read_records(path)) == [0, 1]
    assert path.read_text(encoding="utf-8") == held + '{"ind'
    append_records(path, [{"index": 2, "text": "ö"}])
    assert path.read_text(encoding="utf-8") == held + '{"index": 2, "text": "ö"}\n'
    assert read_records(path)[0]["text"] == "ä\u2028", "a line separator inside a text ends no line"


@pytest.mark.parametrize("held", [b'{"prompt": "12"}', b"notes", b'{"index": 0}\n{"prompt": "12"}'])
def test_a_file_of_something_else_is_refused_though_its_last_line_has_no_end(held, tmp_path):
    """It would be cut off as torn."""
    (tmp_path / "results.jsonl").write_bytes(held)
    with pytest.raises(RemaskError, match="is no results file; name another one"):
        read_records(tmp_path / "results.jsonl")


@pytest.mark.parametrize("line", ["[1]", '{"index": "0"}', '{"index": 0.0}', '{"index": -1}', '{"index": null}', "[" * 100_000])
def test_a_line_that_is_no_result_makes_a_file_no_results(line, tmp_path):
    (tmp_path / "results.jsonl").write_text('{"index": 0}\n' + line + "\n")
    with pytest.raises(RemaskError, match="is no results file; name another one"):
        read_records(tmp_path / "results.jsonl")


def test_every_line_says_where_it_was_measured_and_what_it_cost(checkpoint, tmp_path):
    swept(checkpoint, tmp_path, task="sudoku4")
    lines = [json.loads(line) for line in (tmp_path / "frontier.jsonl").read_text().splitlines()]
    assert [line["spec"] for line in lines] == ["low_confidence", "threshold:tau=0.5"]
    for line in lines:
        assert line["environment"].keys() == {"device", "dtype", "torch", "python", "remask", "commit"}
        assert line["environment"]["remask"] == remask.__version__
        assert (line["task"], line["items"], line["chosen_on"], line["batch"], line["max_new_tokens"]) == ("sudoku4", 4, 3, 2, 16)
        assert line["positions"] == pytest.approx(32 * line["forwards"]), "every forward computes the puzzle's 16 cells and the grid's"
        assert 0 <= line["area"] <= 1


def test_a_run_is_continued_and_computes_nothing_twice(checkpoint, tmp_path):
    command = [sys.executable, "-c", "from remask.cli import main; main()", "bench", "frontier", "sudoku4", "--model", str(checkpoint), "--out", str(tmp_path / "f")]
    command += ["--decoders", "threshold dus:skip=2", "--sweep", "--valid", "3", "--test", "4", "--batch", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    first = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert first.returncode == 0, first.stderr
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "f").glob("*/*.jsonl")}
    assert len(list((tmp_path / "f" / "valid").glob("*.jsonl"))) == len(SWEEPS["threshold"]) + 2, "the sweep, a setting that stands for itself, the reference"
    whole = {path: path.read_bytes() for path in (tmp_path / "f" / "examples").glob("*.jsonl")}
    torn, *_ = whole
    torn.write_bytes(whole[torn][:-300])
    again = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert again.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in files if path != torn} == {path: files[path] for path in files if path != torn}
    assert torn.read_bytes() == whole[torn]
    assert "<circle" in (tmp_path / "f" / "frontier.html").read_text()
    assert (tmp_path / "f" / "frontier.png").read_bytes().startswith(b"\x89PNG")
    points = [json.loads(line) for line in (tmp_path / "f" / "frontier.jsonl").read_text().splitlines()]
    assert points[0]["spec"] == "low_confidence"
    assert all(point["task"] == "sudoku4" and point["items"] == 4 for point in points)
    lines = points[0]["example"].splitlines()
    assert [int(line.partition(":")[0]) for line in lines] == [1, 3, 5, 7, 10, 12, 14, 16], "one token per forward, 16 cells, 8 lines"
    assert lines[0].count("_") == 15
    assert "_" not in lines[-1]
    traces = {path: read(path) for path in (tmp_path / "f" / "examples").glob("*.jsonl")}
    assert {trace.openings["0"].settings["decoder"] for trace in traces.values()} == {point["spec"] for point in points}
    for path, trace in traces.items():
        (record, *_) = map(json.loads, (tmp_path / "f" / "test" / path.name).read_text().splitlines())
        assert spelled(remask.load(checkpoint), before_end(replay(trace)["0"][16:], (10,))) == record["text"], "the same item as in the batch"
    assert "within 1 point of one token per forward" in first.stdout

"""`--trace` and `remask trace`."""

import json

import pytest

from remask.trace.file import read
from remask.trace.record import replay
from tests.cli.test_commands import remask_command


def test_a_traced_generate_replays_in_the_terminal_and_as_a_page(checkpoint, tmp_path):
    trace = tmp_path / "a.jsonl"
    options = ["--model", str(checkpoint), "--max-new-tokens", "6", "--decoder", "p2:steps=4", "--trace", str(trace)]
    made = json.loads(remask_command("generate", "123", *options, "--json").stdout)
    (tokens,) = replay(read(trace)).values()
    assert tokens[3 : 3 + len(made["tokens"])] == made["tokens"]
    assert read(trace).openings["0"].settings["decoder"] == "p2:steps=4"
    played = remask_command("trace", str(trace))
    lines = played.stdout.splitlines()
    assert len(lines) == 1 + made["forwards"]
    assert lines[-1].startswith(f"step {made['forwards']}, forwards {made['forwards']}")
    assert "123" in lines[-1]
    assert remask_command("trace", str(trace), str(trace), "--html", str(tmp_path / "a.html")).returncode == 0
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")


def test_a_resumed_eval_goes_on_with_its_trace(checkpoint, tmp_path):
    out, trace = tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    arguments = ["eval", "sudoku4", "--model", str(checkpoint), "-n", "3", "--batch", "2", "--out", str(out), "--trace", str(trace)]
    assert remask_command(*arguments).returncode == 0
    whole = read(trace)
    assert list(whole.openings) == ["0", "1", "2"]
    out.write_text("".join(out.read_text().splitlines(keepends=True)[:2]))
    trace.write_bytes(trace.read_bytes()[:-50])
    assert remask_command(*arguments).returncode == 0
    assert read(trace).events == whole.events


WRONG = {
    "missing file": ["absent.jsonl"],
    "unknown run": ["TRACE", "--run", "nine"],
    "negative delay": ["TRACE", "--delay", "-1"],
    "delay that is NaN": ["TRACE", "--delay", "nan"],
    "endless delay": ["TRACE", "--delay", "inf"],
    "page in a file": ["TRACE", "--html", f"{__file__}/page.html"],
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_line_and_status_2(case, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"kind":"trace","version":1}\n{"kind":"opening","run":"0","tokens":[1],"mask_id":8,"seed":0,"settings":{}}\n')
    done = remask_command("trace", *(str(tmp_path / "t.jsonl") if word == "TRACE" else word for word in WRONG[case]))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert WRONG[case][-1] in done.stderr

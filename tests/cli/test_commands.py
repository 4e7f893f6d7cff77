"""Every verb works on a tiny checkpoint, and every wrong input is one line and exit status 2."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import remask
from remask import RemaskError
from remask.cli.demo import DECODERS
from remask.cli.train import load_recipe
from remask.evaluation import tasks
from remask.evaluation.frontier import SWEEPS
from remask.evaluation.harness import evaluate, read_records, summarise
from remask.evaluation.intervals import wilson


def remask_command(*arguments: str, text: bytes = b"") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from remask.cli import main; main()", *arguments]
    done = subprocess.run(command, input=text, capture_output=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_generate_prints_text_and_json_from_argument_file_and_standard_input(checkpoint, tmp_path):
    (tmp_path / "prompt.txt").write_text("123\n")
    options = ["--model", str(checkpoint), "--max-new-tokens", "6", "--decoder", "threshold:tau=0.5", "--json"]
    by_argument = json.loads(remask_command("generate", "123", *options).stdout)
    by_file = json.loads(remask_command("generate", "--file", str(tmp_path / "prompt.txt"), *options).stdout)
    by_input = json.loads(remask_command("generate", *options, text=b"123\n").stdout)
    for record in (by_argument, by_file, by_input):
        assert record.pop("seconds") > 0
    assert by_argument == by_file == by_input
    assert by_argument["generated"] == len(by_argument["tokens"]) <= 6
    assert 1 <= by_argument["forwards"] <= 6


WRONG = {
    "unknown decoder": (["generate", "1", "--decoder", "sloth"], "sloth"),
    "unknown parameter": (["generate", "1", "--decoder", "threshold:speed=1"], "speed"),
    "value that is no number": (["generate", "1", "--decoder", "threshold:tau=high"], "high"),
    "missing checkpoint": (["generate", "1", "--model", "nowhere"], "nowhere"),
    "empty prompt": (["generate", ""], "--unconditional"),
    "prompt longer than the model": (["generate", "1" * 160, "--max-new-tokens", "9"], "169"),
    "negative length": (["generate", "1", "--max-new-tokens", "-3"], "-3"),
    "unknown device": (["generate", "1", "--device", "abacus"], "abacus"),
    "unknown dtype": (["generate", "1", "--dtype", "float7"], "float7"),
    "two prompts": (["generate", "1", "--file", "x"], "give one"),
    "missing file": (["generate", "--file", "missing.txt"], "missing.txt"),
    "unknown task": (["eval", "chess"], "chess"),
    "no template": (["generate", "1", "--chat"], "chat template"),
    "unknown option": (["generate", "1", "--speed", "9"], "--speed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_line_and_status_2(case, checkpoint):
    arguments, value = WRONG[case]
    if "--model" not in arguments:
        arguments = [*arguments, "--model", str(checkpoint)]
    done = remask_command(*arguments)
    assert done.returncode == 2
    assert value in done.stderr
    assert "Traceback" not in done.stderr


def test_a_prompt_that_is_not_utf8_is_named(checkpoint, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for done in (
        remask_command("generate", "--file", str(tmp_path / "latin.txt"), "--model", str(checkpoint)),
        remask_command("generate", "--model", str(checkpoint), text=b"\xff"),
    ):
        assert done.returncode == 2
        assert "UTF-8" in done.stderr


def test_models_lists_parts_and_version_is_printed():
    listed = remask_command("models").stdout
    assert all(f"  {name}" in listed for name in [*remask.decoders(), *remask.windows(), *remask.reuses()])
    assert remask.__version__ in remask_command("--version").stdout


def test_citations_of_the_parts_that_are_named_and_of_all():
    few = remask_command("models", "--cite", "--decoder", "spaced:inner=(klass)", "--window", "blocks:32", "--model", "sudoku").stdout
    assert re.findall(r"eprint = \{(.*?)\}", few) == ["2506.19037", "2511.05664", "2502.09992"]
    assert remask_command("models", "--cite").stdout.count("@misc") > 20
    assert "--cite" in remask_command("models", "--decoder", "klass").stderr


def test_eval_is_resumable_and_reports_what_the_contract_asks(checkpoint, tmp_path):
    out = tmp_path / "results.jsonl"
    arguments = ["eval", "sudoku4", "--model", str(checkpoint), "-n", "4", "--batch", "3", "--out", str(out)]
    first = json.loads(remask_command(*arguments).stdout)
    lines = out.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    out.write_text("".join(lines[:3]) + lines[3][:20])
    again = json.loads(remask_command(*arguments).stdout)
    assert len(read_records(out)) == 4
    for summary in (first, again):
        assert summary["items"] == 4
        assert {"accuracy", "interval", "forwards_per_row", "tokens_per_forward", "positions_per_row", "tokens_per_second", "environment"} <= set(summary)
    assert first["forwards_per_row"] == again["forwards_per_row"]


def test_results_of_other_items_are_refused(checkpoint, tmp_path):
    model, out = remask.load(checkpoint), tmp_path / "results.jsonl"
    task = tasks.get("sudoku4")
    records = evaluate(model, task.sample(2, seed=0), max_new_tokens=16, out=out)
    assert summarise(records, model)["items"] == 2
    with pytest.raises(RemaskError, match="other items"):
        evaluate(model, task.sample(2, seed=5), max_new_tokens=16, out=out)
    out.write_text("no json\n")
    with pytest.raises(RemaskError, match="no results file"):
        evaluate(model, task.sample(2, seed=0), max_new_tokens=16, out=out)


def test_text_is_cut_where_blocks_round_the_canvas_up(checkpoint):
    model = remask.load(checkpoint)
    made = remask.generate(model, ["12", "1234"], max_new_tokens=6, window=remask.Blocks(4), early_stop=False)
    alone = [remask.generate(model, [prompt], max_new_tokens=6, window=remask.Blocks(4), early_stop=False)[0] for prompt in ("12", "1234")]
    assert [c.tokens for c in made] == [c.tokens for c in alone]
    assert all(len(c.tokens) <= 6 and c.stats.forwards == 8 for c in made)


def test_wilson_is_wilson():
    low, high = wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_missing_or_incomplete_recipe_is_named(tmp_path):
    with pytest.raises(RemaskError, match="absent"):
        load_recipe(tmp_path / "absent.py")
    (tmp_path / "half.py").write_text("recipe = 1\n")
    with pytest.raises(RemaskError, match="prepare"):
        load_recipe(tmp_path / "half.py")


SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints" / "sudoku"


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_shipped_checkpoint_solves_held_out_grids(decoder):
    items = tasks.get("sudoku").sample(3, seed=11)
    made = remask.generate(remask.load("sudoku", dtype="float32"), [item.prompt for item in items], max_new_tokens=81, decoder=remask.parse_decoder(decoder))
    assert all(item.check(completion.text) for item, completion in zip(items, made, strict=True))
    assert all((completion.stats.forwards == 81) == (decoder == "low_confidence") for completion in made)


def test_bench_compares_with_one_token_per_forward(checkpoint, tmp_path):
    arguments = ["bench", "decoders", "sudoku4", "--model", str(checkpoint), "-n", "3", "--batch", "2", "--decoder", "threshold:tau=0", "--out", str(tmp_path / "bench.json")]
    shown = remask_command(*arguments).stdout
    found = json.loads((tmp_path / "bench.json").read_text())["decoders"]
    assert list(found) == ["low_confidence", "threshold:tau=0"]
    assert "threshold:tau=0" in shown
    assert found["threshold:tau=0"]["forwards_per_row"] == 1
    assert found["low_confidence"]["items"] == 3


def test_every_decoder_runs_on_a_shipped_checkpoint(tmp_path):
    """One setting of every registered decoder, in one command; each finishes every sum, right or wrong."""
    specs = [sweep[0] for sweep in SWEEPS.values()]
    options = [option for spec in specs for option in ("--decoder", spec)]
    done = remask_command("bench", "decoders", "addition", "-n", "2", "--batch", "2", "--dtype", "float32", "--out", str(tmp_path / "bench.json"), *options)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text())["decoders"]
    assert {spec.partition(":")[0] for spec in found} == set(remask.decoders())
    assert all(summary["items"] == 2 and summary["forwards_per_row"] >= 1 for summary in found.values())

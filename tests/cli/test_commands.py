"""Every verb works on a tiny checkpoint, and every wrong input is one line and exit status 2."""

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file, save_file

import remask
from remask import RemaskError
from remask.cli import app, main
from remask.cli.demo import DECODERS
from remask.cli.opening import LENGTHS
from remask.cli.train import load_recipe
from remask.evaluation import tasks
from remask.evaluation.harness import evaluate, summarise
from remask.evaluation.intervals import wilson
from remask.evaluation.results import read_records
from remask.evaluation.sweeps import settings
from remask.models import fused
from remask.models.fused_model import FusedModel
from remask.text.ending import before_end


def remask_command(*arguments: str, text: bytes = b"") -> subprocess.CompletedProcess[str]:
    """What the console script does with these arguments and this standard input; in this process, so that an error we do not raise fails the test."""
    streams = [io.TextIOWrapper(io.BytesIO(given), encoding="utf-8", write_through=True) for given in (text, b"", b"")]
    with mock.patch.multiple(sys, argv=["remask", *arguments], stdin=streams[0], stdout=streams[1], stderr=streams[2]), pytest.raises(SystemExit) as left:
        main()
    said = [stream.buffer.getvalue().decode() for stream in streams[1:]]  # pyright: ignore[reportAttributeAccessIssue]
    return subprocess.CompletedProcess(list(arguments), left.value.code or 0, *said)


def test_the_program_of_its_own_ends_with_the_status_and_the_line(checkpoint):
    def program(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "remask", *arguments], capture_output=True, text=True, check=False)

    assert program("--version").stdout == f"remask {remask.__version__}\n"
    done = program("generate", "1", "--decoder", "sloth", "--model", str(checkpoint))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: unknown decoder 'sloth'; choose one of low_confidence, ")
    assert done.stderr.count("\n") == 1


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
    "a network without fused layers": (["generate", "1", "--model", "addition", "--fused"], "leave out fused (--fused)"),
    "a trace of what is recorded": (["generate", "1", "--captured", "--trace", "t.jsonl"], "--trace t.jsonl: a trace reads the logits of every pass, and --captured keeps none"),
    "shadows in recorded passes": (["generate", "1", "--captured", "--decoder", "wino", "--max-new-tokens", "4"], "asks for shadows, which a captured run has none of"),
    "a window that grows in recorded passes": (["generate", "1", "--captured", "--window", "daedal", "--max-new-tokens", "4"], "(leave out --captured)"),
    "recorded passes for rows that come and go": (["batch", "in.jsonl", "out.jsonl", "--captured"], "--captured"),
    "workers of nobody": (["batch", "in.jsonl", "out.jsonl", "--workers", "3"], "--workers 3: only with --ray"),
    "missing checkpoint": (["generate", "1", "--model", "nowhere"], "nowhere"),
    "empty prompt": (["generate", ""], "--unconditional"),
    "prompt longer than the model": (["generate", "1" * 160, "--max-new-tokens", "9"], "169"),
    "negative length": (["generate", "1", "--max-new-tokens", "-3"], "-3"),
    "unknown device": (["generate", "1", "--device", "abacus"], "abacus"),
    "unknown device of workers": (["batch", "in.jsonl", "out.jsonl", "--ray", "--device", "abacus"], "abacus"),
    "unknown dtype of workers": (["batch", "in.jsonl", "out.jsonl", "--ray", "--dtype", "float7"], "unknown dtype 'float7'; choose one of"),
    "unknown device for text": (["eval", "text", "--model", "demo", "--judge", "demo", "--real", "r.xz", "--out", "out", "--device", "abacus"], "abacus"),
    "unknown dtype": (["generate", "1", "--dtype", "float7"], "float7"),
    "two prompts": (["generate", "1", "--file", "x"], "give one"),
    "missing file": (["generate", "--file", "missing.txt"], "missing.txt"),
    "unknown task": (["eval", "chess"], "chess"),
    "no template": (["generate", "1", "--chat"], "chat template"),
    "unknown option": (["generate", "1", "--speed", "9"], "--speed"),
    "unknown verb": (["sing"], "sing"),
    "an option without its value": (["generate", "1", "--temperature"], "--temperature"),
    "a length that is no number": (["generate", "1", "--max-new-tokens", "many"], "--max-new-tokens"),
    "too many prompts": (["generate", "1", "2"], "2"),
    "length of minus one": (["generate", "1", "--max-new-tokens", "-1"], "-1"),
    "length of nothing": (["generate", "1", "--max-new-tokens", "0"], "0"),
    "empty file": (["generate", "--file", "/dev/null"], "--unconditional"),
    "empty standard input": (["generate"], "--unconditional"),
    "a folder for a file": (["generate", "--file", "."], "."),
    "threshold of nothing": (["generate", "1", "--decoder", "threshold:tau="], "tau"),
    "threshold without end": (["generate", "1", "--decoder", "threshold:tau=inf"], "tau is inf; it must be finite"),
    "temperature next to nothing": (["generate", "1", "--temperature", "1e-40"], "temperature is 1e-40"),
    "temperature without end": (["generate", "1", "--temperature", "inf"], "temperature is inf"),
    "threshold that is NaN": (["generate", "1", "--decoder", "threshold:tau=nan"], "nan"),
    "no steps": (["generate", "1", "--decoder", "low_confidence:steps=0"], "steps is 0"),
    "unknown score": (["generate", "1", "--decoder", "low_confidence:score=best"], "best"),
    "unbalanced parentheses": (["generate", "1", "--decoder", "spaced:inner=(threshold"], "parentheses"),
    "parameter given twice": (["generate", "1", "--decoder", "threshold:tau=1,tau=2"], "twice"),
    "unknown window": (["generate", "1", "--window", "door"], "door"),
    "block length of nothing": (["generate", "1", "--window", "blocks:0"], "block length is 0"),
    "block length below nothing": (["generate", "1", "--window", "blocks:-4"], "-4"),
    "unknown reuse": (["generate", "1", "--reuse", "paper"], "paper"),
    "negative temperature": (["generate", "1", "--temperature", "-1"], "-1"),
    "temperature that is NaN": (["generate", "1", "--temperature", "nan"], "nan"),
    "share above one": (["generate", "1", "--top-p", "1.5"], "1.5"),
    "share of nothing": (["generate", "1", "--top-p", "0"], "0"),
    "fewer than no tokens": (["generate", "1", "--top-k", "-2"], "-2"),
    "a prompt for another tokenizer's model": (["generate", "1", "--model", "demo/../../nowhere"], "nowhere"),
    "results of the harness in a file": (["eval", "--harness", "gsm8k", "--out", "r.jsonl"], "--out: not with --harness"),
    "items of the harness": (["eval", "--harness", "gsm8k", "-n", "100", "--split", "valid", "--stratum", "harder"], "-n, --split, --stratum: not with --harness"),
    "what only the harness has": (["eval", "sudoku4", "--limit", "9", "--tasks", ".", "--samples", "128"], "--limit, --tasks, --samples: only with --harness"),
    "unknown split": (["eval", "sudoku4", "--split", "dev"], "dev"),
    "unknown stratum": (["eval", "sudoku", "--stratum", "easy"], "easy"),
    "fewer than no items": (["eval", "sudoku4", "-n", "-1"], "-1"),
    "no batch": (["eval", "sudoku4", "--batch", "0"], "batch is 0"),
    "results in a file": (["eval", "sudoku4", "-n", "1", "--out", f"{__file__}/records.jsonl"], "test_commands.py"),
    "patience that is NaN": (["serve", "--timeout", "nan"], "nan"),
    "endless patience": (["serve", "--timeout", "inf"], "inf"),
    "bench of nothing known": (["bench", "decoders", "chess"], "chess"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_line_and_status_2(case, checkpoint):
    arguments, value = WRONG[case]
    if "--model" not in arguments:
        arguments = [arguments[0], "--model", str(checkpoint), *arguments[1:]] if arguments[0] != "bench" else arguments
    done = remask_command(*arguments)
    assert done.returncode == 2
    assert value in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


SPOILED = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
    "config of another family": (lambda f: (f / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}'), "LlamaForCausalLM"),
    "missing weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "truncated weights": (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]), "truncated"),
    "missing tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer files"),
    "weights that give NaN": (lambda f: spoil_weights(f), "NaN logits at step 0 in rows [0]"),
}


def spoil_weights(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.transformer.ln_f.weight"].fill_(torch.nan)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("case", SPOILED)
def test_a_spoiled_checkpoint_is_one_line_and_status_2(case, checkpoint, tmp_path):
    spoil, value = SPOILED[case]
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spoil(tmp_path)
    done = remask_command("generate", "1", "--model", str(tmp_path), "--max-new-tokens", "4")
    assert done.returncode == 2
    assert value in done.stderr
    assert done.stderr.count("\n") == 1


def test_decode_is_strict_where_generate_fills_the_last_block_up(checkpoint):
    model = remask.load(checkpoint)
    with pytest.raises(RemaskError, match=r"block length 48 does not divide 128 new tokens; use 32 or 64"):
        remask.decode(model, [[1]], max_new_tokens=128, window=remask.Blocks(48))
    done = remask_command("generate", "1", "--model", str(checkpoint), "--max-new-tokens", "7", "--window", "blocks:3", "--json")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["tokens"]) <= 7


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


@pytest.mark.parametrize(
    ("other", "both"),
    [
        (["--dtype", "bfloat16"], "dtype float32, not bfloat16"),
        (["--fused"], "computed plain, not fused"),
        (["--captured"], "computed plain, not captured"),
        (["--decoder", "threshold"], "decoder low_confidence, not threshold"),
        (["--reuse", "dual"], "reuse fresh, not dual"),
    ],
)
def test_eval_does_not_go_on_with_a_file_that_was_made_otherwise(other, both, checkpoint, tmp_path):
    out = tmp_path / "results.jsonl"
    command = ["eval", "sudoku4", "--model", str(checkpoint), "--out", str(out), "--dtype", "float32"]
    assert remask_command(*command, "-n", "2").returncode == 0
    kept = out.read_bytes()
    refused = remask_command(*command, "-n", "3", *other)
    assert refused.returncode == 2
    assert refused.stderr == f"error: {out} holds results with {both}; name another file, or remove it\n"
    assert out.read_bytes() == kept
    same = [word for word in command if word not in ("--dtype", "float32")]  # which the checkpoint has of its own
    assert json.loads(remask_command(*same, "-n", "3", "--batch", "1").stdout)["items"] == 3
    assert out.read_bytes().startswith(kept)


def test_no_verb_goes_on_with_what_another_network_of_the_same_name_wrote(checkpoint, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(checkpoint, model)
    (tmp_path / "in.jsonl").write_text('{"prompt": "12"}\n')
    out = {"eval": tmp_path / "eval.jsonl", "batch": tmp_path / "batch.jsonl", "frontier": tmp_path / "frontier"}
    commands = {
        "eval": ["eval", "sudoku4", "-n", "1", "--out", str(out["eval"])],
        "batch": ["batch", str(tmp_path / "in.jsonl"), str(out["batch"]), "--max-new-tokens", "4"],
        "frontier": ["bench", "frontier", "sudoku4", "--valid", "1", "--test", "1", "--decoders", "threshold:tau=0.5", "--out", str(out["frontier"])],
    }
    for again in range(2):
        assert [remask_command(*words, "--model", str(model)).returncode for words in commands.values()] == [0, 0, 0], again
    tensors = load_file(model / "model.safetensors")
    save_file({name: tensor * 1.001 for name, tensor in tensors.items()}, model / "model.safetensors", metadata={"format": "pt"})
    for name, words in [*commands.items(), ("frontier", [*commands["frontier"], "--no-decode"])]:
        refused = remask_command(*words, "--model", str(model))
        assert refused.returncode == 2
        remedy = "name another folder" if name == "frontier" else "name another file, or remove it"
        assert re.fullmatch(rf"error: {re.escape(str(out[name]))} holds results with weights [0-9a-f]{{12}}, not [0-9a-f]{{12}}; {remedy}\n", refused.stderr)


def test_verbs_go_on_with_what_the_same_network_wrote_under_another_name(checkpoint, tmp_path, monkeypatch):
    """From another directory a folder has another name, and another folder may have its old one."""
    for folder in ("runs/x", "elsewhere/runs/x", "moved"):
        shutil.copytree(checkpoint, tmp_path / folder)
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    tensors = load_file(tmp_path / "elsewhere/runs/x/model.safetensors")
    save_file({name: tensor * 1.001 for name, tensor in tensors.items()}, tmp_path / "elsewhere/runs/x/model.safetensors", metadata={"format": "pt"})
    source, out = tmp_path / "in.jsonl", {"eval": tmp_path / "out.jsonl", "batch": tmp_path / "completed.jsonl", "frontier": tmp_path / "frontier"}
    source.write_text('{"prompt": "12"}\n{"prompt": "3"}\n')
    for words in (
        ["eval", "sudoku4", "-n", "2", "--out", str(out["eval"])],
        ["batch", str(source), str(out["batch"]), "--max-new-tokens", "4"],
        ["bench", "frontier", "sudoku4", "--valid", "1", "--test", "1", "--decoders", "threshold:tau=0.5", "--out", str(out["frontier"])],
    ):
        results = out[words[0] if words[0] != "bench" else "frontier"]
        kept = None
        for directory, model in ((".", "runs/x"), (".", "./runs/x/"), (".", str(tmp_path / "runs" / "x")), ("runs", "x"), ("runs/x", "."), (".", "link/x"), (".", "moved")):
            monkeypatch.chdir(tmp_path / directory)
            done = remask_command(*words, "--model", model)
            assert done.returncode == 0, (model, done.stderr)
            now = results.read_bytes() if results.is_file() else (results / "test" / "low_confidence.jsonl").read_bytes()
            assert now == (kept := kept or now)
        monkeypatch.chdir(tmp_path / "elsewhere")
        refused = remask_command(*words, "--model", "runs/x")
        assert refused.returncode == 2
        assert re.search(r"holds results with weights [0-9a-f]{12}, not [0-9a-f]{12}; name another", refused.stderr)


def test_no_verb_goes_on_with_what_other_counts_of_the_same_path_wrote(checkpoint, tmp_path):
    """Of a background law its content counts: another file of it goes on."""
    counts, source = tmp_path / "counts.json", tmp_path / "in.jsonl"
    source.write_text('{"prompt": "12"}\n')
    read = f"pc:background={counts}"
    out = {"eval": tmp_path / "eval.jsonl", "batch": tmp_path / "batch.jsonl", "frontier": tmp_path / "frontier", "line": tmp_path / "line.jsonl"}
    commands = {
        "eval": ["eval", "sudoku4", "-n", "1", "--out", str(out["eval"]), "--decoder", read],
        "batch": ["batch", str(source), str(out["batch"]), "--max-new-tokens", "4", "--decoder", read],
        "frontier": ["bench", "frontier", "sudoku4", "--valid", "1", "--test", "1", "--no-sweep", "--decoders", read, "--out", str(out["frontier"])],
        "line": ["batch", str(tmp_path / "own.jsonl"), str(out["line"]), "--max-new-tokens", "4"],
    }
    (tmp_path / "own.jsonl").write_text(json.dumps({"prompt": "12", "decoder": read}) + "\n")
    counts.write_text(json.dumps([1] * 20))
    for again in range(2):
        assert [remask_command(*words, "--model", str(checkpoint)).returncode for words in commands.values()] == [0] * 4, again
    counts.rename(tmp_path / "moved.json")
    for verb in ("eval", "batch"):
        moved = [word.replace("counts.json", "moved.json") for word in commands[verb]]
        kept = out[verb].read_bytes()
        assert remask_command(*moved, "--model", str(checkpoint)).returncode == 0
        assert out[verb].read_bytes() == kept
    counts.write_text(json.dumps([1] * 10 + [2] * 10))
    for name, words in [*commands.items(), ("frontier", [*commands["frontier"], "--no-decode"])]:
        refused = remask_command(*words, "--model", str(checkpoint))
        assert refused.returncode == 2
        why = r"of the same while a file that they name held something else" if name == "line" else r"holds results with decoder_content .*=[0-9a-f]{12}\)?, not .*=[0-9a-f]{12}\)?"
        assert re.search(rf"{why}; name another f", refused.stderr), refused.stderr


def test_a_file_that_does_not_say_what_made_it_is_refused_only_if_that_is_asked(checkpoint, tmp_path):
    model, out, items = remask.load(checkpoint), tmp_path / "results.jsonl", tasks.get("sudoku4").sample(2, seed=0)
    records = evaluate(model, items, max_new_tokens=16, out=out)
    assert evaluate(model, items, max_new_tokens=16, out=out) == records
    for noted in ({}, {"settings": "tiny"}):
        out.write_text("".join(json.dumps({**record, **noted}) + "\n" for record in records))
        with pytest.raises(RemaskError, match=r"results\.jsonl holds results without `settings`, so that nothing says what made them; name another file, or remove it"):
            evaluate(model, items, max_new_tokens=16, out=out, settings={"model": "tiny"})


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
    assert remask_command(*("0" if word == "3" else word for word in arguments)).returncode == 0, "of no items"


FRONTIER = ["bench", "frontier", "sudoku4", "--valid", "2", "--test", "3", "--decoders", "threshold factor:f=1 low_confidence:steps=2"]


@pytest.mark.parametrize("bench", [["bench", "decoders", "sudoku4", "-n", "3"], ["bench", "reuse", "sudoku4", "-n", "2"], FRONTIER], ids=lambda arguments: arguments[1])
def test_a_bench_shows_every_figure_whole_in_80_columns(bench, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = remask_command(*bench, "--model", str(checkpoint), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "1.0x" in done.stdout or bench[1] == "reuse"
    assert "(0.000" in done.stdout.replace("+", "")


def test_help_names_every_task(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for verb in (["eval", "task"], ["bench", "decoders"], ["bench", "frontier"], ["bench", "reuse"]):
        assert all(name in remask_command(*verb, "--help").stdout for name in tasks.TASKS)


WAYS = [["--captured"], ["--captured", "--fused"]]


@pytest.fixture
def runs(monkeypatch):
    """Of every run in recorded passes the class of what is recorded, and the lengths."""
    found, passes = [], remask.Captured.passes

    def counted(captured, state, plan):
        found.append((type(captured.body).__name__, captured.lengths))
        yield from passes(captured, state, plan)

    monkeypatch.setattr(remask.Captured, "passes", counted)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_recorded_passes_write_what_the_plain_loop_writes(way, checkpoint, runs):
    words = ["12", "--model", str(checkpoint), "--window", "blocks:3", "--reuse", "dual", "--temperature", "0.8"]
    plain = made(*words)
    assert not runs
    assert {**made(*words, *way), "seconds": 0} == {**plain, "seconds": 0}
    assert runs == [("Fused" if "--fused" in way else "Plain", None)]
    assert "written 6 of 6" in remask_command("generate", *words, *way, *GENERATE, "--watch").stdout


@pytest.mark.parametrize("way", WAYS)
def test_eval_in_recorded_passes_finds_the_same_and_says_how(way, checkpoint, tmp_path, runs):
    words = ["eval", "sudoku4", "--model", str(checkpoint), "-n", "5", "--batch", "2", "--decoder", "threshold:tau=0.2"]
    noted = {"model": str(checkpoint), "computed": "fused " * ("--fused" in way) + "captured"}
    found = {}
    for name, more in (("plain", []), ("recorded", way)):
        done = remask_command(*words, *more, "--out", str(tmp_path / name))
        assert done.returncode == 0, done.stderr
        found[name] = json.loads(done.stdout), read_records(tmp_path / name)
    assert runs == [("Fused" if "--fused" in way else "Plain", LENGTHS)] * 3
    plain, recorded = ({index: (record["text"], record["forwards"], record["positions"]) for index, record in records.items()} for _, records in found.values())
    assert plain == recorded
    assert noted.items() <= found["recorded"][0].items()
    assert all(noted.items() <= record["settings"].items() for record in found["recorded"][1].values())


@pytest.mark.parametrize(
    "verb",
    [
        ["eval", "sudoku4", "--decoder", "wino"],
        ["eval", "sudoku4", "--reuse", "surelock:every=2"],
        ["bench", "decoders", "sudoku4", "--window", "daedal"],
        ["bench", "decoders", "sudoku4", "--decoder", "spaced:(low_confidence)"],
        ["bench", "reuse", "sudoku4", "--decoder", "wino"],
        ["bench", "reuse", "sudoku4", "--reuse", "surelock:every=2"],
    ],
)
def test_what_cannot_be_recorded_leaves_nothing_behind(verb, checkpoint, tmp_path):
    out = tmp_path / "out"
    done = remask_command(*verb, "--model", str(checkpoint), "-n", "2", "--captured", "--out", str(out))
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*; pass the model itself \(leave out --captured\)\n", done.stderr)
    assert not out.exists()
    traced = remask_command("eval", "sudoku4", "--model", str(checkpoint), "--captured", "--trace", str(tmp_path / "trace"))
    assert (traced.returncode, traced.stderr.count("leave out one of the two")) == (2, 1)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("bench", ["decoders", "reuse"])
def test_a_bench_in_recorded_passes_times_replayed_ones_and_says_how(bench, checkpoint, tmp_path, runs, monkeypatch):
    rooms = []

    def padded(captured, state):
        """The first two decodes record a pass."""
        rooms.append(captured.most_sessions)
        captured.recorder.slow += len(rooms) < 3
        return state

    monkeypatch.setattr(remask.Captured, "padded", padded)
    words = ["bench", bench, "sudoku4", "--model", str(checkpoint), "-n", "2", "--batch", "2", "--captured", "--fused", "--out", str(tmp_path / "out")]
    one = ["--decoder", "low_confidence"] if bench == "decoders" else ["--reuse", "fresh"]
    assert remask_command(*words, *one).returncode == 0
    assert {"model": str(checkpoint), "computed": "fused captured"}.items() <= json.loads((tmp_path / "out").read_text()).items()
    assert runs == [("Fused", None)] * 3, "the runs that recorded, and the one after, of no padding"
    assert set(rooms) == {1}, "as many as there are contenders"


@pytest.mark.parametrize("bench", ["decoders", "reuse"])
def test_a_bench_that_never_ends_recording_keeps_the_batches_before_and_names_options(bench, checkpoint, tmp_path, monkeypatch):
    def padded(captured, state):
        """A single row, of the second batch, always records a pass."""
        captured.recorder.slow += len(state.canvas.tokens) == 1
        return state

    monkeypatch.setattr(remask.Captured, "padded", padded)
    words = ["bench", bench, "sudoku4", "--model", str(checkpoint), "-n", "3", "--batch", "2", "--captured", "--out", str(tmp_path / "out")]
    one = ["--decoder", "low_confidence"] if bench == "decoders" else ["--reuse", "fresh"]
    ended = remask_command(*words, *one)
    assert ended.returncode == 2
    assert "leave out --captured, or try a smaller --batch" in ended.stderr
    kept = json.loads((tmp_path / "out").read_text())
    assert [figures["items"] for figures in kept[bench].values()] == [2]
    assert kept["batch"] == 2


GENERATE = ["--max-new-tokens", "6", "--json"]


def made(*options: str, text: bytes = b"") -> dict:
    done = remask_command("generate", *options, *GENERATE, text=text)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_sampling_options_and_the_seed_do_what_they_say(checkpoint):
    model = ["--model", str(checkpoint)]
    greedy = made("12", *model)["tokens"]
    warm = [made("12", *model, "--temperature", "2", "--seed", str(seed))["tokens"] for seed in (1, 2, 1)]
    assert warm[0] == warm[2]
    assert warm[0] != warm[1]
    assert made("12", *model, "--temperature", "2", "--top-k", "1", "--seed", "1")["tokens"] == greedy
    assert made("12", *model, "--temperature", "2", "--top-p", "0.0001", "--seed", "2")["tokens"] == greedy


def test_an_empty_prompt_is_unconditional_when_asked_for(checkpoint):
    found = made("--unconditional", "--model", str(checkpoint), "--decoder", "ancestral:steps=4", "--seed", "5")
    assert found["forwards"] >= 1
    assert found == {**made("", "--unconditional", "--model", str(checkpoint), "--decoder", "ancestral:steps=4", "--seed", "5"), "seconds": found["seconds"]}


def test_a_gap_between_two_texts_is_filled_from_both_sides(checkpoint, tmp_path):
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({name: tensor * (40 if tensor.dim() == 2 else 1) for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    model = remask.load(tmp_path)
    found = {after: made("12", "--after", after, "--model", str(tmp_path))["tokens"] for after in ("345", "999", "0")}
    for after, tokens in found.items():
        row = remask.decode(model, [[1, 2, *[11] * 6, *map(int, after)]], early_stop=True).tokens[0].tolist()
        assert tokens == before_end(row[2:8], model.eos_ids)
    assert len({tuple(tokens) for tokens in found.values()}) > 1


def test_the_canvas_is_shown_as_it_fills_in(checkpoint):
    done = remask_command("generate", "12", "--model", str(checkpoint), "--max-new-tokens", "6", "--watch")
    assert done.returncode == 0
    assert re.search(r"step 1, forwards 1, written 1 of 6: 12", done.stdout)
    assert re.search(r"written 6 of 6", done.stdout)


def test_a_chat_goes_through_the_template(checkpoint, tmp_path):
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "chat_template.jinja").write_text("{% for message in messages %}7{{ message.content }}8{% endfor %}")
    assert made("12", "--chat", "--model", str(tmp_path))["tokens"] == made("7128", "--model", str(tmp_path))["tokens"]


def test_a_revision_and_a_type_reach_the_loader(checkpoint, monkeypatch):
    asked = {}

    def load(source, **options):
        asked.update(options, source=source)
        return loaded

    loaded = remask.load(checkpoint)
    monkeypatch.setattr(remask, "load", load)
    made("12", "--model", "some/model", "--revision", "v2", "--dtype", "float32", "--device", "cpu")
    assert asked == {"source": "some/model", "revision": "v2", "dtype": "float32", "device": "cpu", "fused": False}


def test_what_is_asked_of_a_network_reaches_the_workers(checkpoint, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr("remask.batch.cluster.through_ray", lambda lines, settings, **more: asked.update(more) or ({"index": line.index, "text": ""} for line in lines))
    (tmp_path / "in.jsonl").write_text('{"prompt": "12"}\n')
    command = ("batch", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--model", str(checkpoint), "--dtype", "bfloat16", "--fused", "--ray", "--rows", "3")
    done = remask_command(*command)
    assert done.returncode == 0, done.stderr
    assert {name: asked[name] for name in ("model", "device", "dtype", "fused", "workers", "rows")} == {
        "model": str(checkpoint), "device": "cpu", "dtype": "bfloat16", "fused": True, "workers": 2, "rows": 3,
    }  # fmt: skip


@pytest.mark.parametrize("model", ["sudoku", "fiction"])
def test_a_network_without_fused_layers_is_refused_before_there_are_workers(model, tmp_path, monkeypatch):
    """Learned positions, and an MDLM: in the words of a run without workers."""
    monkeypatch.setattr("remask.batch.cluster.through_ray", lambda *_, **__: pytest.fail("workers are started"))
    (tmp_path / "in.jsonl").write_text('{"prompt": "12"}\n')
    command = ("batch", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--model", model, "--fused")
    alone, spread = remask_command(*command), remask_command(*command, "--ray")
    assert spread.returncode == alone.returncode == 2
    assert spread.stderr == alone.stderr
    assert spread.stderr.startswith(f"error: {model} has no fused layers; ")
    assert not (tmp_path / "out.jsonl").exists()


def test_fused_layers_write_the_same_and_are_used(checkpoint, monkeypatch):
    options = ("--model", str(checkpoint), "--max-new-tokens", "9", "--window", "blocks:4", "--reuse", "dual")
    used = []
    monkeypatch.setattr(fused, "run_layer", lambda *rest, layer=fused.run_layer, **more: used.append(1) or layer(*rest, **more))
    plain = made("12", *options)
    assert not used
    assert made("12", *options, "--fused")["tokens"] == plain["tokens"]
    assert used


def test_a_recipe_runs_continues_and_starts_anew_from_weights(tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from tests.training.counting import recipe as counting\n"
        "def prepare(folder, processes):\n    folder.mkdir()\n    (folder / 'ready').write_text(str(processes))\n"
        "def recipe(folder):\n    return counting(50 * int((folder / 'ready').read_text()))\n"
    )
    options = ["train", str(recipe), "--data", str(tmp_path / "data"), "--no-compile", "--device", "cpu"]
    first = remask_command(*options, "--prepare", "--processes", "1", "--out", str(tmp_path / "a"))
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip().endswith(str(tmp_path / "a" / "checkpoint"))
    again = remask_command(*options, "--out", str(tmp_path / "a"))
    anew = remask_command(*options, "--out", str(tmp_path / "b"), "--init", str(tmp_path / "a" / "checkpoint"), "--minutes", "0")
    assert (again.returncode, anew.returncode) == (0, 0)
    steps = {name: [json.loads(line)["step"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()] for name in "ab"}
    assert steps == {"a": [50], "b": [1]}
    assert remask.load(tmp_path / "b" / "checkpoint").config["d_model"] == 32
    wrong = remask_command(*options, "--out", str(tmp_path / "c"), "--init", str(tmp_path / "nothing"))
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def test_the_demo_shows_every_decoder_and_what_it_cost(checkpoint, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = remask_command("demo", "--model", str(checkpoint), "--words", "")
    assert done.returncode == 0, done.stderr
    rows = {row[0]: row[1:] for line in done.stdout.splitlines() if len(row := re.split(r" {2,}", line.strip())) == 6}
    assert set(DECODERS) <= set(rows), "each name whole, in 80 columns"
    assert rows["low_confidence"][0] == "0 of 1"
    assert rows["low_confidence"][4] == "1.0x"
    assert done.stdout.count("written 81 of 81") == len(DECODERS)


VERBS = {"generate": ["generate"], "models": ["models"], "eval": ["eval", "task"], "train": ["train"], "bench decoders": ["bench", "decoders"]}


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_examples_and_they_use_options_that_exist(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    shown = remask_command(*VERBS[verb], "--help").stdout
    known = set(re.findall(r"--?[a-z][a-z-]*", shown[shown.index("Options") :]))
    examples = re.findall(r"^ +((?:remask|torchrun) .*(?:\n {5,}\S.*)*)", shown, flags=re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(" ".join(example.split()).partition(" remask train")[2] if example.startswith("torchrun") else example)
        if example.startswith(f"remask {verb}"):
            assert {word for word in words if re.match(r"--?[a-z]", word)} <= known


def test_a_trace_announces_its_reader(checkpoint, monkeypatch, tmp_path):
    """The head of fused layers then runs once a pass."""
    counts = []
    monkeypatch.setattr(FusedModel, "head", lambda self, hidden, head=FusedModel.head: counts.append(len(hidden.shape)) or head(self, hidden))
    for name, words in {"generate": ["generate", "12", "--max-new-tokens", "6"], "eval": ["eval", "sudoku4", "-n", "2"]}.items():
        for traced in ([], ["--trace", str(tmp_path / name)]):
            counts.clear()
            done = remask_command(*words, "--model", str(checkpoint), "--fused", "--decoder", "threshold:tau=0.2", *traced)
            assert done.returncode == 0, done.stderr
            assert set(counts) == {3 if traced else 2}, "states of whole rows, or of single positions"


def test_every_option_has_a_help_text(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    for command in app.registered_commands:
        shown = remask_command(command.name, "--help").stdout
        bare = [line for line in shown.splitlines() if re.match(r"^│ (\*  )?--", line) and not re.sub(r"--[a-z-]+|-[a-z]|<[^>]*>|[│*]|\[[^\]]*\]", "", line).strip()]
        assert bare == []


def test_every_decoder_runs_on_a_shipped_checkpoint(tmp_path):
    """One setting of every registered decoder, in one command; each finishes every sum, right or wrong."""
    specs = [settings(name)[0] for name in remask.decoders()]
    options = [option for spec in specs for option in ("--decoder", spec)]
    done = remask_command("bench", "decoders", "addition", "-n", "2", "--batch", "2", "--dtype", "float32", "--out", str(tmp_path / "bench.json"), *options)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text())["decoders"]
    assert {spec.partition(":")[0] for spec in found} == set(remask.decoders())
    assert all(summary["items"] == 2 and summary["forwards_per_row"] >= 1 for summary in found.values())


@pytest.mark.parametrize("model", ["demo", "fiction", "fiction-dsl", "sudoku"])
def test_every_decoder_writes_text_with_the_other_shipped_checkpoints(model, tmp_path):
    """A line a decoder, in one batch of requests."""
    prompt = {"demo": "Ann has 3 apples.", "fiction": "The old man", "fiction-dsl": "The old man", "sudoku": "0" * 81}[model]
    lines = [{"id": name, "prompt": prompt, "decoder": settings(name)[0], "max_new_tokens": 8} for name in remask.decoders()]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = remask_command("batch", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--model", model)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in found] == list(remask.decoders())
    assert all("text" in line and line["forwards"] >= 1 for line in found)


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["eval", "sudoku4", "-n", "1", "--out"], "new/folder/records.jsonl"),
        (["bench", "decoders", "sudoku4", "-n", "1", "--decoder", "low_confidence", "--out"], "new/folder/bench.json"),
        (["generate", "1", "--max-new-tokens", "2", "--trace"], "new/folder/trace.jsonl"),
    ],
)
def test_what_is_written_gets_its_folder_and_a_path_that_cannot_have_one_is_refused(words, path, checkpoint, tmp_path):
    done = remask_command(*words, str(tmp_path / path), "--model", str(checkpoint))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / path).stat().st_size > 0
    (tmp_path / "file").touch()
    refused = remask_command(*words, str(tmp_path / "file" / path), "--model", str(checkpoint))
    assert refused.returncode == 2
    assert re.fullmatch(r"error: cannot write .*: its folder cannot be made .*; name a file elsewhere\n", refused.stderr)

"""`remask batch`: every line of the input has one line of the output, whatever happens in between."""

import json
import os
import random
import signal
import time

import pytest

import remask
from remask import RemaskError
from remask.batch import Settings, run
from remask.batch.results import Results
from remask.batch.run import read, through
from remask.engine import Engine
from remask.spec import content_settings
from remask.trace.file import TraceFile
from remask.trace.file import read as read_trace
from remask.trace.record import replay
from tests.cli.test_commands import remask_command

SETTINGS = Settings(decoder="threshold:tau=0.3", max_new_tokens=6)


def write(path, lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def complete(source, out, model, settings=SETTINGS, **engine):
    return run(source, out, settings, lambda lines: through(Engine(model, **{"max_rows": 4, "queue": 4, **engine}), lines, settings))


def overtaken(folder, out, work):
    """The records of a run that loses its background file as soon as its work begins, and finds one that was not there; the second line spells its key otherwise."""
    held, late = folder / "held.json", folder / "late.json"
    lines = [{"prompt": "12"}, {"prompt": "12", "decoder": f"pc:background={held},lam=0"}, {"prompt": "12", "decoder": f"pc:background={late}"}, {"prompt": "12", "top_k": 3}]
    source = write(folder / "in.jsonl", [lines[0], json.dumps(lines[1]).replace("decoder", "d\\u0065coder"), *lines[2:]])
    held.write_text(json.dumps([1] * 6 + [10**6] * 5))
    late.unlink(missing_ok=True)
    settings = Settings(decoder=f"pc:background={held}", max_new_tokens=8)

    def begun(waiting):
        held.write_text("no counts")
        late.write_text(json.dumps([1] * 11))
        return work(waiting, settings)

    run(source, out, settings, begun)
    return records(out)


def many(count, seed=0):
    chance = random.Random(seed)
    return [
        {"id": f"line {n}", "prompt": "".join(chance.choice("0123456789") for _ in range(chance.randrange(1, 30))), "max_new_tokens": chance.randrange(1, 30)} for n in range(count)
    ]


def test_a_line_may_be_text_a_conversation_or_ids_and_overrides_what_holds_for_all(checkpoint, tmp_path):
    model = remask.load(checkpoint)
    model.tokenizer.template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    source = write(
        tmp_path / "in.jsonl",
        [
            {"prompt": "123"},
            {"messages": [{"role": "user", "content": "123"}], "id": {"any": 1}, "seed": 0},
            {"tokens": model.tokenizer.encode("123"), "seed": 0},
            "",
            {"prompt": "123", "decoder": "low_confidence", "window": "blocks:4", "reuse": "dual", "temperature": 1, "max_new_tokens": 5, "seed": 9},
            {"tokens": [1, 11, 2, 11], "infill": True},
        ],
    )
    assert complete(source, tmp_path / "out.jsonl", model) == 0
    found = records(tmp_path / "out.jsonl")
    assert [record["index"] for record in found] == [0, 1, 2, 4, 5]
    assert found[0]["text"] == found[1]["text"] == found[2]["text"]
    assert found[1]["id"] == {"any": 1}
    assert "id" not in found[0]
    expected = remask.generate(model, ["123"], max_new_tokens=6, decoder=remask.parse_decoder("threshold:tau=0.3"))[0]
    assert (found[0]["text"], found[0]["tokens"], found[0]["forwards"], found[0]["positions"]) == (
        expected.text,
        expected.tokens,
        expected.stats.forwards,
        expected.stats.positions,
    )
    other = remask.generate(model, ["123"], max_new_tokens=5, window=remask.Blocks(4), reuse=remask.Dual(), shapers=(remask.Temperature(1.0),), seed=9)[0]
    assert found[3]["tokens"] == other.tokens
    assert len(found[4]["tokens"]) == 4 or found[4]["reason"] == "stop"
    assert found[4]["tokens"][:1] == [1]


def test_bad_lines_stand_beside_the_good_ones(checkpoint, tmp_path):
    bad = [
        "{",
        "[1]",
        {"prompt": "1", "decodr": "x"},
        {"prompt": "1", "tokens": [1]},
        {"prompt": "1", "decoder": "sloth"},
        {"prompt": "1", "max_new_tokens": "6"},
        {"prompt": "1", "max_new_tokens": 500},
        {"tokens": [1, 99]},
        {"prompt": "1", "infill": 1},
        {"prompt": ""},
        {"messages": [{"role": "user", "content": "1"}]},
        "[" * 100_000,
        {"prompt": "1", "reuse": "dual:inner=(" * 1000 + "fresh" + ")" * 1000},
    ]
    source = write(tmp_path / "in.jsonl", [{"prompt": "1"}, *bad, {"prompt": "2", "id": 7}])
    (tmp_path / "in.jsonl").write_bytes(source.read_bytes() + b'{"prompt": "\xff"}\n')
    assert complete(source, tmp_path / "out.jsonl", remask.load(checkpoint)) == len(bad) + 1
    found = records(tmp_path / "out.jsonl")
    assert [record["index"] for record in found] == list(range(len(bad) + 3))
    words = ["JSON", "list", "decodr", "exactly one", "sloth", "max_new_tokens", "501", "99", "infill", "empty", "template", "JSON", "16 deep"]
    assert all(word in record["error"] for word, record in zip(words, found[1:], strict=False))
    assert "error" not in found[0]
    assert "error" not in found[len(bad) + 1]
    assert "error" in found[len(bad) + 2]


def test_a_run_that_is_killed_at_twenty_moments_ends_with_exactly_the_input(checkpoint, tmp_path):
    model = remask.load(checkpoint)
    lines = many(300)
    source, out = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    whole = tmp_path / "whole.jsonl"
    started = time.perf_counter()
    complete(source, whole, model)
    usual = time.perf_counter() - started
    chance = random.Random(1)
    grown = [0]
    for _ in range(20):
        child = os.fork()
        if not child:
            complete(source, out, model)
            os._exit(0)
        time.sleep(chance.uniform(0, usual / 8))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        grown.append(out.stat().st_size if out.exists() else 0)
    assert grown == sorted(grown)
    complete(source, out, model)
    assert out.read_bytes() == whole.read_bytes()
    assert [record["id"] for record in records(out)] == [line["id"] for line in lines]


def test_a_file_that_ends_anywhere_is_continued(checkpoint, tmp_path):
    model = remask.load(checkpoint)
    source, out = write(tmp_path / "in.jsonl", many(3)), tmp_path / "out.jsonl"
    complete(source, out, model)
    whole = out.read_bytes()
    for end in range(0, len(whole), 37):
        out.write_bytes(whole[:end])
        complete(source, out, model)
        assert out.read_bytes() == whole


def test_a_run_decodes_with_what_it_noted_though_a_file_is_replaced_meanwhile(checkpoint, tmp_path):
    model, decoded = remask.load(checkpoint), []

    class Seen(Engine):
        def submit(self, request):
            decoded.append(request.decoder)
            return super().submit(request)

    made = overtaken(tmp_path, tmp_path / "out.jsonl", lambda lines, settings: through(Seen(model), lines, settings))
    assert ["error" in record for record in made] == [False, False, True, False]
    assert made[2]["error"].startswith("cannot read"), "a file that comes later comes too late"
    assert {decoder.contents["background"] for decoder in decoded} == {json.dumps([1] * 6 + [10**6] * 5).encode()}
    assert {decoder.lam for decoder in decoded} == {0, 0.25}
    assert made[0]["settings"]["decoder_content"] == content_settings({"decoder": next(decoder for decoder in decoded if decoder.lam)})["decoder_content"]
    with pytest.raises(RemaskError, match=r"held\.json"):  # nothing is kept beyond a run
        Settings(decoder=f"pc:background={tmp_path / 'held.json'}")


def test_what_is_done_is_not_done_again(checkpoint, tmp_path):
    source, out = write(tmp_path / "in.jsonl", many(3)), tmp_path / "out.jsonl"
    complete(source, out, remask.load(checkpoint))

    def nothing(lines):
        assert not lines
        return iter(())

    assert run(source, out, SETTINGS, nothing) == 0


def test_results_of_other_lines_or_settings_are_refused(checkpoint, tmp_path):
    model, out = remask.load(checkpoint), tmp_path / "out.jsonl"
    source = write(tmp_path / "in.jsonl", many(3))
    complete(source, out, model)
    with pytest.raises(RemaskError, match=r"with decoder threshold:tau=0\.3, not low_confidence; name another file, or remove it"):
        complete(source, out, model, Settings(max_new_tokens=6))
    with pytest.raises(RemaskError, match="of other lines, or of the same while a file that they name held something else; name another file"):
        complete(write(tmp_path / "other.jsonl", many(3, seed=1)), out, model)
    with pytest.raises(RemaskError, match="do not note `model`, which is other now"):
        run(source, out, SETTINGS, iter, network={"model": "other"})
    with pytest.raises(RemaskError, match="cannot write"), Results(tmp_path, {}):
        pass
    with pytest.raises(RemaskError, match="cannot read"):
        read(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("wrong", [{}, {"index": 0}, {"key": ""}, {"index": [], "key": ""}, {"index": "0", "key": ""}, {"index": -1, "key": ""}, "index key", [], None, 1])
def test_a_line_that_is_no_result_is_named(wrong, checkpoint, tmp_path):
    model, out = remask.load(checkpoint), tmp_path / "out.jsonl"
    source = write(tmp_path / "in.jsonl", many(2))
    complete(source, out, model)
    with open(out, "a") as file:
        file.write(json.dumps(wrong) + "\n")
    with pytest.raises(RemaskError, match=r"out\.jsonl is no file of results: line 3 is no object with `index` and `key`; name another file$"):
        complete(source, out, model)
    out.write_text("[" * 100_000 + "\n")
    with pytest.raises(RemaskError, match="no file of results: line 1"):
        complete(source, out, model)


@pytest.mark.parametrize("noted", [{}, {"settings": None}, {"settings": "tiny"}])
def test_results_that_do_not_say_what_made_them_are_refused_by_what_is_missing(noted, checkpoint, tmp_path):
    model, out = remask.load(checkpoint), tmp_path / "out.jsonl"
    source = write(tmp_path / "in.jsonl", many(2))
    complete(source, out, model)
    made = [{name: value for name, value in record.items() if name != "settings"} for record in records(out)]
    out.write_text("".join(json.dumps({**record, **noted}) + "\n" for record in made))
    kept = out.read_bytes()
    with pytest.raises(RemaskError, match=r"out\.jsonl holds results without `settings`, so that nothing says what made them; name another file, or remove it$"):
        complete(source, out, model)
    assert out.read_bytes() == kept


@pytest.mark.parametrize("held", [b'{"prompt": "12"}', b"notes", b'{"index": 0}\n{"prompt": "12"}'])
def test_a_file_of_something_else_is_left_as_it_is_though_its_last_line_has_no_end(held, checkpoint, tmp_path):
    (tmp_path / "out.jsonl").write_bytes(held)
    with pytest.raises(RemaskError, match="no file of results"):
        complete(write(tmp_path / "in.jsonl", many(1)), tmp_path / "out.jsonl", remask.load(checkpoint))
    assert (tmp_path / "out.jsonl").read_bytes() == held


@pytest.mark.parametrize(
    ("other", "both"),
    [
        (["--dtype", "bfloat16"], "dtype float32, not bfloat16"),
        (["--fused"], "computed plain, not fused"),
        (["--window", "blocks:2"], "window whole, not blocks:2"),
        (["--temperature", "1"], "temperature 0.0, not 1.0"),
    ],
)
def test_the_verb_does_not_go_on_with_a_file_that_was_made_otherwise(other, both, checkpoint, tmp_path):
    source, out = write(tmp_path / "in.jsonl", [{"prompt": "12"}, {"prompt": "3"}]), tmp_path / "out.jsonl"
    command = ["batch", str(source), str(out), "--model", str(checkpoint), "--max-new-tokens", "4", "--dtype", "float32"]
    assert remask_command(*command).returncode == 0
    whole = out.read_bytes()
    out.write_bytes(whole[:-20])
    refused = remask_command(*command, *other)
    assert refused.returncode == 2
    assert refused.stderr == f"error: {out} holds results with {both}; name another file, or remove it\n"
    assert remask_command(*command[:-2], "--rows", "1").returncode == 0, "float32 is the checkpoint's own"
    assert out.read_bytes() == whole


def test_the_verb_completes_a_file_and_says_how_many_lines_failed(checkpoint, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"prompt": "12"}, {"prompt": "1", "decoder": "sloth"}])
    done = remask_command("batch", str(source), str(tmp_path / "out.jsonl"), "--model", str(checkpoint), "--max-new-tokens", "4")
    assert done.returncode == 1
    assert "1 lines failed" in done.stderr
    assert ["error" in record for record in records(tmp_path / "out.jsonl")] == [False, True]
    wrong = remask_command("batch", str(source), str(tmp_path / "out.jsonl"), "--model", str(checkpoint), "--decoder", "sloth")
    assert wrong.returncode == 2
    assert "sloth" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def traced(source, out, model, trace, **engine):
    """A run that keeps what every step did, as the command does."""
    with TraceFile(trace, model.tokenizer, resume=out.exists()) as file:
        return run(source, out, SETTINGS, lambda lines: through(Engine(model, **{"max_rows": 4, "queue": 4, **engine}), lines, SETTINGS, trace=file))


def test_every_line_is_a_run_of_the_trace_and_replays_to_its_tokens(checkpoint, tmp_path):
    model = remask.load(checkpoint)
    lines = [*many(9), {"prompt": "1", "decoder": "sloth"}, {"prompt": "12", "decoder": "p2:steps=3", "window": "blocks:3", "temperature": 1}]
    source, out, trace = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    complete(source, tmp_path / "plain.jsonl", model)
    traced(source, out, model, trace)
    assert out.read_bytes() == (tmp_path / "plain.jsonl").read_bytes()
    found = read_trace(trace)
    assert set(found.openings) == {str(n) for n in range(11)} - {"9"}
    finals = replay(found)
    for record in records(out):
        if "error" not in record:
            run_of, prompt = str(record["index"]), len(lines[record["index"]]["prompt"])
            assert finals[run_of][prompt:][: len(record["tokens"])] == record["tokens"]
            assert (found.events[run_of][-1].forwards, found.events[run_of][-1].positions) == (record["forwards"], record["positions"])
            assert found.events[run_of][-1].done
            assert all(event.draft is None for event in found.events[run_of])
    assert found.openings["10"].settings == {"decoder": "p2:steps=3", "window": "blocks:length=3", "reuse": "fresh", "shapers": "Temperature(value=1.0)"}
    assert found.openings["3"].seed == 3


def until(lines):
    """Make this process end as soon as so many lines are in the file."""
    add = Results.add

    def last(self, made):
        add(self, made)
        if len(self.done) >= lines:
            os._exit(0)

    Results.add = last


def test_a_traced_run_that_is_killed_has_the_whole_trace_of_every_line_it_wrote(checkpoint, tmp_path):
    model = remask.load(checkpoint)
    source, out, trace = write(tmp_path / "in.jsonl", many(60)), tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    traced(source, tmp_path / "whole.jsonl", model, tmp_path / "whole-trace.jsonl")
    for number in range(1, 6):  # the process ends as soon as so many lines are written
        child = os.fork()
        if not child:
            until(9 * number)
            traced(source, out, model, trace)
        os.waitpid(child, 0)
        found = read_trace(trace)
        assert all(found.events[str(record["index"])][-1].done for record in records(out))
    traced(source, out, model, trace)
    whole, found = read_trace(tmp_path / "whole-trace.jsonl"), read_trace(trace)
    assert found.openings == whole.openings
    assert replay(found) == replay(whole)
    assert {name: len(events) for name, events in found.events.items()} == {name: len(events) for name, events in whole.events.items()}


def test_the_verb_keeps_a_trace(checkpoint, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"prompt": "12"}])
    done = remask_command("batch", str(source), str(tmp_path / "out.jsonl"), "--model", str(checkpoint), "--max-new-tokens", "4", "--trace", str(tmp_path / "trace.jsonl"))
    assert done.returncode == 0, done.stderr
    assert replay(read_trace(tmp_path / "trace.jsonl"))["0"][2:][: len(records(tmp_path / "out.jsonl")[0]["tokens"])] == records(tmp_path / "out.jsonl")[0]["tokens"]

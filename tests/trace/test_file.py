"""Traces survive the disk: every number, torn lines, resumed runs; and what is no trace is named."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import remask
from remask import RemaskError
from remask.trace.file import Spelling, TraceFile, dumped, lines, parse, read
from remask.trace.record import Draft, Event, Opening, Trace, numbers, record
from tests.chains import chain_b

MASK = 8


def decode_into(to, *, prompts=([0, 1], [3]), drafts=True):
    canvas = remask.Canvas.from_prompts(prompts, max_new_tokens=9, mask_id=MASK)
    list(record(remask.denoise(chain_b(), canvas, decoder=remask.P2(steps=5), seed=2), to, settings={"decoder": "p2:steps=5"}, drafts=drafts))


@pytest.mark.parametrize("drafts", [True, False])
def test_a_trace_reads_back_as_it_was_written(tmp_path, drafts):
    kept = []
    decode_into(kept, drafts=drafts)
    with TraceFile(tmp_path / "a.jsonl") as file:
        decode_into(file, drafts=drafts)
    trace, found = Trace.of(kept), read(tmp_path / "a.jsonl")
    assert (found.openings, found.events) == (trace.openings, trace.events)
    assert all((event.draft is not None) == drafts for events in found.events.values() for event in events)
    assert found.pieces == {token: str(token) for token in found.pieces}
    assert set(found.pieces) >= {token for events in found.events.values() for event in events for token in event.tokens}


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=5), st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_floats_round_trip(singles, doubles):
    assert torch.equal(torch.tensor(numbers(torch.tensor(singles, dtype=torch.float32)), dtype=torch.float32), torch.tensor(singles, dtype=torch.float32))
    assert json.loads(json.dumps(numbers(torch.tensor(doubles, dtype=torch.float64)))) == doubles


def test_a_token_that_the_shapers_exclude_has_minus_infinity():
    event = Event("0", 0, [1], [3], [0.5], [-math.inf], [], [(2, 4)], [(0, 3)], 1, 3, True, Draft([0], [1], [0.25]))
    opening = Opening("0", [MASK, MASK, MASK], MASK)
    written = [dumped({"kind": "trace", "version": 1}), *(dumped(line) for one in (opening, event) for line in lines(one, Spelling(None)))]
    assert parse("".join(written).split("\n")[:-1], "it").events["0"] == [event]


def test_a_torn_last_line_is_ignored_and_a_resumed_trace_goes_on_behind_it(tmp_path):
    path = tmp_path / "a.jsonl"
    with TraceFile(path) as file:
        decode_into(file)
    whole = read(path)
    for cut in (1, 20, 300):
        path.write_bytes(path.read_bytes()[:-cut])
        torn = read(path)
        assert all(torn.events[run] == whole.events[run][: len(torn.events[run])] for run in torn.openings)
    with TraceFile(path, resume=True) as file:
        decode_into(file)
    assert read(path).events == whole.events
    with TraceFile(path) as file:
        decode_into(file, prompts=([5],))
    assert list(read(path).openings) == ["0"]


GOOD = [
    '{"kind":"trace","version":1}',
    '{"kind":"opening","run":"0","tokens":[8,8],"mask_id":8,"seed":0,"settings":{}}',
    '{"kind":"step","run":"0","step":0,"write":[0],"tokens":[1],"confidence":[0.5],"log_probability":[-1],"remask":[],"filled":[],"active":[[0,2]],"forwards":1,"positions":2,"done":true}',
]
WRONG = {
    "position outside the row": (2, '"write":[0]', '"write":[2]'),
    "negative position": (2, '"write":[0]', '"write":[-1]'),
    "position that is no number": (2, '"write":[0]', '"write":["0"]'),
    "lists of different length": (2, '"tokens":[1]', '"tokens":[1,2]'),
    "stretch outside": (2, "[[0,2]]", "[[0,3]]"),
    "row never opened": (2, '"run":"0"', '"run":"1"'),
    "missing field": (2, '"remask":[],', ""),
    "another kind": (2, '"kind":"step"', '"kind":"stop"'),
    "tokens that are text": (1, "[8,8]", '"88"'),
    "no object": (2, GOOD[2], "7"),
    "no json": (1, GOOD[1], "{"),
    "nested too deep": (1, GOOD[1], "[" * 100_000),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_line_that_does_not_fit_is_named(case):
    assert parse(GOOD, "it").events["0"][0].tokens == [1]
    place, old, new = WRONG[case]
    assert old in GOOD[place]
    with pytest.raises(RemaskError, match=f"line {place + 1} of it"):
        parse([*GOOD[:place], GOOD[place].replace(old, new), *GOOD[place + 1 :]], "it")


@pytest.mark.parametrize("content", [b"", b"no json\n", b"{}\n", b"\xff\xfe\n", b'{"kind":"trace"'])
def test_what_is_no_trace_is_named(tmp_path, content):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(RemaskError, match="is no trace"):
        read(tmp_path / "a.jsonl")


def test_errors_of_the_disk_and_of_other_versions_are_one_line(tmp_path):
    with pytest.raises(RemaskError, match=r"absent\.jsonl"):
        read(tmp_path / "absent.jsonl")
    (tmp_path / "file").touch()
    with pytest.raises(RemaskError, match=r"cannot write .*: its folder cannot be made \(.*\); name a file elsewhere"):
        TraceFile(tmp_path / "file" / "a.jsonl")
    with pytest.raises(RemaskError, match=r"cannot write the trace .*; name another file"):
        TraceFile(tmp_path)
    with pytest.raises(RemaskError, match="version 9"):
        parse(['{"kind":"trace","version":9}'], "it")


def test_pieces_are_spelled_as_inside_a_text(checkpoint):
    model = remask.load(checkpoint)
    spelling = Spelling(model.tokenizer)
    ids = model.tokenizer.encode("107")
    opening = Opening("0", [*ids, model.mask_id], model.mask_id)
    assert spelling.new(opening) == dict(zip(ids, "107", strict=True))
    assert spelling.new(opening) == {}
    assert spelling.spell(model.eos_ids[0])

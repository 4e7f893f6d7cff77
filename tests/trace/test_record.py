"""Law 8: the replay of a trace equals the output, for every decoder, window and reuse rule; and what a record says is what happened."""

import pytest
import torch

import remask
from remask.trace.record import Event, Opening, Trace, canvases, record, replay
from tests.chains import chain_b
from tests.laws.test_laws import COMBINATIONS, MASK, PROMPTS, parts
from tests.test_daedal import PROBING, RESTLESS
from tests.test_daedal import run as run_growing


def traced(combination, *, prompts=PROMPTS, new=12, model=None, **more):
    """The rows that a decode returned, and the trace of the same run."""
    model = model or chain_b()
    canvas = remask.Canvas.from_prompts(prompts, max_new_tokens=new, mask_id=MASK)
    records = []
    steps = list(record(remask.denoise(model, canvas, **parts(combination, **more)), records, seeds=[5, 6, 7, 8]))
    final = steps[-1].canvas if steps else canvas
    return [row[real].tolist() for row, real in zip(final.tokens, final.real, strict=True)], records, steps


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_the_replay_of_a_trace_equals_the_output(combination):
    rows, records, steps = traced(combination, prompts=PROMPTS[:2], new=8, seed=5)
    trace = Trace.of(records)
    assert list(replay(trace).values()) == rows
    for row, (opening, events) in enumerate(zip(trace.openings.values(), trace.events.values(), strict=True)):
        for event, tokens in zip(events, canvases(opening, events), strict=True):
            canvas = steps[event.step].canvas
            assert tokens == canvas.tokens[row][canvas.real[row]].tolist(), "every canvas on the way, not the last alone"
        assert events[-1].done
        assert events[-1].forwards == steps[-1].forwards[row]
        assert events[-1].positions == steps[-1].positions[row]


def test_a_record_says_what_the_policy_gave_each_token():
    shaper = remask.Temperature(0.5)
    canvas = remask.Canvas.from_prompts([[0, 1, 2]], max_new_tokens=6, mask_id=MASK)
    records = []
    list(record(remask.denoise(chain_b(), canvas, decoder=remask.Threshold(0.6), shapers=(shaper,), seed=3), records))
    opening, events = records[0], records[1:]
    before = opening.tokens
    for event, after in zip(events, canvases(opening, events), strict=True):
        logits = chain_b().logits(torch.tensor([before]))[0]
        laws = torch.log_softmax(shaper(logits), dim=-1)
        assert event.log_probability == pytest.approx([float(laws[place, token]) for place, token in zip(event.write, event.tokens, strict=True)])
        assert event.confidence == pytest.approx([float(logits[place].softmax(-1).max()) for place in event.write])
        assert event.draft.positions == [place for place, token in enumerate(after) if token == MASK]
        assert event.draft.confidence == pytest.approx([float(logits[place].softmax(-1).max()) for place in event.draft.positions])
        before = after


@pytest.mark.parametrize("decoder", ["threshold:tau=0.9,strict=true", "remdm:steps=9", "wino"])
@pytest.mark.parametrize("window", [RESTLESS, PROBING])
@pytest.mark.parametrize("told", [True, False])
def test_rows_that_grow_replay_too(window, decoder, told):
    canvas, steps = run_growing(window, decoder=decoder)
    assert any(step.source is not None for step in steps)
    records = []
    assert list(record(steps, records, canvas=canvas if told else None)) == steps
    final = steps[-1].canvas
    trace = Trace.of(records)
    assert list(replay(trace).values()) == [row[real].tolist() for row, real in zip(final.tokens, final.real, strict=True)]
    assert any(event.canvas for events in trace.events.values() for event in events)
    for row, (opening, events) in enumerate(zip(trace.openings.values(), trace.events.values(), strict=True)):
        seen = [step.canvas.tokens[row][step.canvas.real[row]].tolist() for step in steps]
        assert list(canvases(opening, events)) == seen[: len(events)]


class Ending:
    """Chain b with an end-of-text, so that the loop fills what lies behind it."""

    def __new__(cls):
        chain = chain_b()
        chain.eos_ids = (6,)
        return chain


def test_what_the_loop_wrote_behind_the_end_is_told_apart():
    rows, records, _ = traced(("origin", "whole", "fresh"), prompts=[[2], [3]], new=20, model=Ending(), seed=1, early_stop=True)
    trace = Trace.of(records)
    assert list(replay(trace).values()) == rows
    filled = [place for events in trace.events.values() for event in events for place, token in event.filled if token == 6]
    assert filled
    assert not any(event.filled for events in trace.events.values() for event in events[:-1])


def test_a_row_that_needs_no_step_has_an_opening_and_nothing_else():
    _, records, _ = traced(("low_confidence", "whole", "fresh"), prompts=[[0, 1, 2], [MASK, 1]], new=0, seed=1)
    trace = Trace.of(records)
    assert [len(events) for events in trace.events.values()] == [0, 1]
    assert replay(trace)["0"] == [0, 1, 2]


def test_active_positions_are_stretches():
    _, records, steps = traced(("threshold:tau=0.5", "whole", "surelock:eps=0.1"), seed=5)
    seen = {(event.run, event.step): event for event in records if isinstance(event, Event)}
    for number, step in enumerate(steps):
        for row in range(4):
            if (event := seen.get((str(row), number))) is not None:
                flags = step.active[row][step.canvas.real[row]].tolist()
                assert [any(start <= place < stop for start, stop in event.active) for place in range(len(flags))] == flags


def test_a_row_opened_again_starts_anew():
    first, again = Opening("a", [MASK, 1], MASK), Opening("a", [MASK, 2], MASK)
    event = Event("a", 0, [0], [3], [0.5], [-0.7], [], [], [(0, 2)], 1, 2, True)
    assert replay(Trace.of([first, event, again])) == {"a": [MASK, 2]}
    assert replay(Trace.of([first, again, event])) == {"a": [3, 2]}

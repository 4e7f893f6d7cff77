"""What readers without a thread rely on: records of every step, and being told of news."""

import pytest

import remask
from remask.engine import Engine, Request
from remask.trace.record import Opening, Trace, record, replay
from tests.chains import chain_b
from tests.test_daedal import RESTLESS

MASK = 8
PARTS = {"decoder": "low_confidence", "window": "whole", "reuse": "fresh", "shapers": ""}


@pytest.mark.parametrize("drafts", [True, False])
@pytest.mark.parametrize("decoder", ["low_confidence", "p2:steps=6", "threshold:tau=0.5"])
def test_the_engine_records_what_the_loop_would_beside_rows_of_other_lengths(decoder, drafts):
    part = remask.parse_decoder(decoder)
    engine = Engine(chain_b())
    others = [engine.submit(Request([1] * length, 7, decoder=part, seed=length)) for length in (1, 9)]
    ticket = engine.submit(Request([1, 2], 12, decoder=part, seed=4, record=True, drafts=drafts, run="mine"))
    while engine.step():
        pass
    expected = []
    canvas = remask.Canvas.from_prompts([[1, 2]], max_new_tokens=12, mask_id=MASK)
    list(record(remask.denoise(chain_b(), canvas, decoder=part, seed=4, early_stop=True), expected, runs=["mine"], seeds=[4], settings=PARTS | {"decoder": decoder}, drafts=drafts))
    updates = ticket.take()
    made = [seen for update in updates for seen in update.records]
    assert made == expected
    assert replay(Trace.of(made))["mine"] == updates[-1].tokens.tolist()
    assert not any(update.records for other in others for update in other.take())


def test_a_row_that_never_ran_has_an_opening_and_nothing_else():
    engine = Engine(chain_b())
    written, late = engine.submit(Request([1, 2], 0, record=True)), engine.submit(Request([1, MASK], 1, record=True, deadline=0.0))
    engine.step()
    for ticket, tokens in ((written, [1, 2]), (late, [1, MASK, MASK])):
        assert [update.records for update in ticket.take()] == [[Opening("0", tokens, MASK, 0, PARTS)]]


def test_a_listener_hears_of_every_update_and_of_those_it_missed():
    engine = Engine(chain_b())
    ticket = engine.submit(Request([1], 4))
    heard = []
    ticket.listen(lambda: heard.append(len(ticket.take())))
    assert heard == []
    while engine.step():
        pass
    assert heard == [1, 1, 1, 1]
    late, heard_late = engine.submit(Request([1], 3)), []
    while engine.step():
        pass
    late.listen(lambda: heard_late.append(len(late.take())))
    assert heard_late == [3]
    assert late.take() == []


def test_a_row_that_grows_is_recorded_and_replays():
    window = remask.parse_window(f"{RESTLESS},length=4")
    engine = Engine(chain_b())
    for length in (1, 9):
        engine.submit(Request([1] * length, 30, seed=length))
    ticket = engine.submit(Request([1, 2], 20, decoder=remask.parse_decoder("p2:steps=6"), window=window, seed=4, record=True))
    while engine.step():
        pass
    expected = []
    canvas = remask.Canvas.from_prompts([[1, 2]], max_new_tokens=4, mask_id=MASK)
    steps = remask.denoise(chain_b(), canvas, decoder=remask.parse_decoder("p2:steps=6"), window=window.opened(20)[0], seed=4, early_stop=True)
    list(record(steps, expected, seeds=[4]))
    updates = ticket.take()
    made = [seen for update in updates for seen in update.records]
    assert made[1:] == expected[1:]
    assert sum(event.canvas is not None for event in made[1:]) > 1, "it grew more than once"
    assert len(made[0].tokens) == 6
    assert replay(Trace.of(made))["0"] == updates[-1].tokens.tolist()

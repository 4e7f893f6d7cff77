"""What a stream tells grows, never shrinks, is told as soon as it is settled, and holds back what may become a stop."""

import pytest

import remask
from remask.engine import Engine, Request
from remask.server.answer import Answer, cut, pending


def told(letters, decoder, *, window="whole", stops=(), new=24, seed=3):
    """The answer and what every step added, of an engine stepped by hand."""
    model = remask.load(letters)
    part = remask.parse_decoder(decoder)
    ids = model.tokenizer.encode("abc")
    engine = Engine(model)
    ticket = engine.submit(Request(ids, new, decoder=part, window=remask.parse_window(window), shapers=(remask.Temperature(1.0),), seed=seed))
    answer = Answer(model, len(ids), len(ids) + new, stops, model.eos_ids, part.revises)
    pieces = []
    while engine.step():
        pieces += [answer.read(update) for update in ticket.take()]
    pieces += [answer.read(update) for update in ticket.take()]
    return answer, pieces


def test_text_is_told_when_it_is_settled_and_by_revisers_at_the_end(letters):
    answer, pieces = told(letters, "low_confidence", window="blocks:1")
    assert all(len(piece) == 1 for piece in pieces[: len(answer.text)])
    for decoder in ("low_confidence", "threshold:tau=0.6", "p2:steps=9"):
        answer, pieces = told(letters, decoder)
        assert "".join(pieces) == answer.text
        assert answer.finish in ("stop", "length")
        if decoder == "p2:steps=9":
            assert not any(pieces[:-1])


def test_what_may_become_a_stop_is_held_back(letters):
    whole, _ = told(letters, "low_confidence", window="blocks:1")
    stop = whole.text[8:12]
    answer, pieces = told(letters, "low_confidence", window="blocks:1", stops=(stop, "zzzz"))
    assert answer.text == "".join(pieces) == whole.text[: whole.text.index(stop)]
    assert answer.finish == "stop"
    assert len(answer.ids) == len(answer.text)


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [("abc", ("b",), ("a", True)), ("abc", ("c", "b"), ("a", True)), ("abc", ("d",), ("abc", False)), ("abc", (), ("abc", False)), ("aab", ("ab",), ("a", True))],
)
def test_a_text_is_cut_before_its_first_stop(text, stops, expected):
    assert cut(text, stops) == expected


@pytest.mark.parametrize(("text", "stops", "size"), [("one #", ("####",), 1), ("one ###", ("####",), 3), ("one", ("####",), 0), ("ab", ("bcd", "abx"), 2), ("aa", ("a",), 0)])
def test_the_beginning_of_a_stop_is_pending(text, stops, size):
    assert pending(text, stops) == size

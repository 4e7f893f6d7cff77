"""The threshold that is another one where it ends the row: its rule by hand, and the settings at which it is another decoder."""

from dataclasses import replace

import pytest
import torch

import remask
from remask.canvas import Canvas
from remask.decoders.base import View
from remask.prediction import Prediction
from remask.randomness import keyed_uniforms
from tests.chains import PROMPTS_B, chain_b


def written(decoder, *confidences, eligible=None):
    """The places that are written where two tokens are possible, of which the first has these probabilities."""
    chances = torch.tensor(confidences, dtype=torch.float64)
    logits = torch.stack([chances, 1 - chances], -1).log().float()[None]
    canvas = Canvas.from_prompts([[2] * len(confidences)], max_new_tokens=0, mask_id=2)
    open_ = canvas.masked if eligible is None else torch.tensor([[place in eligible for place in range(len(confidences))]])
    zero = torch.zeros(1, dtype=torch.int64)
    view = View(replace(canvas, given=~open_), Prediction.of(logits, logits, logits.argmax(-1)), open_, zero, zero, keyed_uniforms, open_)
    return decoder.step(view, None)[0].write[0].nonzero()[:, 0].tolist()


def test_the_rule_by_hand():
    """Risks .04, .2, .06, .4; times their rank .04, .6, .12, 1.6."""
    row = (0.96, 0.8, 0.94, 0.6)
    assert written(remask.Risk(0.05, last=0), *row) == [0]
    assert written(remask.Risk(0.07, last=0), *row) == [0, 2]
    assert written(remask.Risk(0.07, last=0, together=1), *row) == [0]
    assert written(remask.Risk(0.13, last=0, together=1), *row) == [0, 2]
    assert written(remask.Risk(0.61, last=0, together=1), *row) == [0, 1, 2]
    assert written(remask.Risk(0.01, last=0), *row) == [0], "at least the best"


def test_what_ends_the_row_may_pass_where_less_does_not():
    row = (0.96, 0.8, 0.94, 0.6)
    assert written(remask.Risk(0.05, last=0.41), *row) == [0, 1, 2, 3]
    assert written(remask.Risk(0.05, last=0.39), *row) == [0]
    assert written(remask.Risk(0.05, last=0.21), *row, eligible=[0, 1, 2]) == [0, 1, 2], "what is not eligible does not count"
    assert written(remask.Risk(0.05, last=0.19), *row, eligible=[0, 1, 2]) == [0]


def test_what_is_missing_to_the_left_counts():
    """Risks .04, .2, .06, .4 with 0, 1, 2, 3 eligible places before them: .04, .4, .18, 1.6; with the root of that number plus one .04, .28, .10, .8."""
    row = (0.96, 0.8, 0.94, 0.6)
    assert written(remask.Risk(0.05, last=0, left=1), *row) == [0]
    assert written(remask.Risk(0.17, last=0, left=1), *row) == [0]
    assert written(remask.Risk(0.19, last=0, left=1), *row) == [0, 2]
    assert written(remask.Risk(0.11, last=0, left=0.5), *row) == [0, 2]
    assert written(remask.Risk(0.07, last=0, left=1), *row, eligible=[2, 3]) == [2], "what is written does not count"
    assert written(remask.Risk(0.01, last=0, left=1), 0.9, 0.94) == [0], "the least doubtful is not the most confident"
    assert written(remask.Risk(0.25, last=0, together=1, left=1), *row) == [0]
    assert written(remask.Risk(0.37, last=0, together=1, left=1), *row) == [0, 2]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("risk:budget=0,last=0", "low_confidence"),
        ("risk:budget=0.25,last=0", "threshold:0.75"),
        ("risk:budget=0.25,last=0.25", "threshold:0.75"),
        ("risk:budget=0.5,last=0.125", "threshold:0.5"),
        ("risk:last=1", "threshold:0"),
        ("risk:budget=1", "threshold:0"),
        ("risk:budget=0,last=0.1,together=3", "risk:budget=0,last=0.1"),
    ],
)
@pytest.mark.parametrize("window", ["whole", "blocks:16,origin=canvas"])
def test_limits_are_simpler_decoders(first, second, window):
    a, b = (remask.decode(chain_b(), PROMPTS_B, max_new_tokens=46, decoder=remask.parse_decoder(text), window=remask.parse_window(window)) for text in (first, second))
    assert all(torch.equal(x, y) for x, y in zip(a.tokens, b.tokens, strict=True))
    assert torch.equal(a.forwards, b.forwards)


def test_a_pass_writes_within_its_budget_or_ends_the_row_or_writes_one():
    canvas = remask.Canvas.from_prompts(PROMPTS_B, max_new_tokens=46, mask_id=8)
    before, ended = canvas, 0
    for seen in remask.denoise(chain_b(), canvas, decoder=remask.Risk(0.05, 0.3, 0.5)):
        write = seen.edit.write
        number, worst = write.sum(1), 1 - seen.prediction.raw.confidence.masked_fill(~write, 1).amin(1)
        within, one = number**0.5 * worst <= 0.05 + 1e-6, number == 1
        ends = ~(before.masked & ~write).any(1) & (worst <= 0.3)
        alive = before.masked.any(1)
        assert (within | one | ends)[alive].all()
        assert (number > 0)[alive].all()
        ended += int((ends & ~within & ~one & alive).sum())
        before = seen.canvas
    assert ended > 0, "some rows end by the last pass's own bound"


@pytest.mark.parametrize("setting", ["budget=-0.1", "budget=1.5", "budget=nan", "last=-1", "last=nan", "together=-1", "together=inf", "left=-1", "left=nan"])
def test_bad_parameters_are_named(setting):
    with pytest.raises(remask.RemaskError, match=setting.split("=")[0]):
        remask.parse_decoder(f"risk:{setting}")

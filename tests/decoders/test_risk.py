"""The threshold that loosens as the row ends: its rule by hand, and the settings at which it is another decoder."""

import pytest
import torch

import remask
from tests.chains import PROMPTS_B, chain_b


def count(decoder, *confidences, eligible=None):
    falling = torch.tensor([sorted(confidences, reverse=True)])
    return int(decoder.count(falling, torch.tensor([[len(confidences) if eligible is None else eligible]])))


def test_the_rule_by_hand():
    """Risks .01, .02, .1 times 3, 2, 1: .03, .04, .1."""
    assert count(remask.Risk(0.035), 0.99, 0.98, 0.9) == 1
    assert count(remask.Risk(0.045), 0.99, 0.98, 0.9) == 2
    assert count(remask.Risk(0.11), 0.99, 0.98, 0.9) == 3
    assert count(remask.Risk(0.045, waiting=2), 0.99, 0.98, 0.9) == 1


def test_what_ends_the_row_may_pass_where_fewer_do_not():
    """.2 times 3 and times 2 are too much, times 1 is not; with one more that stays masked nothing passes but the best."""
    assert count(remask.Risk(0.25), 0.8, 0.8, 0.8) == 3
    assert count(remask.Risk(0.25), 0.8, 0.8, 0.8, 0.1) == 1


def test_positions_that_are_not_eligible_do_not_count():
    assert count(remask.Risk(0.25), 0.8, 0.8, float("-inf"), eligible=2) == 2
    assert count(remask.Risk(0.25), float("-inf"), float("-inf"), eligible=0) == 1, "the loop's mask of what is eligible takes it back"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("risk:budget=0", "low_confidence"),
        ("risk:budget=0.25,waiting=0", "threshold:0.75"),
        ("risk:budget=0.5,waiting=0", "threshold:0.5"),
        ("risk:budget=1", "threshold:0"),
    ],
)
@pytest.mark.parametrize("window", ["whole", "blocks:16,origin=canvas"])
def test_limits_are_simpler_decoders(first, second, window):
    a, b = (remask.decode(chain_b(), PROMPTS_B, max_new_tokens=46, decoder=remask.parse_decoder(text), window=remask.parse_window(window)) for text in (first, second))
    assert all(torch.equal(x, y) for x, y in zip(a.tokens, b.tokens, strict=True))
    assert torch.equal(a.forwards, b.forwards)


@pytest.mark.parametrize("waiting", [0.0, 0.5, 1.0, 2.0])
def test_a_pass_writes_within_its_budget_or_one_position(waiting):
    canvas = remask.Canvas.from_prompts(PROMPTS_B, max_new_tokens=46, mask_id=8)
    decoder, before = remask.Risk(0.3, waiting), canvas
    for seen in remask.denoise(chain_b(), canvas, decoder=decoder):
        write = seen.edit.write
        worst = 1 - seen.prediction.raw.confidence.masked_fill(~write, 1).amin(1)
        left = (before.masked & ~write).sum(1)
        alive = write.any(1)
        assert ((worst * (1.0 + left) ** waiting <= 0.3 + 1e-6) | (write.sum(1) == 1))[alive].all()
        assert alive[before.masked.any(1)].all()
        before = seen.canvas


@pytest.mark.parametrize("text", ["risk:budget=-0.1", "risk:budget=1.5", "risk:budget=nan", "risk:waiting=-1", "risk:waiting=nan", "risk:waiting=inf"])
def test_bad_parameters_are_named(text):
    with pytest.raises(remask.RemaskError, match=text.split(":")[1].split("=")[0]):
        remask.parse_decoder(text)

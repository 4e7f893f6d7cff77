"""ReMDM's loop on LLaDA: when it takes a token back, which one, and what it costs."""

import pytest
import torch

import remask
from tests.chains import PROMPTS_B, chain_b

NEW = 46


def decode(text):
    return remask.decode(chain_b(), PROMPTS_B, max_new_tokens=NEW, decoder=remask.parse_decoder(text))


def test_the_recorded_run_takes_26_forwards():
    """Two written a pass; from an eighth of the row on, one of the written is masked again. 46 down to 6 are 20 passes; after the next six 5, 4, 3, 2, 1 and 0 are masked."""
    result = decode("remdm_llada:steps=23,loops=5")
    assert result.forwards.tolist() == [26] * 24
    assert float(chain_b().log_likelihood(torch.stack(result.tokens)).mean() / 48) == pytest.approx(-0.1905, abs=3e-3)


@pytest.mark.parametrize(("share", "loops"), [(0.125, 0), (0.125, 7), (0.5, 32), (0.0, 3), (1.0, 3)])
def test_every_loop_costs_a_forward(share, loops):
    assert decode(f"remdm_llada:share={share},loops={loops}").forwards.tolist() == [NEW + loops] * 24


def test_no_loop_is_low_confidence():
    for more in ("", ",steps=9"):
        a, b = decode("remdm_llada:loops=0" + more), decode("low_confidence" + more.replace(",", ":"))
        assert all(torch.equal(x, y) for x, y in zip(a.tokens, b.tokens, strict=True))
        assert torch.equal(a.forwards, b.forwards)


def test_the_least_likely_written_token_comes_back_while_at_most_the_share_is_masked():
    canvas = remask.Canvas.from_prompts(PROMPTS_B, max_new_tokens=NEW, mask_id=8)
    before, taken = canvas, torch.zeros(24, dtype=torch.int64)
    for seen in remask.denoise(chain_b(), canvas, decoder=remask.ReMDMLLaDA(share=0.25, loops=6)):
        again, written = seen.edit.remask, ~before.masked & ~before.given
        assert again is not None
        assert not (again & ~written).any(), "neither a given token nor one of this pass"
        left = (before.masked & ~seen.edit.write).sum(1)
        due = (left <= 0.25 * NEW) & (taken < 6) & before.masked.any(1)
        assert torch.equal(again.sum(1), due.long())
        held = seen.prediction.raw.probabilities.gather(-1, before.tokens.clamp(max=7)[..., None])[..., 0]
        least = held.masked_fill(~written, 2.0).amin(1)
        assert torch.equal((held * again).sum(1)[due], least[due])
        taken, before = taken + again.any(1), seen.canvas
    assert taken.tolist() == [6] * 24


@pytest.mark.parametrize("text", ["remdm_llada:share=-0.1", "remdm_llada:share=1.5", "remdm_llada:share=nan", "remdm_llada:loops=-1", "remdm_llada:steps=0"])
def test_bad_parameters_are_named(text):
    with pytest.raises(remask.RemaskError, match=text.split(":")[1].split("=")[0]):
        remask.parse_decoder(text)

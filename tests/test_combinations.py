"""Every reuse rule with every decoder that edits what is written: served correctly, or refused with the reason."""

import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

import remask
from remask.decoders.base import Decoder, View
from remask.prediction import Belief, Prediction
from tests.chains import chain_b
from tests.networks import canvas, network

REVISERS = ["remdm:steps=8,strategy=rescale,eta=0.9", "remdm:steps=8,strategy=conf", "p2:steps=12,eta=3", "core:every=2,suspects=3", "saber",
            "joint_threshold:write_tau=0.5,edit_tau=0.6", "joint_threshold:write_tau=0.4,edit_tau=0.5,remask=true"]  # fmt: skip
RULES = ["fresh", "unchanged", "prefix", "prefix:refresh=2", "dual", "delayed", "vicinity:left=1,right=1,warmup=1", "surelock:eps=0.5,gate=80",
         "surelock:eps=0.5,gate=80,on_remask=forbid", "dual:inner=(surelock:eps=0.5,gate=80)", "dual:inner=(unchanged)"]  # fmt: skip
PARITY = ["surelock:safe=false", "dual:inner=(surelock:safe=false)", "prefix:compat_first_token=true", "dual:compat_first_token=true"]
MASK = 8


def run(model, first, decoder, rule, window="blocks:4"):
    """Every step, the canvas before it and the block that was open."""
    before, window = first, remask.parse_window(window)
    blocks = window.init(first)
    decoder = remask.parse_decoder(decoder) if isinstance(decoder, str) else decoder
    for seen in remask.denoise(model, first, decoder=decoder, window=window, reuse=remask.parse_reuse(rule), seed=3, shapers=(remask.Temperature(4.0),)):
        yield before, seen, window.span(before, blocks)
        before = seen.canvas


def on_chain(decoder, rule, window="blocks:4"):
    first = remask.Canvas.from_prompts([[0, 1], [3, 4, 5, MASK, 2], [7]], max_new_tokens=12, mask_id=MASK)
    return run(chain_b(), first, decoder, rule, window)


@pytest.mark.parametrize(("rule", "window", "decoder"), list(itertools.product(RULES, ["whole", "blocks:4"], REVISERS)))
def test_what_a_reviser_edits_is_computed_next(rule, window, decoder):
    previous, revised = None, 0
    for before, seen, _ in on_chain(decoder, rule, window):
        if previous is not None:
            waiting = previous.edit.touched & ~previous.done[:, None]
            assert (seen.active | ~waiting).all()
        revised += int((seen.edit.touched & ~before.masked & seen.active.any(1, keepdim=True)).sum())
        previous = seen
    assert not previous.canvas.masked.any()
    assert revised > 0 or "forbid" in rule or (window != "whole" and "remask=true" in decoder), "nothing was revised, so nothing was tested"


@pytest.mark.parametrize(("rule", "window", "decoder"), list(itertools.product(RULES, ["whole", "blocks:4"], [name for name in REVISERS if "remdm" not in name])))
def test_a_reviser_that_reads_beliefs_of_written_tokens_gets_fresh_ones(rule, window, decoder):
    """The chain's posterior is a function of the canvas, so that a belief of an older canvas shows."""
    chain, stale = chain_b(), 0
    for before, seen, span in on_chain(decoder, rule, window):
        true = chain.logits(before.tokens)[..., :-1]
        served = seen.prediction.raw.logits[..., :-1]
        asked = span & ~before.given & ~before.masked & seen.active.any(1, keepdim=True)
        if "forbid" in rule:  # a locked token is given to the decoder
            asked &= seen.active
        torch.testing.assert_close(served[asked], true[asked])
        stale += int((~torch.isclose(served, true).all(-1) & before.real & ~before.given & ~seen.done[:, None]).sum())
    assert stale == 0 or rule not in ("fresh", "unchanged")


def test_a_token_that_must_stay_locked_is_given_to_the_decoder():
    frozen = torch.zeros(3, 17, dtype=torch.bool)
    for before, seen, _ in on_chain("p2:steps=12", "surelock:eps=0.5,gate=80,on_remask=forbid", "whole"):
        assert torch.equal(seen.canvas.tokens[frozen], before.tokens[frozen])
        frozen |= ~seen.active & ~before.given & ~before.masked & seen.active.any(1, keepdim=True)
    assert frozen.sum() > 3


@pytest.mark.parametrize("rule", PARITY)
def test_a_rule_for_parity_with_loops_that_never_revise_is_refused_with_the_reason(rule):
    for decoder in REVISERS:
        with pytest.raises(remask.RemaskError, match=r"use safe=true|use compat_first_token=false"):
            next(on_chain(decoder, rule))
    next(on_chain("low_confidence", rule))


@dataclass(frozen=True)
class Backwards(Decoder):
    """Writes the best mask; at its third step it masks the first token of the row's first block again, and at its fourth it writes over the next."""

    revises: ClassVar[bool] = True
    mask: bool = True

    def init(self, canvas):
        return canvas.masked.long().argmax(1, keepdim=True)

    def step(self, view, first):
        write = remask.decoders()["low_confidence"]().step(view, remask.decoders()["low_confidence"]().init(view.canvas))[0].write
        place = torch.arange(write.shape[1])[None] == first
        back = place & (view.step == 6)[:, None]
        tokens = torch.where(back, 0, view.prediction.candidates)
        return (remask.Edit(write, tokens, back) if self.mask else remask.Edit(write | back, tokens)), first


@pytest.mark.parametrize("rule", [name for name in RULES if name not in ("fresh", "unchanged")])
@pytest.mark.parametrize("mask", [True, False])
def test_an_edit_of_an_earlier_block_is_computed_next_and_a_mask_there_opens_the_block_again(rule, mask):
    first = canvas()
    steps = list(run(network("llada"), first, Backwards(mask=mask), rule))
    back, after = steps[6][1], steps[7][1]
    place = torch.nn.functional.one_hot(first.masked.long().argmax(1), first.shape[1]).bool()
    if "forbid" not in rule:
        assert back.edit.touched[place].all()
        assert after.active[place].all()
        if mask and rule.startswith(("prefix", "dual", "vicinity", "delayed")) and "surelock" not in rule:
            assert torch.equal(after.active, first.real), "the block opens with a full pass"
    assert not steps[-1][1].canvas.masked.any()


def scrambled(view, where):
    """The view with other beliefs at the positions of `where` (B, L) bool."""
    generator = torch.Generator().manual_seed(9)
    noise = torch.randn(view.prediction.raw.logits.shape, generator=generator, dtype=view.prediction.raw.logits.dtype) * 5
    noise[..., view.canvas.mask_id] = float("-inf")
    logits = torch.where(where[..., None], noise, view.prediction.raw.logits)
    candidates = torch.where(where, noise.argmax(-1), view.prediction.candidates)
    belief = Belief(logits, candidates)
    return replace(view, prediction=Prediction(belief, belief))


@dataclass(frozen=True)
class Watched(Decoder):
    """Another decoder, and whether any of its edits depended on the beliefs of written positions, or changed written tokens."""

    inner: Decoder
    seen: list

    @property
    def draws(self):
        return self.inner.draws

    def init(self, canvas):
        return self.inner.init(canvas)

    def pending(self, state):
        return self.inner.pending(state)

    def step(self, view: View, state):
        edit, after = self.inner.step(view, state)
        other, _ = self.inner.step(scrambled(view, view.filled), state)
        revised = edit.touched & ~view.canvas.masked & ~view.canvas.given
        again = [torch.zeros_like(edit.write) if one.remask is None else one.remask for one in (edit, other)]
        moved = (again[0] != again[1]) | (edit.write & ~view.canvas.masked) ^ (other.write & ~view.canvas.masked)
        self.seen.append((bool(revised.any()), bool(moved.any())))
        return edit, after


NAMES = {"joint_threshold": "joint_threshold:write_tau=0.5,edit_tau=0.1", "core": "core:every=2,suspects=2", "p2": "p2:steps=7", "remdm": "remdm:steps=9",
         "spaced": "spaced:inner=(p2:steps=7)"}  # fmt: skip


@pytest.mark.parametrize("name", list(remask.decoders()))
def test_a_decoder_says_whether_it_revises_and_reads_beliefs_of_what_is_written(name):
    decoder, seen = remask.parse_decoder(NAMES.get(name, name)), []
    for _ in on_chain(Watched(decoder, seen), "fresh", "whole"):
        pass
    revised, moved = (any(flags) for flags in zip(*seen, strict=True))
    assert not revised or decoder.revises
    assert not moved or decoder.rescores
    assert decoder.revises or not decoder.rescores

"""Every decoder that takes tokens back finds those that do not fit before those that do (composition of an exact denoiser with a spoilt row)."""

from dataclasses import replace

import pytest
import torch

import remask
from remask.denoise import Plan, start, step
from tests.chains import chain_b

MASK = 8
BEST = remask.decode(chain_b(), [[6, 5]], max_new_tokens=46).tokens[0]
"""The chain's likeliest continuation of a prompt of two tokens."""
WRONG = torch.tensor([4, 9, 13, 17, 21])
"""Five of the 46 places, apart from each other."""
REVISERS = [
    "wino:check=0.5", "p2:steps=12", "saber", "core:every=2,suspects=5", "core:every=2,suspects=9", "joint_threshold:write_tau=0.9,edit_tau=0.9",
    "joint_threshold:write_tau=0.9,edit_tau=0.9,remask=true", "hierarchy:remask=true", "remdm_llada:share=1",
]  # fmt: skip
ALWAYS = ("p2:steps=12", "remdm_llada:share=1")
"""They take back by number, whether or not anything is wrong."""


def flagged(text):
    """Of a row written up to place 24: one pass over it as it should be, then one in which five tokens are wrong; the places that this one takes back."""
    model, plan = chain_b(), Plan(remask.parse_decoder(text))
    canvas = remask.Canvas.from_prompts([[6, 5]], max_new_tokens=46, mask_id=MASK)
    canvas = replace(canvas, tokens=torch.where(torch.arange(48) < 24, BEST, canvas.tokens))
    state, seen = step(model, start(canvas, plan, torch.tensor([0])), plan)
    assert not (seen.edit.remask is not None and text not in ALWAYS and seen.edit.remask.any()), "nothing is wrong yet"
    spoilt = state.canvas.tokens.clone()
    spoilt[0, WRONG] = (BEST[WRONG] + 3) % 8
    kept = ~state.canvas.masked
    state, seen = step(model, replace(state, canvas=replace(state.canvas, tokens=spoilt)), plan)
    back = seen.edit.write & kept
    return set((back if seen.edit.remask is None else back | seen.edit.remask)[0].nonzero()[:, 0].tolist())


@pytest.mark.parametrize("text", REVISERS)
def test_what_does_not_fit_is_taken_back_before_what_does(text):
    found, wrong = flagged(text), set(WRONG.tolist())
    assert found
    assert found <= wrong or wrong <= found


def test_every_reviser_is_tried():
    """A decoder that remasks or overwrites at all is on the list above; ReMDM takes tokens back by chance, whatever they are."""
    names = {text.partition(":")[0] for text in REVISERS}
    for name in remask.decoders():
        text = {"spaced": "spaced:inner=(threshold)", "joint_threshold": "joint_threshold:write_tau=0.5,edit_tau=0.5", "hierarchy": "hierarchy:remask=true"}.get(name, name)
        steps = remask.denoise(chain_b(), remask.Canvas.from_prompts([[6, 5]], max_new_tokens=6, mask_id=MASK), decoder=remask.parse_decoder(text))
        assert (next(iter(steps)).edit.remask is not None) == (name in names - {"joint_threshold"} | {"remdm"}), name

"""A decoder that does not say that it revises never changes a token that it wrote: what streams must rely on."""

import pytest

import remask
from tests.laws.test_laws import DECODER_SPECS, PROMPTS, run

REVISING = [
    "p2:steps=7",
    "saber",
    "wino",
    "hierarchy:remask=true,tau=0.5,low=0.5",
    "remdm:steps=9",
    "remdm:steps=9,strategy=doubt,eta=0.3",
    "core:every=2,suspects=3",
    "joint_threshold:write_tau=0.5,edit_tau=0.6",
    "spaced:inner=(p2:steps=7)",
]


def changes(text):
    """Whether some run with this decoder changed a written token."""
    for window, seed in (("whole", 0), ("whole", 1), ("blocks:4,origin=canvas", 2)):
        before, steps = run(PROMPTS, (text, window, "fresh"), seed)
        for step in steps:
            if bool(((before.tokens != step.canvas.tokens) & ~before.masked).any()):
                return True
            before = step.canvas
    return False


@pytest.mark.parametrize("text", DECODER_SPECS)
def test_only_decoders_that_say_so_change_what_they_wrote(text):
    assert remask.parse_decoder(text).revises or not changes(text)


@pytest.mark.parametrize("text", REVISING)
def test_decoders_that_say_that_they_revise_do(text):
    assert remask.parse_decoder(text).revises
    assert changes(text)

"""A decoder that does not say that it revises never changes a token that it wrote: what streams must rely on."""

import pytest

import remask
from tests.laws.test_laws import DECODER_SPECS, PROMPTS, run


@pytest.mark.parametrize("text", [*DECODER_SPECS, "spaced:inner=(p2:steps=7)"])
def test_only_decoders_that_say_so_change_what_they_wrote(text):
    changed = False
    for window, seed in (("whole", 0), ("whole", 1), ("blocks:4,origin=canvas", 2)):
        before, steps = run(PROMPTS, (text, window, "fresh"), seed)
        for step in steps:
            changed |= bool(((before.tokens != step.canvas.tokens) & ~before.masked).any())
            before = step.canvas
    assert changed == remask.parse_decoder(text).revises

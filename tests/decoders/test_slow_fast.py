"""The slow phase looks at its own passes only."""

from dataclasses import replace

import torch

import remask
from remask.canvas import Canvas
from remask.decoders.base import View
from remask.prediction import Prediction
from remask.randomness import keyed_uniforms


def test_a_slow_phase_does_not_remember_the_one_before():
    """The horizon is 2, then 3 and 4: a phase that still knew the 2 would be sure at its first pass."""
    decoder = remask.SlowFast(tau=0.9, reach=0.3, history=2, deviation=1.0)
    canvas = Canvas.from_prompts([[]], max_new_tokens=6, mask_id=2)
    state, seen = decoder.init(canvas), []
    for surest in ((0, 1, 2), (1, 2), (2,), (3,), (4,)):
        chances = torch.tensor([0.95 if place in surest else 0.1 for place in range(6)], dtype=torch.float64)
        logits = torch.stack([chances, *[(1 - chances) / 20] * 20], -1).log().float()[None]
        zero = torch.zeros(1, dtype=torch.int64)
        view = View(canvas, Prediction.of(logits, logits, logits.argmax(-1)), canvas.masked, zero, zero, keyed_uniforms, canvas.masked)
        edit, state = decoder.step(view, state)
        canvas = replace(canvas, tokens=canvas.tokens.masked_fill(edit.write, 0))
        seen.append((edit.write[0].nonzero()[:, 0].tolist(), int(state.end), int(state.slow)))
    assert seen == [([0], -1, 1), ([1], 2, 0), ([2], 2, 0), ([3], -1, 1), ([4], 4, 0)]

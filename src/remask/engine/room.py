"""The bytes of a row: what is kept of the network, what its parts remember, and what a step needs on top."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

import remask.memory as memory
from remask.canvas import Canvas
from remask.compute import Model
from remask.denoise import Plan, start, step
from remask.models.store import Chosen
from remask.prediction import Unread

PROBE = 5
"""Positions of the canvas on which sizes are measured."""


@dataclass(frozen=True)
class Need:
    """Bytes of a row. position: of each position of its canvas, padding included.  read: on top, of each at which a lazy head is run."""

    position: float
    read: float = 0.0

    def of(self, length: int, most_open: int) -> float:
        """On a canvas of `length` positions, of which no more than `most_open` are eligible at once."""
        return length * self.position + min(length, most_open) * self.read


@dataclass(frozen=True)
class Sizes:
    """Bytes a position of one network: logits, keys and values, and one hidden state. lazy: states are kept in place of logits (remask.models.base.Network)."""

    logits: float
    store: float
    hidden: float
    lazy: bool = False

    @staticmethod
    def of(model: Model) -> Sizes:
        """Measured by one forward of a tiny canvas."""
        canvas = Canvas.from_prompts([[]], max_new_tokens=PROBE, mask_id=model.mask_id, device=getattr(model, "device", None))
        hidden, store = model.forward(canvas, Chosen(), None)
        lazy = getattr(model, "lazy", False)
        return Sizes(memory.nbytes(model.head(hidden)) / PROBE, store.nbytes / PROBE, memory.nbytes(hidden) / PROBE, lazy)

    def keeps_states(self, plan: Plan) -> bool:
        """Whether a row with these parts keeps states in place of logits, as remask.compute does it."""
        return self.lazy and not plan.manner.reads

    def kept(self, plan: Plan) -> float:
        """Bytes a position of what is kept of the network between passes: predictions, keys and values (remask.compute.Kept.nbytes)."""
        return (self.hidden if self.keeps_states(plan) else self.logits) + self.store * plan.reuse.stores

    def row(self, plan: Plan, remembered: float, shadows: bool, everywhere: bool) -> Need:
        """What a row with these parts needs, which remember that much of their own a position, may ask for as many shadows as positions, and read all positions or eligible ones.

        What is kept counts twice, since it is copied when rows join or leave, and what parts remember once more, for their own sums. A step
        works on at most four copies of the logits, shapers on six more (a sort with its order, probabilities and sums), a draw on four
        (float64), and a layer on 24 hidden states. Where states are kept, the logits themselves come on top, at eligible positions alone unless
        somebody reads all of them. docs/findings/engine.md compares this with what is used.
        """
        states = self.keeps_states(plan)
        work = (4 + states + 6 * bool(plan.shapers) + 4 * plan.draws) * self.logits
        position = 2 * self.kept(plan) + 3 * remembered + 24 * self.hidden + shadows * (4 * self.logits + 24 * self.hidden)
        return Need(position, work) if states and not everywhere else Need(position + work)


def probed(model: Model, plan: Plan) -> tuple[float, bool, bool]:
    """Bytes a position that the parts of a plan remember after a step, whether it asks for shadows, and whether the belief is read at all positions.

    On a tiny canvas; a part that fails there raises. A decoder that reads scores at eligible positions alone may still ask for `logits`, which a lazy head makes of all.
    """
    canvas = Canvas.from_prompts([[]], max_new_tokens=PROBE, mask_id=model.mask_id, device=getattr(model, "device", None))
    state, seen = step(model, start(canvas, plan, canvas.tokens.new_zeros(1)), plan)
    kept = (state.decoder, state.window, state.reuse)
    memory.check(kept, 1, PROBE)
    belief = seen.prediction.raw
    whole = isinstance(belief, Unread) and belief.source.read_whole
    return memory.nbytes(kept) / PROBE, plan.decoder.shadows(canvas, canvas.real, state.decoder) is not None, whole or plan.observed or plan.decoder.everywhere


def free_bytes(model: Any) -> int | None:
    """Four fifths of what the model's device has free now; None where the system does not say."""
    device = torch.device(getattr(model, "device", None) or "cpu")
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] * 4 // 5
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 4 // 5
    return None

"""What a captured pass is made of: its sizes, what it keeps and knows of the next one, and the places that it computes and reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.compute import left_of
from remask.denoise import Plan, Sight, State, look
from remask.errors import INSTEAD, RemaskError
from remask.kernels.graphs import mapped
from remask.kernels.places import Spread, compact, put_rows
from remask.models.store import Chosen
from remask.prediction import Prediction, Summary
from remask.reuse.base import Scene

FEW = 128
"""Positions of all rows together up to which a pass takes about as long whatever their number: it reads the same weights (docs/findings/gpu.md)."""


@dataclass(frozen=True)
class Bucket:
    """The static sizes of a pass. chosen: M, None for whole rows.  asked: positions of a row that the head computes.  first: nothing is kept yet.

    idle: a row that goes on computes nothing now.
    """

    chosen: int | None
    asked: int
    first: bool = False
    idle: bool = False


@dataclass(frozen=True, eq=False)
class Ahead:
    """What the end of a pass settles about the next one; (B, L) bool but for running, (B, 1). given: None where it is the canvas's own. See Sight.

    computed: the active positions, and those whose states predict them.  asked: the positions at which some part reads a score.
    """

    running: Tensor
    eligible: Tensor
    active: Tensor
    span: Tensor
    given: Tensor | None
    computed: Tensor
    asked: Tensor

    def sight(self, state: State) -> Sight:
        """Of the state it was made for."""
        canvas = state.canvas
        shown = canvas if self.given is None else replace(canvas, given=self.given)
        return Sight(Scene(canvas, self.span, state.touched, state.step), self.running, self.eligible, self.active, shown)


@dataclass(frozen=True, eq=False)
class Fixed:
    """What is kept between passes, in place of remask.compute.Kept.

    hidden: (B, L, D), the states that predict each position, None before the first pass and where no pass reads those of another (`forgets`).
    logits: (B, L, V) in the network's precision, where a reuse rule compares posteriors.  store: keys and values.  bad: (B,) bool, a NaN came out of the
    head.  overflow: (B,) bool, the bucket was too small.
    ahead: what is known of the next pass.
    """

    hidden: Tensor | None = None
    logits: Tensor | None = None
    store: Any = None
    bad: Tensor | None = None
    overflow: Tensor | None = None
    ahead: Ahead | None = None


@dataclass(frozen=True)
class Signals:
    """What the host reads after a pass. computed, asked: most positions of a row that the next pass computes and asks about. busy: no row that goes on is idle in it."""

    done: int
    sound: int
    fits: int
    whole: int
    busy: int
    computed: int
    asked: int

    def check(self, state: State) -> None:
        """Raise if the pass that sent them went wrong."""
        if not self.sound:
            raise RemaskError(f"NaN logits in a captured pass of {len(state.seeds)} rows; check the checkpoint, or load it with dtype=float32")
        if not self.fits:
            raise RemaskError(f"a captured pass met more active positions than its bucket holds; report the parts in use, and meanwhile {INSTEAD}")


def ahead(state: State, plan: Plan, shift: int) -> tuple[State, Tensor]:
    """The state with what is known of the next pass, and the seven numbers of Signals, on the device."""
    kept, sight = state.kept, look(state, plan)
    refuse_shadows(plan, sight.canvas.shadows)
    eligible, active, real = sight.eligible, sight.active, state.canvas.real
    computed = active
    whole = busy = torch.ones_like(state.done)
    if plan.reuse.stores:
        computed = active | left_of(active, shift) if shift and not plan.reuse.lone else active
        whole = (computed | ~(real & sight.running)).all(1)  # what an idle row keeps is not to be made anew
        busy = active.any(1) | state.done
    asked = asked_of(plan, state.canvas, eligible, active, first=False)
    given = None if sight.canvas.given is state.canvas.given else sight.canvas.given
    found = Ahead(sight.running, eligible, active, sight.scene.span, given, computed, asked)
    flags = torch.stack([state.done, ~kept.bad, ~kept.overflow, whole, busy]).all(1)
    counts = torch.stack([computed, asked]).sum(2).amax(1)
    return replace(state, kept=replace(kept, ahead=found)), torch.cat([flags, counts])


def check_fixed(plan: Plan, state: State) -> None:
    """Raise for parts that need more than fixed shapes, before the first pass, on every device: a decoder may come to ask for shadows in a later one only."""
    if plan.window.grows:
        raise RemaskError(f"window {plan.window} lengthens its canvas, and a captured pass has a fixed one; {INSTEAD}")
    for part in (plan.decoder, plan.reuse):
        if part.waits:
            raise RemaskError(f"{part} waits for the device in the middle of a step, which cannot be recorded; {INSTEAD}")
    refuse_shadows(plan, plan.decoder.shadows(state.canvas, state.canvas.real, state.decoder))


def refuse_shadows(plan: Plan, shadows: Tensor | None) -> None:
    """Raise if a decoder asked for shadows."""
    if shadows is not None:
        raise RemaskError(f"{plan.decoder} asks for shadows, which a captured run has none of; {INSTEAD}")


def summary(found: Spread, source: Callable[[], Tensor]) -> Summary:
    """As a belief; source: gives the logits."""
    return Summary(found.token, found.candidates, found.confidence, found.second, found.sampled, found.entropy, found.moved, source)


def asked_of(plan: Plan, canvas: Canvas, eligible: Tensor, active: Tensor, *, first: bool) -> Tensor:
    """(B, L) bool: the positions at which some part reads a score."""
    if plan.decoder.everywhere or (first and plan.reuse.compares):
        return canvas.real
    return eligible | active if plan.reuse.compares else eligible


def forgets(plan: Plan, shift: int) -> bool:
    """Whether no pass reads a state that another made: none is kept then, and a pass makes those that its head reads.

    Logits that are shifted are predicted from the left, which a rule that is `lone` does not compute anew for a block's first position.
    """
    return plan.reuse.covers and not plan.reuse.compares and not plan.decoder.everywhere and not (shift and plan.reuse.lone)


def rung(count: int, length: int, *, sizes: int = 2) -> int:
    """The smallest bucket that holds `count` positions of a canvas of `length`: multiples of 8, and of them at most `sizes` between a power of two and the next.

    It holds up to 1 / sizes of positions too many, and up to seven more. Each is recorded when it is met.
    """
    octave = 1 << max(0, count - 1).bit_length()
    step = 8 * max(1, -(-octave // (16 * sizes)))
    steps = -(-(count - octave // 2) // step)
    return min(length, max(8, min(octave, octave // 2 + steps * step)))


def everywhere(active: Tensor) -> tuple[Tensor, Tensor]:
    """The places of all positions, as `compact` gives them."""
    return torch.arange(active.shape[1], device=active.device).expand_as(active), torch.zeros_like(active[:, 0])


def column(computed: Tensor, position: Tensor, most: int) -> Tensor:
    """(B, T) int64: which of the computed positions, (B, L) bool, each of `position`, (B, T), is; at most the last of `most`, whatever one is that was not computed."""
    return (computed.cumsum(1).gather(1, position) - 1).clamp(0, most - 1)


def put_back(store: Any, first: Any, idle: Tensor) -> None:
    """Write `first`, (B, K, 1, E) for each tensor (B, K, L, E) of the store, where `idle`, (B,) bool: `compact` has a place to name for a row that computes nothing."""
    rows = idle[:, None, None, None]
    mapped(lambda part, old: part[:, :, :1].copy_(torch.where(rows, old, part[:, :, :1])), store, first)


def put(kept: Tensor, fresh: Tensor, place: Tensor, active: Tensor, computed: Tensor, shift: int) -> Tensor:
    """(B, L, D) states by the position they predict: `fresh` (B, M, D), computed at `place`, where an active position is predicted; written in place."""
    if shift == 0:
        target, rank, renewed = place, None, Chosen(place).take(active)
    else:
        position = torch.arange(active.shape[1], device=active.device)
        source = (position - shift).clamp(min=0).expand_as(active)
        predicted = active & computed.gather(1, source)
        target, _ = compact(predicted, place.shape[1])
        rank = column(computed, source.gather(1, target), place.shape[1])
        renewed = predicted.gather(1, target)
    return put_rows(kept, fresh if rank is None else Chosen(rank).take(fresh), target, renewed)


def scattered(values: Tensor, place: Tensor, length: int) -> Tensor:
    """(B, T, V) at `place`, (B, T) int64 -> (B, L, V), 0 elsewhere."""
    return values.new_zeros(len(values), length, values.shape[-1]).scatter_(1, place[..., None].expand_as(values), values)


def mapped_belief(prediction: Prediction) -> Prediction:
    """The numbers alone, for others: logits belong to the pass."""
    raw, shaped = prediction.raw, prediction.shaped
    assert isinstance(raw, Summary)
    assert isinstance(shaped, Summary)
    own = replace(raw, source=None)
    return Prediction(own, own if shaped is raw else replace(shaped, source=None))

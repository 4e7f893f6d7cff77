"""The loop: `step` is a pure function, `denoise` a generator around it, `decode` its last step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.combinations import check_combination
from remask.compute import Kept, Model, chosen_positions, head_of, whole_rows
from remask.decoders.base import Decoder, View
from remask.decoders.low_confidence import LowConfidence
from remask.errors import RemaskError
from remask.prediction import Prediction
from remask.randomness import PROPOSAL, Uniforms, draw, keyed_uniforms
from remask.reuse.base import Pass, Reuse, Scene
from remask.reuse.fresh import Fresh
from remask.shapers import Shaper
from remask.windows import Blocks, Whole, Window


@dataclass(frozen=True)
class Plan:
    """The parts of one decode; all frozen, their repr is their configuration."""

    decoder: Decoder = LowConfidence()
    window: Window = Whole()
    reuse: Reuse = Fresh()
    shapers: tuple[Shaper, ...] = ()
    early_stop: bool = False
    uniforms: Uniforms = keyed_uniforms

    @property
    def draws(self) -> bool:
        return self.decoder.draws or any(shaper.draws for shaper in self.shapers)


@dataclass(frozen=True, eq=False)
class State:
    """All that the next step needs. seeds, step, forwards, positions: (B,) int64; done: (B,) bool; touched: (B, L) bool."""

    canvas: Canvas
    seeds: Tensor
    step: Tensor
    done: Tensor
    forwards: Tensor
    positions: Tensor
    touched: Tensor
    decoder: Any
    window: Any
    reuse: Any
    kept: Kept = Kept()

    def fork(self) -> State:
        """The same, to be stepped on its own: a pass writes into what was stored."""
        return replace(self, kept=self.kept.fork())


@dataclass(frozen=True, eq=False)
class Step:
    """All that an observer may see: the canvas after, the belief, the edit, and what was computed."""

    canvas: Canvas
    prediction: Prediction
    edit: Edit
    active: Tensor
    done: Tensor
    forwards: Tensor
    positions: Tensor


def start(canvas: Canvas, plan: Plan, seeds: Tensor) -> State:
    """The state before the first step; a row with nothing to write is done."""
    zero = torch.zeros_like(seeds)
    done = ~canvas.masked.any(1)
    return State(canvas, seeds, zero, done, zero, zero, canvas.real, plan.decoder.init(canvas), plan.window.init(canvas), plan.reuse.init(canvas))


def step(model: Model, state: State, plan: Plan) -> tuple[State, Step]:
    """One pass: eligible -> active -> network -> prediction -> edit -> canvas. Rows that are done do not move."""
    running = ~state.done[:, None]
    eligible = plan.window.eligible(state.canvas, state.window) & running
    span = plan.window.span(state.canvas, state.window) & running
    scene = Scene(state.canvas, span, state.touched, state.step)
    active = plan.reuse.active(scene, state.reuse) & running
    if not plan.reuse.stale:
        active |= state.touched & state.canvas.real & running
    shown = state.canvas.holding(plan.reuse.protected(state.reuse))
    if plan.decoder.rescores and plan.reuse.stores:
        active |= span & ~shown.given & ~shown.masked
    kept, computed = compute(model, state, active, plan)
    assert kept.logits is not None
    prediction = predict(plan, state, kept.logits)
    view = View(shown, prediction, eligible, state.step, state.seeds, plan.uniforms, span, model.eos_ids)
    edit, memory = plan.decoder.step(view, state.decoder)
    edit = edit.within(running & ~shown.given)
    canvas = edit.apply(state.canvas)
    done = state.done | ~canvas.masked.any(1)
    if (pending := plan.decoder.pending(memory)) is not None:
        done = state.done | (done & ~pending)
    if plan.early_stop:
        canvas, done = stop_at_end_of_text(canvas, done, model.eos_ids)
    state = replace(
        state,
        canvas=canvas,
        step=state.step + running[:, 0],
        done=done,
        forwards=state.forwards + computed.any(1) * model.evaluations,
        positions=state.positions + computed.sum(1) * model.evaluations,
        touched=torch.where(active, False, state.touched) | edit.touched,
        decoder=memory,
        reuse=plan.reuse.observe(scene, Pass(active, prediction.raw, state.kept.logits, edit, canvas), state.reuse),
        kept=kept,
    )
    return state, Step(canvas, prediction, edit, computed, done, state.forwards, state.positions)


def compute(model: Model, state: State, active: Tensor, plan: Plan) -> tuple[Kept, Tensor]:
    """What is kept after a pass over the active (B, L) positions, and what was computed for it, (B, L) bool."""
    head = head_of(model, plan.decoder.mask_candidates)
    if not plan.reuse.stores:
        return whole_rows(model, state.canvas, state.kept, active, state.step, head)
    return chosen_positions(model, state.canvas, state.kept.only(~state.done), active, state.step, head, plan.reuse.lone)


def predict(plan: Plan, state: State, logits: Tensor) -> Prediction:
    """The belief and one candidate per position."""
    shaped = logits
    for shaper in plan.shapers:
        shaped = shaper(shaped)
    if plan.draws:
        candidates = draw(shaped, plan.uniforms(state.seeds, state.step, logits.shape[1], PROPOSAL))
    else:
        candidates = shaped.argmax(-1)
    return Prediction.of(logits, shaped, candidates)


def stop_at_end_of_text(canvas: Canvas, done: Tensor, eos_ids: tuple[int, ...]) -> tuple[Canvas, Tensor]:
    """Rows whose first written end-of-text has no mask before it are done; the rest of the row becomes end-of-text."""
    if not eos_ids:
        return canvas, done
    ends = torch.isin(canvas.tokens, torch.tensor(eos_ids, device=canvas.tokens.device)) & ~canvas.given
    settled = (ends & (canvas.masked.long().cumsum(1) == 0)).any(1)
    behind = canvas.masked & settled[:, None]
    return replace(canvas, tokens=canvas.tokens.masked_fill(behind, eos_ids[0])), done | settled


def row_seeds(seed: int | Sequence[int], rows: int) -> list[int]:
    """One seed a row: an int s gives s + i."""
    if isinstance(seed, int):
        return [seed + row for row in range(rows)]
    if len(seed) != rows:
        raise RemaskError(f"{len(seed)} seeds for {rows} rows; pass one int, or one seed per row")
    return list(seed)


@torch.inference_mode()
def denoise(
    model: Model,
    canvas: Canvas,
    *,
    decoder: Decoder = LowConfidence(),
    window: Window = Whole(),
    reuse: Reuse = Fresh(),
    shapers: Sequence[Shaper] = (),
    seed: int | Sequence[int] = 0,
    early_stop: bool = False,
    uniforms: Uniforms = keyed_uniforms,
) -> Iterator[Step]:
    """Yield one Step per pass until every row is done. Printing, tracing and stopping are the caller's business."""
    if model.max_length is not None and canvas.shape[1] > model.max_length:
        raise RemaskError(f"the canvas has {canvas.shape[1]} positions and the model was made for {model.max_length}; shorten the prompt or max_new_tokens")
    check_combination(decoder, reuse)
    plan = Plan(decoder, window, reuse, tuple(shapers), early_stop, uniforms)
    state = start(canvas, plan, torch.tensor(row_seeds(seed, canvas.shape[0]), device=canvas.tokens.device))
    while not bool(state.done.all()):
        state, seen = step(model, state, plan)
        yield seen


@dataclass(frozen=True, eq=False)
class Decoded:
    """tokens: B int64 tensors, prompt and generated, padding removed. forwards, positions: (B,) int64."""

    tokens: list[Tensor]
    forwards: Tensor
    positions: Tensor


def decode(
    model: Model,
    tokens: Sequence[Sequence[int]] | Tensor,
    *,
    max_new_tokens: int = 0,
    attention_mask: Tensor | None = None,
    decoder: Decoder = LowConfidence(),
    window: Window = Whole(),
    reuse: Reuse = Fresh(),
    shapers: Sequence[Shaper] = (),
    seed: int | Sequence[int] = 0,
    early_stop: bool = False,
    uniforms: Uniforms = keyed_uniforms,
) -> Decoded:
    """Write every unknown position and return the last canvas with what it cost."""
    device = getattr(model, "device", None)
    canvas = Canvas.from_prompts(tokens, max_new_tokens=max_new_tokens, mask_id=model.mask_id, attention_mask=attention_mask, device=device)
    if isinstance(window, Blocks):
        window.check(canvas)
    zero = torch.zeros(canvas.shape[0], dtype=torch.int64)
    last: Step | None = None
    for last in denoise(model, canvas, decoder=decoder, window=window, reuse=reuse, shapers=shapers, seed=seed, early_stop=early_stop, uniforms=uniforms):
        pass
    final = canvas if last is None else last.canvas
    rows = [row[real].cpu() for row, real in zip(final.tokens, final.real, strict=True)]
    return Decoded(rows, zero if last is None else last.forwards.cpu(), zero if last is None else last.positions.cpu())

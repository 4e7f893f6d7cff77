"""The loop: `step` is a pure function, `denoise` a generator around it, `decode` its last step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import remask.memory as memory
from remask.canvas import Canvas, Edit
from remask.combinations import check_combination
from remask.compute import Kept, Manner, Model, compute, head_of, read
from remask.decoders.base import Decoder, View
from remask.decoders.low_confidence import LowConfidence
from remask.errors import RemaskError
from remask.models.shadow import computed_rows, places
from remask.prediction import Belief, LeftOut, Places, Prediction, Source
from remask.randomness import PROPOSAL, Uniforms, draw, keyed_uniforms
from remask.reuse.base import Pass, Reuse, Scene
from remask.reuse.fresh import Fresh
from remask.shapers import Shaper
from remask.windows.base import Window
from remask.windows.whole import Whole


@dataclass(frozen=True)
class Plan:
    """The parts of one decode; all frozen, their repr is their configuration.

    observed: who sees the steps reads the belief at every position, so that a lazy head is run once over all, and not over what the decoder reads first.
    """

    decoder: Decoder = LowConfidence()
    window: Window = Whole()
    reuse: Reuse = Fresh()
    shapers: tuple[Shaper, ...] = ()
    early_stop: bool = False
    uniforms: Uniforms = keyed_uniforms
    observed: bool = False

    def __post_init__(self) -> None:
        check_combination(self.decoder, self.reuse)

    @property
    def draws(self) -> bool:
        """Whether candidates are drawn; else they are the arg max."""
        return self.decoder.draws or any(shaper.draws for shaper in self.shapers)

    @property
    def manner(self) -> Manner:
        """What the network has to know of the parts; rows of one manner can share a forward."""
        return Manner(self.reuse.stores, self.reuse.lone, self.decoder.mask_candidates, self.reuse.compares or self.window.grows)


MEMORIES = ("seeds", "step", "done", "forwards", "positions", "touched", "decoder", "window", "reuse")
"""The fields of a State that are memories in the sense of remask.memory."""


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
    kept: Any = Kept()

    def rows(self, index: Tensor) -> State:
        """The chosen rows, in the order of `index` (R,) int64, on a canvas no longer than the longest of them."""
        real = self.canvas.real[index]
        length = int(torch.where(real, torch.arange(1, real.shape[1] + 1, device=real.device), 1).amax())
        kept = self.kept.take(index, length)
        canvas, others = self.canvas.rows(index).resized(length), memory.resized(memory.rows(self._memories, index), length)
        return replace(self, canvas=canvas, kept=kept, **dict(zip(MEMORIES, others, strict=True)))

    @staticmethod
    def joined(states: Sequence[State], length: int | None = None) -> State:
        """Rows of states with the same parts below one another, padded to the longest canvas, or cut or padded to `length`."""
        counts = [state.canvas.shape[0] for state in states]
        length = length or max(state.canvas.shape[1] for state in states)
        others = memory.joined([state._memories for state in states], counts, length)
        kept = Kept.joined([state.kept for state in states], counts, length)
        return replace(states[0], canvas=Canvas.joined([state.canvas for state in states], length), kept=kept, **dict(zip(MEMORIES, others, strict=True)))

    @property
    def _memories(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in MEMORIES)

    def fork(self) -> State:
        """The same, to be stepped on its own: a pass writes into what was stored."""
        return replace(self, kept=self.kept.fork())


@dataclass(frozen=True, eq=False)
class Step:
    """All that an observer may see: the canvas after, the belief, the edit, and what was computed.

    source: (B, L) int64, where each position stood in the canvas of the step before, if the window moved any (see Canvas.moved); else None.
    """

    canvas: Canvas
    prediction: Prediction
    edit: Edit
    active: Tensor
    done: Tensor
    forwards: Tensor
    positions: Tensor
    source: Tensor | None = None


def start(canvas: Canvas, plan: Plan, seeds: Tensor) -> State:
    """The state before the first step; a row with nothing to write is done."""
    zero = torch.zeros_like(seeds)
    done = ~canvas.masked.any(1)
    return State(canvas, seeds, zero, done, zero, zero, canvas.real, plan.decoder.init(canvas), plan.window.init(canvas), plan.reuse.init(canvas))


@dataclass(frozen=True, eq=False)
class Sight:
    """What is settled before the network is asked. running: (B, 1) bool.  eligible, active: (B, L) bool, what may be written and what is computed.

    canvas: what the decoder sees: the state's, with the shadows that it asked for, and given where the reuse rule forbids an edit.
    """

    scene: Scene
    running: Tensor
    eligible: Tensor
    active: Tensor
    canvas: Canvas


def step(model: Model, state: State, plan: Plan) -> tuple[State, Step]:
    """One pass: eligible -> active -> network -> prediction -> edit -> canvas. Rows that are done do not move."""
    state, source = grown(model, state, plan)
    sight = look(state, plan)
    kept, computed, prediction = believe(model, state, plan, sight)
    state, seen = conclude(model, state, plan, sight, prediction, computed)
    return replace(state, kept=kept), replace(seen, source=source)


def grown(model: Model, state: State, plan: Plan) -> tuple[State, Tensor | None]:
    """The state on the canvas that the window wants for the next pass, and where its positions stood (None: where they stand)."""
    if not plan.window.grows:
        return state, None
    assert not state.kept.lazy, "a window that grows reads logits"
    logits = state.kept.logits
    belief = None if logits is None else Belief(logits, logits.argmax(-1))
    edit, window = plan.window.grow(state.canvas, belief, state.window, limit=model.max_length, eos_ids=model.eos_ids)
    if edit is None or (source := edit.source) is None:
        return replace(state, window=window), None
    canvas = edit.apply(state.canvas)
    changed = (source == -1).any(1)
    state = replace(
        state,
        canvas=canvas,
        window=window,
        touched=(memory.moved(state.touched, source, None) | changed[:, None]) & canvas.real,
        decoder=memory.moved(state.decoder, source, plan.decoder.init(canvas)),
        reuse=memory.moved(state.reuse, source, plan.reuse.init(canvas)),
        kept=state.kept.only(~changed).moved(source),
    )
    return state, source


def look(state: State, plan: Plan) -> Sight:
    """What window and reuse rule decide from the canvas alone."""
    running = ~state.done[:, None]
    eligible = plan.window.eligible(state.canvas, state.window) & running
    scene = Scene(state.canvas, plan.window.span(state.canvas, state.window) & running, state.touched, state.step)
    active = plan.reuse.active(scene, state.reuse) & running
    if not plan.reuse.stale:
        active |= state.touched & state.canvas.real & running
    shown = state.canvas.holding(plan.reuse.protected(state.reuse))
    if plan.decoder.rescores and plan.reuse.stores:
        active |= scene.span & ~shown.given & ~shown.masked
    canvas = shadowed(shown, plan.decoder.shadows(shown, scene.span, state.decoder), running)
    if canvas.shadows is not None:  # a row that would compute nothing has no shadows to stand beside
        active |= canvas.real & canvas.shadows.any(1, keepdim=True) & ~active.any(1, keepdim=True)
    return Sight(scene, running, eligible, active, canvas)


def believe(model: Model, state: State, plan: Plan, sight: Sight) -> tuple[Any, Tensor, Prediction]:
    """What is kept after the pass, what was computed for it, (B, L) bool, and the belief. A model may do all of it by itself (remask.captured)."""
    if (own := getattr(model, "believe", None)) is not None:
        return own(state, sight)
    kept, computed = compute(model, sight.canvas, state.kept.only(~state.done), sight.active, state.step, plan.manner)
    assert kept.said is not None
    return kept, computed, predict(model, plan, state, sight, kept, slice(None))


def conclude(model: Model, state: State, plan: Plan, sight: Sight, prediction: Prediction, computed: Tensor) -> tuple[State, Step]:
    """What the parts make of the belief; computed: (B, L) bool. `state.kept` is still that of the pass before."""
    seen = prediction if plan.decoder.everywhere else prediction.at(sight.eligible)
    view = View(sight.canvas, seen, sight.eligible, state.step, state.seeds, plan.uniforms, sight.scene.span, model.eos_ids)
    edit, remembered = plan.decoder.step(view, state.decoder)
    edit = edit.within(sight.running & ~sight.canvas.given)
    canvas = edit.apply(state.canvas)
    done = state.done | ~canvas.masked.any(1)
    if (pending := plan.decoder.pending(remembered)) is not None:
        done = state.done | (done & ~pending)
    if plan.early_stop:
        canvas, done = stop_at_end_of_text(canvas, done, model.eos_ids)
    extra = 0 if sight.canvas.shadows is None else computed_rows(sight.canvas.shadows, model.shift)
    state = replace(
        state,
        canvas=canvas,
        step=state.step + sight.running[:, 0],
        done=done,
        forwards=state.forwards + computed.any(1) * model.evaluations,
        positions=state.positions + (computed.sum(1) + extra) * model.evaluations,
        touched=torch.where(sight.active, False, state.touched) | edit.touched,
        decoder=remembered,
        reuse=plan.reuse.observe(sight.scene, Pass(sight.active, prediction.raw, state.kept.logits, edit, canvas), state.reuse),
    )
    return state, Step(canvas, prediction, edit, computed, done, state.forwards, state.positions)


def shadowed(canvas: Canvas, asked: Tensor | None, running: Tensor) -> Canvas:
    """The canvas with the shadows that a decoder asked for, (B, L) bool, in running rows (B, 1)."""
    asked = None if asked is None else asked & running & canvas.real
    return canvas if asked is None or not bool(asked.any()) else replace(canvas, shadows=asked)


def left_out(canvas: Canvas, beside: Tensor | None) -> LeftOut | None:
    """The belief of the canvas's shadows, from their logits (B, S, V); other rows of the same pass may have had more of them."""
    if canvas.shadows is None or beside is None:
        return None
    place = places(canvas.shadows)
    return LeftOut(canvas.shadows, place, beside[:, : place.shape[1]])


def predict(model: Model, plan: Plan, state: State, sight: Sight, kept: Kept, rows: slice) -> Prediction:
    """The belief and one candidate per position, of those rows of `kept` that are the state's."""
    assert kept.said is not None
    said, beside = kept.said[rows], left_out(sight.canvas, None if kept.beside is None else kept.beside[rows])
    uniforms = plan.uniforms(state.seeds, state.step, state.canvas.shape[1], PROPOSAL) if plan.draws else None  # once a pass, whoever reads how often
    head, state = head_of(model, plan.decoder.mask_candidates), replace(state, kept=Kept())  # a step that is held must not hold a store
    if not kept.lazy or plan.observed:
        logits = read(head, said, sight.canvas.real, state.step, None) if kept.lazy else said
        shaped, candidates = proposed(plan, logits, uniforms, None)
        return Prediction.of(logits, shaped, candidates, beside)

    def make(place: Places) -> tuple[Tensor, Tensor, Tensor]:
        with torch.inference_mode():  # an observer reads when the pass is over
            logits = read(head, said, sight.canvas.real, state.step, place)
            return logits, *proposed(plan, logits, uniforms, place)

    return Prediction.unread(Source(make), bool(plan.shapers), beside)


def proposed(plan: Plan, logits: Tensor, uniforms: Tensor | None, place: Places) -> tuple[Tensor, Tensor]:
    """Logits, (B, L, V) or (N, V) at `place`, after the shapers, and a candidate each."""
    shaped = logits if place is None else logits[None]
    for shaper in plan.shapers:
        shaped = shaper(shaped)
    shaped = shaped if place is None else shaped[0]
    if uniforms is None:
        return shaped, shaped.argmax(-1)
    return shaped, draw(shaped, uniforms if place is None else uniforms[place])


def stop_at_end_of_text(canvas: Canvas, done: Tensor, eos_ids: tuple[int, ...]) -> tuple[Canvas, Tensor]:
    """Rows whose first written end-of-text has no mask before it are done; the rest of the row becomes end-of-text."""
    if not eos_ids:
        return canvas, done
    ends = torch.stack([canvas.tokens == end for end in eos_ids]).any(0) & ~canvas.given
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


def check_fit(model: Model, canvas: Canvas) -> None:
    """Raise unless the canvas has a length and ids that the model knows."""
    if model.max_length is not None and canvas.shape[1] > model.max_length:
        raise RemaskError(f"the canvas has {canvas.shape[1]} positions and the model was made for {model.max_length}; shorten the prompt or max_new_tokens")
    known = getattr(model, "vocab_size", model.mask_id + 1)
    if not 0 <= int(canvas.tokens.min()) <= int(canvas.tokens.max()) < known:
        raise RemaskError(f"the canvas has ids from {int(canvas.tokens.min())} to {int(canvas.tokens.max())} and the model knows 0 to {known - 1}; is the tokenizer its own?")


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
    observed: bool = False,
) -> Iterator[Step]:
    """Yield one Step per pass until every row is done. Printing, tracing and stopping are the caller's business.

    observed: the caller reads the belief of every step at every position: see Plan. It may do so in any case.
    """
    check_fit(model, canvas)
    plan = Plan(decoder, window, reuse, tuple(shapers), early_stop, uniforms, observed and getattr(model, "lazy", False))
    state = start(canvas, plan, torch.tensor(row_seeds(seed, canvas.shape[0]), device=canvas.tokens.device))
    if (passes := getattr(model, "passes", None)) is not None:
        yield from passes(state, plan)
        return
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
    window.check(canvas)
    zero = torch.zeros(canvas.shape[0], dtype=torch.int64)
    last: Step | None = None
    for last in denoise(model, canvas, decoder=decoder, window=window, reuse=reuse, shapers=shapers, seed=seed, early_stop=early_stop, uniforms=uniforms):
        pass
    final = canvas if last is None else last.canvas
    rows = [row[real].cpu() for row, real in zip(final.tokens, final.real, strict=True)]
    return Decoded(rows, zero if last is None else last.forwards.cpu(), zero if last is None else last.positions.cpu())

"""The loop in fixed shapes: every pass is one function of tensors that stay where they are, recorded as a CUDA graph per bucket and replayed.

Opt in with `Captured(model)`; docs/findings/gpu.md says what was measured on a GPU. On the CPU the same code runs
without graphs, which is how it is tested.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.compute import left_of
from remask.denoise import Plan, Sight, State, Step, conclude, look, step
from remask.errors import RemaskError
from remask.kernels.graphs import Late, Recorder, cloned, copied, form, mapped
from remask.kernels.joined import Joined
from remask.kernels.places import Spread, compact, spread
from remask.kernels.tail import tail
from remask.models.bodies import Body, Plain
from remask.models.store import Chosen
from remask.prediction import NoLogitsError, Prediction, Summary
from remask.randomness import PROPOSAL
from remask.reuse.base import Scene

FEW = 128
"""Positions of all rows together up to which a pass takes about as long whatever their number: it reads the same weights (docs/findings/gpu.md)."""


@dataclass(frozen=True)
class Bucket:
    """The static sizes of a pass. chosen: M, None for whole rows.  asked: positions of a row that the head computes.  first: nothing is kept yet."""

    chosen: int | None
    asked: int
    first: bool = False


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

    hidden: (B, L, D), the states that predict each position, None before the first pass.  logits: (B, L, V) in the network's precision, where a
    reuse rule compares posteriors.  store: keys and values.  bad: (B,) bool, a NaN came out of the head.  overflow: (B,) bool, the bucket was too small.
    ahead: what is known of the next pass.
    """

    hidden: Tensor | None = None
    logits: Tensor | None = None
    store: Any = None
    bad: Tensor | None = None
    overflow: Tensor | None = None
    ahead: Ahead | None = None


class Captured:
    """`model`, decoded by passes of fixed shape; give it to `decode`, `denoise` or `generate` in the model's place.

    Tokens, forwards and positions are those of the model itself up to rounding (a bucket's matrix products have other sizes). The head runs only at
    positions that a part reads, and of logits nothing is kept unless the reuse rule compares posteriors, so `step.prediction` has scores but no logits.
    The host waits once a pass, for six numbers. One run at a time of the same shape and plan. Rows that are done are still computed until all are: an engine should replace them.

    graphs: most graphs kept. sessions: most combinations of batch, length and plan kept, with their stores; the least recently used goes first.
    body: how the network computes; None takes its own forward.
    """

    def __init__(self, model: Any, *, body: Body | None = None, graphs: int = 64, sessions: int = 4) -> None:
        if graphs < 1 or sessions < 1:
            raise RemaskError(f"graphs is {graphs} and sessions {sessions}; both must be 1 or more")
        self.model, self.body, self.most_sessions = model, body or Plain(model), sessions
        self.mask_id: int = model.mask_id
        self.eos_ids: tuple[int, ...] = model.eos_ids
        self.max_length: int | None = model.max_length
        self.evaluations: int = model.evaluations
        self.shift: int = model.shift
        self.config: Any = getattr(model, "config", {})
        self.tokenizer: Any = getattr(model, "tokenizer", None)
        self.recorder = Recorder(torch.device(getattr(model, "device", None) or "cpu"), most=graphs)
        self.sessions: OrderedDict[Hashable, Session] = OrderedDict()

    @property
    def device(self) -> torch.device | None:
        return getattr(self.model, "device", None)

    @property
    def dtype(self) -> torch.dtype | None:
        return getattr(self.model, "dtype", None)

    def forward(self, canvas: Canvas, chosen: Chosen | None = None, store: Any = None) -> tuple[Tensor, Any]:
        """The model's own."""
        return self.model.forward(canvas, chosen, store)

    def head(self, hidden: Tensor) -> Tensor:
        """The model's own."""
        return self.model.head(hidden)

    def passes(self, state: State, plan: Plan) -> Iterator[Step]:
        """Step after step until every row is done; the next pass is under way when a step is handed out."""
        if plan.window.grows:
            raise RemaskError(f"window {plan.window} lengthens its canvas, and a captured pass has a fixed one; pass the model itself")
        key = (state.canvas.shape, not bool(state.canvas.real.all()), plan)
        if key not in self.sessions:
            self.sessions[key] = Session(self, key)
            while len(self.sessions) > self.most_sessions:
                gone, _ = self.sessions.popitem(last=False)
                self.recorder.forget(gone)
        self.sessions.move_to_end(key)
        yield from self.sessions[key].run(state)


class Session:
    """One batch shape and plan: the tensors that all its graphs read and write."""

    def __init__(self, owner: Captured, key: tuple[tuple[int, int], bool, Plan]) -> None:
        self.owner, self.key, self.body = owner, key, owner.body
        _, self.padded, self.plan = key
        self.eos_ids, self.evaluations = owner.eos_ids, owner.evaluations
        self.places: State | None = None
        self.bucket, self.turn = Bucket(None, 0, first=True), 0
        self.joined: Joined | None = Joined(self.concluded)

    def run(self, state: State) -> Iterator[Step]:
        """See Captured.passes."""
        try:
            yield from self.steps(state)
        except torch.OutOfMemoryError:
            rows, length = state.canvas.shape
            self.owner.sessions.pop(self.key, None)
            self.owner.recorder.forget(self.key)
            raise RemaskError(f"{rows} rows of {length} positions do not fit into the device's memory; {self.fitting(rows, length)}") from None

    def fitting(self, rows: int, length: int) -> str:
        """How many rows would fit, by what one keeps between passes; what a pass needs beside that is taken as as much again."""
        each = self.body.bytes_per_row(length, stores=self.plan.reuse.stores, compares=self.plan.reuse.compares)
        if each is None or (free := self.free()) is None:
            return "use fewer rows"
        most = min(rows - 1, free // (2 * each))
        return f"about {most} would" if most > 0 else "not even one would: shorten the canvas, or use reuse=Fresh()"

    def free(self) -> int | None:
        """Bytes of the device that hold nothing now."""
        if self.owner.recorder.device.type != "cuda":
            return None
        self.places = None
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self.owner.recorder.device)[0]

    def steps(self, state: State) -> Iterator[Step]:
        """One after the other; the next pass is under way when a step is handed out."""
        if bool(state.done.all()):
            return
        self.turn += 1
        turn = self.turn
        seen, late = self.first(state)
        while True:
            signals = Signals(*late.read())
            signals.check(state)
            following = None
            if not signals.done:
                length = state.canvas.shape[1]
                fine = len(state.seeds) * signals.computed > FEW
                self.bucket = Bucket(None if signals.whole else rung(signals.computed, length, fine=fine), rung(signals.asked, length))
                following = self.handed(self.owner.recorder((self.key, self.bucket), self.again))
            yield seen
            if following is None:
                return
            if turn != self.turn:
                raise RemaskError("another run of this shape and plan has begun on the same Captured model; finish one before the next, or make a second Captured(model)")
            seen, late = following

    def first(self, state: State) -> tuple[Step, Late]:
        """The pass that finds nothing kept. In a session's first run it is not recorded: its state is moved to where recorded passes look for it."""
        sight, length = look(state, self.plan), state.canvas.shape[1]
        asked = asked_of(self.plan, state.canvas, sight.eligible, sight.active, first=True)
        self.bucket = Bucket(None, length if self.plan.reuse.compares else rung(int(asked.sum(1).amax()), length), first=True)
        state = replace(state, kept=None)
        if self.places is not None and form(replace(self.places, kept=None)) == form(state):
            copied(replace(self.places, kept=None), state)
            return self.handed(self.owner.recorder((self.key, self.bucket), self.opening))
        store = None if self.places is None else self.places.kept.store
        after, seen, signals = self.opened(replace(state, kept=Fixed(store=store)))
        if self.places is None or form(self.places) != form(after):
            self.owner.recorder.forget(self.key)
            own = replace(after.kept, ahead=mapped(torch.clone, after.kept.ahead))  # it may hold what the caller gave
            self.places = replace(mapped(torch.clone, replace(after, kept=None)), kept=own)
        else:
            copied(self.places, after)
        return self.handed((seen, signals))

    def opening(self) -> tuple[Step, Tensor]:
        """A first pass from `places` to `places`, of which it reads the store's memory and nothing else that was kept."""
        assert self.places is not None
        after, seen, signals = self.opened(replace(self.places, kept=Fixed(store=self.places.kept.store)))
        seen = replace(seen, prediction=mapped_belief(seen.prediction), active=seen.active.clone())
        copied(self.places, after)
        return seen, signals

    def opened(self, state: State) -> tuple[State, Step, Tensor]:
        """The state after a first pass, and what to hand out."""
        after, seen = step(self, state, self.plan)  # pyright: ignore[reportArgumentType]
        after, signals = ahead(after, self.plan, self.body.shift)
        return after, seen, signals

    def again(self) -> tuple[Step, Tensor]:
        """A pass from `places` to `places`."""
        state = self.places
        assert state is not None
        sight = state.kept.ahead.sight(state)
        kept, computed, prediction = self.believe(state, sight)
        after, seen, signals = self.rest(state, kept, prediction)
        seen = replace(seen, prediction=mapped_belief(prediction), active=computed.clone())  # its own: what `places` holds is overwritten
        copied(self.places, after)
        return seen, signals

    def rest(self, state: State, kept: Fixed, prediction: Prediction) -> tuple[State, Step, Tensor]:
        """All that follows the belief, joined by the compiler if the body's layers are and no part reads logits."""
        if not self.body.compiles or self.joined is None:
            return self.concluded(state, kept, prediction)
        # of logits a rule asks only whether there were any
        before = replace(state.kept, hidden=None, store=None, logits=None if state.kept.logits is None else state.kept.bad)
        try:
            after, seen, signals = self.joined(replace(state, kept=before), replace(kept, hidden=None, store=None, logits=None), mapped_belief(prediction))
        except NoLogitsError:
            self.joined = None
            return self.concluded(state, kept, prediction)
        return replace(after, kept=replace(kept, ahead=after.kept.ahead)), seen, signals

    def concluded(self, state: State, kept: Fixed, prediction: Prediction) -> tuple[State, Step, Tensor]:
        """Decoder, canvas, reuse rule, and what is known of the next pass."""
        found = state.kept.ahead
        after, seen = conclude(self, state, self.plan, found.sight(state), prediction, found.computed)  # pyright: ignore[reportArgumentType]
        after, signals = ahead(replace(after, kept=kept), self.plan, self.body.shift)
        return after, seen, signals

    def handed(self, made: tuple[Step, Tensor]) -> tuple[Step, Late]:
        """A copy for others to keep; the next pass overwrites the original."""
        seen, signals = made
        late = Late(signals)  # first: the copies then run while the host reads
        return cloned(replace(seen, prediction=mapped_belief(seen.prediction))), late

    def believe(self, state: State, sight: Sight) -> tuple[Fixed, Tensor, Prediction]:
        """See remask.denoise.believe; in the shapes of `bucket`."""
        refuse_shadows(sight, self.plan)
        canvas, kept, plan, active = state.canvas, state.kept, self.plan, sight.active
        live, overflow = active.any(1, keepdim=True), None
        computed = self.computed(canvas, active) if kept.ahead is None else kept.ahead.computed
        if self.bucket.chosen is None:
            hidden, store = self.body.whole(canvas, kept.store, stores=plan.reuse.stores, padded=self.padded)
            if kept.hidden is not None:
                hidden = torch.where((active if plan.reuse.stores else live)[..., None], hidden, kept.hidden)
        else:
            place, overflow = compact(computed, self.bucket.chosen)
            hidden, store = self.body.chosen(canvas, place, kept.store, padded=self.padded), kept.store
            hidden = put(kept.hidden, hidden, place, active, computed, self.body.shift)
        asked = asked_of(plan, canvas, sight.eligible, active, first=self.bucket.first) if kept.ahead is None else kept.ahead.asked
        prediction, logits, bad, more = self.read(state, hidden, asked)
        return Fixed(hidden, logits, store, bad, more if overflow is None else overflow | more), computed, prediction

    def computed(self, canvas: Canvas, active: Tensor) -> Tensor:
        """(B, L) bool: the active positions, and those whose states predict them; in the first pass all that are real."""
        return canvas.real & active.any(1, keepdim=True) if self.plan.reuse.stores else active

    def read(self, state: State, hidden: Tensor, asked: Tensor) -> tuple[Prediction, Tensor | None, Tensor, Tensor]:
        """The belief at the positions that are asked about, the logits to compare with next time, and the rows with a NaN or without room."""
        plan, length = self.plan, hidden.shape[1]
        all_ = self.bucket.asked >= length
        place, more = everywhere(asked) if all_ else compact(asked, self.bucket.asked)
        mask_id = None if plan.decoder.mask_candidates else self.owner.mask_id
        logits = self.body.head(hidden if all_ else Chosen(place).take(hidden))
        flat = logits.flatten(0, 1)
        before = state.kept.logits
        at = None if before is None else (place + torch.arange(len(place), device=place.device)[:, None] * length).flatten()
        uniform = plan.uniforms(state.seeds, state.step, length, PROPOSAL).gather(1, place).flatten() if plan.draws else None
        own = not plan.shapers
        raw = tail(flat, mask_id=mask_id, uniform=uniform if own else None, before=None if before is None else before.flatten(0, 1), at=at)
        if own:
            found = spread(raw, flat, asked, everywhere=all_)
            both = summary(found, lambda: self.all_logits(hidden, mask_id))
            prediction = Prediction(both, both)
        else:
            shaped = without(logits.float() if logits.dtype != torch.float64 else logits, mask_id)
            for shaper in plan.shapers:
                shaped = shaper(shaped)
            shaped = shaped.flatten(0, 1)
            after = tail(shaped, uniform=uniform)
            found = spread(replace(raw, drawn=after.token if after.drawn is None else after.drawn), flat, asked, everywhere=all_)
            prediction = Prediction(
                summary(found, lambda: self.all_logits(hidden, mask_id)),
                summary(spread(after, shaped, asked, everywhere=all_), lambda: self.all_shaped(hidden, mask_id)),
            )
        if not plan.reuse.compares:
            return prediction, None, found.bad, more
        if before is None:
            return prediction, without(logits, mask_id), found.bad, more
        return prediction, before.scatter_(1, place[..., None].expand_as(logits), logits), found.bad, more

    def all_logits(self, hidden: Tensor, mask_id: int | None) -> Tensor:
        """(B, L, V) raw, for parts that read more than numbers."""
        logits = self.body.head(hidden)
        return without(logits if logits.dtype == torch.float64 else logits.float(), mask_id)

    def all_shaped(self, hidden: Tensor, mask_id: int | None) -> Tensor:
        """The same after the shapers."""
        shaped = self.all_logits(hidden, mask_id)
        for shaper in self.plan.shapers:
            shaped = shaper(shaped)
        return shaped


@dataclass(frozen=True)
class Signals:
    """What the host reads after a pass. computed, asked: most positions of a row that the next pass computes and asks about."""

    done: int
    sound: int
    fits: int
    whole: int
    computed: int
    asked: int

    def check(self, state: State) -> None:
        """Raise if the pass that sent them went wrong."""
        if not self.sound:
            raise RemaskError(f"NaN logits in a captured pass of {len(state.seeds)} rows; check the checkpoint, or load it with dtype=float32")
        if not self.fits:
            raise RemaskError("a captured pass met more active positions than its bucket holds; report the parts in use, and pass the model itself meanwhile")


def ahead(state: State, plan: Plan, shift: int) -> tuple[State, Tensor]:
    """The state with what is known of the next pass, and the six numbers of Signals, on the device."""
    kept, sight = state.kept, look(state, plan)
    refuse_shadows(sight, plan)
    eligible, active, real = sight.eligible, sight.active, state.canvas.real
    computed, whole = active, None
    if plan.reuse.stores:
        computed = active | left_of(active, shift) if shift and not plan.reuse.lone else active
        whole = (computed | ~(real & active.any(1, keepdim=True))).all(1)
    asked = asked_of(plan, state.canvas, eligible, active, first=False)
    given = None if sight.canvas.given is state.canvas.given else sight.canvas.given
    found = Ahead(sight.running, eligible, active, sight.scene.span, given, computed, asked)
    flags = torch.stack([state.done, ~kept.bad, ~kept.overflow, torch.ones_like(state.done) if whole is None else whole]).all(1)
    counts = torch.stack([computed, asked]).sum(2).amax(1)
    return replace(state, kept=replace(kept, ahead=found)), torch.cat([flags, counts])


def refuse_shadows(sight: Sight, plan: Plan) -> None:
    """Raise if a decoder asked for shadows."""
    if sight.canvas.shadows is not None:
        raise RemaskError(f"{plan.decoder} asks for shadows, which a captured run has none of; pass the model itself")


def summary(found: Spread, source: Callable[[], Tensor]) -> Summary:
    """As a belief; source: gives the logits."""
    return Summary(found.token, found.candidates, found.confidence, found.second, found.sampled, found.entropy, found.moved, source)


def asked_of(plan: Plan, canvas: Canvas, eligible: Tensor, active: Tensor, *, first: bool) -> Tensor:
    """(B, L) bool: the positions at which some part reads a score."""
    if plan.decoder.everywhere or (first and plan.reuse.compares):
        return canvas.real
    return eligible | active if plan.reuse.compares else eligible


def rung(count: int, length: int, *, fine: bool = False) -> int:
    """The smallest bucket that holds `count` positions of a canvas of `length`: multiples of 8, and of them two (fine: four) between a power of two and the next.

    Fine ones cost up to a quarter of positions too many, the others up to a half, and each is recorded when it is met.
    """
    octave = 1 << max(0, count - 1).bit_length()
    step = max(8, octave // (8 if fine else 4))
    return min(length, max(8, -(-count // step) * step))


def everywhere(active: Tensor) -> tuple[Tensor, Tensor]:
    """The places of all positions, as `compact` gives them."""
    return torch.arange(active.shape[1], device=active.device).expand_as(active), torch.zeros_like(active[:, 0])


def put(kept: Tensor, fresh: Tensor, place: Tensor, active: Tensor, computed: Tensor, shift: int) -> Tensor:
    """(B, L, D) states by the position they predict: `fresh` (B, M, D), computed at `place`, where an active position is predicted; written in place."""
    if shift == 0:
        target, rank, renewed = place, None, Chosen(place).take(active)
    else:
        position = torch.arange(active.shape[1], device=active.device)
        source = (position - shift).clamp(min=0).expand_as(active)
        predicted = active & computed.gather(1, source)
        target, _ = compact(predicted, place.shape[1])
        rank = (computed.long().cumsum(1) - 1).gather(1, source.gather(1, target)).clamp(0, place.shape[1] - 1)
        renewed = predicted.gather(1, target)
    fresh = fresh if rank is None else Chosen(rank).take(fresh)
    index = target[..., None].expand_as(fresh)
    return kept.scatter_(1, index, torch.where(renewed[..., None], fresh, kept.gather(1, index)))


def without(logits: Tensor, mask_id: int | None) -> Tensor:
    """The logits without the mask's column."""
    return logits if mask_id is None else logits.masked_fill(torch.arange(logits.shape[-1], device=logits.device) == mask_id, float("-inf"))


def mapped_belief(prediction: Prediction) -> Prediction:
    """The numbers alone, for others: logits belong to the pass."""
    raw, shaped = prediction.raw, prediction.shaped
    assert isinstance(raw, Summary)
    assert isinstance(shaped, Summary)
    own = replace(raw, source=None)
    return Prediction(own, own if shaped is raw else replace(shaped, source=None))

"""The loop in fixed shapes: every pass is one function of tensors that stay where they are, recorded as a CUDA graph per bucket and replayed.

Opt in with `Captured(model)`; docs/findings/gpu.md says what was measured on a GPU. On the CPU the same code runs
without graphs, which is how it is tested.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import proxy

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.denoise import Plan, Sight, State, Step, conclude, look, step
from remask.errors import RemaskError
from remask.fixed_shapes import FEW, Bucket, Fixed, Signals, ahead, asked_of, check_fixed, column, everywhere, forgets, mapped_belief, put, put_back, rung, scattered, summary
from remask.kernels.graphs import Late, Recorder, cloned, copied, form, mapped
from remask.kernels.joined import Joined
from remask.kernels.places import compact, put_rows, spread
from remask.kernels.tail import tail
from remask.models.base import without_mask
from remask.models.bodies import Body, Plain
from remask.models.held import Held
from remask.models.store import Chosen
from remask.prediction import NoLogitsError, Prediction
from remask.randomness import PROPOSAL

Key = tuple[tuple[int, int], bool, Plan]
"""Of a session: rows and positions of the canvas, whether some are padding, and the plan."""


class Captured:
    """`model`, decoded by passes of fixed shape; give it to `decode`, `denoise` or `generate` in the model's place.

    Tokens, forwards and positions are those of the model itself up to rounding (a bucket's matrix products have other sizes). The head runs only at
    positions that a part reads, and of logits nothing is kept unless the reuse rule compares posteriors, so `step.prediction` has scores but no logits. Where
    the rule covers what may be written (`Reuse.covers`) a body may make the states of its last layer at those positions alone, as Fused does, and none is kept.
    The host waits once a pass, for seven numbers. Rows that are done are still computed until all are: an engine should replace them.
    One run at a time of the same shape and plan, and no more runs at a time than sessions. A copy, deep or by pickle, records anew.

    graphs: most graphs kept. sessions: most combinations of batch, length and plan kept, with their stores; the least recently used goes first.
    sizes: of passes above 128 positions of all rows, between a power of two and the next. With more of them fewer positions are computed in vain, and more passes
    have to be recorded: a run of SureLock meets every size, and each costs a session two slow passes.
    lengths: of canvases, between a power of two and the next: every canvas is padded to one of them, and steps are handed out of that length, so that batches of
    nearly one length share what is recorded. They add less than 1 / lengths of positions, and seven more; None: every length is its own.
    body: how the network computes; None takes its fused layers if it was loaded on them, else its own forward.
    """

    def __init__(self, model: Any, *, body: Body | None = None, graphs: int = 96, sessions: int = 4, sizes: int = 4, lengths: int | None = None) -> None:
        if min(graphs, sessions, sizes, 1 if lengths is None else lengths) < 1:
            raise RemaskError(f"graphs is {graphs}, sessions {sessions}, sizes {sizes} and lengths {lengths}; all must be 1 or more")
        self.model, self.most_sessions, self.sizes, self.lengths = model, sessions, sizes, lengths
        self.body: Body = body or getattr(model, "recorded", None) or Plain(model)
        self.mask_id: int = model.mask_id
        self.eos_ids: tuple[int, ...] = model.eos_ids
        self.max_length: int | None = model.max_length
        self.vocab_size: int = getattr(model, "vocab_size", model.mask_id + 1)
        self.evaluations: int = model.evaluations
        self.shift: int = model.shift
        self.config: Any = getattr(model, "config", {})
        self.tokenizer: Any = getattr(model, "tokenizer", None)
        self.begin(graphs)

    def begin(self, graphs: int) -> None:
        """With nothing recorded, on the weights as they lie."""
        self.held = Held(self.model, "Captured(model) was")
        self.recorder = Recorder(torch.device(self.device or "cpu"), most=graphs)
        self.sessions: OrderedDict[Key, Session] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("held", "recorder", "sessions")} | {"graphs": self.recorder.most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.begin(self.__dict__.pop("graphs"))

    @property
    def device(self) -> torch.device | None:
        return getattr(self.model, "device", None)

    @property
    def dtype(self) -> torch.dtype | None:
        return getattr(self.model, "dtype", None)

    @property
    def slow(self) -> int:
        """Passes so far that were more than a replay, of all sessions that ever were: a decode that adds none is as fast as it gets. 0 on a CPU, which records nothing."""
        return self.recorder.slow

    @property
    def unrecorded(self) -> Any:
        """The model itself."""
        return self.model

    @property
    def processes(self) -> int:
        return getattr(self.model, "processes", 1)

    def forward(self, canvas: Canvas, chosen: Chosen | None = None, store: Any = None) -> tuple[Tensor, Any]:
        """The model's own."""
        return self.model.forward(canvas, chosen, store)

    def head(self, hidden: Tensor) -> Tensor:
        """The model's own."""
        return self.model.head(hidden)

    def passes(self, state: State, plan: Plan) -> Iterator[Step]:
        """Step after step until every row is done; the next pass is under way when a step is handed out.

        Where memory does not suffice all other sessions are dropped, with their runs that are under way, and the run begins again if no step of it was handed out:
        a pass writes into what it reads, so that one which broke off cannot be made again alone.
        """
        self.held.check()
        check_fixed(plan, state)
        state = self.padded(state)
        key = (state.canvas.shape, not bool(state.canvas.real.all()), plan)
        for _ in range(2):
            again = len(self.sessions.keys() | {key}) > 1 or bool(self.recorder.graphs)
            try:
                for seen in self.session(key).steps(state):
                    again = False
                    yield seen
            except torch.OutOfMemoryError:
                pass  # it holds what broke off
            else:
                return
            self.drop(*self.sessions, why="since memory did not suffice for another; finish one before the next")
            if not again:
                break
        rows, length = state.canvas.shape
        raise RemaskError(f"{rows} rows of {length} positions do not fit into the device's memory; {self.fitting(rows, length, plan)}")

    def session(self, key: Key) -> Session:
        """The one that there is, or a new one in the place of the least recently used."""
        if key not in self.sessions:
            self.sessions[key] = Session(self, key)
        self.sessions.move_to_end(key)
        self.drop(
            *list(self.sessions)[: -self.most_sessions],
            why=f"since more shapes and plans were begun than sessions ({self.most_sessions}); finish one before the next, or raise sessions=",
        )
        return self.sessions[key]

    def drop(self, *keys: Key, why: str = "by the caller; begin it again") -> None:
        """End sessions, and forget what was recorded for them. A run that is under way raises at its next step, which says why."""
        for key in keys:
            self.sessions.pop(key).end(why)
            self.recorder.forget(key)

    def fitting(self, rows: int, length: int, plan: Plan) -> str:
        """How many rows would fit, by what one keeps between passes; what a pass needs beside that is taken as as much again."""
        each, free = self.body.bytes_per_row(length, stores=plan.reuse.stores, compares=plan.reuse.compares), self.free()
        most = rows - 1 if each is None or free is None else min(rows - 1, free // (2 * each))
        if most < 1:
            keeps = plan.reuse.stores or plan.reuse.compares
            return "not even one would: shorten the canvas" + (", or keep nothing of it (reuse=Fresh(), --reuse fresh)" if keeps else "")
        return "use fewer rows (--batch)" if each is None or free is None else f"about {most} would (--batch {most})"

    def free(self) -> int | None:
        """Bytes of the device that hold nothing now."""
        if self.recorder.device.type != "cuda":
            return None
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self.recorder.device)[0]

    def padded(self, state: State) -> State:
        """The state on a canvas of one of the `lengths`, as far as the model reaches."""
        length = state.canvas.shape[1]
        if self.lengths is None:
            return state
        longer = rung(length, self.max_length or 2 * length, sizes=self.lengths)
        return state if longer == length else State.joined([state], longer)


class Session:
    """One batch shape and plan: the tensors that all its graphs read and write."""

    def __init__(self, owner: Captured, key: Key) -> None:
        self.owner, self.key, self.body = owner, key, owner.body
        _, self.padded, self.plan = key
        self.eos_ids, self.evaluations, self.forgets = owner.eos_ids, owner.evaluations, forgets(self.plan, self.body.shift)
        self.places: State | None = None
        self.bucket, self.turn = Bucket(None, 0, first=True), 0
        self.ended: str | None = None
        self.joined: Joined | None = Joined(partial(Session.concluded, proxy(self)))  # of itself it would keep its memory until the garbage collector comes by

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
                sizes = self.owner.sizes if len(state.seeds) * signals.computed > FEW else 2  # few positions take as long as the weights
                chosen = None if signals.whole else rung(signals.computed, length, sizes=sizes)
                self.bucket = Bucket(chosen, rung(signals.asked, length), idle=not signals.busy)
                following = self.handed(self.owner.recorder((self.key, self.bucket), self.again))
            yield seen
            if following is None:
                return
            if turn != self.turn:
                raise RemaskError("another run of this shape and plan has begun on the same Captured model; finish one before the next, or make a second Captured(model)")
            if self.ended is not None:
                rows, length = state.canvas.shape
                raise RemaskError(f"a run of {rows} rows of {length} positions was dropped {self.ended}")
            seen, late = following

    def end(self, why: str) -> None:
        """Give its memory back; a run of it goes no further."""
        self.ended, self.places = why, None

    def first(self, state: State) -> tuple[Step, Late]:
        """The pass that finds nothing kept. In a session's first run it is not recorded: its state is moved to where recorded passes look for it."""
        sight, length = look(state, self.plan), state.canvas.shape[1]
        asked = asked_of(self.plan, state.canvas, sight.eligible, sight.active, first=True)
        self.bucket = Bucket(None, length if self.plan.reuse.compares else rung(int(asked.sum(1).amax()), length), first=True)
        state = replace(state, kept=None)
        if self.places is not None and form(replace(self.places, kept=None)) == form(state):
            copied(replace(self.places, kept=None), state)
            return self.handed(self.owner.recorder((self.key, self.bucket), self.opening))
        self.owner.recorder.passed_by()
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
        canvas, kept, active = state.canvas, state.kept, sight.active
        computed = self.computed(canvas, active) if kept.ahead is None else kept.ahead.computed
        asked = asked_of(self.plan, canvas, sight.eligible, active, first=self.bucket.first) if kept.ahead is None else kept.ahead.asked
        all_ = self.bucket.asked >= canvas.shape[1]
        place, more = everywhere(asked) if all_ else compact(asked, self.bucket.asked)
        if self.forgets:
            (states, store, overflow), hidden = self.made(canvas, kept, computed, None if all_ else place), None
        else:
            hidden, store, overflow = self.renewed(canvas, kept, active, computed)
            states = hidden if all_ else Chosen(place).take(hidden)
        prediction, logits, bad = self.read(state, states, hidden, place, asked)
        return Fixed(hidden, logits, store, bad, more if overflow is None else overflow | more), computed, prediction

    def computed(self, canvas: Canvas, active: Tensor) -> Tensor:
        """(B, L) bool: the active positions, and those whose states predict them; in the first pass all that are real."""
        return canvas.real & active.any(1, keepdim=True) if self.plan.reuse.stores else active

    def renewed(self, canvas: Canvas, kept: Fixed, active: Tensor, computed: Tensor) -> tuple[Tensor, Any, Tensor | None]:
        """(B, L, D) states by the position they predict, new where it is active; the store, and the rows with more than the bucket holds."""
        if self.bucket.chosen is None:
            hidden, store = self.body.whole(canvas, kept.store, stores=self.plan.reuse.stores, padded=self.padded)
            if kept.hidden is not None:
                live = active if self.plan.reuse.stores else active.any(1, keepdim=True)
                hidden = torch.where(live[..., None], hidden, kept.hidden)
            return hidden, store, None
        assert kept.hidden is not None
        place, overflow = compact(computed, self.bucket.chosen)
        fresh = self.chosen(canvas, kept, computed, place)
        return put(kept.hidden, fresh, place, active, computed, self.body.shift), kept.store, overflow

    def made(self, canvas: Canvas, kept: Fixed, computed: Tensor, asked: Tensor | None) -> tuple[Tensor, Any, Tensor | None]:
        """The same where none are kept, of the positions that are asked about, (B, T) int64, alone: (B, T, D), None for all."""
        if self.bucket.chosen is None:
            return *self.body.whole(canvas, kept.store, stores=self.plan.reuse.stores, padded=self.padded, only=asked), None
        position = everywhere(computed)[0] if asked is None else asked
        place, overflow = compact(computed, self.bucket.chosen)
        which = column(computed, (position - self.body.shift).clamp(min=0), self.bucket.chosen)
        return self.chosen(canvas, kept, computed, place, which), kept.store, overflow

    def chosen(self, canvas: Canvas, kept: Fixed, computed: Tensor, place: Tensor, only: Tensor | None = None) -> Tensor:
        """See Body.chosen; a row that computes nothing keeps its keys and values."""
        first = mapped(lambda part: part[:, :, :1].clone(), kept.store) if self.bucket.idle else None
        fresh = self.body.chosen(canvas, place, kept.store, padded=self.padded, only=only)
        if first is not None:
            put_back(kept.store, first, ~computed.any(1))
        return fresh

    def read(self, state: State, states: Tensor, hidden: Tensor | None, place: Tensor, asked: Tensor) -> tuple[Prediction, Tensor | None, Tensor]:
        """The belief at the positions that are asked about, the logits to compare with next time, and the rows with a NaN.

        states: (B, T, D), of `place` (B, T), which holds the asked (B, L).  hidden: (B, L, D), of all, if they are kept.
        """
        plan, length = self.plan, asked.shape[1]
        all_ = place.shape[1] >= length
        mask_id = None if plan.decoder.mask_candidates else self.owner.mask_id
        logits = self.body.head(states)
        flat = logits.flatten(0, 1)
        before = state.kept.logits
        at = None if before is None else (place + torch.arange(len(place), device=place.device)[:, None] * length).flatten()
        uniform = plan.uniforms(state.seeds, state.step, length, PROPOSAL).gather(1, place).flatten() if plan.draws else None
        own = not plan.shapers
        raw = tail(flat, mask_id=mask_id, uniform=uniform if own else None, before=None if before is None else before.flatten(0, 1), at=at)

        def everywhere_read() -> Tensor:
            return wide(logits if all_ else scattered(logits, place, length) if hidden is None else self.body.head(hidden), mask_id)

        if own:
            found = spread(raw, flat, asked, everywhere=all_)
            both = summary(found, everywhere_read)
            prediction = Prediction(both, both)
        else:
            shaped = self.shaped(wide(logits, mask_id)).flatten(0, 1)
            after = tail(shaped, uniform=uniform)
            found = spread(replace(raw, drawn=after.token if after.drawn is None else after.drawn), flat, asked, everywhere=all_)
            prediction = Prediction(summary(found, everywhere_read), summary(spread(after, shaped, asked, everywhere=all_), lambda: self.shaped(everywhere_read())))
        if not plan.reuse.compares:
            return prediction, None, found.bad
        if before is None:
            return prediction, without_mask(logits, mask_id), found.bad
        return prediction, put_rows(before, logits, place), found.bad

    def shaped(self, logits: Tensor) -> Tensor:
        """(..., V) logits after the shapers."""
        for shaper in self.plan.shapers:
            logits = shaper(logits)
        return logits


def wide(logits: Tensor, mask_id: int | None) -> Tensor:
    """(..., V) logits as parts see them: of full precision, without the mask."""
    return without_mask(logits if logits.dtype == torch.float64 else logits.float(), mask_id)

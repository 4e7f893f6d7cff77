"""SureLock (arXiv 2602.06412, Algorithm 1): stop computing a written token once its posterior has settled.

Where the paper contradicts itself we follow its Algorithm 1; `safe=false` is that algorithm to the letter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.citation import Paper
from remask.errors import RemaskError
from remask.models.store import Chosen
from remask.prediction import Belief
from remask.reuse.base import Pass, Reuse, Scene

PAPER = Paper(
    "Stopping Computation for Converged Tokens in Masked Diffusion-LM Decoding", "2602.06412", 2026, "Daisuke Oba and Danushka Bollegala and Masahiro Kaneko and Naoaki Okazaki"
)


@dataclass(frozen=True, eq=False)
class Locks:
    """locked: (B, L) bool.  calm: (B, L) int64, passes in a row that met the rule."""

    locked: Tensor
    calm: Tensor


@dataclass(frozen=True)
class SureLock(Reuse):
    """Lock a written position when KL(posterior now || before) <= eps and it is among the `gate` % surest of the candidates of its row.

    Posteriors are raw (before temperature), without the mask; the KL is in nats, the percentile interpolated linearly, and prompt
    positions are candidates. A locked position keeps keys, values and posterior of the pass that locked it.

    safe: only positions that this pass already saw written may lock; else the keys and values of a mask can stay for ever.
    gate: 100 turns it off.  patience: passes in a row that the rule must hold.
    on_remask: an edit of a locked position unlocks it, or is forbidden (the paper's assumption A1).
    recheck: every so many passes locked positions are computed too, and unlocked if they moved by more than eps; 0: never.
    """

    eps: float = 5e-4
    gate: float = 20.0
    safe: bool = True
    on_remask: Literal["unlock", "forbid"] = "unlock"
    recheck: int = 0
    patience: int = 1
    stores: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        if not 0 <= self.gate <= 100:
            raise RemaskError(f"gate is {self.gate}; it must be a percentage, 0 to 100")
        if self.recheck < 0 or self.patience < 1:
            raise RemaskError(f"recheck is {self.recheck} and patience {self.patience}; use 0 or more, and 1 or more")

    @property
    def stale(self) -> bool:
        return not self.safe

    def init(self, canvas: Canvas) -> Locks:
        return Locks(torch.zeros_like(canvas.given), torch.zeros_like(canvas.tokens))

    def active(self, scene: Scene, state: Locks) -> Tensor:
        return scene.canvas.real & (~state.locked | self._rechecks(scene)[:, None])

    def observe(self, scene: Scene, made: Pass, state: Locks) -> Locks:
        locked = state.locked & ~made.edit.touched
        if made.before is None:
            return Locks(locked, state.calm)
        written = made.active & ~made.canvas.masked & scene.canvas.real & ~locked & (scene.step > 0)[:, None]
        if self.safe:
            written &= ~scene.canvas.masked & ~made.edit.touched
        sure = written & (1 - made.belief.confidence <= self._threshold(made.belief, written))
        computed_locks = locked & made.active
        moved = divergence(made.belief, made.before, sure | computed_locks)
        calm = torch.where(sure & (moved <= self.eps), state.calm + 1, torch.where(made.active, 0, state.calm))
        return Locks((locked & ~(computed_locks & (moved > self.eps))) | (calm >= self.patience), calm)

    def protected(self, state: Locks) -> Tensor | None:
        return state.locked if self.on_remask == "forbid" else None

    def _rechecks(self, scene: Scene) -> Tensor:
        return (scene.step % self.recheck == self.recheck - 1) if self.recheck else torch.zeros_like(scene.step, dtype=torch.bool)

    def _threshold(self, belief: Belief, candidates: Tensor) -> Tensor:
        """(B, 1): the gate's percentile of 1 - max p over the candidates; NaN, which nothing passes, where there is none."""
        doubt = (1 - belief.confidence).masked_fill(~candidates, float("nan"))
        return doubt.nanquantile(self.gate / 100, dim=1, keepdim=True)


def divergence(belief: Belief, before: Tensor, where: Tensor) -> Tensor:
    """(B, L): KL(now || before) in nats at the positions of `where` (B, L) bool, infinite elsewhere.  before: (B, L, V) logits."""
    found = torch.full(where.shape, float("inf"), dtype=belief.logits.dtype, device=where.device)
    rows = where.any(1).nonzero()[:, 0]
    if not len(rows):
        return found
    at = Chosen.of(where[rows])
    now, then = (at.take(logits[rows]).log_softmax(-1) for logits in (belief.logits, before))
    kl = (now.exp() * (now - then)).nan_to_num(nan=0.0, posinf=float("inf")).sum(-1)
    if at.place is None:
        return found.index_put((rows,), kl)
    return found.index_put((rows[:, None], at.place), kl)

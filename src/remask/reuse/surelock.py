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
from remask.prediction import Belief, Summary
from remask.reuse.base import Pass, Reuse, Scene

PAPER = Paper(
    "Stopping Computation for Converged Tokens in Masked Diffusion-LM Decoding", "2602.06412", 2026, "Daisuke Oba and Danushka Bollegala and Masahiro Kaneko and Naoaki Okazaki"
)


@dataclass(frozen=True, eq=False)
class Locks:
    """locked: (B, L) bool.  calm: (B, L) int64, looks in a row that met the rule.  anchor: (B, L, V) logits of the last look, where `every` asks for them."""

    locked: Tensor
    calm: Tensor
    anchor: Tensor | None = None


@dataclass(frozen=True)
class SureLock(Reuse):
    """Lock a written position when KL(posterior now || before) <= eps and it is among the `gate` % surest of the candidates of its row.

    Posteriors are raw (before temperature), without the mask; the KL is in nats, the percentile interpolated linearly, and prompt
    positions are candidates. A locked position keeps keys, values and posterior of the pass that locked it. The defaults are the paper's but for `safe`.

    safe: only positions that this pass already saw written may lock; else the keys and values of a mask can stay for ever.
    gate: 100 turns it off.  patience: looks in a row that the rule must hold.
    on_remask: an edit of a locked position unlocks it, or is forbidden (the paper's assumption A1).
    recheck: every so many passes locked positions are computed too (so what they hold is renewed), and unlocked if they moved by more than eps; 0: never.
    every: look for locks every so many passes only, and measure the divergence from the posterior of the last look, so that a slow drift adds up.
    prompt_after: prompt positions are candidates once this share of the row's own positions is written; 0: at once, 1: never.
    """

    eps: float = 5e-4
    gate: float = 20.0
    safe: bool = True
    on_remask: Literal["unlock", "forbid"] = "unlock"
    recheck: int = 0
    patience: int = 1
    every: int = 1
    prompt_after: float = 0.0
    stores: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.gate <= 100:
            raise RemaskError(f"gate is {self.gate}; it must be a percentage, 0 to 100")
        if self.recheck < 0 or self.patience < 1 or self.every < 1:
            raise RemaskError(f"recheck is {self.recheck}, patience {self.patience} and every {self.every}; use 0 or more, and 1 or more for the others")
        if not 0 <= self.prompt_after <= 1:
            raise RemaskError(f"prompt_after is {self.prompt_after}; it must be a share, 0 to 1")

    @property
    def stale(self) -> bool:
        return not self.safe

    @property
    def waits(self) -> bool:
        """An anchor's rows are picked by their values."""
        return self.every > 1

    @property
    def compares(self) -> bool:
        return True

    def init(self, canvas: Canvas) -> Locks:
        return Locks(torch.zeros_like(canvas.given), torch.zeros_like(canvas.tokens))

    def active(self, scene: Scene, state: Locks) -> Tensor:
        return scene.canvas.real & (~state.locked | self._rechecks(scene)[:, None])

    def observe(self, scene: Scene, made: Pass, state: Locks) -> Locks:
        locked = state.locked & ~made.edit.touched
        looks = (scene.step % self.every == 0)[:, None]
        anchor = None if self.every == 1 else made.belief.logits if state.anchor is None else torch.where(looks[..., None], made.belief.logits, state.anchor)
        if made.before is None:
            return Locks(locked, state.calm, anchor)
        candidates = self._candidates(scene, made) & looks & ~locked
        sure = candidates & (1 - made.belief.confidence <= self._threshold(made.belief, candidates))
        # what a summary says of divergence is from the pass before, so from an anchor the logits are asked
        drift = divergence(made.belief, made.before, sure) if state.anchor is None else divergence(Belief(made.belief.logits, made.belief.candidates), state.anchor, sure)
        settled = sure & (drift <= self.eps)
        again = locked & made.active
        moved = again & (divergence(made.belief, made.before, again) > self.eps)
        over = (made.active & (looks | again)) | made.edit.touched  # a locked position is not active when it is edited
        calm = torch.where(settled, state.calm + 1, torch.where(over, 0, state.calm))
        return Locks((locked & ~moved) | (calm >= self.patience), calm, anchor)

    def protected(self, state: Locks) -> Tensor | None:
        return state.locked if self.on_remask == "forbid" else None

    def _rechecks(self, scene: Scene) -> Tensor:
        return (scene.step % self.recheck == self.recheck - 1) if self.recheck else torch.zeros_like(scene.step, dtype=torch.bool)

    def _candidates(self, scene: Scene, made: Pass) -> Tensor:
        """(B, L) bool: computed, written, and with a posterior before."""
        written = made.active & ~made.canvas.masked & scene.canvas.real & (scene.step > 0)[:, None]
        if self.safe:
            written &= ~scene.canvas.masked & ~made.edit.touched
        if self.prompt_after:
            own = ~scene.canvas.given
            left = scene.canvas.masked.sum(1) > (1 - self.prompt_after) * own.sum(1)
            written &= own | ~left[:, None] if self.prompt_after < 1 else own
        return written

    def _threshold(self, belief: Belief | Summary, candidates: Tensor) -> Tensor:
        """(B, 1): the gate's percentile of 1 - max p over the candidates; NaN, which nothing passes, where there is none."""
        doubt = (1 - belief.confidence).masked_fill(~candidates, float("nan"))
        return doubt.nanquantile(self.gate / 100, dim=1, keepdim=True)


def divergence(belief: Belief | Summary, before: Tensor, where: Tensor) -> Tensor:
    """(B, L): KL(now || before) in nats at the positions of `where` (B, L) bool, infinite elsewhere.  before: (B, L, V) logits."""
    if isinstance(belief, Summary):
        assert belief.moved is not None
        return torch.where(where, belief.moved, float("inf"))
    now, then = (logits[where].log_softmax(-1) for logits in (belief.logits, before))
    kl = (now.exp() * (now - then)).nan_to_num(nan=0.0, posinf=float("inf")).sum(-1)
    return torch.full(where.shape, float("inf"), dtype=kl.dtype, device=where.device).masked_scatter(where, kl)

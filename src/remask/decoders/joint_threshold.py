"""Joint threshold decoding (LLaDA2.1, arXiv 2602.08676): masks are written, and written tokens are overwritten or masked again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.decoders.base import Decoder, View
from remask.decoders.scores import support
from remask.decoders.select import longest_prefix, top
from remask.errors import RemaskError

PAPER = Paper("LLaDA2.1: Speeding Up Text Diffusion via Token Editing", "2602.08676", 2026, "Tiwei Bie and Maosong Cao and Xiang Cao and others")
REMASK = Paper("Remask, Don't Replace: Token-to-Mask Refinement in Masked Diffusion Language Models", "2604.18738", 2026)


@dataclass(frozen=True, eq=False)
class Post:
    """made: (B,) int64, passes over the complete row.  steps: (B,) int64, all passes.  again: (B,) bool, to be visited again."""

    made: Tensor
    steps: Tensor
    again: Tensor


@dataclass(frozen=True)
class JointThreshold(Decoder):
    """Masks above `write_tau` are written, at least the best; written tokens that the model would replace with a confidence above
    `edit_tau` are overwritten (`remask=true`: masked again, T2M of arXiv 2604.18738; the least likely first, fewer than were written).

    Once the row has no mask, up to `post` more passes follow while there are edits; the first of them looks at what was written last,
    and `check=false` leaves it out where the pass before edited nothing. Published thresholds disagree, so both must be
    named: see PRESETS (SGLang's comes with a penalty that is not public to us). Edits stop after `most` steps of a row.
    """

    revises: ClassVar[bool] = True
    write_tau: float
    edit_tau: float
    post: int = 16
    remask: bool = False
    check: bool = True
    most: int = 10_000
    mask_candidates: bool = False
    rescores: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (PAPER, REMASK)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.post < 0 or self.most < 1:
            raise RemaskError(f"post={self.post}, most={self.most}: post must be 0 or more, most 1 or more")

    def init(self, canvas: Canvas) -> Post:
        zero = torch.zeros(canvas.shape[0], dtype=torch.int64, device=canvas.tokens.device)
        return Post(zero, zero, zero.bool())

    def pending(self, state: Post) -> Tensor:
        return state.again

    def step(self, view: View, state: Post) -> tuple[Edit, Post]:
        belief = view.prediction.raw
        write = longest_prefix(belief.confidence, view.eligible, lambda falling: falling > self.write_tau)
        wrong = view.filled & (view.prediction.candidates != view.canvas.tokens) & (belief.confidence > self.edit_tau)
        wrong = wrong & (state.steps < self.most)[:, None]
        complete = ~view.canvas.masked.any(1)
        made = state.made + complete
        if self.remask:
            allowed = torch.where(complete, wrong.sum(1), (write.sum(1) - 1).clamp(min=0))
            wrong = top(-support(view), wrong, allowed)
        edited = wrong.any(1)
        full = ~(view.canvas.masked & ~write).any(1)
        looking = self.check and self.edit_tau < 1  # no confidence is above 1
        again = full & (made < self.post) & (edited | (~complete & looking))
        edit = Edit(write, view.prediction.candidates, wrong) if self.remask else Edit(write | wrong, view.prediction.candidates)
        return edit, Post(made, state.steps + 1, again)


PRESETS = {"dllm": JointThreshold(0.95, 0.9), "diffusers": JointThreshold(0.7, 0.5), "sglang": JointThreshold(0.5, 0.0)}
"""The thresholds of other engines, by their names."""

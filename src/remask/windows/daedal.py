"""DAEDAL (arXiv 2508.00819): a window whose rows find their own length while they are written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from remask.canvas import PADDING, Canvas, Edit
from remask.citation import Paper
from remask.errors import RemaskError
from remask.prediction import Belief
from remask.windows.base import Window
from remask.windows.blocks import Blocks

PAPER = Paper(
    "Beyond Fixed: Training-Free Variable-Length Denoising for Diffusion Large Language Models", "2508.00819", 2025,
    "Jinsong Li and Xiaoyi Dong and Yuhang Zang and Yuhang Cao and Jiaqi Wang and Dahua Lin",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Growth:
    """probing: (B,) bool, rows whose first length is not settled.  block: see Blocks.  last: (B, L) bool, the block of the last pass, nothing before the first."""

    probing: Tensor
    block: Tensor
    last: Tensor


@dataclass(frozen=True)
class DAEDAL(Window):
    """Blocks on a canvas that lengthens where the model is not sure of the end; the paper writes with threshold:tau=0.9,strict=true.

    A row is sure of its end by the sum of the probabilities of the last `look` positions that would be end-of-text, over `look`.
    First, passes that write nothing append `factor` masks until that is at least `first` (0: not at all), and `tail` end-of-texts close the row. Then, while
    it is below `enough`, the least sure mask of the open block, if below `low`, becomes `factor` masks after each pass.

    length: new tokens a text starts with.  most: new tokens of a row, never exceeded, nor is the model's length.
    eos: the id that ends a text, if not the model's.
    """

    block: int = 32
    length: int = 64
    most: int = 2048
    factor: int = 8
    first: float = 0.5
    enough: float = 0.9
    low: float = 0.1
    tail: int = 16
    look: int = 32
    eos: int | None = None
    origin: Literal["prompt", "canvas"] = "prompt"
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)
    grows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        Blocks(self.block, self.origin)
        if min(self.length, self.most, self.look) < 1 or self.factor < 2 or self.tail < 0:
            raise RemaskError(
                f"length={self.length}, most={self.most}, look={self.look}, factor={self.factor}, tail={self.tail}: the first three must be 1 or more, factor 2, tail 0"
            )

    @property
    def blocks(self) -> Blocks:
        return Blocks(self.block, self.origin)

    def opened(self, max_new_tokens: int, *, inside: int = 0) -> tuple[DAEDAL, int]:
        return replace(self, most=min(self.most, max_new_tokens)), min(self.length, max_new_tokens)

    def most_new(self, new: int) -> int:
        return max(new, self.most)

    def init(self, canvas: Canvas) -> Growth:
        block, none = self.blocks.init(canvas), torch.zeros_like(canvas.given)
        return Growth(torch.full_like(none[:, 0], self.first > 0), block, none)

    def eligible(self, canvas: Canvas, state: Growth) -> Tensor:
        return self.blocks.eligible(canvas, state.block) & ~state.probing[:, None]

    def span(self, canvas: Canvas, state: Growth) -> Tensor:
        return self.blocks.span(canvas, state.block)

    def grow(self, canvas: Canvas, belief: Belief | None, state: Growth, *, limit: int | None, eos_ids: tuple[int, ...]) -> tuple[Edit | None, Growth]:
        ends = eos_ids if self.eos is None else (self.eos,)
        if not ends:
            raise RemaskError("the model has no end-of-text id, by which daedal measures a length; name one, as in daedal:eos=2")
        if belief is None:
            return None, replace(state, last=self.span(canvas, state))
        new, real = (canvas.real & ~canvas.given).sum(1), canvas.real.sum(1)
        room = self.most - new if limit is None else torch.minimum(self.most - new, limit - real)
        sure, begun = self.certainty(canvas, belief, ends), state.last.any(1)  # of a row that has just joined others there is no belief yet
        working = canvas.masked.any(1) & begun
        probing = working & state.probing
        short = probing & (sure < self.first) & (room > 0)
        closing = probing & ~short
        doubtful = canvas.masked & state.last & (belief.confidence < self.low)
        splits = working & ~state.probing & (sure < self.enough) & doubtful.any(1)
        weakest = belief.confidence.masked_fill(~doubtful, 2.0).argmin(1) + 1  # new masks stand behind it
        end = torch.where(canvas.real, torch.arange(1, canvas.shape[1] + 1, device=real.device), 0).amax(1)
        wanted = short * self.factor + closing * self.tail + splits * (self.factor - 1)
        number = torch.minimum(wanted, room.clamp(min=0))
        edit = insertion(canvas, torch.where(splits, weakest, end), number, closing, ends[0]) if bool(number.any()) else None
        after = canvas if edit is None else edit.apply(canvas)
        made = Growth(short | (state.probing & ~begun), self.blocks.init(after), torch.zeros_like(after.given))
        return edit, replace(made, last=self.span(after, made))

    def certainty(self, canvas: Canvas, belief: Belief, ends: tuple[int, ...]) -> Tensor:
        """(B,): how sure the rows are of their end."""
        likeliest = belief.logits.argmax(-1)
        ending = torch.isin(likeliest, torch.tensor(ends, device=likeliest.device)) & canvas.real & ~canvas.given
        counted = ending & (ending.flip(1).cumsum(1).flip(1) <= self.look)
        return (belief.confidence * counted).sum(1) / self.look


def insertion(canvas: Canvas, at: Tensor, number: Tensor, closing: Tensor, eos_id: int) -> Edit:
    """`number` new positions (B,) before index `at` (B,): masks, or end-of-texts in the rows `closing` (B,)."""
    end = torch.where(canvas.real, torch.arange(1, canvas.shape[1] + 1, device=at.device), 0).amax(1)
    place = torch.arange(int((end + number).max()), device=at.device)[None]
    before, fresh = place < at[:, None], (place >= at[:, None]) & (place < (at + number)[:, None])
    source = torch.where(before, place, place - number[:, None])
    source = torch.where(fresh, -1, torch.where(place < (end + number)[:, None], source, PADDING))
    return Edit(fresh & closing[:, None], torch.full_like(source, eos_id), source=source)

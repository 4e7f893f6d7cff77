"""Orders that position decides, alone or with confidence: PC-Sampler (arXiv 2508.13021) and Halton (arXiv 2503.17076)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.decoders.base import Decoder, View
from remask.decoders.pace import write_best
from remask.errors import RemaskError
from remask.schedules import BlockClock, check_steps

UNCODE = Paper(
    "PC-Sampler: Position-Aware Calibration of Decoding Bias in Masked Diffusion Models",
    "2508.13021",
    2025,
    "Pengcheng Huang and Shuhao Liu and Zhenghao Liu and Yukun Yan and Shuo Wang and Zulong Chen and Tong Xiao",
)

HALTON = Paper(
    "Halton Scheduler For Masked Generative Image Transformer", "2503.17076", 2025, "Victor Besnier and Mickael Chen and David Hurych and Eduardo Valle and Matthieu Cord"
)


def places(canvas: Canvas) -> Tensor:
    """(B, L) int64: positions counted from the first one of the row that was not given."""
    position = torch.arange(canvas.shape[1], device=canvas.tokens.device)
    return position - (~canvas.given).long().argmax(1, keepdim=True)


@dataclass(frozen=True)
class PC(Decoder):
    """Score exp(-lam * place) * min(-p(x) log background(x), alpha), the place counted from the first unknown position.

    lam: 0 for Sudoku, 0.5 for Countdown in the paper.  background: a JSON file with one count per token id, whose shares are the background law;
    a token that was never counted scores alpha. Without a file the law is uniform, its logarithm one factor for all: with lam = 0 the order is that of confidence.
    The file is read once, when the part is made: what it holds later is of no account, and parts made of different
    counts are not equal, though their spec strings, which name the file, may be.
    """

    lam: float = 0.25
    alpha: float = 10.0
    background: str | None = None
    steps: int | None = None
    mask_candidates: bool = False
    files: ClassVar[tuple[str, ...]] = ("background",)
    papers: ClassVar[tuple[Paper, ...]] = (UNCODE,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.steps)
        if not (self.lam >= 0 and self.alpha > 0):
            raise RemaskError(f"lam={self.lam}, alpha={self.alpha}: lam must be 0 or more, alpha more than 0")
        _ = self.counted  # read now

    @cached_property
    def counted(self) -> bytes | None:
        """What the file of the background law holds."""
        return None if self.background is None else read_counts(self.background)

    @property
    def contents(self) -> Mapping[str, bytes]:
        return {} if self.counted is None else {"background": self.counted}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PC) and type(other) is type(self) and (astuple(self), self.counted) == (astuple(other), other.counted)

    def __hash__(self) -> int:
        return hash((astuple(self), self.counted))

    @cached_property
    def tables(self) -> dict[torch.device, Tensor]:
        """The background law on each device that asked: a recorded pass may copy nothing to it, and reads this one as long as the part lives."""
        return {}

    def init(self, canvas: Canvas) -> BlockClock:
        return BlockClock.start(canvas, self.steps)

    def step(self, view: View, state: BlockClock) -> tuple[Edit, BlockClock]:
        belief = view.prediction.raw
        value = (belief.confidence.double() * self.surprise(belief.logits)).clamp(max=self.alpha).log() - self.lam * places(view.canvas)
        return write_best(view, value, state, self.steps)

    def surprise(self, logits: Tensor) -> Tensor:
        """-log background of the likeliest token of (B, L, V) logits, float64: (B, L), or () where the law is uniform."""
        if self.counted is None:
            return torch.log(torch.full((), logits.shape[-1] - 1.0, dtype=torch.float64, device=logits.device))
        table = surprises(self.counted)
        assert table is not None, "read_counts has looked"
        if len(table) < logits.shape[-1] - 1:
            raise RemaskError(f"{self.background} counts {len(table)} tokens and the model has {logits.shape[-1]}; make it with the model's tokenizer")
        likeliest = logits.argmax(-1)
        if (own := self.tables.get(logits.device)) is None:
            own = self.tables[logits.device] = table.to(logits.device)
        return own[likeliest.clamp(max=len(table) - 1)]


def read_counts(path: str) -> bytes:
    """What a JSON file holds, if that is a list of counts."""
    try:
        held = Path(path).read_bytes()
        table = surprises(held)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise RemaskError(f"cannot read {path} ({str(error).splitlines()[0]}); background is a JSON file with a list of counts, one per token id") from None
    if table is None:
        raise RemaskError(f"{path} holds no list of counts; background is a JSON file with a list of numbers from 0, one per token id")
    return held


@lru_cache(maxsize=8)
def surprises(held: bytes) -> Tensor | None:
    """(V,) float64: minus the logarithms of the shares of the counts in a JSON list, None if it is no list of such; an error of json or torch if it is neither."""
    counts = torch.tensor(json.loads(held), dtype=torch.float64)
    if counts.dim() != 1 or not bool((counts >= 0).all()) or not float(counts.sum()) > 0:
        return None
    return -(counts / counts.sum()).log()


@dataclass(frozen=True)
class Halton(Decoder):
    """Positions in the order of van der Corput's sequence in `base`: each falls into the widest gap. Confidence plays no part."""

    base: int = 2
    steps: int | None = None
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (HALTON,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.steps)
        if self.base < 2:
            raise RemaskError(f"base is {self.base}; it must be 2 or more")

    def init(self, canvas: Canvas) -> BlockClock:
        return BlockClock.start(canvas, self.steps)

    def step(self, view: View, state: BlockClock) -> tuple[Edit, BlockClock]:
        return write_best(view, -self.corput(places(view.canvas), view.span), state, self.steps)

    def corput(self, place: Tensor, span: Tensor) -> Tensor:
        """(B, L) float64 rank: places, as digits over the smallest power of `base` that holds the open block, reversed."""
        start = torch.where(span, place, place.shape[1]).amin(1, keepdim=True)
        slot = (place - start).clamp(min=0)
        rank, weight = torch.zeros(place.shape, dtype=torch.float64, device=place.device), 1.0
        for _ in range(place.shape[1].bit_length()):
            weight /= self.base
            rank = rank + (slot % self.base) * weight
            slot = slot // self.base
        return rank

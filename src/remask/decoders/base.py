"""The decoder protocol, and all that a decoder may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.part import Part
from remask.prediction import Prediction
from remask.randomness import Uniforms

State = Any
"""A decoder's own memory: None, (B,) or (B, L, ...) tensors, or a tuple or frozen dataclass of them (remask.memory)."""


@dataclass(frozen=True, eq=False)
class View:
    """One step as a decoder sees it.

    eligible: (B, L) bool.  step: (B,) int64, steps the row has made.  seeds: (B,) int64.
    span: (B, L) bool, the block that is open: its masks, and what of it is written or given already.
    """

    canvas: Canvas
    prediction: Prediction
    eligible: Tensor
    step: Tensor
    seeds: Tensor
    source: Uniforms
    span: Tensor
    eos_ids: tuple[int, ...] = ()

    @property
    def filled(self) -> Tensor:
        """(B, L) bool: positions of the open block that a decoder wrote."""
        return self.span & ~self.canvas.given & ~self.canvas.masked

    def uniforms(self, stream: int) -> Tensor:
        """(B, L) float64 uniforms of this step."""
        return self.source(self.seeds, self.step, self.canvas.shape[1], stream)


class Decoder(Part, Protocol):
    """`papers`: what to cite. `draws`: candidates are drawn even without a temperature. `mask_candidates`: the mask may be proposed (parity).

    `revises`: a token that it wrote may change again, so nothing is settled before the row is done.
    `rescores`: written tokens are judged by what the model believes of them now, so that a reuse rule may not serve an older belief: the loop then
    computes the written positions of the open block at every pass.
    `everywhere`: False promises that scores, candidates and logits are read at eligible positions only; the network may then predict no others.
    One that makes such a promise asks for scores: `logits` and `probabilities` are of all positions, and a lazy network (remask.models.fused_model) has to make them anew.
    `waits`: a step reads numbers from the device, or gives it some (a shape that depends on values, a list), which a recorded pass cannot.
    """

    papers: ClassVar[tuple[Paper, ...]] = ()
    draws: ClassVar[bool] = False
    revises: ClassVar[bool] = False
    rescores: ClassVar[bool] = False
    everywhere: ClassVar[bool] = True
    waits: ClassVar[bool] = False
    mask_candidates: bool = False

    def init(self, canvas: Canvas) -> State: ...

    def shadows(self, canvas: Canvas, span: Tensor, state: State) -> Tensor | None:
        """(B, L) bool: places whose leave-one-out belief the coming pass shall give (`view.prediction.left_out`); None: none.

        span: (B, L) bool, the open block.
        """
        return None

    def step(self, view: View, state: State) -> tuple[Edit, State]: ...

    def pending(self, state: State) -> Tensor | None:
        """(B,) bool: rows to be visited again although nothing is masked; None: no row. Revisers with a schedule have some."""
        return None

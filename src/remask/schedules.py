"""How many tokens to write at each step, per row and per block."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.errors import RemaskError


@dataclass(frozen=True, eq=False)
class BlockClock:
    """Where each row stands in the schedule of its current block. All (B,) int64.

    A block takes a share of the remaining steps in proportion to its masks, so that equal blocks take equal shares
    (LLaDA: steps per block = steps / blocks) without anybody knowing how many blocks there are.
    """

    steps_left: Tensor
    masks: Tensor
    steps: Tensor
    done: Tensor

    @staticmethod
    def start(canvas: Canvas, steps: int | None) -> BlockClock:
        zero = torch.zeros(canvas.shape[0], dtype=torch.int64, device=canvas.tokens.device)
        return BlockClock(zero + (steps or 0), zero, zero, zero)

    def enter(self, canvas: Canvas, eligible: Tensor) -> BlockClock:
        """The clock at this step: a new block begins where the last one has used its steps."""
        fresh = self.done >= self.steps
        masks, total = eligible.sum(1), canvas.masked.sum(1).clamp(min=1)
        share = (self.steps_left * masks + total // 2).div(total, rounding_mode="floor")
        share = torch.minimum(share, self.steps_left - (masks < total).long()).clamp(min=1)  # a step stays for what is behind the block
        return BlockClock(
            torch.where(fresh, self.steps_left - share, self.steps_left),
            torch.where(fresh, masks, self.masks),
            torch.where(fresh, share, self.steps),
            torch.where(fresh, 0, self.done),
        )

    def tick(self) -> BlockClock:
        """One step later."""
        return BlockClock(self.steps_left, self.masks, self.steps, self.done + 1)

    def even_share(self) -> Tensor:
        """LLaDA's `get_num_transfer_tokens`: masks // steps, and one more in each of the first masks % steps steps."""
        steps = self.steps.clamp(min=1)
        return self.masks // steps + (self.done < self.masks % steps)


@dataclass(frozen=True, eq=False)
class LiteralBlocks:
    """LLaDA's nested loop as published: each block of new positions is open for its steps, whether or not they fill it.

    block: (B, L) int64, counted from the first new position (new are the masks at the row's end); -1 before it, in the prompt.
    blocks: (B,) int64, how many there are.  steps: (B,) int64 of one block.  masks: (B,) int64, those the open block held when it was
    entered.  done: (B,) int64, steps made.
    """

    block: Tensor
    blocks: Tensor
    steps: Tensor
    masks: Tensor
    done: Tensor

    @staticmethod
    def start(canvas: Canvas, steps: int, length: int) -> LiteralBlocks:
        behind = (~canvas.masked & canvas.real).long().flip(1).cumsum(1).flip(1)
        new = canvas.masked & (behind == 0)
        place = torch.where(new, new.long().cumsum(1) - 1, -1)
        blocks = place.amax(1).div(length, rounding_mode="floor") + 1
        zero = torch.zeros_like(blocks)
        share = (zero + steps).div(blocks.clamp(min=1), rounding_mode="floor").clamp(min=1)
        return LiteralBlocks(place.div(length, rounding_mode="floor"), blocks, share, zero, zero)

    def enter(self, canvas: Canvas) -> tuple[LiteralBlocks, Tensor, Tensor]:
        """The clock at this step, the open (B, L) positions, and how many to write, (B,).

        All masks up to the end of the block are open, but only those of the block are counted. What is left after the last block,
        where the published loop ends, is written one a step.
        """
        number, step = self.done.div(self.steps, rounding_mode="floor"), self.done % self.steps
        own = (canvas.masked & (self.block == number[:, None])).sum(1)
        clock = replace(self, masks=torch.where(step == 0, own, self.masks))
        share = clock.masks.div(self.steps, rounding_mode="floor") + (step < clock.masks % self.steps)
        return clock, self.block <= number[:, None], torch.where(number >= self.blocks, 1, share)

    def tick(self) -> LiteralBlocks:
        """One step later."""
        return replace(self, done=self.done + 1)


def falling_share(masks: Tensor, done: Tensor, steps: Tensor, eps: float = 1e-3) -> Tensor:
    """Dream's count: int(masks * (1 - s/t)) in float32 on linspace(1, eps, steps + 1), everything at the last step."""
    t, s = time_at(done, steps, eps), time_at(done + 1, steps, eps)
    count = (masks.float() * (1 - s / t)).long()
    return torch.where(done >= steps - 1, masks, count)


def time_at(index: Tensor, steps: Tensor, end: float) -> Tensor:
    """torch.linspace(1, end, steps + 1)[index] in float32, for tensors of steps."""
    steps = steps.clamp(min=1)
    width = (torch.full((), end, dtype=torch.float32, device=index.device) - 1) / steps.float()
    rising = 1 + width * index.float()
    falling = end - width * (steps - index).float()
    return torch.where(index < (steps + 1) // 2, rising, falling)


def log_linear_noise(t: Tensor, eps: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Total noise -log(1 - (1 - eps) t) and its rate of change at time t (MDLM, arXiv 2406.07524, log-linear schedule).

    A position is masked with the probability 1 - exp(-total) = (1 - eps) t.
    """
    masked = (1 - eps) * t
    return -torch.log1p(-masked), (1 - eps) / (1 - masked)


def check_steps(steps: int | None) -> None:
    """Raise unless steps is None or positive."""
    if steps is not None and steps < 1:
        raise RemaskError(f"steps is {steps}; it must be 1 or more, or left out for one token per forward")

"""How many tokens to write at each step, per row and per block."""

from __future__ import annotations

from dataclasses import dataclass

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
        share = (self.steps_left * masks + total // 2).div(total, rounding_mode="floor").clamp(min=1)
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

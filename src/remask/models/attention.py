"""What every family shares: normalisation, rotary positions and attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """Root-mean-square norm: statistic in float32, cast back, then the weight (which torch's own would multiply before it rounds)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:  # one kernel; on a CPU torch's own is the slower one, to the same bits
            return self.weight * functional.rms_norm(x, x.shape[-1:], None, self.eps)
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def positions(real: Tensor) -> Tensor:
    """(B, L) int64: the place of each real token in its row, counted without padding."""
    return (real.long().cumsum(1) - 1).clamp(min=0)


def rotary(position: Tensor, head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin, (B, 1, L, head_width) float32, rotate-half layout."""
    rate = theta ** (-torch.arange(0, head_width, 2, device=position.device, dtype=torch.float32) / head_width)
    angle = position[:, None, :, None].float() * rate
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate (B, H, L, head_width) in float32; pairs are (i, i + head_width / 2)."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = (each.chunk(2, dim=-1)[0] for each in (cos, sin))  # both halves turn by the same angles
    return torch.cat([(first * cos - second * sin).to(x.dtype), (second * cos + first * sin).to(x.dtype)], dim=-1)


def placed(tokens: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The positions of a batch, (B or 1, L), and `real`, or None if all are: attention without a mask is faster.

    Asked once a forward, since it waits for the device; a caller that knows all positions real passes None, and must where a graph is recorded, in which nobody may wait.
    """
    if real is None or (not recording() and bool(real.all())):
        return torch.arange(tokens.shape[1], device=tokens.device)[None], None
    return positions(real), real


def recording() -> bool:
    """Whether a CUDA graph is being recorded."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def heads(x: Tensor, count: int) -> Tensor:
    """(B, L, count * E) -> (B, count, L, E)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)

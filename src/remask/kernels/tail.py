"""The vocabulary tail: all that is asked of a row of logits, without writing anything of its size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from remask.kernels import runs_kernels
from remask.randomness import draw

ROOM = 1 << 22
"""Logits that the twin widens at a time: 16 MB of float32 stay near a CPU's cache."""


@dataclass(frozen=True, eq=False)
class Tail:
    """What a row of logits says; all (N,), in float32 (float64 for float64 logits).

    weight: the sum of exponentials relative to the largest.  second: the second largest probability.  token: int64, the likeliest, the lowest id on ties.  entropy: in nats.
    total: the logarithm of the sum of exponentials.  drawn: int64, by inverse CDF.  moved: KL(now || before) in nats.
    """

    weight: Tensor
    second: Tensor
    token: Tensor
    entropy: Tensor
    total: Tensor
    drawn: Tensor | None = None
    moved: Tensor | None = None

    @property
    def best(self) -> Tensor:
        """The largest probability."""
        return 1 / self.weight


def tail(logits: Tensor, *, mask_id: int | None = None, uniform: Tensor | None = None, before: Tensor | None = None, at: Tensor | None = None) -> Tail:
    """(N, V) logits -> their Tail, by one kernel on a GPU and by its twin elsewhere.

    mask_id: a column left out.  uniform: (N,) float64, one draw a row.  before: (R, V) logits to compare with, those of row i at `at[i]` (None: at i).
    A NaN anywhere in a row shows as a NaN in its `total`.
    """
    how = kernel if runs_kernels(logits) and logits.dtype != torch.float64 else twin
    return how(logits, mask_id=mask_id, uniform=uniform, before=before, at=at)


def kernel(logits: Tensor, *, mask_id: int | None = None, uniform: Tensor | None = None, before: Tensor | None = None, at: Tensor | None = None) -> Tail:
    """The same by Triton: two launches, three with a draw; sums within a block in float32, those of a draw in float64."""
    from remask.kernels.tail_triton import launch

    return Tail(**launch(logits, -1 if mask_id is None else mask_id, uniform, before, at))


def twin(logits: Tensor, *, mask_id: int | None = None, uniform: Tensor | None = None, before: Tensor | None = None, at: Tensor | None = None) -> Tail:
    """The same in plain torch, some rows at a time."""
    size = max(1, ROOM // max(1, logits.shape[-1]))
    rows = [slice(start, start + size) for start in range(0, max(1, logits.shape[0]), size)]
    parts = [_some(logits[part], mask_id, None if uniform is None else uniform[part], _before(before, at, part)) for part in rows]
    return Tail(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def _before(before: Tensor | None, at: Tensor | None, part: slice) -> Tensor | None:
    if before is None:
        return None
    return before[part] if at is None else before[at[part]]


def _some(logits: Tensor, mask_id: int | None, uniform: Tensor | None, before: Tensor | None) -> dict[str, Tensor]:
    now = _wide(logits, mask_id)
    top = now.topk(min(2, now.shape[-1]), dim=-1).values
    token = now.argmax(-1)
    above = now - top[:, :1]
    weight = above.exp()
    sum_ = weight.sum(-1)
    total = top[:, 0] + sum_.log()
    entropy = sum_.log() - (weight * above).nan_to_num(nan=0.0).sum(-1) / sum_
    second = (top[:, -1] - top[:, 0]).exp() / sum_ if now.shape[-1] > 1 else torch.zeros_like(total)
    found = {"weight": sum_, "second": second, "token": token, "entropy": entropy, "total": total}
    if uniform is not None:
        found["drawn"] = draw(now, uniform)
    if before is not None:
        then = _wide(before, mask_id)
        crossed = (weight * (now - then)).nan_to_num(nan=0.0, posinf=float("inf")).sum(-1)
        found["moved"] = crossed / sum_ - (total - then.logsumexp(-1))
    return found


def _wide(logits: Tensor, mask_id: int | None) -> Tensor:
    """At least float32, without the mask's column."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide if mask_id is None else wide.masked_fill(torch.arange(wide.shape[-1], device=wide.device) == mask_id, float("-inf"))

"""Between the positions of a canvas and the few that a pass computes or asks about, in one call each way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from remask.kernels import runs_kernels
from remask.kernels.tail import Tail


def compact(active: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(B, L) bool -> the places of the first `size` active positions, ascending, (B, size) int64, and (B,) bool: there were more.

    A row with fewer repeats its last one, a row with none its first position. No sort, and nothing that waits for the device.
    """
    return (compact_kernel if runs_kernels(active) else compact_twin)(active, size)


def compact_twin(active: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The same in plain torch."""
    rank = active.cumsum(1)
    counts = rank[:, -1:]
    position = torch.arange(active.shape[1], device=active.device).expand_as(active)
    slot = torch.where(active & (rank <= size), rank - 1, size)
    place = torch.zeros(active.shape[0], size + 1, dtype=torch.int64, device=active.device).scatter_(1, slot, position)[:, :size]
    last = torch.where(active, position, 0).amax(1, keepdim=True)
    return torch.where(torch.arange(size, device=active.device) < counts, place, last), counts[:, 0] > size


def compact_kernel(active: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The same by Triton."""
    from remask.kernels.places_triton import launch_compact

    return launch_compact(active, size)


@dataclass(frozen=True, eq=False)
class Spread:
    """A Tail by position: (B, L) each, 0 where nobody asked; candidates and sampled are those of the drawn tokens.  bad: (B,) bool, a NaN among those asked for."""

    token: Tensor
    candidates: Tensor
    confidence: Tensor
    second: Tensor
    sampled: Tensor
    entropy: Tensor
    moved: Tensor | None
    bad: Tensor


def spread(found: Tail, logits: Tensor, asked: Tensor, *, everywhere: bool = False) -> Spread:
    """found, logits: of the first T asked positions of each row, (B * T,) and (B * T, V), as `compact` places them, or of every position.  asked: (B, L) bool."""
    return (spread_kernel if runs_kernels(logits) and found.total.dtype == torch.float32 else spread_twin)(found, logits, asked, everywhere=everywhere)


def spread_twin(found: Tail, logits: Tensor, asked: Tensor, *, everywhere: bool = False) -> Spread:
    """The same in plain torch."""
    rows, length = asked.shape
    count = len(found.token) // rows
    rank = torch.arange(length, device=asked.device) if everywhere else (asked.cumsum(1) - 1).clamp(0, count - 1)
    slot = rank + torch.arange(rows, device=asked.device)[:, None] * count

    def full(values: Tensor) -> Tensor:
        return torch.where(asked, values[slot], torch.zeros_like(values[:1]))

    token, confidence = full(found.token), full(found.best)
    candidates, sampled = token, confidence
    if found.drawn is not None:
        at, top = (logits.gather(1, ids[:, None])[:, 0].to(found.total.dtype) for ids in (found.drawn, found.token))
        candidates, sampled = full(found.drawn), full((at - top).exp() / found.weight)
    moved = None if found.moved is None else full(found.moved)
    return Spread(token, candidates, confidence, full(found.second), sampled, full(found.entropy), moved, full(found.total).isnan().any(1))


def spread_kernel(found: Tail, logits: Tensor, asked: Tensor, *, everywhere: bool = False) -> Spread:
    """The same by Triton in one launch."""
    from remask.kernels.places_triton import launch_spread

    return Spread(*launch_spread(found, logits, asked, everywhere))


def put_rows(kept: Tensor, rows: Tensor, place: Tensor, there: Tensor | None = None) -> Tensor:
    """kept (B, L, W), whose rows are contiguous, in which `rows` (B, T, W) are written over at `place`, (B, T) int64, or of them those that `there`, (B, T) bool, says.

    Rows of one place must be equal.
    """
    return (put_rows_kernel if runs_kernels(kept) else put_rows_twin)(kept, rows, place, there)


def put_rows_twin(kept: Tensor, rows: Tensor, place: Tensor, there: Tensor | None = None) -> Tensor:
    """The same in plain torch."""
    index = place[..., None].expand_as(rows)
    return kept.scatter_(1, index, rows if there is None else torch.where(there[..., None], rows, kept.gather(1, index)))


def put_rows_kernel(kept: Tensor, rows: Tensor, place: Tensor, there: Tensor | None = None) -> Tensor:
    """The same by Triton in one launch, at the speed of a copy, which a library's scatter of a vocabulary is far from."""
    from remask.kernels.places_triton import launch_put_rows

    launch_put_rows(kept, rows, place, there)
    return kept

"""How clean rows are masked. t in (0, 1] is the share of masks; under the log-linear schedule it is also the time."""

from __future__ import annotations

import torch
from torch import Tensor


def antithetic_times(rows: int, generator: torch.Generator, *, least: float = 1e-3) -> Tensor:
    """(rows,) times, one in each of `rows` equal slices of [least, 1] (MDLM, arXiv 2406.07524, appendix C)."""
    device = generator.device
    shift = torch.rand(1, device=device, generator=generator)
    slices = (torch.randperm(rows, device=device, generator=generator) + shift) / rows
    return least + (1 - least) * slices


def mask_randomly(eligible: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
    """(B, L) bool: each eligible position masked with the probability of its row's time."""
    return eligible & (torch.rand(eligible.shape, device=eligible.device, generator=generator) < times[:, None])


def mask_suffix(eligible: Tensor, times: Tensor) -> Tensor:
    """(B, L) bool: the last share t of each row's eligible positions, at least one.

    A random mask shows a sum beside its operands, so that looking things up is rarely needed; behind a cut it always is.
    """
    order = eligible.long().cumsum(1)
    total = order[:, -1:]
    return eligible & (order > (total * (1 - times[:, None])).floor().clamp(max=total - 1))


def substitute(tokens: Tensor, where: Tensor, vocabulary: int, generator: torch.Generator) -> Tensor:
    """(B, L) tokens, those at `where` replaced by any of the other `vocabulary` - 1 ids, all alike."""
    shift = torch.randint(1, vocabulary, tokens.shape, device=tokens.device, generator=generator)
    return torch.where(where, (tokens + shift) % vocabulary, tokens)

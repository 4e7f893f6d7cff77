"""What the tokens of a row say about it without any model. All take (B, L) ids of rows of one length and return (B,) float64."""

from __future__ import annotations

import torch
from torch import Tensor

from remask.errors import RemaskError


def unigram_entropy(tokens: Tensor) -> Tensor:
    """Nats of the row's own shares of tokens, - sum p ln p (as ReMDM reports it); at most ln L."""
    counts = torch.zeros(tokens.shape[0], int(tokens.max()) + 1, dtype=torch.float64, device=tokens.device)
    counts.scatter_add_(1, tokens, torch.ones_like(tokens, dtype=torch.float64))
    return torch.special.entr(counts / tokens.shape[1]).sum(1)


def distinct(tokens: Tensor, n: int) -> Tensor:
    """Share of different n-grams among the row's n-grams; 1 where none comes twice."""
    if not 1 <= n <= tokens.shape[1]:
        raise RemaskError(f"n is {n}; rows of {tokens.shape[1]} tokens have n-grams of 1 to {tokens.shape[1]}")
    grams = tokens.unfold(1, n, 1)
    return torch.tensor([len(row.unique(dim=0)) / len(row) for row in grams], dtype=torch.float64, device=tokens.device)


def repetition(tokens: Tensor, window: int = 16) -> Tensor:
    """Share of the tokens, from the second on, that stand among the `window` tokens before them."""
    again = torch.zeros_like(tokens[:, 1:], dtype=torch.bool)
    for back in range(1, min(window, tokens.shape[1] - 1) + 1):
        again[:, back - 1 :] |= tokens[:, back:] == tokens[:, :-back]
    return again.double().mean(1)

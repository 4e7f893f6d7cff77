"""What a causal judge makes of rows of tokens, and rows of its own as an anchor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from remask.denoise import row_seeds
from remask.errors import RemaskError
from remask.models.base import without_mask
from remask.models.causal import Causal
from remask.randomness import PROPOSAL, draw, keyed_uniforms
from remask.shapers import Shaper


@torch.inference_mode()
def negative_log_likelihood(judge: Causal, tokens: Tensor, *, batch: int = 64) -> Tensor:
    """(B, L) -> (B, L) float32 nats of each token given those before it; the mask, on which no judge is trained, has no probability."""
    found = list[Tensor]()
    for part in tokens.to(judge.device).split(batch):
        log_probs = torch.log_softmax(without_mask(judge.logits(part), judge.mask_id), dim=-1)
        found.append(-log_probs.gather(-1, part[..., None])[..., 0])
    return torch.cat(found)


@torch.inference_mode()
def features(judge: Causal, tokens: Tensor, *, batch: int = 64) -> Tensor:
    """(B, L) -> (B, D) float32: the state after the whole row."""
    return torch.cat([judge.read(part)[:, -1].float() for part in tokens.to(judge.device).split(batch)])


@torch.inference_mode()
def sample(judge: Causal, rows: int, length: int, *, seed: int | Sequence[int] = 0, shapers: Sequence[Shaper] = ()) -> Tensor:
    """(rows, length) tokens, drawn one after the other; row i is a function of its seed (seed + i) and the shapers alone."""
    if judge.max_length is not None and length > judge.max_length:
        raise RemaskError(f"{length} tokens asked of a judge made for {judge.max_length}; ask for fewer")
    seeds = torch.tensor(row_seeds(seed, rows), device=judge.device)
    uniforms = keyed_uniforms(seeds, torch.zeros_like(seeds), length, PROPOSAL)
    tokens = torch.empty(rows, 0, dtype=torch.int64, device=judge.device)
    for place in range(length):
        logits = without_mask(judge.head(judge.read(tokens)[:, -1]), judge.mask_id)
        for shaper in shapers:
            logits = shaper(logits)
        tokens = torch.cat([tokens, draw(logits, uniforms[:, place])[:, None]], dim=1)
    return tokens

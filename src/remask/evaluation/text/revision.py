"""Whether a network sees what is wrong in a text that has no masks, and whether its probabilities are true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from remask.denoise import row_seeds
from remask.evaluation.text.calibration import calibration_error
from remask.models.base import without_mask
from remask.randomness import NOISE, ORDER, PROPOSAL, keyed_uniforms


@dataclass(frozen=True)
class Revision:
    """One forward over rows with a share of wrong tokens.

    fixed, kept: (B,) float64, the shares of the wrong tokens whose arg max is the true one, and of the right ones whose arg max is themselves.
    calibration: error of the probabilities of those arg maxes at all positions.
    """

    share: float
    fixed: Tensor
    kept: Tensor
    calibration: float


def corrupted(tokens: Tensor, share: float, vocabulary: int, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """(B, L) tokens with round(share L) of each row replaced by other ids below `vocabulary`, and where; functions of (row seed, position)."""
    length, zero = tokens.shape[1], torch.zeros_like(seeds)
    wrong = keyed_uniforms(seeds, zero, length, ORDER).argsort(1).argsort(1) < round(share * length)
    shift = 1 + (keyed_uniforms(seeds, zero, length, PROPOSAL) * (vocabulary - 1)).long()
    return torch.where(wrong, (tokens + shift) % vocabulary, tokens), wrong


@torch.inference_mode()
def revise(model: Any, tokens: Tensor, share: float, *, seed: int | list[int] = 0, batch: int = 64) -> Revision:
    """Rows of real text (B, L), a share of them replaced at random. The raw logits count, without any rule that keeps visible tokens."""
    tokens = tokens.to(model.device)
    seeds = torch.tensor(row_seeds(seed, len(tokens)), device=tokens.device)
    fixed, kept, sure, right = (list[Tensor]() for _ in range(4))
    for part, keys in zip(tokens.split(batch), seeds.split(batch), strict=True):
        shown, wrong = corrupted(part, share, model.mask_id, keys)
        confidence, best = _proposals(model, shown)
        true = best == part
        fixed.append((true & wrong).sum(1).double() / wrong.sum(1))
        kept.append((true & ~wrong).sum(1).double() / (~wrong).sum(1))
        sure.append(confidence.flatten())
        right.append(true.flatten())
    return Revision(share, torch.cat(fixed), torch.cat(kept), calibration_error(torch.cat(sure), torch.cat(right)))


@torch.inference_mode()
def masked_calibration(model: Any, tokens: Tensor, *, seed: int | list[int] = 0, batch: int = 64) -> float:
    """Calibration error at masked positions, a uniform share of each row being masked: the probabilities that decoders rank and compare with thresholds."""
    tokens = tokens.to(model.device)
    seeds = torch.tensor(row_seeds(seed, len(tokens)), device=tokens.device)
    sure, right = list[Tensor](), list[Tensor]()
    for part, keys in zip(tokens.split(batch), seeds.split(batch), strict=True):
        zero = torch.zeros_like(keys)
        masked = keyed_uniforms(keys, zero, part.shape[1], ORDER) < keyed_uniforms(keys, zero, 1, NOISE)
        confidence, best = _proposals(model, part.masked_fill(masked, model.mask_id))
        sure.append(confidence[masked])
        right.append((best == part)[masked])
    return calibration_error(torch.cat(sure), torch.cat(right))


def _proposals(model: Any, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Confidence and arg max (B, L) over the tokens, the mask aside."""
    return torch.softmax(without_mask(model.logits(shown), model.mask_id), dim=-1).max(-1)

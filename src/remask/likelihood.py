"""A lower bound of the log-likelihood of an answer, by Monte Carlo (LLaDA, arXiv 2502.09992, equation 6 and Algorithm 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.compute import Model, checked, head_of
from remask.errors import RemaskError
from remask.randomness import ORDER, TRANSFER, keyed_uniforms


class LogLikelihood(NamedTuple):
    """bound: estimate of the bound on log p(answer | prompt), in nats for the whole answer.  error: its standard error."""

    bound: float
    error: float


@torch.inference_mode()
def log_likelihood(model: Any, prompt: Sequence[int] | str, answer: Sequence[int] | str, *, samples: int = 128, seed: int = 0, batch: int = 16) -> LogLikelihood:
    """The mean over `samples` of l/k times the log-probabilities of k masked tokens of the answer, l being its length.

    prompt, answer: ids, or text for the model's tokenizer.  k is stratified over 1..l and the k positions are drawn uniformly, both
    keyed by (seed, number of the sample), so `batch` changes the speed only.  The mean is that of the any-order chain rule: for an exact
    denoiser the log-likelihood itself.  The error is the spread over sqrt(samples), a little too large, since strata vary less.
    """
    rows = _ids(model, prompt, "prompt"), _ids(model, answer, "answer")
    _check(model, *rows, samples=samples, batch=batch)
    device = getattr(model, "device", None)
    clean = torch.tensor([*rows[0], *rows[1]], dtype=torch.int64, device=device)
    masked = torch.cat([torch.zeros(samples, len(rows[0]), dtype=torch.bool), _masks(samples, len(rows[1]), seed)], dim=1).to(clean.device)
    values = torch.cat([_weighted(model, clean, masked[start : start + batch], len(rows[1]), start) for start in range(0, samples, batch)])
    return LogLikelihood(float(values.mean()), float(values.std() / samples**0.5))


def _masks(samples: int, length: int, seed: int) -> Tensor:
    """(samples, length) bool: in each row k of the answer's positions, k spread evenly over 1..length."""
    seeds, number = torch.full((samples,), seed), torch.arange(samples)
    within = keyed_uniforms(seeds, number, 1, TRANSFER)[:, 0]
    count = ((number + within) * length / samples).long().clamp(max=length - 1) + 1
    rank = keyed_uniforms(seeds, number, length, ORDER).argsort(1).argsort(1)
    return rank < count[:, None]


def _weighted(model: Model, clean: Tensor, masked: Tensor, length: int, first: int) -> Tensor:
    """(B,) float64: l/k times the log-probabilities of the masked tokens of rows of masks (B, L)."""
    tokens = torch.where(masked, model.mask_id, clean)
    canvas = Canvas(tokens, ~masked, torch.ones_like(masked), model.mask_id)
    logits = head_of(model, False)(model.forward(canvas)[0])
    number = torch.arange(first + len(masked), device=clean.device)
    checked(logits, canvas.real, number[first:], torch.zeros_like(number))
    own = logits[masked].double().log_softmax(-1).gather(-1, clean.expand_as(tokens)[masked][:, None])[:, 0]
    total = torch.zeros(len(masked), dtype=torch.float64, device=clean.device).index_add(0, masked.nonzero()[:, 0], own)
    return total * length / masked.sum(1)


def _ids(model: Any, text: Sequence[int] | str, name: str) -> list[int]:
    if not isinstance(text, str):
        return [int(token) for token in text]
    if getattr(model, "tokenizer", None) is None:
        raise RemaskError(f"the {name} is text and this model has no tokenizer; pass ids")
    return model.tokenizer.encode(text)


def _check(model: Any, prompt: list[int], answer: list[int], *, samples: int, batch: int) -> None:
    if not answer:
        raise RemaskError("the answer is empty; give at least one token")
    if samples < 2 or batch < 1:
        raise RemaskError(f"samples is {samples} and batch {batch}; use 2 samples or more, since the error is their spread, and a batch of 1 or more")
    length = len(prompt) + len(answer)
    if model.max_length is not None and length > model.max_length:
        raise RemaskError(f"prompt and answer have {length} tokens and the model was made for {model.max_length}; shorten them")
    for token in (*prompt, *answer):
        if token == model.mask_id or not 0 <= token < getattr(model, "vocab_size", model.mask_id + 1):
            raise RemaskError(f"token {token} is the mask or outside the vocabulary; a likelihood needs tokens that are all known")

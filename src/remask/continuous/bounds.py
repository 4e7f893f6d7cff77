"""Upper bounds on -log p(x) from a network of states (DSL; formulas from the public code, checked here against an exact denoiser)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from remask.channel import endpoints, localise
from remask.continuous.base import StateDenoiser, keyed_normals
from remask.continuous.grids import check_grid
from remask.denoise import row_seeds
from remask.randomness import NOISE, ORDER, keyed_uniforms


@torch.inference_mode()
def diffusion_bound(model: StateDenoiser, tokens: Tensor, *, grid: tuple[float, ...], seed: int | list[int] = 0) -> Tensor:
    """(B,) float64 nats a row: 1/2 integral over t of E|e_x - xhat(z_t)|^2 + E[-log p(x | z_last)] (I-MMSE).

    One noise draw a point of the grid, trapezoids between; an estimate without bias but for the grid. Its end is the grid's, not the best one found:
    choosing that per batch, as the public code does, is optimistic.
    """
    check_grid(grid)
    seeds = torch.tensor(row_seeds(seed, tokens.shape[0]), device=tokens.device)
    codes = model.codes.double()
    errors, last = list[Tensor](), torch.zeros(tokens.shape[0], dtype=torch.float64, device=tokens.device)
    for number, snr in enumerate(grid):
        log_probs = _seen_at(model, tokens, snr, seeds, number)
        errors.append((codes[tokens] - log_probs.exp() @ codes).square().sum((1, 2)))
        last = -log_probs.gather(-1, tokens[..., None])[..., 0].sum(1)
    times = torch.tensor(grid, dtype=torch.float64, device=tokens.device)
    return torch.trapezoid(torch.stack(errors, 1), times, dim=1) / 2 + last


@torch.inference_mode()
def cross_entropies(model: StateDenoiser, tokens: Tensor, *, snrs: Sequence[float], seed: int | list[int] = 0) -> Tensor:
    """(B, len(snrs)) float64 mean nats a token where all positions have one SNR: the curve that a sampler's grid should follow, dense where it falls."""
    seeds = torch.tensor(row_seeds(seed, tokens.shape[0]), device=tokens.device)
    costs = [-_seen_at(model, tokens, snr, seeds, number).gather(-1, tokens[..., None])[..., 0].mean(1) for number, snr in enumerate(snrs)]
    return torch.stack(costs, 1)


def _seen_at(model: StateDenoiser, tokens: Tensor, snr: float, seeds: Tensor, number: int) -> Tensor:
    """(B, L, V) float64 log-probabilities from rows seen at one SNR, through the noise of a numbered draw."""
    codes = model.codes.double()
    noise = keyed_normals(keyed_uniforms, seeds, number, torch.Size((*tokens.shape, codes.shape[1])))
    z = localise(codes, tokens, torch.full(tokens.shape, snr, dtype=torch.float64, device=tokens.device), noise)
    return torch.log_softmax(model.read(z).double(), dim=-1)


@torch.inference_mode()
def random_order_bound(model: StateDenoiser, tokens: Tensor, *, seed: int | list[int] = 0) -> Tensor:
    """(B,) float64 nats a row: L times the mean cross-entropy over the unknown, k tokens being known, k uniform from 0 to L - 1 (ROAR)."""
    seeds = torch.tensor(row_seeds(seed, tokens.shape[0]), device=tokens.device)
    zero, length = torch.zeros_like(seeds), tokens.shape[1]
    count = (keyed_uniforms(seeds, zero, 1, NOISE) * length).floor()
    known = keyed_uniforms(seeds, zero, length, ORDER).argsort(1).argsort(1) < count
    z = endpoints(model.codes.double(), tokens, known, model.snr_max)
    losses = functional.cross_entropy(model.read(z).double().flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)
    return length * (losses * ~known).sum(1) / (~known).sum(1)

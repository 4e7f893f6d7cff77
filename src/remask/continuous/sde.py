"""Sampling along the localisation SDE (DSL, arXiv 2605.12836; the family with g < 1 is derived, not published)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.continuous.base import StateDenoiser, belief, keyed_normals, state_of
from remask.continuous.grids import check_grid
from remask.denoise import Decoded, row_seeds
from remask.errors import RemaskError
from remask.randomness import Uniforms, keyed_uniforms
from remask.shapers import Shaper


@torch.inference_mode()
def decode_sde(
    model: StateDenoiser,
    canvas: Canvas,
    *,
    grid: tuple[float, ...],
    g: float = 1.0,
    shapers: Sequence[Shaper] = (),
    seed: int | list[int] = 0,
    uniforms: Uniforms = keyed_uniforms,
) -> Decoded:
    """Walk z over the grid of SNRs and take the arg max at its end: as many forwards as the grid has points.

    dz = [(1 + g^2)/2 xhat + (1 - g^2)/2 z/t] dt + g dW, with xhat = E[e | z] (g = 1: the SDE dz = xhat dt + dW; g = 0: the ODE of the same marginals).
    The drift z/t has no limit at t = 0, so the first step is always that of g = 1: from z = 0 it puts z where the channel would, with the
    prior's mean. Starting a smaller g from 0 with too little noise would sharpen silently. Given tokens stay at their endpoint.
    shapers: change the law behind xhat; anything but none is no longer the channel's own path.
    """
    seeds = torch.tensor(row_seeds(seed, canvas.shape[0]), device=canvas.tokens.device)
    z = walk(model, canvas, grid, g, seeds, uniforms, shapers)
    return decoded(model, canvas, belief(model.read(z, canvas.real), shapers).argmax(-1), len(grid))


def walk(model: StateDenoiser, canvas: Canvas, grid: tuple[float, ...], g: float, seeds: Tensor, uniforms: Uniforms, shapers: Sequence[Shaper] = ()) -> Tensor:
    """(B, L, E) float64: the state at the end of the grid, after len(grid) - 1 forwards."""
    check_grid(grid)
    check_noise(g)
    fixed = state_of(model, canvas)
    moving, codes = canvas.masked[..., None], model.codes.double()
    z = fixed
    for number, (t, following) in enumerate(pairwise(grid)):
        step, scale = following - t, 1.0 if number == 0 else g
        mean = belief(model.read(z, canvas.real), shapers) @ codes
        drift = mean if scale == 1 else (1 + scale**2) / 2 * mean + (1 - scale**2) / 2 * z / t
        moved = z + step * drift + scale * step**0.5 * keyed_normals(uniforms, seeds, number, z.shape)
        z = torch.where(moving, moved, fixed)
    return z


def check_noise(g: float) -> None:
    """Raise unless the noise is a share of the SDE's."""
    if not 0 <= g <= 1:
        raise RemaskError(f"g is {g}; it must be from 0 (ODE) to 1 (SDE)")


def decoded(model: StateDenoiser, canvas: Canvas, tokens: Tensor, forwards: int) -> Decoded:
    """The rows with these tokens where they were masked, and what `forwards` whole passes cost."""
    final = torch.where(canvas.masked, tokens, canvas.tokens)
    rows = [row[real].cpu() for row, real in zip(final, canvas.real, strict=True)]
    count = torch.full((len(rows),), forwards * model.evaluations, dtype=torch.int64)
    return Decoded(rows, count, count * canvas.real.sum(1).cpu())

"""Continuous first, discrete after. The sampler behind DSL's hybrid results is not public; these are two reconstructions of its idea."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from remask.canvas import Canvas
from remask.channel import endpoints
from remask.continuous.base import StateDenoiser, belief
from remask.continuous.sde import decoded, walk
from remask.decoders import Ancestral, Decoder
from remask.denoise import Decoded, decode, row_seeds
from remask.errors import RemaskError
from remask.randomness import ORDER, PROPOSAL, Uniforms, draw, keyed_uniforms
from remask.shapers import Shaper


@torch.inference_mode()
def decode_commit(
    model: StateDenoiser,
    canvas: Canvas,
    *,
    grid: tuple[float, ...],
    tau: float = 0.9,
    decoder: Decoder = Ancestral(8),
    shapers: Sequence[Shaper] = (),
    seed: int | list[int] = 0,
    uniforms: Uniforms = keyed_uniforms,
) -> Decoded:
    """Walk the grid, write the arg max where its probability reaches `tau`, and let a discrete decoder write the rest.

    Over-sharp even with an exact denoiser: its likelihood looks better than the data's own (docs/findings/dsl.md), so judge it by more than that.
    """
    seeds = row_seeds(seed, canvas.shape[0])
    z = walk(model, canvas, grid, 1.0, torch.tensor(seeds, device=canvas.tokens.device), uniforms, shapers)
    confidence, best = belief(model.read(z, canvas.real), shapers).max(-1)
    sure = canvas.masked & (confidence >= tau)
    begun = replace(canvas, tokens=torch.where(sure, best, canvas.tokens), given=canvas.given | sure)
    forwards = len(grid) * model.evaluations
    if not bool(begun.masked.any()):
        return decoded(model, canvas, best, len(grid))
    rest = decode(model, begun.tokens, attention_mask=begun.real, decoder=decoder, shapers=shapers, seed=seeds, uniforms=uniforms)
    return Decoded(rest.tokens, rest.forwards + forwards, rest.positions + forwards * canvas.real.sum(1).cpu())


@torch.inference_mode()
def decode_native(
    model: StateDenoiser,
    canvas: Canvas,
    *,
    grid: tuple[float, ...],
    steps: int,
    shapers: Sequence[Shaper] = (),
    seed: int | list[int] = 0,
    uniforms: Uniforms = keyed_uniforms,
) -> Decoded:
    """Walk the grid, then draw p(x | z) at a random part of the undecided positions in each of `steps` passes; the others keep their z.

    A drawn token goes to its endpoint. len(grid) - 1 + steps forwards. Not sharpened, but behind the plain SDE at equal forwards (docs/findings/dsl.md).
    """
    if steps < 1:
        raise RemaskError(f"steps is {steps}; it must be 1 or more")
    seeds = torch.tensor(row_seeds(seed, canvas.shape[0]), device=canvas.tokens.device)
    z = walk(model, canvas, grid, 1.0, seeds, uniforms, shapers)
    made, tokens = len(grid) - 1, canvas.tokens
    open_ = canvas.masked
    order = torch.where(open_, uniforms(seeds, torch.full_like(seeds, made), canvas.shape[1], ORDER), 2.0).argsort(1).argsort(1)
    for k in range(steps):
        number = torch.full_like(seeds, made + k)
        found = draw(belief(model.read(z, canvas.real), shapers).log(), uniforms(seeds, number, canvas.shape[1], PROPOSAL))
        until = (open_.sum(1, keepdim=True) * (k + 1)).div(steps, rounding_mode="floor")
        now = open_ & (order < until) & (tokens == canvas.mask_id)
        tokens = torch.where(now, found, tokens)
        z = torch.where(now[..., None], endpoints(model.codes.double(), tokens, now, model.snr_max), z)
    return decoded(model, canvas, tokens, made + steps)

"""The localisation channel of DSL (arXiv 2602.16169 and 2605.12836): a token seen through Gaussian noise of a known signal-to-noise ratio.

Position i holds z_i = t_i e + sqrt(t_i) noise, e being the code of its token, of norm 1. t = 0 is a mask, t without end a known token.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def unit(directions: Tensor) -> Tensor:
    """(V, E) directions -> codes of norm 1."""
    return functional.normalize(directions, dim=-1)


def random_codes(vocabulary: int, width: int, seed: int = 0) -> Tensor:
    """(V, E) float64 codes of random direction."""
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(vocabulary, width, dtype=torch.float64, generator=generator))


def localise(codes: Tensor, tokens: Tensor, snr: Tensor, noise: Tensor) -> Tensor:
    """(B, L, E) states z of (B, L) tokens at SNRs (B, L), from standard normal noise (B, L, E)."""
    return snr[..., None] * functional.embedding(tokens, codes) + snr.sqrt()[..., None] * noise


def endpoints(codes: Tensor, tokens: Tensor, known: Tensor, snr: float) -> Tensor:
    """(B, L, E) noiseless states of a discrete canvas: `snr` times the code where known (B, L), 0 elsewhere."""
    shown = codes[tokens.clamp(max=codes.shape[0] - 1)]
    return torch.where(known[..., None], snr * shown, 0.0)


def tilt(z: Tensor, codes: Tensor) -> Tensor:
    """(..., V): the log-likelihood of z for each token, up to a term that all tokens share.

    log N(z; t e_v, t I) = <z, e_v> - t |e_v|^2 / 2 + rest; with |e_v| = 1 for every v the middle term is shared too, and so is t:
    p(x | z) is proportional to p(x) exp(sum_i <z_i, e_{x_i}>) for any SNRs (derived).
    """
    return z @ codes.mT

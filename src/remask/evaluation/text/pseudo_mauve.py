"""A MAUVE-like score: how alike two sets of texts are, from a judge's features.

After MAUVE (arXiv 2102.01454): quantise the features of both sets together, then take the area under the frontier of divergences between the two
histograms. MAUVE's own numbers are made with GPT-2 large; with another judge they are another scale. Never call it MAUVE, and never compare it across
judges or numbers of texts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from remask.errors import RemaskError


def frontier_area(first: Tensor, second: Tensor, *, scale: float = 5.0, points: int = 25) -> float:
    """Area under (exp(-scale KL(q|r)), exp(-scale KL(p|r))), r = w p + (1 - w) q for `points` weights w, with the ends (0, 1) and (1, 0).

    first, second: (K,) shares p and q. 1 where they are equal; 0.004 at scale 5 where they share nothing.
    """
    p, q = (shares.double() / shares.double().sum() for shares in (first, second))
    weight = torch.linspace(1e-6, 1 - 1e-6, points, dtype=torch.float64)[:, None]
    mixed = weight * p + (1 - weight) * q

    def divergence(shares: Tensor) -> Tensor:
        return torch.where(shares > 0, shares * (shares / mixed.clamp(min=1e-300)).clamp(min=1e-300).log(), 0.0).sum(1)

    across, up = (-scale * divergence(q)).exp(), (-scale * divergence(p)).exp()
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    x, y = torch.cat([ends[1:], across, ends[:1]]), torch.cat([ends[:1], up, ends[1:]])
    return float(-torch.trapezoid(y, x))


def quantise(features: Tensor, clusters: int, *, seed: int) -> Tensor:
    """(N, D) -> (N,) cluster of each: rows of norm 1, the principal components that hold 90 % of the variance, k-means from spread-out starts."""
    generator = torch.Generator().manual_seed(seed)
    centred = functional.normalize(features.double().cpu(), dim=1)
    centred = centred - centred.mean(0)
    values, vectors = torch.linalg.eigh(centred.mT @ centred)
    values, vectors = values.clamp(min=0).flip(0), vectors.flip(1)
    held = int((values.cumsum(0) < 0.9 * values.sum()).sum()) + 1
    points = centred @ vectors[:, :held]
    return k_means(points, clusters, generator)


def k_means(points: Tensor, clusters: int, generator: torch.Generator, *, most: int = 100) -> Tensor:
    """(N, D) -> (N,): Lloyd's iteration until nothing moves, from centres drawn by squared distance (k-means++). An empty cluster keeps its centre."""
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    for _ in range(clusters - 1):
        far = torch.cdist(points, centres).min(1).values.square()
        chance = far if float(far.sum()) > 0 else torch.ones_like(far)
        centres = torch.cat([centres, points[torch.multinomial(chance, 1, generator=generator)]])
    own = torch.cdist(points, centres).argmin(1)
    for _ in range(most):
        count = torch.bincount(own, minlength=clusters)[:, None]
        total = torch.zeros_like(centres).index_add_(0, own, points)
        centres = torch.where(count > 0, total / count.clamp(min=1), centres)
        moved = torch.cdist(points, centres).argmin(1)
        if torch.equal(moved, own):
            break
        own = moved
    return own


def pseudo_mauve(first: Tensor, second: Tensor, *, seeds: int = 5, scale: float = 5.0) -> list[float]:
    """One score a k-means seed, of (N, D) and (M, D) features: a tenth of the smaller set as clusters, as MAUVE has. Its ceiling is that of two real sets."""
    clusters = min(len(first), len(second)) // 10
    if clusters < 2:
        raise RemaskError(f"{len(first)} and {len(second)} texts; the score needs at least 20 of each")
    found = list[float]()
    for seed in range(seeds):
        own = quantise(torch.cat([first.cpu(), second.cpu()]), clusters, seed=seed)
        shares = [torch.bincount(part, minlength=clusters) for part in (own[: len(first)], own[len(first) :])]
        found.append(frontier_area(*shares, scale=scale))
    return found

"""Forwards against quality with exact denoisers: parallel unmasking, ReMDM, the localisation SDE and its hybrids. CPU only.

    python benchmarks/dsl_markov.py letters --rows 500
    python benchmarks/dsl_markov.py chain_b --rows 2000

Printed: nats per token under the chain (its own samples reach `entropy`; below is too sharp, above too loose) and the
Kullback-Leibler divergence of the pairs of neighbours from the chain's. `letters` is a bigram chain of 27 characters, 128 of them, with
16-dimensional random codes, counted over 1.5M characters of public-domain fiction (letters.tsv); `chain_b` has 8
nearly deterministic states, 48 of them, with the identity as codes. The network's own error is absent by construction.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import remask
from remask.canvas import Canvas
from remask.channel import random_codes
from remask.continuous import decode_commit, decode_native, decode_sde, linear, log_linear, log_normal
from remask.decoders import Ancestral, ReMDM
from remask.denoise import Decoded
from remask.testing import LocalisedMarkov

Sampler = Callable[[LocalisedMarkov, Canvas], Decoded]


def letters() -> LocalisedMarkov:
    """Chain A's construction on our own text: counts + 0.1, started from the stationary law."""
    lines = (Path(__file__).parent / "letters.tsv").read_text(encoding="utf-8").splitlines()
    counts = torch.tensor([[int(value) for value in line.split("\t")] for line in lines], dtype=torch.float64) + 0.1
    transition = counts / counts.sum(1, keepdim=True)
    return LocalisedMarkov(counts.sum(1) @ torch.linalg.matrix_power(transition, 200), transition, random_codes(27, 16))


def chain_b() -> LocalisedMarkov:
    """8 states; six of them are left for one successor with probability 0.9825."""
    transition = torch.full((8, 8), 0.0025, dtype=torch.float64)
    for state in range(2, 8):
        transition[state, (3 * state + 1) % 8] = 0.9825
    transition[0] = torch.tensor([0.002713, 0.341834, 0.003277, 0.246674, 0.056614, 0.068591, 0.250422, 0.029875])
    transition[1] = torch.tensor([0.187244, 0.000001, 0.029708, 0.533814, 0.074112, 0.000307, 0.160492, 0.014322])
    return LocalisedMarkov(torch.ones(8), transition, torch.eye(8))


def entropy(model: LocalisedMarkov, length: int) -> float:
    """Expected nats per token of the chain's own samples."""
    law, total = model.initial, torch.special.entr(model.initial).sum()
    for _ in range(length - 1):
        total = total + law @ torch.special.entr(model.transition).sum(1)
        law = law @ model.transition
    return float(total / length)


def pair_divergence(model: LocalisedMarkov, tokens: Tensor) -> float:
    """KL of the pairs of neighbours in the samples from those of the chain, in nats."""
    size, law = model.mask_id, model.initial
    pairs = torch.zeros(size, size, dtype=torch.float64)
    for _ in range(tokens.shape[1] - 1):
        pairs += law[:, None] * model.transition
        law = law @ model.transition
    pairs /= tokens.shape[1] - 1
    found = torch.bincount((tokens[:, :-1] * size + tokens[:, 1:]).flatten(), minlength=size * size).view(size, size).double()
    found /= found.sum()
    return float((torch.special.xlogy(found, found) - torch.special.xlogy(found, pairs)).sum())


def discrete(decoder: remask.decoders.Decoder) -> Sampler:
    """A decoder of the library as a sampler."""
    return lambda model, canvas: remask.decode(model, canvas.tokens, decoder=decoder)


def systems(grid: Callable[[int], tuple[float, ...]]) -> dict[str, Callable[[int], Sampler]]:
    """Name -> budget of forwards -> sampler."""
    return {
        "ancestral": lambda n: discrete(Ancestral(n)),
        "remdm cap 0.04": lambda n: discrete(ReMDM(n, eta=0.04)),
        "remdm loop 0.02": lambda n: discrete(ReMDM(n, strategy="loop", eta=0.02)),
        "sde": lambda n: lambda model, canvas: decode_sde(model, canvas, grid=grid(n)),
        "g^2 = 0.25": lambda n: lambda model, canvas: decode_sde(model, canvas, grid=grid(n), g=0.5),
        "ode": lambda n: lambda model, canvas: decode_sde(model, canvas, grid=grid(n), g=0.0),
        "log-linear": lambda n: lambda model, canvas: decode_sde(model, canvas, grid=log_linear(n)),
        "linear": lambda n: lambda model, canvas: decode_sde(model, canvas, grid=linear(n)),
        "commit": lambda n: lambda model, canvas: decode_commit(model, canvas, grid=log_normal(n // 2, 1.4, 0.9, last=8), decoder=Ancestral(n // 2)),
        "native": lambda n: lambda model, canvas: decode_native(model, canvas, grid=log_normal(n // 2 + 1, 1.4, 0.9, last=6), steps=n // 2),
    }


def measure(model: LocalisedMarkov, sampler: Sampler, rows: int, length: int) -> tuple[float, float, float, float]:
    """Mean forwards, nats per token, its standard error, pair divergence."""
    found = sampler(model, Canvas.from_prompts([[]] * rows, max_new_tokens=length, mask_id=model.mask_id))
    tokens = torch.stack(found.tokens)
    cost = -model.log_likelihood(tokens) / length
    return float(found.forwards.double().mean()), float(cost.mean()), float(cost.std() / rows**0.5), pair_divergence(model, tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chain", choices=["letters", "chain_b"])
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--forwards", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--mu", type=float, default=None, help="of the log-normal grid; 1.4 for letters, 0 for chain_b")
    parser.add_argument("--only", nargs="+", default=None)
    chosen = parser.parse_args()
    model, length, mu = (letters(), 128, 1.4) if chosen.chain == "letters" else (chain_b(), 48, 0.0)
    mu = mu if chosen.mu is None else chosen.mu
    own = model.sample(chosen.rows, length)
    print(
        f"{chosen.chain}: entropy {entropy(model, length):.4f}, pair divergence of {chosen.rows} own samples {pair_divergence(model, own):.4f}; grid log-normal ({mu}, 0.9) to 40"
    )
    print(f"{'':16}" + "".join(f"{f'{n} forwards':>32}" for n in chosen.forwards))
    for name, make in systems(lambda n: log_normal(n, mu, 0.9)).items():
        if chosen.only is None or name in chosen.only:
            cells = [measure(model, make(n), chosen.rows, length) for n in chosen.forwards]
            print(f"{name:16}" + "".join(f"   {cost:.3f} +- {error:.3f} / {divergence:.4f} ({forwards:4.1f})" for forwards, cost, error, divergence in cells), flush=True)


if __name__ == "__main__":
    main()

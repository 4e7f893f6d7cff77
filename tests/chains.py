"""The Markov chains that the oracle numbers were measured on."""

import torch

from remask.testing import MarkovDenoiser

PROMPTS_B = [[n // 10, n % 10] for n in (65, 34, 62, 60, 57, 56, 34, 75, 52, 36, 67, 11, 42, 76, 16, 75, 44, 56, 73, 43, 72, 26, 62, 5)]


def chain_b() -> MarkovDenoiser:
    """8 states, nearly deterministic rows 2..7."""
    transition = torch.full((8, 8), 0.0025, dtype=torch.float64)
    for state in range(2, 8):
        transition[state, (3 * state + 1) % 8] = 0.9825
    transition[0] = torch.tensor([0.002713, 0.341834, 0.003277, 0.246674, 0.056614, 0.068591, 0.250422, 0.029875])
    transition[1] = torch.tensor([0.187244, 0.000001, 0.029708, 0.533814, 0.074112, 0.000307, 0.160492, 0.014322])
    return MarkovDenoiser(torch.ones(8), transition)


def chain_7() -> MarkovDenoiser:
    """3 states, for total variation over all sequences of length 4."""
    rows = [[0.315070, 0.616475, 0.068455], [0.000028, 0.907776, 0.092196], [0.129827, 0.818873, 0.051300]]
    return MarkovDenoiser(torch.ones(3), torch.tensor(rows, dtype=torch.float64))

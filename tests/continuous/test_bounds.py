"""Both bounds with an exact denoiser are the entropy of the chain."""

import pytest
import torch

from benchmarks.dsl_markov import chain_b
from remask.continuous import cross_entropies, diffusion_bound, log_linear, random_order_bound


def diffusion(last):
    return lambda model, tokens: diffusion_bound(model, tokens, grid=log_linear(60, 1e-3, last))


@pytest.mark.parametrize("bound", [diffusion(60), random_order_bound], ids=["diffusion", "random order"])
def test_a_bound_is_the_likelihood_where_the_denoiser_is_exact(bound):
    """Recorded: 0.2053-0.2060 and 0.208 for an entropy of 0.2046 nats a token (sampling error 0.002 with 4000 rows)."""
    model = chain_b()
    tokens = model.sample(1000, 48)
    found, exact = bound(model, tokens), -model.log_likelihood(tokens)
    error = float((found - exact).std() / 1000**0.5)
    assert float((found - exact).mean()) == pytest.approx(0, abs=3 * error + 0.1)
    assert error < 0.7


def test_a_grid_that_ends_early_is_a_looser_bound_never_a_lower_one():
    """What is left is charged token by token, as if the tokens were independent given z."""
    model = chain_b()
    tokens = model.sample(1000, 48)
    above = diffusion(1)(model, tokens) + model.log_likelihood(tokens)
    assert 2 < float(above.mean()) < 20


def test_a_bound_of_a_row_does_not_notice_its_neighbours():
    model = chain_b()
    tokens = model.sample(3, 20)
    for bound in (lambda tokens, seed: diffusion_bound(model, tokens, grid=(0.0, 1.0, 4.0), seed=seed), lambda tokens, seed: random_order_bound(model, tokens, seed=seed)):
        together = bound(tokens, [7, 8, 9])
        assert torch.allclose(bound(tokens[1:2], 8), together[1:2])


def test_the_curve_over_snr_meets_the_recorded_one():
    """Chain B with the identity as codes; recorded at these SNRs."""
    model = chain_b()
    found = cross_entropies(model, model.sample(1500, 48), snrs=(0.05, 0.25, 1.0, 4.0))
    error = found.std(0) / 1500**0.5
    assert ((found.mean(0) - torch.tensor([1.165, 0.564, 0.203, 0.041])).abs() < 3 * error + 0.002).all()
    assert float(error.max()) < 0.02

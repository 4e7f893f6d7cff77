"""The localisation channel: with codes of norm 1 the posterior asks for no SNR."""

import pytest
import torch

from remask.channel import endpoints, localise, random_codes, tilt, unit
from remask.testing import LocalisedMarkov
from tests.chains import chain_7, chain_b


def gaussian_posterior(z, codes, snr):
    """softmax over v of log N(z; t e_v, t I), by the density itself."""
    law = torch.distributions.Normal(snr[..., None, None] * codes, snr.sqrt()[..., None, None])
    return torch.softmax(law.log_prob(z[..., None, :]).sum(-1), dim=-1)


def states(codes, seed):
    generator = torch.Generator().manual_seed(seed)
    snr = torch.empty(6, 10, dtype=torch.float64).log_normal_(1.4, 1.5, generator=generator)
    tokens = torch.randint(codes.shape[0], (6, 10), generator=generator)
    return snr, localise(codes, tokens, snr, torch.randn(6, 10, codes.shape[1], dtype=torch.float64, generator=generator))


@pytest.mark.parametrize("seed", range(5))
def test_the_tilt_equals_the_gaussian_posterior_for_any_snrs(seed):
    codes = random_codes(27, 16, seed)
    snr, z = states(codes, seed)
    assert (torch.softmax(tilt(z, codes), dim=-1) - gaussian_posterior(z, codes, snr)).abs().max() < 1e-10


def test_the_tilt_fails_for_codes_of_norm_1_1():
    codes = random_codes(27, 16)
    codes[3] *= 1.1
    snr, z = states(codes, 0)
    assert (torch.softmax(tilt(z, codes), dim=-1) - gaussian_posterior(z, codes, snr)).abs().max() > 1e-3


def test_states_have_the_mean_and_the_spread_of_the_channel():
    codes = unit(torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    noise = torch.randn(100_000, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    z = localise(codes, torch.full((100_000, 1), 2), torch.full((100_000, 1), 9.0, dtype=torch.float64), noise)
    assert (z.mean((0, 1)) - 9 * codes[2]).abs().max() < 0.05
    assert (z.std((0, 1)) - 3).abs().max() < 0.05


def test_the_chain_with_soft_evidence_equals_brute_force():
    """Three states, four positions: all 81 sequences weighed by the Gaussian density, each position with an SNR of its own."""
    chain, codes = chain_7(), random_codes(3, 2, 4)
    model = LocalisedMarkov(chain.initial, chain.transition, codes)
    sequences = torch.cartesian_prod(*[torch.arange(3)] * 4)
    snr = torch.tensor([[0.3, 2.0, 0.7, 1.2]], dtype=torch.float64)
    z = localise(codes, torch.tensor([[0, 1, 1, 2]]), snr, torch.randn(1, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    weight = model.log_likelihood(sequences)
    for place in range(4):
        law = torch.distributions.Normal(snr[0, place] * codes[sequences[:, place]], snr[0, place].sqrt())
        weight = weight + law.log_prob(z[0, place]).sum(-1)
    exact = torch.zeros(4, 3, dtype=torch.float64)
    for place in range(4):
        exact[place].scatter_add_(0, sequences[:, place], torch.softmax(weight, 0))
    assert (model.read(z).exp()[0] - exact).abs().max() < 1e-12


def test_snrs_of_nothing_and_of_200_are_masks_and_tokens():
    chain = chain_b()
    model = LocalisedMarkov(chain.initial, chain.transition, torch.eye(8))
    tokens = torch.tensor([[6, 8, 8, 5, 8, 0, 8, 8]])
    z = endpoints(model.codes, tokens, tokens != 8, 200.0)
    posterior = model.read(z).exp()
    assert (posterior - model.posterior(tokens))[tokens == 8].abs().max() < 1e-6
    assert (posterior[tokens != 8].argmax(-1) == tokens[tokens != 8]).all()


def test_permuting_states_of_an_exchangeable_law_permutes_the_posterior():
    """No SNR is asked for: only z decides. Rows of independent tokens, z in another order."""
    law = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    model = LocalisedMarkov(law, law.expand(3, 3), random_codes(3, 2))
    z = torch.randn(1, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model.read(z[:, order]), model.read(z)[:, order])


@pytest.mark.parametrize(("vocabulary", "width", "low", "high"), [(27, 16, 3.5, 6.5), (4096, 48, 7.5, 10.5)])
def test_a_token_is_half_known_at_the_recorded_snr(vocabulary, width, low, high):
    """Recorded: the cross-entropy of one position with a uniform prior is half of log V at an SNR of 4-6 and 9; log-normal medians are set by it."""
    codes = random_codes(vocabulary, width)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocabulary, (1, 2000), generator=generator)
    noise = torch.randn(1, 2000, width, dtype=torch.float64, generator=generator)
    half = 0.5 * torch.tensor(float(vocabulary)).log()
    costs = [torch.nn.functional.cross_entropy(tilt(localise(codes, tokens, torch.full((1, 2000), snr, dtype=torch.float64), noise), codes)[0], tokens[0]) for snr in (low, high)]
    assert costs[0] > half > costs[1]

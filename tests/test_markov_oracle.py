"""The exact denoiser against brute force, and the recorded decoder runs on chain B."""

import itertools

import pytest
import torch

import remask
from tests.chains import PROMPTS_B, chain_7, chain_b


def test_the_posterior_equals_brute_force():
    model = chain_7()
    sequences = torch.tensor(list(itertools.product(range(3), repeat=4)))
    law = model.log_likelihood(sequences).exp()
    assert float(law.sum()) == pytest.approx(1, abs=1e-12)
    for partial in itertools.product(range(4), repeat=4):
        posterior = model.posterior(torch.tensor([partial]))[0]
        for place in range(4):
            others = [i for i in range(4) if i != place and partial[i] != 3]
            fits = torch.ones(81, dtype=torch.bool)
            for other in others:
                fits &= sequences[:, other] == partial[other]
            exact = torch.stack([law[fits & (sequences[:, place] == value)].sum() for value in range(3)]) / law[fits].sum()
            assert (posterior[place] - exact).abs().max() < 1e-12


def test_all_masks_give_the_marginals_of_the_chain():
    model = chain_b()
    posterior = model.posterior(torch.full((1, 6), 8))[0]
    for place in range(6):
        assert torch.allclose(posterior[place], model.initial @ torch.linalg.matrix_power(model.transition, place), atol=1e-14)


@pytest.mark.parametrize(
    ("decoder", "window", "forwards"),
    [
        ("low_confidence:steps=23", "blocks:16,origin=canvas", 552),
        ("random:steps=23", "blocks:16,origin=canvas", 552),
        ("entropy:steps=23", "whole", 552),
        ("topk_margin:steps=23", "whole", 552),
        ("threshold:0.9,strict=true", "blocks:16,origin=canvas", 228),
        ("factor:1", "blocks:16,origin=canvas", 216),
        ("threshold:0.9,strict=true", "blocks:8,origin=canvas", 288),
        ("low_confidence", "whole", 46 * 24),
    ],
)
def test_forwards_on_chain_b_match_the_recorded_runs(decoder, window, forwards):
    model = chain_b()
    result = remask.decode(model, PROMPTS_B, max_new_tokens=46, decoder=remask.parse_decoder(decoder), window=remask.parse_window(window))
    assert int(result.forwards.sum()) == forwards
    log_likelihood = model.log_likelihood(torch.stack(result.tokens)).mean() / 48
    assert float(log_likelihood) == pytest.approx(-0.1905, abs=2e-3)


@pytest.mark.parametrize(("decoder", "exact"), [("random", True), ("low_confidence", True), ("topk_margin", True), ("entropy", True), ("low_confidence:score=sampled", False)])
def test_orders_that_look_before_the_draw_sample_exactly(decoder, exact):
    """Total variation over the 81 sequences of chain 7; ranking by the drawn token's probability sharpens."""
    model, rows = chain_7(), 20000
    result = remask.decode(model, torch.full((rows, 4), 3), decoder=remask.parse_decoder(decoder), shapers=(remask.Temperature(1.0),))
    sequences = torch.tensor(list(itertools.product(range(3), repeat=4)))
    law = model.log_likelihood(sequences).exp()
    codes = (torch.stack(result.tokens) * torch.tensor([27, 9, 3, 1])).sum(1)
    distance = 0.5 * (torch.bincount(codes, minlength=81) / rows - law).abs().sum()
    assert (distance < 0.025) if exact else (0.25 < distance < 0.4)

"""Continuous samplers on exact denoisers: their law, their cost, and what they must not touch."""

import itertools

import pytest
import torch

import remask
from benchmarks.dsl_markov import chain_b, entropy, letters, measure, pair_divergence
from remask import RemaskError
from remask.canvas import Canvas
from remask.channel import random_codes
from remask.continuous import decode_commit, decode_native, decode_sde, linear, log_linear, log_normal
from remask.continuous.base import state_of
from remask.continuous.sde import walk
from remask.decoders import Ancestral, Threshold
from remask.randomness import keyed_uniforms
from remask.testing import LocalisedMarkov
from tests.chains import chain_7

ROWS = 1000


def empty(rows, length, mask):
    return Canvas.from_prompts([[]] * rows, max_new_tokens=length, mask_id=mask)


def sde(points, mu, **more):
    return lambda model, canvas: decode_sde(model, canvas, grid=log_normal(points, mu, 0.9), **more)


@pytest.mark.parametrize(
    ("points", "mu", "cost", "divergence"),
    [(4, 1.4, 0.318, 0.0124), (8, 1.4, 0.299, 0.0072), (4, 0.0, 0.292, 0.0168), (8, 0.0, 0.229, 0.0016), (8, -0.5, 0.212, 0.0032), (16, -0.5, 0.205, 0.0010)],
)
def test_the_sde_on_chain_b_meets_the_recorded_runs(points, mu, cost, divergence):
    """Recorded with 4000 rows; ours have 1000. Three standard errors of both."""
    forwards, found, error, pairs = measure(chain_b(), sde(points, mu), ROWS, 48)
    assert forwards == points
    assert abs(found - cost) < 3 * error * (1 + ROWS / 4000) ** 0.5
    assert pairs == pytest.approx(divergence, rel=0.35, abs=1.5e-3)


def test_eight_forwards_of_the_sde_do_what_64_of_parallel_unmasking_do():
    """The recorded table: SDE at 8 2.350 / .008, ancestral at 32 2.362 / .018 and at 64 2.335 / .011 (entropy rate 2.302), on another text."""
    model = letters()
    _, continuous, _, pairs = measure(model, sde(8, 1.4), 150, 128)
    _, masked, error, masked_pairs = measure(model, lambda m, canvas: remask.decode(m, canvas.tokens, decoder=Ancestral(40)), 150, 128)
    assert continuous < masked + 3 * error
    assert pairs < masked_pairs * 1.3
    assert continuous > entropy(model, 128) - 0.01, "nothing may be sharper than the chain itself"


def test_less_noise_is_looser_at_few_steps_and_never_sharper_than_the_chain():
    """Starting g < 1 at z = 0 without the channel's noise would sink below the entropy (recorded: 2.236 for 2.302)."""
    model = letters()
    costs = [measure(model, sde(8, 1.4, g=g), 150, 128)[1] for g in (1.0, 0.5**0.5, 0.5, 0.0)]
    assert costs == sorted(costs)
    assert costs[0] > entropy(model, 128)


def test_fine_grids_sample_the_exact_law_for_every_g():
    """Total variation over the 81 sequences of chain 7; 256 small steps."""
    chain = chain_7()
    model = LocalisedMarkov(chain.initial, chain.transition, random_codes(3, 2, 1))
    sequences = torch.tensor(list(itertools.product(range(3), repeat=4)))
    law = model.log_likelihood(sequences).exp()
    for g in (1.0, 0.5):
        found = torch.stack(decode_sde(model, empty(4000, 4, 3), grid=log_normal(192, 0.0, 1.5, last=60), g=g, seed=10**6).tokens)
        share = torch.bincount((found * torch.tensor([27, 9, 3, 1])).sum(1), minlength=81) / 4000
        assert 0.5 * (share - law).abs().sum() < 0.05


def test_confidence_commit_is_sharper_than_the_chain_and_native_is_not():
    model = letters()
    commit = measure(model, lambda m, canvas: decode_commit(m, canvas, grid=log_normal(16, 1.4, 0.9, last=6), tau=0.7, decoder=Ancestral(32)), 150, 128)[1]
    native = measure(model, lambda m, canvas: decode_native(m, canvas, grid=log_normal(17, 1.4, 0.9, last=6), steps=16), 150, 128)
    assert commit < entropy(model, 128) < native[1] < 2.40
    assert native[0] == 32


@pytest.mark.parametrize("name", ["sde", "commit", "native"])
def test_given_tokens_stay_rows_stand_alone_and_nothing_is_left_masked(name):
    model = chain_b()
    decoders = {
        "sde": lambda canvas, seed: decode_sde(model, canvas, grid=linear(5, 20), seed=seed),
        "commit": lambda canvas, seed: decode_commit(model, canvas, grid=log_linear(4, last=5), decoder=Threshold(0.9), seed=seed),
        "native": lambda canvas, seed: decode_native(model, canvas, grid=log_linear(4, last=5), steps=3, seed=seed),
    }
    prompts = [[0, 1], [3, 8, 5, 8, 2], [7]]
    together = decoders[name](Canvas.from_prompts(prompts, max_new_tokens=9, mask_id=8), [4, 5, 6])
    for prompt, row, forwards, positions, seed in zip(prompts, together.tokens, together.forwards, together.positions, [4, 5, 6], strict=True):
        assert (row < 8).all()
        assert all(token in (8, written) for token, written in zip(prompt, row.tolist(), strict=False))
        alone = decoders[name](Canvas.from_prompts([prompt], max_new_tokens=9, mask_id=8), seed)
        assert torch.equal(alone.tokens[0], row)
        assert (int(alone.forwards), int(alone.positions)) == (int(forwards), int(positions))
        assert int(positions) == int(forwards) * len(row)


def test_a_given_token_pulls_its_neighbour():
    """2 is followed by 7 with probability 0.9825."""
    found = torch.stack(decode_sde(chain_b(), Canvas.from_prompts([[2]] * 200, max_new_tokens=1, mask_id=8), grid=log_normal(12, 0, 0.9)).tokens)
    assert float((found[:, 1] == 7).double().mean()) > 0.94


def test_the_state_of_a_given_token_does_not_move():
    model, canvas = chain_b(), Canvas.from_prompts([[2, 8, 7], [5]], max_new_tokens=2, mask_id=8)
    z = walk(model, canvas, linear(6, 20), 1.0, torch.tensor([3, 4]), keyed_uniforms)
    assert torch.equal(z[~canvas.masked], state_of(model, canvas)[~canvas.masked])
    assert (z[canvas.masked] != 0).all()


def test_grids_begin_at_nothing_rise_and_have_a_point_for_every_forward():
    for grid in (log_normal(9, 1.4, 0.9), log_linear(9), linear(9)):
        assert len(grid) == 9
        assert grid[0] == 0
        assert all(here < there for here, there in itertools.pairwise(grid))
    assert log_normal(9, 1.4, 0.9, last=40)[-1] == pytest.approx(40)
    with pytest.raises(RemaskError, match="2 or more"):
        log_normal(1, 1.4, 0.9)
    with pytest.raises(RemaskError, match="begin at 0"):
        decode_sde(chain_b(), empty(1, 4, 8), grid=(0.5, 1.0))
    with pytest.raises(RemaskError, match="from 0"):
        decode_sde(chain_b(), empty(1, 4, 8), grid=(0.0, 1.0), g=1.5)


def test_pair_divergence_is_small_for_the_chains_own_samples_only():
    model = chain_b()
    assert pair_divergence(model, model.sample(ROWS, 48)) < 2e-3
    assert pair_divergence(model, torch.zeros(10, 48, dtype=torch.int64)) > 1

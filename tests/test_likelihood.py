"""The Monte-Carlo bound is the log-likelihood itself for an exact denoiser, and its error is honest."""

import math

import pytest
import torch

import remask
from remask import RemaskError
from remask.likelihood import _masks
from tests.chains import chain_7, chain_b
from tests.networks import network


def exact(model, prompt, answer):
    """log p(answer | prompt) of a chain."""
    whole = model.log_likelihood(torch.tensor([[*prompt, *answer]]))
    return float(whole - model.log_likelihood(torch.tensor([list(prompt)]))) if prompt else float(whole)


@pytest.mark.parametrize(("prompt", "answer"), [([], [0, 1, 1, 2]), ([1], [1, 1, 0]), ([2, 1], [0, 1, 2, 0, 1, 1])])
def test_the_bound_of_an_exact_denoiser_is_the_log_likelihood(prompt, answer):
    model = chain_7()
    found = remask.log_likelihood(model, prompt, answer, samples=4000, seed=3, batch=1000)
    assert 0 < found.error < 0.2
    assert abs(found.bound - exact(model, prompt, answer)) < 4 * found.error


def test_the_error_is_the_spread_of_repetitions_or_a_little_more():
    model = chain_7()
    found = [remask.log_likelihood(model, [1], [1, 0, 1, 2], samples=16, seed=seed, batch=16) for seed in range(300)]
    deviation = torch.tensor([one.bound for one in found]).std()
    error = torch.tensor([one.error for one in found]).mean()
    assert 0.9 * deviation < error < 2 * deviation
    assert abs(sum(one.bound for one in found) / 300 - exact(model, [1], [1, 0, 1, 2])) < 4 * deviation / 300**0.5


def test_one_token_needs_no_sampling():
    found = remask.log_likelihood(chain_7(), [0], [1], samples=4)
    assert found.bound == pytest.approx(exact(chain_7(), [0], [1]), abs=1e-9)
    assert found.error == pytest.approx(0, abs=1e-9)


def test_every_number_of_masks_gets_its_share_and_depends_on_the_seed_alone():
    masks = _masks(40, 8, seed=1)
    assert masks.sum(1).bincount(minlength=9).tolist() == [0] + [5] * 8
    assert torch.equal(masks, _masks(40, 8, seed=1))
    assert not torch.equal(masks, _masks(40, 8, seed=2))


def test_the_batch_changes_nothing():
    model = chain_b()
    found = [remask.log_likelihood(model, [0, 3], [7, 6, 3, 2], samples=10, batch=batch).bound for batch in (1, 4, 10)]
    assert found == pytest.approx([found[0]] * 3, abs=1e-12)


@pytest.mark.parametrize("family", ["llada", "dream", "mdlm", "timed"])
def test_the_mask_has_no_share_of_a_networks_bound(family):
    model = network(family)
    logits = model.logits(torch.tensor([[3, 1, 19]]))[0, 2].double()
    expected = logits[5] - logits[:19].logsumexp(0)
    assert remask.log_likelihood(model, [3, 1], [5], samples=2).bound == pytest.approx(float(expected), abs=1e-5)


def test_text_goes_through_the_tokenizer(checkpoint):
    model = remask.load(checkpoint)
    assert remask.log_likelihood(model, "12", "345", samples=4) == remask.log_likelihood(model, [1, 2], [3, 4, 5], samples=4)


@pytest.mark.parametrize(
    ("prompt", "answer", "options", "value"),
    [([1], [], {}, "empty"), ([1], [2], {"samples": 1}, "samples is 1"), ([1], [2], {"batch": 0}, "batch 0"), ([1], [19], {}, "19"), ([20], [2], {}, "20"),
     ([1], [-2], {}, "-2"), ([1] * 60, [2] * 5, {}, "65 tokens"), ("one", [2], {}, "no tokenizer")],
)  # fmt: skip
def test_bad_input_is_one_clear_error(prompt, answer, options, value):
    with pytest.raises(RemaskError, match=value):
        remask.log_likelihood(network("llada"), prompt, answer, **options)


def test_nan_logits_are_named():
    model = network("llada")
    model.parts["wte"].weight.data[7] = math.nan
    with pytest.raises(RemaskError, match=r"NaN logits .* rows \[0"):
        remask.log_likelihood(model, [7], [2, 3], samples=4)

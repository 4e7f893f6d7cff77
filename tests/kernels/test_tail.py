"""The vocabulary tail: twin and kernel against float64. Without a GPU the kernel runs through Triton's interpreter."""

from dataclasses import fields, replace

import pytest
import torch

from remask.kernels.tail import kernel, twin
from remask.randomness import draw
from tests.kernels.ways import WAYS, on

FUNCTIONS = {"twin": twin, "kernel": kernel, "gpu": kernel}
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")


def run(way, logits, **more):
    """The way's answer, on the CPU again."""
    found = FUNCTIONS[way](on(way, logits), **{name: on(way, value) for name, value in more.items()})
    return replace(found, **{field.name: value.cpu() for field in fields(found) if (value := getattr(found, field.name)) is not None})


def reference(logits, mask_id=None, before=None):
    """best, second, token, entropy, total, moved by log_softmax in float64."""
    now = logits.double()
    then = None if before is None else before.double()
    if mask_id is not None:
        now = now.index_fill(-1, torch.tensor([mask_id]), float("-inf"))
        then = None if then is None else then.index_fill(-1, torch.tensor([mask_id]), float("-inf"))
    log = now.log_softmax(-1)
    two = log.exp().topk(2, -1).values
    moved = None if then is None else torch.where(log > -float("inf"), log.exp() * (log - then.log_softmax(-1)), 0.0).sum(-1)
    return two[:, 0], two[:, 1], now.argmax(-1), torch.special.entr(log.exp()).sum(-1), now.logsumexp(-1), moved


def rows(count, vocabulary, seed=0, scale=4.0):
    return torch.randn(count, vocabulary, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [7, 4096, 9000])
@pytest.mark.parametrize("mask_id", [None, 3])
def test_every_number_is_that_of_float64(way, dtype, vocabulary, mask_id):
    logits, before = rows(5, vocabulary).to(dtype), rows(8, vocabulary, 1).to(dtype)
    at = torch.tensor([7, 0, 2, 2, 5])
    found = run(way, logits, mask_id=mask_id, before=before, at=at)
    best, second, token, entropy, total, moved = reference(logits, mask_id, before[at])
    for one, other in ((found.best, best), (found.second, second), (found.entropy, entropy), (found.total, total), (found.moved, moved)):
        torch.testing.assert_close(one.double(), other, rtol=2e-5, atol=1e-5)
    assert torch.equal(found.token, token)


@pytest.mark.parametrize("way", WAYS)
def test_draws_are_those_of_the_inverse_cdf_in_float64(way):
    for seed, scale in ((0, 1.0), (1, 8.0)):
        logits = rows(20, 9001, seed, scale)
        uniform = torch.rand(20, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        uniform[:4] = torch.tensor([2.0**-54, 1 - 2.0**-53, 0.5, 1 - 1e-12])
        expected = draw(logits.index_fill(-1, torch.tensor([8]), float("-inf")), uniform)
        assert torch.equal(run(way, logits, mask_id=8, uniform=uniform).drawn, expected)


@pytest.mark.parametrize("way", WAYS)
def test_ties_go_to_the_lowest_id_also_across_blocks(way):
    logits = torch.full((3, 9000), -1.0)
    logits[0, [5, 4500, 8999]] = 2.0
    logits[1, [4097, 4099]] = 2.0
    found = run(way, logits)
    assert found.token.tolist() == [5, 4097, 0]
    torch.testing.assert_close(found.best, found.second, rtol=1e-5, atol=0)
    assert run(way, logits, mask_id=5).token.tolist() == [4500, 4097, 0]


@pytest.mark.parametrize("way", WAYS)
def test_excluded_columns_have_no_weight_and_a_nan_shows(way):
    logits = rows(4, 9000)
    logits[0, 100:] = float("-inf")
    logits[1, :8192] = float("-inf")
    logits[2] = float("-inf")
    logits[2, 4100] = 1.0
    logits[3, 8500] = float("nan")
    found = run(way, logits, before=logits, uniform=torch.full((4,), 0.7, dtype=torch.float64))
    best, second, token, entropy, total, _ = reference(logits[:3])
    for one, other in ((found.best, best), (found.second, second), (found.entropy, entropy), (found.total, total)):
        torch.testing.assert_close(one[:3].double(), other, rtol=2e-5, atol=1e-5)
    assert torch.equal(found.token[:3], token)
    assert found.drawn[2] == 4100
    assert found.moved[:3].abs().max() < 1e-6
    assert found.total[3].isnan()


@pytest.mark.parametrize("way", WAYS)
def test_a_token_that_was_impossible_before_is_infinitely_far(way):
    logits, before = rows(2, 50), rows(2, 50)
    before[0, 7] = float("-inf")
    moved = run(way, logits, before=before).moved
    assert moved[0] == float("inf")
    assert moved[1].abs() < 1e-6


def test_the_twin_takes_rows_a_few_at_a_time(monkeypatch):
    logits = rows(9, 50)
    uniform = torch.rand(9, dtype=torch.float64)
    whole = twin(logits, uniform=uniform, before=logits.flip(0))
    monkeypatch.setattr("remask.kernels.tail.ROOM", 100)
    parts = twin(logits, uniform=uniform, before=logits.flip(0))
    for name in ("weight", "second", "token", "entropy", "total", "drawn", "moved"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))


@pytest.mark.parametrize("way", WAYS[1:])
def test_numbers_are_float32_whatever_torch_makes_of_none(way):
    logits, before = rows(3, 50).bfloat16(), rows(3, 50, 1).bfloat16()
    expected = run(way, logits, before=before)
    torch.set_default_dtype(torch.float16)
    try:
        found = run(way, logits, before=before)
    finally:
        torch.set_default_dtype(torch.float32)
    for field in ("weight", "second", "entropy", "total", "moved"):
        assert getattr(found, field).dtype == torch.float32
        assert torch.equal(getattr(found, field), getattr(expected, field))

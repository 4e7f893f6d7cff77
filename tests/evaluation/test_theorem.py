"""The pieces of SureLock's bound, each by itself."""

import pytest
import torch

import remask
from remask.evaluation.theorem import SOFTMAX, bound, tail_constant


def test_log_softmax_moves_no_more_than_root_two_a_unit_and_comes_close():
    generator = torch.Generator().manual_seed(0)
    p = torch.softmax(torch.randn(20_000, 5, generator=generator, dtype=torch.float64) * 30, -1)
    distance = (torch.eye(5, dtype=torch.float64)[:, None] - p).norm(dim=-1)
    assert distance.max() <= SOFTMAX + 1e-12
    assert distance.max() > SOFTMAX - 1e-6
    z = torch.randn(2000, 5, generator=generator, dtype=torch.float64) * 4
    other = z + torch.randn(2000, 5, generator=generator, dtype=torch.float64)
    moved = (z.log_softmax(-1) - other.log_softmax(-1)).abs().amax(-1)
    assert (moved <= SOFTMAX * (z - other).norm(dim=-1)).all()


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9])
def test_a_geometric_tail_stays_under_the_bound(rho):
    """Logits that move by lip sqrt(D) a pass, all in the same direction, with D falling by rho."""
    first, lip = 1e-3, 2.0
    steps = [lip * (first * rho**k) ** 0.5 for k in range(200)]
    assert sum((first * rho**k) ** 0.5 for k in range(200)) <= first**0.5 / (1 - rho**0.5) + 1e-12
    assert SOFTMAX * sum(steps) <= bound(first, rho, lip) + 1e-12
    assert bound(first, rho, lip) == pytest.approx(tail_constant(rho, lip) * first**0.5)


def test_a_divergence_that_does_not_shrink_has_no_bound():
    with pytest.raises(remask.RemaskError, match=r"rho is 1\.0"):
        tail_constant(1.0, 2.0)

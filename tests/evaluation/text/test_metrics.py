"""Metrics of text on rows whose answer is known."""

import math

import pytest
import torch

from remask import RemaskError
from remask.evaluation.text.calibration import calibration_error
from remask.evaluation.text.matched import Match, Sampled, at_entropy, match
from remask.evaluation.text.pseudo_mauve import frontier_area, k_means, pseudo_mauve, quantise
from remask.evaluation.text.statistics import distinct, repetition, unigram_entropy

ROWS = torch.tensor([[7, 7, 7, 7], [1, 2, 3, 4], [1, 2, 1, 2], [5, 5, 6, 6]])


def test_the_entropy_of_a_row_is_that_of_its_own_shares_in_nats():
    torch.testing.assert_close(unigram_entropy(ROWS), torch.tensor([0.0, math.log(4), math.log(2), math.log(2)], dtype=torch.float64))


def test_distinct_counts_different_n_grams_of_the_row():
    assert distinct(ROWS, 1).tolist() == [0.25, 1.0, 0.5, 0.5]
    torch.testing.assert_close(distinct(ROWS, 2), torch.tensor([1 / 3, 1, 2 / 3, 1], dtype=torch.float64))
    assert distinct(ROWS, 4).tolist() == [1.0] * 4
    with pytest.raises(RemaskError, match="n is 5"):
        distinct(ROWS, 5)


def test_repetition_looks_back_as_far_as_its_window():
    torch.testing.assert_close(repetition(ROWS, 1), torch.tensor([1, 0, 0, 2 / 3], dtype=torch.float64))
    torch.testing.assert_close(repetition(ROWS, 2), torch.tensor([1, 0, 2 / 3, 2 / 3], dtype=torch.float64))
    torch.testing.assert_close(repetition(ROWS), repetition(ROWS, 3))
    rows = torch.randint(9, (6, 30), generator=torch.Generator().manual_seed(0))
    counted = [sum(row[place] in row[max(0, place - 4) : place] for place in range(1, 30)) / 29 for row in rows.tolist()]
    assert repetition(rows, 4).tolist() == pytest.approx(counted)


def test_calibration_error_is_the_gap_of_each_bin():
    confidence = torch.tensor([0.9] * 10 + [0.6] * 10)
    right = torch.tensor([1] * 9 + [0] + [1] * 3 + [0] * 7)
    assert calibration_error(confidence, right, bins=2) == pytest.approx((0.0 + 0.3) / 2)
    assert calibration_error(confidence, right, bins=1) == pytest.approx(abs(12 / 20 - 0.75))
    opposite = torch.tensor([1] * 8 + [0] * 2 + [1] * 7 + [0] * 3)
    assert calibration_error(confidence, opposite, bins=2) == pytest.approx(0.1), "too sure in one bin and not enough in the other"
    with pytest.raises(RemaskError, match="at least 15"):
        calibration_error(confidence[:3], right[:3])


def test_a_calibrated_source_has_no_error_but_noise_and_equal_masses_share_it():
    """Nearly all confidences lie in (0.99, 1): bins of equal width would put 99 % of them in one."""
    confidence = 1 - 0.01 * torch.rand(60_000, generator=torch.Generator().manual_seed(0))
    right = torch.rand(60_000, generator=torch.Generator().manual_seed(1)) < confidence
    assert calibration_error(confidence, right) < 0.002
    assert calibration_error(confidence, right & (confidence > 0.995)) == pytest.approx(0.5, abs=0.01)


def test_the_frontier_of_equal_shares_has_area_one_and_of_foreign_ones_that_of_the_formula():
    p = torch.tensor([5.0, 3.0, 2.0])
    assert frontier_area(p, 4 * p) == pytest.approx(1, abs=1e-6)
    foreign = frontier_area(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), points=2000)
    assert foreign == pytest.approx(math.factorial(5) ** 2 / math.factorial(10), rel=1e-3), "x = u^5, y = (1 - u)^5: 0.004"
    near, far = (frontier_area(p, torch.tensor(other)) for other in ([5.0, 2.5, 2.5], [1.0, 1.0, 8.0]))
    assert foreign < far < near < 1
    assert frontier_area(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])) == pytest.approx(frontier_area(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])), abs=1e-9)


def clouds(*centres, each=40):
    generator = torch.Generator().manual_seed(3)
    return torch.cat([torch.tensor(centre) + 0.05 * torch.randn(each, 3, generator=generator) for centre in centres])


def test_clusters_that_lie_apart_are_found_by_every_seed():
    points = clouds([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])
    for seed in range(5):
        own = quantise(points, 3, seed=seed).view(3, 40)
        assert (own == own[:, :1]).all()
        assert len(own[:, 0].unique()) == 3
    assert k_means(torch.zeros(4, 2, dtype=torch.float64), 3, torch.Generator().manual_seed(0)).tolist() == [0] * 4, "equal points are one cluster"


def test_the_score_is_high_for_one_source_and_low_for_another():
    generator = torch.Generator().manual_seed(0)
    same, again, other = torch.randn(200, 4, generator=generator), torch.randn(200, 4, generator=generator), torch.randn(200, 4, generator=generator) + torch.tensor([6.0, 0, 0, 0])
    alike, unlike = pseudo_mauve(same, again), pseudo_mauve(same, other)
    assert len(alike) == 5
    assert min(alike) > 0.75
    assert max(unlike) < 0.1
    with pytest.raises(RemaskError, match="at least 20"):
        pseudo_mauve(same[:10], again)


def test_the_settings_that_enclose_the_target_are_found_in_any_order():
    assert match([5.0, 3.0, 4.0], 4.25) == Match(2, 0, 0.25, True)
    assert match([5.0, 3.0, 4.0], 3.0) == Match(1, 2, 0.0, True)
    assert match([5.0, 3.0, 4.0], 6.0) == Match(0, 0, 0.0, False)
    assert match([5.0, 3.0, 4.0], 1.0) == Match(1, 1, 0.0, False)
    with pytest.raises(RemaskError, match="at least one"):
        match([], 1.0)


def test_values_at_the_target_entropy_are_interpolated_and_their_interval_covers_the_truth():
    """Value = 2 entropy + noise on both sides; at entropy 4.5 it is 9."""
    covered = 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        low, high = (mean + 0.3 * torch.randn(200, generator=generator, dtype=torch.float64) for mean in (4.0, 5.0))
        sides = [Sampled(entropy, 2 * entropy + torch.randn(200, generator=generator, dtype=torch.float64)) for entropy in (low, high)]
        mean, below, above = at_entropy(sides[0], sides[1], 4.5, draws=300)
        assert below < mean < above
        assert 0.1 < above - below < 0.5
        covered += below < 9 < above
    assert covered >= 17


def test_outside_the_sweep_the_nearest_setting_stands_for_itself():
    side = Sampled(torch.tensor([4.0, 4.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]))
    assert at_entropy(side, side, 9.0)[0] == pytest.approx(2)


def test_the_interval_counts_the_uncertainty_of_the_entropies():
    """Values without noise, entropies with it: where the target lies between them is not known exactly."""
    generator = torch.Generator().manual_seed(0)
    low, high = (mean + torch.randn(100, generator=generator, dtype=torch.float64) for mean in (4.0, 6.0))
    mean, below, above = at_entropy(Sampled(low, torch.zeros(100)), Sampled(high, torch.full((100,), 10.0)), 5.0)
    assert 4 < below < mean < above < 6
    assert 0.5 < above - below < 2

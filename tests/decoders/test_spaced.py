"""Spacing takes what a walk down the ranking takes, in fewer rounds."""

import torch

from remask.decoders.dus import apart, least
from tests.waits import Waits


def walked(write, score, gap):
    """Down the ranking, the lower place first on ties: kept if everything kept so far is at least `gap` away."""
    kept = torch.zeros_like(write)
    for row in range(len(write)):
        for place in sorted(write[row].nonzero()[:, 0].tolist(), key=lambda at: (-float(score[row, at]), at)):
            if all(abs(place - other) >= int(gap[row]) for other in kept[row].nonzero()[:, 0].tolist()):
                kept[row, place] = True
    return kept


def test_it_keeps_what_a_walk_down_the_ranking_keeps():
    chance = torch.Generator().manual_seed(0)
    for share, values in ((0.1, 1000), (0.6, 1000), (0.6, 4), (1.0, 2)):
        write = torch.rand(9, 40, generator=chance) < share
        score = torch.randint(values, (9, 40), generator=chance) / values
        gap = torch.tensor([1, 2, 3, 4, 5, 8, 13, 39, 60])
        with Waits() as counted:
            kept = apart(write, score, gap)
        assert torch.equal(kept, walked(write, score, gap))
        assert counted.met["__bool__"] <= 1 + int(kept.sum(1).max())
    assert not apart(torch.zeros_like(write), score, gap).any()


def test_rounds_are_far_fewer_than_positions():
    score = torch.rand(4, 512, generator=torch.Generator().manual_seed(1))
    with Waits() as counted:
        kept = apart(torch.ones(4, 512, dtype=torch.bool), score, torch.full((4,), 4))
    assert int(kept.sum(1).min()) > 80
    assert counted.met["__bool__"] < 12


def test_scores_that_fall_from_one_end_are_taken_a_gap_apart():
    """The longest chain: every place but the first waits for another."""
    write = torch.ones(2, 40, dtype=torch.bool)
    falling = torch.stack([torch.linspace(1, 0, 40), torch.linspace(0, 1, 40)])
    kept = apart(write, falling, torch.tensor([3, 7]))
    assert kept[0].nonzero()[:, 0].tolist() == list(range(0, 40, 3))
    assert kept[1].nonzero()[:, 0].tolist() == list(range(4, 40, 7))


def test_the_least_of_a_stretch_is_that_of_its_places():
    chance = torch.Generator().manual_seed(2)
    for length in (1, 2, 7, 64, 65):
        values = torch.randint(1000, (3, length), generator=chance)
        ends = torch.randint(length, (2, 3, length), generator=chance)
        low, high = ends.amin(0), ends.amax(0) + 1
        wanted = [[int(values[row, low[row, at] : high[row, at]].min()) for at in range(length)] for row in range(3)]
        assert least(values, low, high).tolist() == wanted

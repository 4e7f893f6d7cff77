"""From positions to places and back: kernel and twin against loops."""

import math

import pytest
import torch
from torch.nn import functional

from remask.kernels.places import compact_kernel, compact_twin, put_rows_kernel, put_rows_twin, spread_kernel, spread_twin
from remask.kernels.tail import Tail
from tests.kernels.ways import WAYS, on

COMPACT = {"twin": compact_twin, "kernel": compact_kernel, "gpu": compact_kernel}
PUT = {"twin": put_rows_twin, "kernel": put_rows_kernel, "gpu": put_rows_kernel}
SPREAD = {"twin": spread_twin, "kernel": spread_kernel, "gpu": spread_kernel}
ACTIVE = torch.tensor([[0, 1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1]], dtype=torch.bool)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, 3, 4, 7])
def test_places_are_the_first_active_ones_and_an_overflow_shows(way, size):
    place, more = COMPACT[way](on(way, ACTIVE), size)
    for row, found, over in zip(ACTIVE.tolist(), place.tolist(), more.tolist(), strict=True):
        all_ = [at for at, is_active in enumerate(row) if is_active]
        assert over == (len(all_) > size)
        assert found == (all_ + [all_[-1] if all_ else 0] * size)[:size]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("everywhere", [False, True])
def test_numbers_return_to_their_positions(way, drawn, moved, everywhere):
    active = ACTIVE if everywhere else functional.pad(ACTIVE, (0, 2))  # places fewer than positions
    rows, length = active.shape
    count, columns = 7, 11
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows * count, columns, generator=generator)
    weight, second, entropy, total, kl = torch.rand(5, rows * count, generator=generator) + 1
    token, other = torch.randint(0, columns, (2, rows * count), generator=generator)
    total[2 * count + 5] = float("nan")
    total[count] = float("nan")  # of a slot that nobody asked about
    fields = (weight, second, token, entropy, total, other if drawn else None, kl if moved else None)
    found = SPREAD[way](Tail(*(on(way, each) for each in fields)), on(way, logits), on(way, active), everywhere=everywhere)
    assert found.bad.tolist() == [False, False, True, False]
    assert (found.moved is None) != moved
    for row in range(rows):
        rank = 0
        for at in range(length):
            slot = row * count + (at if everywhere else rank)
            expected = dict.fromkeys(("token", "candidates", "confidence", "second", "sampled", "entropy", "moved"), 0.0)
            if active[row, at]:
                best, chosen = int(token[slot]), int((other if drawn else token)[slot])
                sure = 1 / float(weight[slot])
                ratio = math.exp(float(logits[slot, chosen] - logits[slot, best])) if drawn else 1.0
                expected = {"token": best, "candidates": chosen, "confidence": sure, "second": float(second[slot]), "sampled": ratio * sure}
                expected |= {"entropy": float(entropy[slot]), "moved": float(kl[slot])}
                rank += 1
            for name, value in expected.items():
                if name != "moved" or moved:
                    assert float(getattr(found, name)[row, at]) == pytest.approx(value, rel=1e-5), (name, row, at)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [5, 4099])
@pytest.mark.parametrize("some", [False, True])
def test_rows_are_written_over_at_their_places_and_no_others(way, dtype, width, some):
    generator = torch.Generator().manual_seed(0)
    kept, rows = (torch.randn(3, count, width, generator=generator).to(dtype) for count in (6, 4))
    place = torch.tensor([[0, 2, 5, 5], [1, 2, 3, 4], [3, 3, 3, 3]])
    rows[0, 3], rows[2, 1:] = rows[0, 2], rows[2, :1]  # a repeated place holds the same
    there = torch.tensor([[True, False, True, True], [False, True, True, False], [True] * 4]) if some else None
    expected = kept.clone()
    for row in range(3):
        for slot in range(4):
            if there is None or there[row, slot]:
                expected[row, place[row, slot]] = rows[row, slot]
    own = on(way, kept.clone())
    found = PUT[way](own, on(way, rows), on(way, place), on(way, there))
    assert found is own
    assert torch.equal(found.cpu(), expected)

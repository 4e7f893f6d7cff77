"""Rows of several lengths computed without their padding are what they are with it."""

import pytest
import torch
from torch.nn import functional

from remask.models.ragged import Ragged, unpadded
from tests.networks import CONFIGS, canvas, network

RAGGED = [family for family in CONFIGS if family != "timed"]


@pytest.mark.parametrize("family", RAGGED)
@pytest.mark.parametrize("holes", [False, True])
def test_states_are_those_of_the_padded_pass(family, holes):
    model, seen = network(family), canvas(((3, 1, 4), (1, 5, 9, 2, 6), (5,), (7, 8, 9)))
    if holes:
        seen.real[0, 1] = seen.real[2, 0] = False
    with torch.inference_mode():
        found, kept = unpadded(model).forward(seen)
        expected, _ = model.forward(seen)
    assert kept is None
    shifted = torch.cat([seen.real[:, :1], seen.real[:, :-1]], 1) if model.shift else seen.real
    both = seen.real & shifted
    torch.testing.assert_close(found[both], expected[both], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", [*RAGGED, "timed"])
def test_padding_is_computed_only_where_the_network_needs_its_rows_apart(family, monkeypatch):
    model, seen, sizes = network(family), canvas(), set()
    linear = functional.linear
    monkeypatch.setattr(functional, "linear", lambda x, *more: sizes.add(x.shape[:-1].numel()) or linear(x, *more))
    with torch.inference_mode():
        unpadded(model).forward(seen)
    whole = seen.tokens.numel()
    assert (int(seen.real.sum()) if family != "timed" else whole) in sizes
    assert (whole in sizes) == (family == "timed")


def test_rows_of_one_length_are_seen_together():
    real = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 0], [0, 0, 0]]).bool()
    rows = Ragged(real)
    assert rows.bundles == [(2, 2), (1, 3)]
    tokens = torch.arange(12).view(4, 3)
    entered, place = rows.enter(tokens, torch.arange(3)[None])
    assert entered.tolist() == [[0, 1, 6, 7, 3, 4, 5]]
    assert place.tolist() == [[0, 1, 0, 1, 0, 1, 2]]
    assert torch.equal(rows.spread(entered[..., None].float())[..., 0], tokens.float() * real)

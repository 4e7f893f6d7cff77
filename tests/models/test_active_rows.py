"""A pass over chosen positions: against a full pass in which the others' keys and values are overwritten by the stored ones."""

import pytest
import torch

from remask.compute import aligned
from remask.models.store import Chosen, Memory, Store
from tests.networks import CONFIGS, canvas, network

FAMILIES = list(CONFIGS)


class Overwritten(Memory):
    """Computes every position, and puts the stored keys and values where nothing was chosen."""

    def __init__(self, chosen, active, store):
        super().__init__(chosen, store)
        self.active = active[:, None, :, None]

    def exchange(self, key, value):
        number = len(self.keys)
        self.keys.append(torch.where(self.active, key, self.old.keys[number]))
        self.values.append(torch.where(self.active, value, self.old.values[number]))
        return self.keys[-1], self.values[-1]


def written(before, seed=0):
    """The canvas with about half of its masks written."""
    generator = torch.Generator().manual_seed(seed)
    write = before.masked & (torch.rand(before.shape, generator=generator) < 0.5)
    tokens = torch.randint(0, 18, before.shape, generator=generator)
    return type(before)(torch.where(write, tokens, before.tokens), before.given, before.real, before.mask_id), write


@pytest.fixture(params=FAMILIES)
def model(request):
    return network(request.param)


@torch.inference_mode()
def test_a_first_pass_is_the_plain_forward_to_the_bit(model):
    plain, _ = model.forward(canvas())
    whole, store = model.forward(canvas(), Chosen())
    assert torch.equal(plain, aligned(whole, model.shift))
    again, _ = model.forward(canvas(), Chosen(), store)
    assert torch.equal(plain, aligned(again, model.shift))


@torch.inference_mode()
def test_chosen_positions_read_stored_keys_and_values_at_the_others(model):
    first = canvas()
    _, store = model.forward(first, Chosen())
    second, write = written(first)
    active = write | (second.masked & (torch.arange(first.shape[1]) % 3 == 0))
    assert len(set(active.sum(1).tolist())) > 1, "ragged rows"
    memory = Overwritten(Chosen(), active, store.copy())
    expected = model.hidden(second.tokens, second.real, memory=memory)
    plain = model.hidden(second.tokens, second.real, memory=Memory(Chosen(), None))
    chosen = Chosen.of(active)
    found, after = model.forward(second, chosen, store)
    torch.testing.assert_close(found, chosen.take(expected), atol=2e-5, rtol=1e-4)
    assert not torch.allclose(chosen.take(expected), chosen.take(plain), atol=1e-3), "the stored keys and values must matter here"
    for made, wanted in zip((*after.keys, *after.values), (*memory.keys, *memory.values), strict=True):
        torch.testing.assert_close(made.transpose(1, 2)[second.real], wanted.transpose(1, 2)[second.real], atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def test_what_was_not_chosen_keeps_its_keys_and_values_to_the_bit(model):
    first = canvas()
    _, store = model.forward(first, Chosen())
    old = store.copy()
    second, write = written(first)
    _, after = model.forward(second, Chosen.of(write), store)
    for made, before in zip((*after.keys, *after.values), (*old.keys, *old.values), strict=True):
        assert torch.equal(made.transpose(1, 2)[~write], before.transpose(1, 2)[~write])
        assert not torch.equal(made.transpose(1, 2)[write], before.transpose(1, 2)[write])


@torch.inference_mode()
def test_the_order_of_packing_changes_nothing(model):
    first = canvas()
    _, store = model.forward(first, Chosen())
    second, _ = written(first)
    place = torch.tensor([[2, 7, 9, 11], [4, 6, 8, 13], [0, 3, 5, 9]])
    order = torch.tensor([2, 0, 3, 1])
    found, _ = model.forward(second, Chosen(place), store.copy())
    turned, _ = model.forward(second, Chosen(place[:, order]), store.copy())
    torch.testing.assert_close(found[:, order], turned, atol=1e-5, rtol=1e-5)


def test_the_chosen_places_are_ascending_and_short_rows_repeat_their_last():
    active = torch.tensor([[True, False, True, True], [False, True, False, False]])
    assert Chosen.of(active).place.tolist() == [[0, 2, 3], [1, 1, 1]]
    assert Chosen.of(torch.ones(2, 3, dtype=torch.bool)).place is None


def test_a_store_knows_its_size_and_its_rows():
    store = Store((torch.arange(24.0).view(3, 1, 4, 2),), (torch.zeros(3, 1, 4, 2),))
    assert store.nbytes == 2 * 3 * 1 * 4 * 2 * 4
    part = store.rows(torch.tensor([2, 0]))
    assert torch.equal(part.keys[0], store.keys[0][[2, 0]])
    part.keys[0].zero_()
    assert store.keys[0][2].sum() > 0, "rows are copies"
    fork = store.copy()
    fork.put(torch.tensor([1, 2]), part)
    assert fork.keys[0][1:].sum() == 0
    assert store.keys[0][1:].sum() > 0, "a copy shares no memory"

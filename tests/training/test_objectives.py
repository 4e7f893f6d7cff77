"""What a training step does with repeated tokens."""

import pytest
import torch
from torch.nn import functional

from remask.channel import localise
from tests.models.test_dsl import MASK, mdlm

TOKENS = torch.tensor([[MASK, MASK, 3, MASK, 7, MASK], [MASK, 5, 5, 1, MASK, 2]])


def masks():
    model = mdlm()
    table = model.parts["vocab_embed"].embedding.requires_grad_()
    return table, model.embed(TOKENS)


def channel():
    codes = torch.randn(12, 16, requires_grad=True)
    snr = torch.ones(TOKENS.shape)
    return codes, localise(codes, TOKENS, snr, torch.zeros(*TOKENS.shape, 16))


@pytest.mark.parametrize("looked_up", [masks, channel])
def test_a_repeated_token_gathers_its_gradient_at_once(looked_up):
    """The gradient of indexing adds duplicates one after the other on a GPU, and half of a batch is the mask: training ran at half its speed."""
    table, found = looked_up()
    seen, waiting = set(), [found.grad_fn]
    while waiting:
        node = waiting.pop()
        seen.add(node.name())
        waiting += [behind for behind, _ in node.next_functions if behind is not None]
    assert "EmbeddingBackward0" in seen
    assert not any(name.startswith("Index") for name in seen)
    weight = torch.randn(found.shape)
    (found * weight).sum().backward()
    torch.testing.assert_close(table.grad, torch.einsum("blv,bld->vd", functional.one_hot(TOKENS, 12).float(), weight))

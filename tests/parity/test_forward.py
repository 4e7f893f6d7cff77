"""Logits of the published reference code on tiny checkpoints, within 1e-4 in float32."""

from pathlib import Path

import numpy as np
import pytest
import torch

import remask
from remask.models.attention import positions

ORACLE = Path(__file__).resolve().parents[3] / "shared" / "oracle"
pytestmark = pytest.mark.skipif(not ORACLE.is_dir(), reason="no reference results beside this checkout")


@pytest.mark.parametrize(("family", "name"), [("llada", "logits"), ("dream", "logits_shifted")])
def test_logits_equal_the_reference(family, name):
    stored = np.load(ORACLE / family / "forward.npz")
    logits = remask.load(ORACLE / family).logits(torch.tensor(stored["input_ids"]))
    assert (logits - torch.tensor(stored[name])).abs().max() < 1e-4


@pytest.mark.parametrize(("family", "shift"), [("llada", 0), ("dream", 1)])
def test_left_padding_equals_the_reference_on_real_positions(family, shift):
    stored = np.load(ORACLE / family / "forward.npz")
    mask = torch.tensor(stored["padded_attention_mask"])
    logits = remask.load(ORACLE / family).logits(torch.tensor(stored["padded_input_ids"]), attention_mask=mask)
    length = mask.shape[1]
    difference = (logits[:, shift:] - torch.tensor(stored["padded_logits"])[:, : length - shift]).abs()
    assert difference[mask[:, : length - shift].bool()].max() < 1e-4


def test_dreams_raw_logits_are_ours_without_the_shift():
    stored = np.load(ORACLE / "dream" / "forward.npz")
    logits = remask.load(ORACLE / "dream").logits(torch.tensor(stored["input_ids"]))
    assert (logits[:, 1:] - torch.tensor(stored["logits"])[:, :-1]).abs().max() < 1e-4


@pytest.mark.parametrize(("family", "layers"), [("llada", "blocks"), ("dream", "layers")])
def test_every_layer_gets_what_it_gets_in_the_reference(family, layers):
    stored = np.load(ORACLE / family / "forward.npz")
    model = remask.load(ORACLE / family)
    parts = model.parts if family == "llada" else model.model
    inputs = []
    for layer in [*parts[layers], parts["ln_f" if family == "llada" else "norm"]]:
        layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    last = model.hidden(torch.tensor(stored["input_ids"]), None)
    expected = torch.tensor(stored["hidden_states"])
    assert len(inputs) == len(expected)
    for found, wanted in zip(inputs[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    shift = model.shift
    torch.testing.assert_close(last[:, shift:], expected[-1][:, : last.shape[1] - shift], atol=1e-4, rtol=0)


def test_without_a_mask_padding_is_read_as_the_older_published_file_reads_it():
    stored = np.load(ORACLE / "llada" / "forward.npz")
    logits = remask.load(ORACLE / "llada").logits(torch.tensor(stored["padded_input_ids"]))
    assert (logits - torch.tensor(stored["padded_logits_mask_ignored"])).abs().max() < 1e-4


def test_real_tokens_are_placed_as_dream_places_them():
    stored = np.load(ORACLE / "dream" / "forward.npz")
    real = torch.tensor(stored["padded_attention_mask"]).bool()
    assert torch.equal(positions(real)[real], torch.tensor(stored["padded_position_ids"])[real])

"""Logits of the published reference code on tiny checkpoints, within 1e-4 in float32."""

from pathlib import Path

import numpy as np
import pytest
import torch

import remask

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

"""Schedules, filters, scores and draws of the published reference code, entry by entry."""

from pathlib import Path

import numpy as np
import pytest
import torch

import remask
from remask.prediction import Prediction
from remask.randomness import llada_gumbel
from remask.schedules import BlockClock, falling_share

ORACLE = Path(__file__).resolve().parents[3] / "shared" / "oracle"
pytestmark = pytest.mark.skipif(not ORACLE.is_dir(), reason="no reference results beside this checkout")
LLADA = np.load(ORACLE / "llada" / "functions.npz") if ORACLE.is_dir() else {}
DREAM = np.load(ORACLE / "dream" / "functions.npz") if ORACLE.is_dir() else {}


def test_even_shares_equal_get_num_transfer_tokens():
    for (masks, steps), table in zip(LLADA["ntt_cases"].tolist(), LLADA["ntt_tables"], strict=True):
        zero = torch.zeros(1, dtype=torch.int64)
        clock = BlockClock(zero, zero + masks, zero + steps, zero)
        found = []
        for _ in range(steps):
            found.append(int(clock.even_share()))
            clock = clock.tick()
        assert found == table[table >= 0].tolist()[:steps]


def test_falling_shares_equal_dreams_schedule():
    for (masks, steps, eps), table in zip(DREAM["schedule_cases"].tolist(), DREAM["schedule_tables"], strict=True):
        left, found = torch.tensor([int(masks)]), []
        for done in range(int(steps)):
            share = falling_share(left, torch.tensor([done]), torch.tensor([int(steps)]), eps)
            found.append(int(share))
            left = left - share
        assert found == table[table >= 0].tolist()


@pytest.mark.parametrize("case", range(4))
def test_gumbel_noise_equals_the_reference(case):
    temperature = float(LLADA["gumbel_temperatures"][case])
    value = llada_gumbel(torch.tensor(LLADA["gumbel_logits"]), torch.tensor(LLADA["gumbel_uniform"]), temperature)
    np.testing.assert_allclose(value.numpy(), LLADA[f"gumbel_value_{case}"], rtol=1e-12)
    assert np.array_equal(value.argmax(-1).numpy(), LLADA[f"gumbel_argmax_{case}"])


@pytest.mark.parametrize("name", ["top_p_0.3", "top_p_0.9", "top_p_0.95", "top_k_1", "top_k_5", "top_k_100"])
def test_filters_keep_what_the_reference_keeps(name):
    value = float(name.split("_")[-1])
    shaper = remask.TopP(value) if name.startswith("top_p") else remask.TopK(int(value))
    found, stored = shaper(torch.tensor(DREAM["logits"])[None])[0], torch.tensor(DREAM[name])
    kept = stored > -1e30
    assert torch.equal(found > -1e30, kept)
    assert torch.equal(found[kept], stored[kept])


@pytest.mark.parametrize("shape", ["plain", "top_p_0.9", "top_k_5"])
@pytest.mark.parametrize("algorithm", ["maskgit_plus", "topk_margin", "entropy"])
def test_scores_and_candidates_equal_sample_tokens(algorithm, shape):
    raw = torch.tensor(DREAM["logits"])[None]
    shaped = {"plain": lambda x: x, "top_p_0.9": remask.TopP(0.9), "top_k_5": remask.TopK(5)}[shape](raw)
    belief = Prediction.of(raw, shaped, shaped.argmax(-1)).shaped
    score = {"maskgit_plus": belief.confidence, "topk_margin": belief.margin, "entropy": -belief.entropy}[algorithm]
    np.testing.assert_allclose(score[0].numpy(), DREAM[f"sample.{algorithm}.{shape}.confidence"], atol=1e-5)
    assert np.array_equal(shaped.argmax(-1)[0].numpy(), DREAM[f"sample.{algorithm}.{shape}.x0"])

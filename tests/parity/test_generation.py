"""Generations of the published reference code on tiny checkpoints: the ids of every forward, and the last canvas, exactly."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import remask
from remask.models.guidance import Guided
from remask.randomness import TRANSFER
from remask.testing import RecordedUniforms

ORACLE = Path(__file__).resolve().parents[3] / "shared" / "oracle"
pytestmark = pytest.mark.skipif(not ORACLE.is_dir(), reason="no reference results beside this checkout")


@cache
def stored(family: str) -> tuple[dict[str, np.ndarray], dict[str, Any], Any]:
    with np.load(ORACLE / family / "generate.npz") as arrays:
        runs = {name: arrays[name] for name in arrays.files}
    return runs, json.loads(str(runs["params"])), remask.load(ORACLE / family, dtype="float32")


def replay(model: Any, runs: dict[str, np.ndarray], name: str, new: int, **parts: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(calls, B, L) canvases given to the network, and the last canvas."""
    mask = runs.get(f"{name}.attention_mask")
    canvas = remask.Canvas.from_prompts(
        torch.tensor(runs[f"{name}.prompt"]), max_new_tokens=new, mask_id=model.mask_id, attention_mask=None if mask is None else torch.tensor(mask)
    )
    given = []
    for seen in remask.denoise(model, canvas, **parts):
        if seen.active.any():
            given.append(canvas.tokens)
        canvas = seen.canvas
    return torch.stack(given), canvas.tokens


def agree(found: tuple[torch.Tensor, torch.Tensor], runs: dict[str, np.ndarray], name: str) -> None:
    trace, output = found
    mask = runs.get(f"{name}.attention_mask")
    expected, last = torch.tensor(runs[f"{name}.trace"]), torch.tensor(runs[f"{name}.output"])
    real = torch.ones_like(last, dtype=torch.bool)
    if mask is not None:
        real[:, : mask.shape[1]] = torch.tensor(mask).bool()
    rows, blind = expected[:, : len(last)], expected[:, len(last) :]  # guidance stores the blind rows behind the seeing ones
    prompt = runs[f"{name}.prompt"].shape[1]
    assert (blind[:, :, :prompt] == 304).all()
    assert torch.equal(blind[:, :, prompt:], rows[: len(blind), : blind.shape[1], prompt:])
    assert trace.shape == rows.shape
    assert ((trace == rows) | ~real).all()
    assert ((output == last) | ~real).all()


LLADA = ["full", "few_steps", "semi_ar", "semi_ar_uneven", "cfg", "batch_left_pad", "fast_no_cache", "fast_threshold"]
DREAM = ["entropy", "entropy_few", "entropy_top_p", "maskgit_plus", "maskgit_plus_top_k", "topk_margin", "batch_left_pad", "more_steps_than_tokens"]
CACHED = [f"fast_{rule}_cache{threshold}" for rule in ("prefix", "dual") for threshold in ("", "_threshold")]
TRIED = {"llada": {*LLADA, *CACHED, "mask_in_prompt"}, "dream": {*DREAM, *CACHED, "origin", "fast_threshold_no_cache"}}


@pytest.mark.parametrize("family", TRIED)
def test_every_stored_run_is_tried_below(family: str) -> None:
    runs, settings, _ = stored(family)
    assert set(settings) == TRIED[family] == {name.partition(".")[0] for name in runs} - {"params"}


@pytest.mark.parametrize("name", LLADA)
def test_llada(name: str) -> None:
    runs, settings, model = stored("llada")
    setting = settings[name]
    if "threshold" in setting:
        decoder: Any = remask.Threshold(setting["threshold"], mask_candidates=True)
    else:
        decoder = remask.LowConfidence(steps=setting["steps"], mask_candidates=True)
    network = Guided(model, setting["cfg_scale"]) if "cfg_scale" in setting else model
    agree(replay(network, runs, name, setting["gen_length"], decoder=decoder, window=remask.Blocks(setting["block_length"])), runs, name)


def test_llada_with_a_mask_in_the_prompt() -> None:
    """It competes for the budget of every block, so the published loop leaves a mask at its end; ours goes on until none is left."""
    runs, settings, model = stored("llada")
    setting, name = settings["mask_in_prompt"], "mask_in_prompt"
    decoder = remask.LowConfidence(steps=setting["steps"], literal_blocks=setting["block_length"], mask_candidates=True)
    canvas = remask.Canvas.from_prompts(torch.tensor(runs[f"{name}.prompt"]), max_new_tokens=setting["gen_length"], mask_id=model.mask_id)
    canvases = [canvas.tokens, *(seen.canvas.tokens for seen in remask.denoise(model, canvas, decoder=decoder))]
    assert torch.equal(torch.stack(canvases[: setting["steps"]]), torch.tensor(runs[f"{name}.trace"]))
    assert torch.equal(canvases[setting["steps"]], torch.tensor(runs[f"{name}.output"]))
    assert (canvases[setting["steps"]] == model.mask_id).sum() == 1
    assert not (canvases[-1] == model.mask_id).any()
    assert len(canvases) == setting["steps"] + 2


@pytest.mark.parametrize("name", ["full", "few_steps", "semi_ar", "semi_ar_uneven", "batch_left_pad"])
def test_without_masks_in_the_prompt_the_literal_loop_is_the_same_as_blocks(name: str) -> None:
    runs, settings, model = stored("llada")
    setting = settings[name]
    decoder = remask.LowConfidence(steps=setting["steps"], literal_blocks=setting["block_length"], mask_candidates=True)
    agree(replay(model, runs, name, setting["gen_length"], decoder=decoder), runs, name)


ALGORITHMS = {"entropy": remask.Entropy, "maskgit_plus": remask.MaskgitPlus, "topk_margin": remask.TopKMargin}


@pytest.mark.parametrize("name", DREAM)
def test_dream(name: str) -> None:
    runs, settings, model = stored("dream")
    setting = settings[name]
    shapers = [remask.TopP(setting["top_p"])] if setting["top_p"] else []
    shapers += [remask.TopK(setting["top_k"])] if setting["top_k"] else []
    decoder = ALGORITHMS[setting["alg"]](steps=setting["steps"], mask_candidates=True)
    agree(replay(model, runs, name, setting["max_new_tokens"], decoder=decoder, shapers=shapers), runs, name)


def test_dream_origin() -> None:
    runs, settings, model = stored("dream")
    setting = settings["origin"]
    uniforms = []
    for step in range(setting["steps"]):
        masked = torch.tensor(runs["origin.trace"][step]) == model.mask_id
        row = torch.ones(masked.shape, dtype=torch.float64)
        row[masked] = torch.tensor(runs[f"origin.uniform_{step}"]).double()
        uniforms.append(row)
    decoder = remask.Origin(steps=setting["steps"], mask_candidates=True)
    found = replay(model, runs, "origin", setting["max_new_tokens"], decoder=decoder, uniforms=RecordedUniforms({TRANSFER: uniforms}))
    agree(found, runs, "origin")


def test_fast_dllms_threshold_on_dream() -> None:
    runs, settings, model = stored("dream")
    setting = settings["fast_threshold_no_cache"]
    at_most = setting["max_new_tokens"] // setting["steps"]
    decoder = remask.Threshold(setting["threshold"], at_most=at_most, mask_candidates=True)
    agree(replay(model, runs, "fast_threshold_no_cache", setting["max_new_tokens"], decoder=decoder), runs, "fast_threshold_no_cache")


@pytest.mark.parametrize("rule", ["prefix", "dual"])
@pytest.mark.parametrize("threshold", ["", "_threshold"])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_fast_dllms_caches(family: str, threshold: str, rule: str) -> None:
    runs, settings, model = stored(family)
    name = f"fast_{rule}_cache{threshold}"
    if threshold:
        decoder: Any = remask.Threshold(settings[name]["threshold"], mask_candidates=True)
    else:  # the block loop of the Dream port ranks by entropy whatever the name of the algorithm
        decoder = (remask.LowConfidence if family == "llada" else remask.Entropy)(steps=24, mask_candidates=True)
    dream = family == "dream"
    reuse = {"prefix": remask.Prefix, "dual": remask.Dual}[rule](compat_first_token=dream)
    found = remask.decode(model, torch.tensor(runs[f"{name}.prompt"]), max_new_tokens=24, decoder=decoder, window=remask.Blocks(8, lead=dream), reuse=reuse)
    assert found.tokens[0].tolist() == runs[f"{name}.output"][0].tolist()
    assert found.forwards.tolist() == [int(runs[f"{name}.nfe"])]

"""MDLM against the published network, loss and sampler on a tiny checkpoint."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import remask
from remask.canvas import Edit
from remask.decoders import Ancestral
from remask.models.mdlm import subs_log_probs
from remask.schedules import log_linear_noise

ORACLE = Path(__file__).resolve().parents[3] / "shared" / "oracle" / "mdlm"
pytestmark = pytest.mark.skipif(not ORACLE.is_dir(), reason="no reference results beside this checkout")


@pytest.fixture(scope="module")
def forward() -> dict[str, torch.Tensor]:
    with np.load(ORACLE / "forward.npz") as arrays:
        return {name: torch.tensor(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="module")
def model() -> Any:
    return remask.load(ORACLE, dtype="float32")


def test_logits_equal_the_reference(forward, model):
    assert (model.logits(forward["input_ids"]) - forward["logits"]).abs().max() < 1e-4
    assert (model.logits(forward["input_ids"][:, :20]) - forward["logits_len20"]).abs().max() < 1e-4


def test_the_noise_level_has_no_effect_without_time_conditioning(forward, model):
    assert torch.equal(model.logits(forward["input_ids"], sigma=forward["timesteps"]), model.logits(forward["input_ids"]))
    assert (model.logits(forward["input_ids"]) - forward["logits_sigma0"]).abs().max() < 1e-4


def test_subs_equals_the_reference(forward, model):
    found = subs_log_probs(model.logits(forward["input_ids"]), forward["input_ids"], model.mask_id)
    stored = forward["subs_log_probs"]
    possible = stored > -1e5
    assert torch.equal(found > -1e5, possible)
    assert (found - stored)[possible].abs().max() < 1e-4


def test_noise_equals_the_reference(forward):
    total, rate = log_linear_noise(forward["noise_t"])
    torch.testing.assert_close(total, forward["noise_total"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rate, forward["noise_rate"], atol=1e-5, rtol=1e-5)


def test_loss_equals_the_reference(forward, model):
    log_probs = subs_log_probs(model.logits(forward["loss_xt"]), forward["loss_xt"], model.mask_id)
    total, rate = log_linear_noise(forward["loss_t"])
    loss = -log_probs.gather(-1, forward["loss_x0"][..., None])[..., 0] * (rate / total.expm1())[:, None]
    torch.testing.assert_close(loss, forward["loss_per_token"], atol=1e-3, rtol=1e-4)


def race(probabilities: torch.Tensor, now: torch.Tensor, later: torch.Tensor, mask_id: int, uniform: torch.Tensor) -> torch.Tensor:
    """The published draw: one float32 Gumbel race over tokens, by their share of the step, and the mask, by what stays."""
    weights = probabilities * (now - later)
    weights[..., mask_id] = later
    return (weights / (1e-10 - (uniform + 1e-10).log())).argmax(-1)


@pytest.mark.parametrize("name", ["update_ddpm", "update_ddpm_cache"])
def test_one_step_equals_the_reference(name, forward, model):
    times = torch.stack([forward["update_t"], forward["update_t"] - forward["update_dt"]])
    now, later = times if name == "update_ddpm_cache" else 1 - torch.exp(-log_linear_noise(times)[0])
    probabilities = subs_log_probs(model.logits(forward["input_ids"]), forward["input_ids"], model.mask_id).exp()
    drawn = race(probabilities, now, later, model.mask_id, forward["update_uniform"])
    masked = forward["input_ids"] == model.mask_id
    assert torch.equal(torch.where(masked, drawn, forward["input_ids"]), forward[name])
    assert 0 < (drawn != model.mask_id)[masked].sum() < masked.sum()


@dataclass(frozen=True)
class Published(Ancestral):
    """The sampler of the published code. uniforms: (B, L, V) a step."""

    cached: bool = False
    uniforms: list[torch.Tensor] = field(default_factory=list)

    def step(self, view, state):
        made = int(state[0])
        logits = view.prediction.shaped.logits
        if made >= self.steps:
            return Edit(view.eligible, logits.argmax(-1)), state + 1
        grid = torch.linspace(1, 1e-5, self.steps + 1)
        chance = grid if self.cached else 1 - torch.exp(-log_linear_noise(grid)[0])
        drawn = race(logits.softmax(-1), chance[made], chance[made + 1], view.canvas.mask_id, self.uniforms[made])
        return Edit(view.eligible & (drawn != view.canvas.mask_id), drawn), state + 1


@pytest.mark.parametrize("name", ["ddpm", "ddpm_cache", "ddpm_more_steps"])
def test_sampling_equals_the_reference(name, model):
    with np.load(ORACLE / "generate.npz") as arrays:
        setting = json.loads(str(arrays["params"]))[name]
        trace, output, checksum = (arrays[f"{name}.{what}"] for what in ("trace", "output", "uniform_checksum"))
        recorded = arrays["ddpm.uniform"]
    generator = torch.Generator().manual_seed(setting["torch_manual_seed"])
    uniforms = [torch.rand(1, setting["length"], model.vocab_size, generator=generator) for _ in range(setting["steps"])]
    np.testing.assert_allclose([float(u.double().sum()) for u in uniforms], checksum)
    if name == "ddpm":
        assert np.array_equal(torch.stack(uniforms).numpy(), recorded)
    cached = name == "ddpm_cache"
    canvas = remask.Canvas.from_prompts([[]], max_new_tokens=setting["length"], mask_id=model.mask_id)
    given = []
    decoder = Published(setting["steps"], cached, uniforms)
    for seen in remask.denoise(model, canvas, decoder=decoder, reuse=remask.Unchanged() if cached else remask.Fresh()):
        if seen.active.any():
            given.append(canvas.tokens.numpy())
        canvas = seen.canvas
    assert np.array_equal(np.stack(given), trace[: len(given)])
    assert len(trace) - len(given) in (0, 1)  # the reference runs noise removal even when no mask is left
    assert np.array_equal(canvas.tokens.numpy(), output)

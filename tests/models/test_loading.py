"""Loading: every layout that users have, and one clear error for every broken folder."""

import json
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import remask
from remask import RemaskError
from remask.models.loading import locate, usual
from remask.training.run import build
from remask.training.shards import write_json, write_shards

CONFIG = {
    "architectures": ["LLaDAModelLM"], "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "mlp_hidden_size": 48, "vocab_size": 20, "embedding_size": 24,
    "max_sequence_length": 64, "rope": True, "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "weight_tying": False, "mask_token_id": 19, "eos_token_id": 18,
}  # fmt: skip
TOKENS = torch.arange(12).view(2, 6)


def write(folder, config=CONFIG, *, limit=10**9, dtype=torch.float32):
    folder.mkdir(exist_ok=True)
    model = build(config, torch.device("cpu"))
    write_json(folder / "config.json", config)
    write_shards(folder, {name: tensor.to(dtype) for name, tensor in model.named_parameters()}, limit=limit)
    return model


def test_grouped_query_shards_in_bfloat16_load_in_their_own_type_or_the_callers(tmp_path):
    model = write(tmp_path, limit=4000, dtype=torch.bfloat16)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert remask.load(tmp_path).dtype == torch.bfloat16
    loaded = remask.load(tmp_path, dtype="float32")
    expected = model.to(torch.bfloat16).float().logits(TOKENS)
    assert torch.equal(loaded.logits(TOKENS), expected)


def test_tied_embeddings_load_with_and_without_a_stored_head(tmp_path):
    model = write(tmp_path, {**CONFIG, "weight_tying": True})
    plain = remask.load(tmp_path).logits(TOKENS)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "model.transformer.ff_out.weight": tensors["model.transformer.wte.weight"].clone()}, tmp_path / "model.safetensors")
    assert torch.equal(remask.load(tmp_path).logits(TOKENS), plain)
    assert torch.equal(plain, model.logits(TOKENS))


def test_a_hub_id_loads_from_the_local_cache(tmp_path, monkeypatch):
    commit = "0" * 40
    write(tmp_path)
    snapshot = tmp_path / "hub" / "models--some--model" / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    (tmp_path / "hub" / "models--some--model" / "refs").mkdir()
    (tmp_path / "hub" / "models--some--model" / "refs" / "main").write_text(commit)
    write(snapshot)
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate("some/model") == snapshot


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config = {key: value for key, value in {**config, **changes}.items() if value != "absent"}
    (folder / "config.json").write_text(json.dumps(config))


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


NORM = "model.transformer.ln_f.weight"
BROKEN = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "config that is no JSON": (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
    "config that is a list": (lambda f: (f / "config.json").write_text("[]"), "not an object"),
    "another family": (lambda f: edit_config(f, architectures=["LlamaForCausalLM"]), "LlamaForCausalLM"),
    "no family": (lambda f: edit_config(f, architectures=None), "supported architectures"),
    "a value that is missing": (lambda f: edit_config(f, n_heads="absent"), "n_heads"),
    "an activation that is not ours": (lambda f: edit_config(f, activation_type="gelu"), "gelu"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "truncated weights": (lambda f: truncate(f / "model.safetensors"), "truncated or broken"),
    "a missing tensor": (lambda f: edit_tensors(f, lambda t: t.pop(NORM)), NORM),
    "an unexpected tensor": (lambda f: edit_tensors(f, lambda t: t.update(extra=torch.ones(1))), "extra"),
    "a wrong shape": (lambda f: edit_tensors(f, lambda t: t.update({NORM: torch.ones(7)})), "(7,)"),
    "an index that is broken": (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "is broken"),
    "an index that leaves the folder": (lambda f: write_json(f / "model.safetensors.index.json", {"weight_map": {"a": "../a.safetensors"}}), "outside its folder"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_one_clear_error(case, tmp_path):
    write(tmp_path)
    spoil, value = BROKEN[case]
    spoil(tmp_path)
    with pytest.raises(RemaskError, match=re.escape(value)):
        remask.load(tmp_path)


def test_nan_logits_stop_with_the_step_and_the_rows(tmp_path):
    write(tmp_path)
    edit_tensors(tmp_path, lambda t: t["model.transformer.wte.weight"][3].fill_(float("nan")))
    model = remask.load(tmp_path)
    with pytest.raises(RemaskError, match=r"NaN logits at step 0 in rows \[1\]"):
        remask.decode(model, [[1, 2], [3, 4]], max_new_tokens=4)


PEAK = """
import sys, remask
def touch(folder):
    model = remask.load(folder)
    return [float(parameter.sum()) for parameter in model.parameters()], model
def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
touch(sys.argv[1])  # what the framework itself takes on first use
before = peak()
_, model = touch(sys.argv[2])
print(peak() - before, sum(p.numel() * p.element_size() for p in model.parameters()))
"""


def test_loading_takes_at_most_a_fifth_more_than_the_checkpoint(tmp_path):
    write(tmp_path / "small")
    write(tmp_path / "large", {**CONFIG, "d_model": 512, "n_layers": 16, "mlp_hidden_size": 2048})
    done = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path / "small"), str(tmp_path / "large")], capture_output=True, text=True, check=True)
    peak, size = map(int, done.stdout.split())
    assert size > 200e6
    assert 0.8 * size < peak < 1.2 * size


def test_a_gpu_takes_bfloat16_unless_asked():
    assert usual(torch.device("cuda")) == torch.bfloat16
    assert usual(torch.device("cpu")) is None

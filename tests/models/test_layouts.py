"""Every form of the published layouts that a checkpoint may have, one equality each."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

import remask
from remask import RemaskError
from remask.training.run import build
from remask.training.shards import write_json, write_shards
from remask.training.vocabulary import characters, write_tokenizer
from tests.models.test_loading import CONFIG, edit_config, edit_tensors
from tests.networks import CONFIGS

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 19, 19, 5, 3, 19]])
DREAM, TIMED = CONFIGS["dream"], CONFIGS["timed"]


def write(folder, config, tensors=None, *, limit=10**9):
    """A checkpoint in the published layout: random weights, biases included, or these."""
    folder.mkdir(exist_ok=True)
    if tensors is None:
        generator = torch.Generator().manual_seed(1)
        tensors = {name: torch.randn(t.shape, generator=generator) * 0.3 + (t.dim() == 1) for name, t in build(config, torch.device("cpu")).named_parameters()}
    write_json(folder / "config.json", config)
    write_shards(folder, tensors, limit=limit)
    return tensors


def logits(folder, **options):
    return remask.load(folder, **options).logits(TOKENS)


def close(first, second):
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


PLAIN = {key: value for key, value in CONFIG.items() if key not in ("n_kv_heads", "embedding_size")}


@pytest.mark.parametrize("extra", [{"n_kv_heads": 2}, {"n_kv_heads": 1}, {"multi_query_attention": True}])
def test_llada_grouped_heads_are_heads_that_share_keys(tmp_path, extra):
    grouped = write(tmp_path / "grouped", {**PLAIN, **extra})
    times = 4 // extra.get("n_kv_heads", 1)

    def repeated(name, tensor):
        return tensor.unflatten(0, (-1, 8)).repeat_interleave(times, 0).flatten(0, 1) if "k_proj" in name or "v_proj" in name else tensor

    write(tmp_path / "plain", PLAIN, {name: repeated(name, tensor) for name, tensor in grouped.items()})
    close(logits(tmp_path / "grouped"), logits(tmp_path / "plain"))


def test_dream_grouped_heads_are_heads_that_share_keys(tmp_path):
    grouped = write(tmp_path / "grouped", DREAM)

    def repeated(name, tensor):
        return tensor.unflatten(0, (-1, 8)).repeat_interleave(2, 0).flatten(0, 1) if "k_proj" in name or "v_proj" in name else tensor

    write(tmp_path / "plain", {**DREAM, "num_key_value_heads": None}, {name: repeated(name, tensor) for name, tensor in grouped.items()})
    close(logits(tmp_path / "grouped"), logits(tmp_path / "plain"))


@pytest.mark.parametrize(("flag", "count"), [("include_qkv_bias", 3), ("include_bias", 7)])
def test_llada_biases_are_added_where_the_flag_says(tmp_path, flag, count):
    tensors = write(tmp_path, {**PLAIN, flag: True})
    biases = {name for name in tensors if name.endswith(".bias")}
    assert len(biases) == count * 2 + (flag == "include_bias")
    biased = logits(tmp_path)
    write(tmp_path, {**PLAIN, flag: True}, {name: torch.zeros_like(tensor) if name in biases else tensor for name, tensor in tensors.items()})
    zeroed = logits(tmp_path)
    write(tmp_path, PLAIN, {name: tensor for name, tensor in tensors.items() if name not in biases})
    close(zeroed, logits(tmp_path))
    assert (biased - zeroed).abs().max() > 0.1


def test_llada_block_groups_are_blocks_in_order(tmp_path):
    config = {**PLAIN, "n_layers": 4}
    tensors = write(tmp_path / "plain", config)

    def grouped(name):
        parts = name.split(".")
        if parts[2] != "blocks":
            return name
        return ".".join([*parts[:2], "block_groups", str(int(parts[3]) // 2), str(int(parts[3]) % 2), *parts[4:]])

    write(tmp_path / "groups", {**config, "block_group_size": 2}, {grouped(name): tensor for name, tensor in tensors.items()})
    assert torch.equal(logits(tmp_path / "groups"), logits(tmp_path / "plain"))


def test_the_way_down_and_the_head_have_the_same_last_name_and_are_told_apart(tmp_path):
    tensors = write(tmp_path, PLAIN)
    assert tensors["model.transformer.ff_out.weight"].shape == (20, 32)
    assert tensors["model.transformer.blocks.0.ff_out.weight"].shape == (32, 48)
    before = logits(tmp_path)
    edit_tensors(tmp_path, lambda t: t["model.transformer.ff_out.weight"].mul_(2))
    close(logits(tmp_path), 2 * before)


@pytest.mark.parametrize(("config", "table", "head", "flag"), [
    (PLAIN, "model.transformer.wte.weight", "model.transformer.ff_out.weight", "weight_tying"),
    (DREAM, "model.embed_tokens.weight", "lm_head.weight", "tie_word_embeddings"),
])  # fmt: skip
def test_a_tied_head_is_the_table_of_tokens(tmp_path, config, table, head, flag):
    tensors = write(tmp_path / "untied", config)
    tensors[head] = tensors[table].clone()
    write(tmp_path / "untied", config, tensors)
    write(tmp_path / "tied", {**config, flag: True}, {name: tensor for name, tensor in tensors.items() if name != head})
    assert torch.equal(logits(tmp_path / "tied"), logits(tmp_path / "untied"))


def test_rows_that_pad_the_vocabulary_change_no_other_logit(tmp_path):
    tensors = write(tmp_path / "exact", PLAIN)
    padded = {name: torch.cat([tensor, torch.ones(12, 32)]) if name.endswith(("wte.weight", "transformer.ff_out.weight")) else tensor for name, tensor in tensors.items()}
    write(tmp_path / "padded", {**PLAIN, "embedding_size": 32}, padded)
    found = logits(tmp_path / "padded")
    assert found.shape[-1] == 32
    close(found[..., :20], logits(tmp_path / "exact"))


@pytest.mark.parametrize(("config", "key"), [(PLAIN, "rope_theta"), (DREAM, "rope_theta")])
def test_the_base_of_the_rotation_is_the_files_own_and_may_be_a_whole_number(tmp_path, config, key):
    tensors = write(tmp_path, {**config, key: 500000.0})
    real = logits(tmp_path)
    write(tmp_path, {**config, key: 500000}, tensors)
    assert torch.equal(logits(tmp_path), real)
    write(tmp_path, {**config, key: 100.0}, tensors)
    assert (logits(tmp_path) - real).abs().max() > 0.01


def test_the_width_of_the_feed_forward_is_the_files_own_before_the_ratio(tmp_path):
    tensors = write(tmp_path, {**PLAIN, "mlp_ratio": 4})
    assert tensors["model.transformer.blocks.0.ff_proj.weight"].shape == (48, 32)
    ratio = {key: value for key, value in PLAIN.items() if key != "mlp_hidden_size"}
    assert write(tmp_path, {**ratio, "mlp_ratio": 3})["model.transformer.blocks.0.ff_proj.weight"].shape == (96, 32)
    assert logits(tmp_path).isfinite().all()


@pytest.mark.parametrize("family", ["llada", "dream", "mdlm", "timed"])
def test_shards_in_bfloat16_load_as_they_are_or_as_the_caller_says(tmp_path, family):
    tensors = write(tmp_path, CONFIGS[family])
    write(tmp_path, CONFIGS[family], {name: tensor.bfloat16() for name, tensor in tensors.items()}, limit=3000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    (tmp_path / "model.safetensors").unlink()
    model = remask.load(tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.logits(TOKENS).dtype == torch.float32
    wide = logits(tmp_path, dtype="float32")
    assert (model.logits(TOKENS) - wide).abs().max() < 0.1 * wide.abs().max()


def test_norms_in_float32_beside_a_bfloat16_network_follow_it(tmp_path):
    tensors = write(tmp_path, PLAIN)
    write(tmp_path, PLAIN, {name: tensor if "norm" in name else tensor.bfloat16() for name, tensor in tensors.items()})
    model = remask.load(tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.logits(TOKENS).isfinite().all()


@pytest.mark.parametrize(("spelling", "named"), [("<|mask|>", True), ("<|mdm_mask|>", False), ("[MASK]", False)])
@pytest.mark.parametrize("config", [PLAIN, DREAM], ids=["llada", "dream"])
def test_ids_that_config_leaves_out_come_from_the_tokenizer(tmp_path, config, spelling, named):
    write(tmp_path, {**config, "vocab_size": 12, "mask_token_id": 11, "eos_token_id": 10})
    edit_config(tmp_path, mask_token_id="absent", eos_token_id="absent")
    write_tokenizer(characters("0123456789"), tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(file.read_text().replace("<|mask|>", spelling))
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    write_json(tmp_path / "tokenizer_config.json", {**settings, "mask_token": {"content": spelling} if named else None})
    model = remask.load(tmp_path)
    assert (model.mask_id, model.eos_ids) == (11, (10,))


@pytest.mark.parametrize("config", [PLAIN, DREAM, TIMED], ids=["llada", "dream", "mdlm"])
@pytest.mark.parametrize(("given", "expected"), [(None, ()), (7, (7,)), ([7, 9], (7, 9))])
def test_a_text_may_have_no_end_one_or_several(tmp_path, config, given, expected):
    write(tmp_path, {**config, "eos_token_id": given})
    model = remask.load(tmp_path)
    assert model.eos_ids == expected
    assert len(remask.decode(model, [[1, 2]], max_new_tokens=3, early_stop=True).tokens[0]) == 5


def test_keys_that_only_concern_other_programs_are_of_no_account(tmp_path):
    more = {"flash_attention": "2", "yarn_scale": 4, "use_cache": False, "torch_dtype": "bfloat16", "dtype": "float16", "init_device": "meta", "multi_query_attention": None,
            "auto_map": {"AutoModel": "modeling_llada.LLaDAModelLM"}, "model_type": "llada", "quantization_config": None, "architectures": ["LLaDAModelLM"]}  # fmt: skip
    tensors = write(tmp_path, PLAIN)
    plain = logits(tmp_path)
    write(tmp_path, {**PLAIN, **more}, tensors)
    (tmp_path / "special_tokens_map.json").write_text('{"mask_token": "<|mdm_mask|>" "eos_token": 1}')  # as LLaDA Base publishes it
    assert torch.equal(logits(tmp_path), plain)


def test_tables_of_frequencies_in_the_file_are_not_needed(tmp_path):
    tensors = write(tmp_path, DREAM)
    plain = logits(tmp_path)
    save_file({**load_file(tmp_path / "model.safetensors"), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, tmp_path / "model.safetensors")
    assert torch.equal(logits(tmp_path), plain)
    assert "model.norm.weight" in tensors


def formula(tensors, tokens, sigma, config):
    """MDLM's network as the paper's code computes it, in plain tensor operations (specification of the published DiT)."""
    width, count = config["hidden_dim"], config["n_heads"]
    rates = torch.exp(-math.log(10000) * torch.arange(128) / 128)
    waves = sigma[:, None] * rates
    t = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}

    def linear(name, x):
        return functional.linear(x, t[f"{name}.weight"], t.get(f"{name}.bias"))

    c = functional.silu(linear("sigma_map.mlp.2", functional.silu(linear("sigma_map.mlp.0", torch.cat([waves.cos(), waves.sin()], -1)))))
    x = t["vocab_embed.embedding"][tokens]
    angle = torch.arange(tokens.shape[1])[:, None] * 10000 ** (-torch.arange(0, width // count, 2) / (width // count))
    cos, sin = angle.repeat(1, 2).cos(), angle.repeat(1, 2).sin()

    def turn(part):
        half = part.shape[-1] // 2
        return part * cos + torch.cat([-part[..., half:], part[..., :half]], -1) * sin

    def norm(name, x, shift, scale):
        return functional.layer_norm(x, (width,), t[f"{name}.weight"]) * (1 + scale[:, None]) + shift[:, None]

    for block in range(config["n_blocks"]):
        name = f"blocks.{block}"
        shift, scale, gate, shift2, scale2, gate2 = linear(f"{name}.adaLN_modulation", c).chunk(6, -1)
        query, key, value = linear(f"{name}.attn_qkv", norm(f"{name}.norm1", x, shift, scale)).unflatten(-1, (3, count, -1)).permute(2, 0, 3, 1, 4)
        weights = (turn(query) @ turn(key).transpose(-1, -2) / math.sqrt(width // count)).softmax(-1)
        x = x + gate[:, None] * linear(f"{name}.attn_out", (weights @ value).transpose(1, 2).flatten(2))
        hidden = linear(f"{name}.mlp.0", norm(f"{name}.norm2", x, shift2, scale2))
        x = x + gate2[:, None] * linear(f"{name}.mlp.2", functional.gelu(hidden, approximate="tanh"))
    shift, scale = linear("output_layer.adaLN_modulation", c).chunk(2, -1)
    return linear("output_layer.linear", norm("output_layer.norm_final", x, shift, scale))


def test_a_time_conditioned_mdlm_follows_the_published_formula(tmp_path):
    tensors = write(tmp_path, TIMED)
    model = remask.load(tmp_path)
    sigma = torch.tensor([0.3, 4.0])
    expected = formula(tensors, TOKENS, sigma, TIMED)
    torch.testing.assert_close(model.logits(TOKENS, sigma=sigma), expected, atol=1e-4, rtol=1e-4)
    assert (model.logits(TOKENS, sigma=sigma.flip(0)) - expected).abs().max() > 0.01
    shares = torch.tensor([0.0, 0.5])
    own = formula(tensors, TOKENS, -torch.log1p(-(1 - 1e-3) * shares), TIMED)
    torch.testing.assert_close(model.logits(TOKENS), own, atol=1e-4, rtol=1e-4)
    with pytest.raises(RemaskError, match=r"sigma has shape \(3,\)"):
        model.logits(TOKENS, sigma=torch.zeros(3))


def test_an_unconditioned_mdlm_is_at_noise_level_zero(tmp_path):
    tensors = write(tmp_path, CONFIGS["mdlm"])
    torch.testing.assert_close(logits(tmp_path), formula(tensors, TOKENS, torch.zeros(2), TIMED), atol=1e-4, rtol=1e-4)


def test_a_published_frequency_table_of_mdlm_is_not_needed(tmp_path):
    tensors = write(tmp_path, TIMED)
    plain = logits(tmp_path)
    write(tmp_path, TIMED, {**tensors, "backbone.rotary_emb.inv_freq": torch.ones(4)})
    assert torch.equal(logits(tmp_path), plain)


def test_no_published_class_default_is_relied_on(tmp_path):
    """cond_dim 128 against 129, hidden_size 4096, theta 1e4: what shapes a network must be in the file."""
    for config, keys in ((PLAIN, ("rope_theta", "rms_norm_eps", "max_sequence_length")), (DREAM, ("rope_theta", "hidden_size", "intermediate_size")), (TIMED, ("cond_dim",))):
        for key in keys:
            write(tmp_path, config)
            edit_config(tmp_path, **{key: "absent"})
            with pytest.raises(RemaskError, match=key):
                remask.load(tmp_path)

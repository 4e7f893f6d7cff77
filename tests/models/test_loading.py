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
from remask.cli.opening import Way, network_settings
from remask.files import check_settings
from remask.models.fused_model import FusedModel
from remask.models.loading import check_fused, locate, precision
from remask.models.weights import fingerprint
from remask.training.run import build
from remask.training.shards import write_json, write_shards
from remask.training.vocabulary import characters, write_tokenizer

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


def test_a_network_is_loaded_on_fused_layers(tmp_path):
    write(tmp_path)
    plain, fused = remask.load(tmp_path), remask.load(tmp_path, fused=True)
    assert isinstance(fused, FusedModel)
    assert not isinstance(plain, FusedModel)
    torch.testing.assert_close(fused.logits(TOKENS), plain.logits(TOKENS))


def test_what_has_fused_layers_is_known_without_weights_and_of_what_is_elsewhere_nothing_is_said(tmp_path):
    write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    check_fused(tmp_path)
    check_fused(tmp_path / "absent")
    with pytest.raises(RemaskError, match=r"sudoku has no fused layers; .*leave out fused"):
        check_fused("sudoku")


def test_a_network_without_fused_layers_says_so(tmp_path):
    write(tmp_path, {**CONFIG, "rope": False})
    with pytest.raises(RemaskError, match=f"{re.escape(str(tmp_path))} has no fused layers; .*leave out fused"):
        remask.load(tmp_path, fused=True)


def test_a_network_is_told_from_one_that_differs_in_a_fiftieth_of_its_weights(tmp_path):
    """As one does whose queries alone were trained on."""
    tensors = {f"layer.{number}": torch.zeros(1 << 15) for number in range(50)}
    (tmp_path / "config.json").write_text("{}")

    def fingerprint_of(changed):
        save_file({**tensors, changed: torch.ones(1 << 15)}, tmp_path / "model.safetensors")
        return fingerprint(tmp_path)

    assert len({fingerprint_of(name) for name in tensors}) == 50
    assert fingerprint_of("layer.3") == fingerprint_of("layer.3")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "chat_template.jinja"])
def test_a_network_is_told_from_one_of_another_tokenizer(name, tmp_path):
    write(tmp_path)
    before = fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("no part of it")
    assert fingerprint(tmp_path) == before
    (tmp_path / name).write_text("{ }")
    assert fingerprint(tmp_path) != before


def test_tied_embeddings_load_with_and_without_a_stored_head(tmp_path):
    model = write(tmp_path, {**CONFIG, "weight_tying": True})
    plain = remask.load(tmp_path).logits(TOKENS)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "model.transformer.ff_out.weight": tensors["model.transformer.wte.weight"].clone()}, tmp_path / "model.safetensors")
    assert torch.equal(remask.load(tmp_path).logits(TOKENS), plain)
    assert torch.equal(plain, model.logits(TOKENS))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache as huggingface-hub keeps it, and no network: two branches of some/model, each a commit of its own."""
    import huggingface_hub.constants as constants

    home = tmp_path / "hub" / "models--some--model"
    (home / "refs").mkdir(parents=True)
    for branch, commit in (("main", "0" * 40), ("other", "1" * 40)):
        (home / "refs" / branch).write_text(commit)
        (home / "snapshots" / commit).mkdir(parents=True)
        write(home / "snapshots" / commit, {**CONFIG, "max_sequence_length": 64 if branch == "main" else 32})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return home


def test_a_hub_id_loads_from_the_local_cache(hub):
    assert locate("some/model") == hub / "snapshots" / ("0" * 40)
    assert remask.load("some/model").max_length == 64


def test_what_results_depend_on_is_noted_without_fetching_anything(hub, monkeypatch):
    """The driver of --ray has no use for weights that only its workers have."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    asked = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *where, **__: asked.append(where) or ())
    there, absent = (network_settings(name, "cpu", "") for name in ("some/model", "some/thing"))
    assert there == {"model": "some/model", "computed": "plain", "weights": fingerprint(hub / "snapshots" / ("0" * 40)), "device": "cpu", "dtype": "float32"}
    assert absent == {"model": "some/thing", "computed": "plain", "weights": "of some/thing, elsewhere", "device": "cpu", "dtype": "as stored"}
    assert not asked


def test_a_network_is_noted_by_its_weights_beside_its_name_as_it_was_written(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    write(tmp_path / "here" / "y")
    write(tmp_path / "y", {**CONFIG, "max_sequence_length": 32})
    monkeypatch.chdir(tmp_path / "here")
    names = ("y", "./y/", "../here/y", str(tmp_path / "here" / "y"), "../y")
    noted = [network_settings(name, "cpu", "", Way(fused=True)) for name in names]
    assert [settings["model"] for settings in noted] == list(names)
    assert {settings["weights"] for settings in noted[:-1]} == {fingerprint(tmp_path / "here" / "y")}
    assert noted[-1]["weights"] == fingerprint(tmp_path / "y") != noted[0]["weights"]
    assert {settings["computed"] for settings in noted} == {"fused"}


def test_a_network_that_is_there_but_faulty_is_not_taken_for_one_that_is_elsewhere(tmp_path, hub, monkeypatch):
    write(tmp_path / "faulty")
    (tmp_path / "faulty" / "model.safetensors").unlink()
    with pytest.raises(RemaskError, match=r"model\.safetensors is missing"):
        network_settings(str(tmp_path / "faulty"), "cpu", "")
    (tmp_path / "faulty" / "config.json").unlink()
    with pytest.raises(RemaskError, match=r"config\.json is missing"):
        check_fused(tmp_path / "faulty")
    with monkeypatch.context() as broken:
        broken.setattr("huggingface_hub.snapshot_download", lambda *_, **__: (hub / "refs").read_bytes())
        with pytest.raises(RemaskError, match=r"cannot fetch 'some/model' from the Hub: .*Is a directory"):
            check_fused("some/model")
    check_fused("runs/my model")
    (hub / "snapshots" / ("0" * 40) / "model.safetensors").unlink()
    check_fused("some/model")
    assert network_settings("some/model", "cpu", "")["weights"] == "of some/model, elsewhere", "of which the cache holds a part"


def test_names_count_where_weights_do_not_tell_networks_apart(tmp_path):
    one, other = (network_settings(name, "cpu", "") for name in ("some/thing", "some/other"))
    with pytest.raises(remask.RemaskError, match="holds results with weights of some/thing, elsewhere, not of some/other, elsewhere"):
        check_settings(tmp_path, one, other)
    check_settings(tmp_path, one, one)
    with pytest.raises(remask.RemaskError, match="holds results with model a, not b"):
        check_settings(tmp_path, {"model": "a"}, {"model": "b"})
    with pytest.raises(remask.RemaskError, match="holds results with weights 1, not 2"):
        check_settings(tmp_path, {"model": "a", "weights": "1"}, {"model": "b", "weights": "2"})


def test_a_setting_that_one_side_does_not_note_is_said_not_to_be_noted(tmp_path):
    with pytest.raises(remask.RemaskError, match="holds results that do not note `computed`, which is plain now; name another"):
        check_settings(tmp_path, {"layers": "own"}, {"computed": "plain"})
    with pytest.raises(remask.RemaskError, match="holds results with layers own, of which nothing is noted now; name another"):
        check_settings(tmp_path, {"computed": "plain", "layers": "own"}, {"computed": "plain"})


@pytest.mark.parametrize("revision", ["other", "1" * 40])
def test_a_revision_is_a_branch_or_a_commit(hub, revision):
    assert remask.load("some/model", revision=revision).max_length == 32


@pytest.mark.parametrize(("source", "revision"), [("some/model", "absent"), ("some/thing", None), ("some/../model", None), ("nothing", None), ("./nothing/here", None)])
def test_what_is_not_there_is_one_clear_error(hub, source, revision):
    with pytest.raises(RemaskError, match=source.replace(".", r"\.")) as caught:
        remask.load(source, revision=revision)
    assert "\n" not in str(caught.value)


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config = {key: value for key, value in {**config, **changes}.items() if value != "absent"}
    (folder / "config.json").write_text(json.dumps(config))


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def grow(path):
    """A file of one byte more than is read, without taking room on the disk."""
    with open(path, "ab") as file:
        file.truncate((1 << 27) + 1)


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
    "config that is not UTF-8": (lambda f: (f / "config.json").write_bytes(b'{"d_model": "\xff"}'), "not valid JSON"),
    "experts under the same model_type": (lambda f: edit_config(f, architectures=["LLaDAMoEModelLM"], model_type="llada"), "LLaDAMoEModelLM"),
    "a model_type and no architectures": (lambda f: edit_config(f, architectures="absent", model_type="llada"), "supported architectures"),
    "architectures that are a number": (lambda f: edit_config(f, architectures=[7]), "supported architectures"),
    "no mask and no tokenizer": (lambda f: edit_config(f, mask_token_id="absent"), "mask_token_id"),
    "a mask outside the vocabulary": (lambda f: edit_config(f, mask_token_id=24), "mask_token_id 24 and a vocabulary of 24"),
    "an end outside the vocabulary": (lambda f: edit_config(f, eos_token_id=[3, 99]), "eos_token_id 99"),
    "a width in quotes": (lambda f: edit_config(f, d_model="32"), "d_model '32'"),
    "a width that is no whole number": (lambda f: edit_config(f, d_model=32.5), "d_model 32.5"),
    "no heads": (lambda f: edit_config(f, n_heads=0), "n_heads 0"),
    "heads that do not divide": (lambda f: edit_config(f, n_heads=5), "n_heads 5"),
    "keys that do not divide": (lambda f: edit_config(f, n_kv_heads=3), "n_kv_heads 3"),
    "a table smaller than the vocabulary": (lambda f: edit_config(f, embedding_size=10), "embedding_size 10"),
    "no width of the feed-forward": (lambda f: edit_config(f, mlp_hidden_size=None), "mlp_ratio"),
    "a theta of nothing": (lambda f: edit_config(f, rope_theta=0), "rope_theta 0"),
    "scaled logits": (lambda f: edit_config(f, scale_logits=True), "scale_logits True"),
    "scaled rotations": (lambda f: edit_config(f, rope_scaling={"type": "yarn"}), "rope_scaling"),
    "another number of layers": (lambda f: edit_config(f, n_layers=1), "unexpected tensor"),
    "fewer layers than config says": (lambda f: edit_config(f, n_layers=3), "9 tensors are missing"),
    "weights of another family": (lambda f: edit_tensors(f, lambda t: t.update({"model.layers.0.self_attn.q_proj.weight": t.pop(NORM)})), "self_attn"),
    "pickled weights only": (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "only pickled weights (pytorch_model.bin)"),
    "an empty file": (lambda f: (f / "model.safetensors").write_bytes(b""), "truncated or broken"),
    "a pointer in the place of the file": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "truncated or broken",
    ),
    "weights that are quantised": (lambda f: edit_tensors(f, lambda t: t.update({name: tensor.to(torch.int8) for name, tensor in t.items()})), "I8"),
    "an index of numbers": (lambda f: write_json(f / "model.safetensors.index.json", {"weight_map": {"a": 1}}), "is broken"),
    "an index that is a list": (lambda f: write_json(f / "model.safetensors.index.json", []), "holds list, not an object"),
    "an index that names no file": (lambda f: write_json(f / "model.safetensors.index.json", {"weight_map": {"a": "model-00001-of-00002.safetensors"}}), "is missing"),
    "a config of hostile size": (lambda f: grow(f / "config.json"), "config.json has 134,217,729 bytes, more than 134,217,728"),
    "an index of hostile size": (lambda f: grow(f / "model.safetensors.index.json"), "index.json has 134,217,729 bytes"),
    "a tokenizer of hostile size": (lambda f: grow(f / "tokenizer.json"), "tokenizer.json has 134,217,729 bytes"),
    "a tokenizer's config of hostile size": (lambda f: grow(f / "tokenizer_config.json"), "tokenizer_config.json has 134,217,729 bytes"),
    "a vocabulary of hostile size": (lambda f: ((f / "merges.txt").touch(), grow(f / "vocab.json")), "vocab.json has 134,217,729 bytes"),
    "a template of hostile size": (lambda f: (write_tokenizer(characters("01"), f), grow(f / "chat_template.jinja")), "chat_template.jinja has 134,217,729 bytes"),
    "a config nested beyond reading": (lambda f: (f / "config.json").write_text("[" * 200_000), "not valid JSON"),
    "a number of a million digits": (lambda f: (f / "config.json").write_text('{"d_model": ' + "9" * 10**6 + "}"), "not valid JSON"),
    "a million layers": (lambda f: edit_config(f, n_layers=10**6), "n_layers 1000000; more than 1000 is refused"),
    "a width that no machine holds": (lambda f: edit_config(f, d_model=10**30), "d_model 10000000000000000000; more than 16777216 is refused"),
    "a vocabulary that no machine holds": (lambda f: edit_config(f, embedding_size=1 << 25), "embedding_size 33554432; more than 16777216"),
    "a feed-forward that no machine holds": (lambda f: edit_config(f, mlp_hidden_size=None, mlp_ratio=10**9), "mlp_ratio 1000000000; more than"),
    "a ratio that is a word": (lambda f: edit_config(f, mlp_hidden_size=None, mlp_ratio="four"), "mlp_ratio 'four'"),
    "a number without end": (lambda f: edit_config(f, rms_norm_eps=float("inf")), "rms_norm_eps inf"),
    "a group that is no number": (
        lambda f: edit_tensors(f, lambda t: t.update({"model.transformer.block_groups.a.0.x": t.pop(NORM)})),
        "unexpected tensor 'model.transformer.block_groups.a.0.x'",
    ),
    "an index that leaves the folder": (lambda f: write_json(f / "model.safetensors.index.json", {"weight_map": {"a": "../a.safetensors"}}), "outside its folder"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_one_clear_error(case, tmp_path):
    write(tmp_path)
    spoil, value = BROKEN[case]
    spoil(tmp_path)
    with pytest.raises(RemaskError, match=re.escape(value)):
        remask.load(tmp_path)


def test_a_shard_that_was_torn_is_named(tmp_path):
    write(tmp_path, limit=4000)
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    truncate(shard)
    with pytest.raises(RemaskError, match=shard.name):
        remask.load(tmp_path)


@pytest.mark.parametrize("dtype", ["float7", "int8", torch.int64])
def test_a_type_that_no_network_computes_in_is_refused(tmp_path, dtype):
    write(tmp_path)
    with pytest.raises(RemaskError, match=str(dtype).removeprefix("torch.")):
        remask.load(tmp_path, dtype=dtype)


def test_ids_outside_the_vocabulary_and_canvases_too_long_are_named(tmp_path):
    write(tmp_path)
    model = remask.load(tmp_path)
    for tokens, value in (([[1, 24]], "24"), ([[-1, 2]], "-1"), ([[1] * 70], "72")):
        with pytest.raises(RemaskError, match=value):
            remask.decode(model, tokens, max_new_tokens=2)
    with pytest.raises(RemaskError, match="23"):
        model.logits(torch.tensor([[1, 24]]))


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


def test_a_gpu_takes_bfloat16_unless_asked(tmp_path):
    write(tmp_path)
    assert precision(torch.device("cuda"), [tmp_path / "model.safetensors"]) == torch.bfloat16
    assert precision(torch.device("cpu"), [tmp_path / "model.safetensors"]) == torch.float32

"""The DSL network: MDLM's weights behind a converter that shows clean tokens from the first step on."""

import math

import pytest
import torch

import remask
from remask import RemaskError
from remask.canvas import Canvas
from remask.channel import endpoints
from remask.continuous import decode_commit, decode_native, decode_sde, log_normal
from remask.decoders import Ancestral
from remask.models.dsl import DSL, Converter
from remask.models.mdlm import MDLM
from remask.models.store import Chosen, Memory
from remask.training.shards import write_json, write_shards
from remask.training.vocabulary import characters, write_tokenizer

PLAIN = {
    "architectures": ["MDLM"], "model_type": "mdlm", "hidden_dim": 32, "cond_dim": 8, "n_blocks": 2, "n_heads": 2, "vocab_size": 12, "model_length": 16,
    "time_conditioning": False, "eos_token_id": 10,
}  # fmt: skip
CONFIG = {**PLAIN, "architectures": ["DSL"], "model_type": "dsl", "code_dim": 16}
MASK = 11
TOKENS = torch.tensor([[0, 3, MASK, 10, 7, MASK], [MASK, MASK, 5, 5, 1, 2]])


def mdlm(**changes):
    """No weight at its published zero, so that a forgotten one shows."""
    torch.manual_seed(1)
    model = MDLM({**PLAIN, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


@pytest.fixture
def adopted():
    torch.manual_seed(2)
    model = DSL(CONFIG)
    model.adopt(mdlm())
    return model.eval().requires_grad_(False)


def test_a_clean_token_is_visible_before_any_training(adopted):
    for converter in (adopted.parts["converter"], Converter(4095, 48).requires_grad_(False)):
        vocabulary = len(converter.codes)
        tokens = torch.arange(vocabulary)[None]
        shares = converter(endpoints(converter.codes, tokens, tokens >= 0, 100.0))[0]
        assert float(shares.diagonal().min()) > 0.999
        assert float(converter(torch.zeros(1, 1, converter.codes.shape[1]))[0, 0, -1]) == pytest.approx(0.99, abs=1e-3)


def test_a_token_outweighs_the_mask_from_the_snr_that_bayes_gives():
    prior = torch.tensor([0.5, 0.3, 0.15, 0.05])
    converter = Converter(4, 16).requires_grad_(False)
    converter.expect(prior)
    for token in range(4):
        crossing = math.log(99) - math.log(prior[token])
        for factor, above in ((0.97, False), (1.03, True)):
            shares = converter(factor * crossing * converter.codes[None, None, token])[0, 0]
            assert bool(shares[token] > shares[-1]) is above


def test_without_evidence_the_prior_is_the_models_own(adopted):
    start = mdlm()
    empty = torch.full((1, 16), MASK)
    prior = torch.softmax(start.logits(empty)[0, :, :-1], dim=-1).mean(0)
    shares = adopted.parts["converter"](torch.zeros(1, 1, 16))[0, 0]
    torch.testing.assert_close(shares[:-1] / shares[:-1].sum(), prior, rtol=1e-3, atol=1e-6)


def test_an_adopted_network_reads_discrete_canvases_as_mdlm_does(adopted):
    """beta raised and the mask's bias kept above the tokens', so that every weight is 0 or 1."""
    expected = mdlm().logits(TOKENS)
    near = adopted.logits(TOKENS)
    converter = adopted.parts["converter"]
    with torch.no_grad():
        converter.beta.fill_(4.0)
        converter.bias.copy_(torch.tensor([0.0] * 11 + [60.0]))
    exact = adopted.logits(TOKENS)
    assert (exact - expected)[..., :-1].abs().max() < 1e-5
    assert (exact[..., -1] < -1e5).all()
    assert (near - expected)[..., :-1].abs().max() < 0.2


def test_a_canvas_and_its_noiseless_states_are_one_thing(adopted):
    z = endpoints(adopted.codes, TOKENS, TOKENS != MASK, adopted.snr_max)
    torch.testing.assert_close(adopted.read(z), adopted.logits(TOKENS)[..., :-1])
    assert not torch.allclose(adopted.read(z), adopted.read(0.03 * z), atol=1e-2)


def test_codes_have_norm_one_whatever_was_done_to_the_weights(adopted):
    with torch.no_grad():
        adopted.parts["converter"].directions.mul_(torch.linspace(0.2, 3, 11)[:, None])
    for model in (adopted, adopted.to(torch.bfloat16)):
        assert (model.codes.norm(dim=-1) - 1).abs().max() < 1e-6


def test_a_dsl_checkpoint_saves_and_loads(adopted, tmp_path):
    write_json(tmp_path / "config.json", CONFIG)
    write_shards(tmp_path, dict(adopted.named_parameters()), limit=10_000)
    write_tokenizer(characters("0123456789"), tmp_path)
    loaded = remask.load(tmp_path)
    assert isinstance(loaded, DSL)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in adopted.state_dict().items())
    torch.testing.assert_close(loaded.logits(TOKENS), adopted.logits(TOKENS), atol=1e-5, rtol=1e-5)
    again = DSL(CONFIG)
    again.adopt(loaded)
    torch.testing.assert_close(again.logits(TOKENS), adopted.logits(TOKENS), atol=1e-5, rtol=1e-5)


def test_other_sizes_and_time_conditioning_are_refused():
    with pytest.raises(RemaskError, match="vocab_embed"):
        DSL({**CONFIG, "hidden_dim": 16}).adopt(mdlm())
    with pytest.raises(RemaskError, match="time-conditioned"):
        DSL(CONFIG).adopt(mdlm(time_conditioning=True))
    with pytest.raises(RemaskError, match="time_conditioning"):
        DSL({**CONFIG, "time_conditioning": True})
    with pytest.raises(RemaskError, match="code_dim"):
        DSL({**CONFIG, "code_dim": None})


WITHOUT_DEFAULTS = {"spaced": "spaced:inner=(entropy_bound:gamma=2)", "joint_threshold": "joint_threshold:write_tau=0.5,edit_tau=0.6"}


@pytest.mark.parametrize("name", remask.decoders())
def test_the_laws_hold_for_every_decoder_of_the_library(adopted, name):
    """Given tokens stay, nothing is left masked, every run ends, and a row is the same alone, padded and in another order."""
    parts = dict(max_new_tokens=8, decoder=remask.parse_decoder(WITHOUT_DEFAULTS.get(name, name)), shapers=(remask.Temperature(1.0),))
    prompts = [[1, 2], [3], [MASK, 5, 9]]
    together = remask.decode(adopted, prompts, seed=[4, 5, 6], **parts)
    turned = remask.decode(adopted, prompts[::-1], seed=[6, 5, 4], **parts)
    for row, (prompt, tokens) in enumerate(zip(prompts, together.tokens, strict=True)):
        assert (tokens < MASK).all()
        assert all(given in (MASK, token) for given, token in zip(prompt, tokens.tolist(), strict=False))
        alone = remask.decode(adopted, [prompt], seed=4 + row, **parts)
        assert torch.equal(alone.tokens[0], tokens)
        assert torch.equal(turned.tokens[2 - row], tokens)
        assert int(alone.forwards[0]) == int(together.forwards[row]) == int(turned.forwards[2 - row])


def test_padding_and_chosen_positions_change_nothing(adopted):
    alone = adopted.read(endpoints(adopted.codes, TOKENS[:1], TOKENS[:1] != MASK, 7.0))
    padded = torch.cat([TOKENS[:1], torch.full((1, 3), MASK)], dim=1)
    real = torch.arange(9)[None] < 6
    z = endpoints(adopted.codes, padded, (padded != MASK) & real, 7.0)
    torch.testing.assert_close(adopted.read(z, real)[:, :6], alone, atol=1e-5, rtol=1e-4)
    memory = Memory(Chosen(), None)
    torch.testing.assert_close(adopted.hidden(TOKENS, None, memory=memory), adopted.hidden(TOKENS, None))


@pytest.mark.parametrize("sampler", ["sde", "commit", "native"])
def test_continuous_samplers_run_on_it(adopted, sampler):
    canvas = Canvas.from_prompts([[1, 2], [3]], max_new_tokens=8, mask_id=MASK)
    grid = log_normal(4, 1.4, 0.9)
    results = {
        "sde": lambda: decode_sde(adopted, canvas, grid=grid),
        "commit": lambda: decode_commit(adopted, canvas, grid=grid, decoder=Ancestral(3)),
        "native": lambda: decode_native(adopted, canvas, grid=grid, steps=3),
    }
    found = results[sampler]()
    assert [row[: len(prompt)].tolist() for row, prompt in zip(found.tokens, ([1, 2], [3]), strict=True)] == [[1, 2], [3]]
    assert all((row < MASK).all() for row in found.tokens)

"""Shadow rows: what they equal exactly, and that nothing else notices them."""

from dataclasses import replace

import pytest
import torch

import remask
from remask.compute import aligned
from remask.models.base import Network
from remask.models.config import LAYERS
from remask.models.dream import Dream
from remask.models.guidance import Guided
from remask.models.shadow import Shadow, computed_rows, places
from remask.models.store import Chosen, Memory
from remask.spec import parse_decoder, parse_reuse
from tests.chains import chain_b
from tests.models.test_active_rows import written
from tests.networks import CONFIGS, KINDS, canvas, network

FAMILIES = list(CONFIGS)
LEVEL = torch.tensor([0.7, 0.2, 1.1])
"""Noise levels for the time-conditioned network, which else would read them off the masked share."""


def asked(of):
    """Shadows of about half of the real places, of none in the last row, and of the first place of the first."""
    chosen = of.real & (torch.arange(of.shape[1]) % 2 == 0)
    chosen[2] = False
    return chosen


def states(model: Network, tokens, real, memory=None):
    return model.hidden(tokens, real, LEVEL if isinstance(model, KINDS["MDLM"]) else None, memory)


@torch.inference_mode()
def beside(model, of, place):
    """The plain states and the shadow states, at one fixed noise level."""
    shadow = Shadow(place, model.shift, of.mask_id)
    hidden = states(model, of.tokens, of.real, Memory(Chosen(), None, shadow=shadow, keeps=False))
    length = of.shape[1]
    return aligned(hidden[:, :length], model.shift), hidden[:, length : length + shadow.count]


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_shadow_is_a_pass_over_its_place_with_the_mask_in_it_over_the_keys_and_values_of_the_rest(family):
    model, (of, _) = network(family), written(canvas())
    place = places(asked(of))
    _, found = beside(model, of, place)
    memory = Memory(Chosen(), None)
    states(model, of.tokens, of.real, memory)
    for column in range(place.shape[1]):
        at = place[:, column : column + 1]
        hidden = of.tokens.scatter(1, at, of.mask_id)
        for row in range(2):  # a pass over the place, and in a shifted model over the left neighbour that predicts it
            own = slice(row, row + 1)
            spot = torch.tensor([sorted({max(int(at[row]) - model.shift, 0), int(at[row])})])
            expected = model.hidden(
                hidden[own], of.real[own], LEVEL[own] if isinstance(model, KINDS["MDLM"]) else None, Memory(Chosen(spot), memory.store.rows(torch.tensor([row])))
            )
            torch.testing.assert_close(found[own, column], expected[:, 0], atol=2e-5, rtol=1e-4)


def shallow(family):
    """The family's network with one layer."""
    config = {key: 1 if key in LAYERS else value for key, value in CONFIGS[family].items()}
    model = KINDS[config["architectures"][0]](config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.dim() > 1 else 0.1) + (parameter.dim() == 1) * 1.0)
    return model


@pytest.mark.parametrize(("family", "depth"), [*((family, 1) for family in FAMILIES), ("llada", 3), ("dream", 3)])
@torch.inference_mode()
def test_in_one_layer_a_shadow_is_the_plain_forward_without_the_token_and_in_more_it_is_not(family, depth):
    """In deeper networks the other places have seen the token too, and the shadow reads them as they are."""
    model, (of, _) = shallow(family) if depth == 1 else network(family), written(canvas())
    place = places(asked(of) & ~of.masked)
    _, found = beside(model, of, place)
    for column in range(place.shape[1]):
        at = place[:, column : column + 1]
        without = aligned(states(model, of.tokens.scatter(1, at, of.mask_id), of.real, Memory(Chosen(), None)), model.shift)
        expected = without.gather(1, at[..., None].expand(-1, -1, without.shape[-1]))[:2, 0]
        assert torch.allclose(found[:2, column], expected, atol=2e-5, rtol=1e-4) == (depth == 1)


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_no_real_row_notices_the_shadows(family):
    """Within float32 rounding: the attention is the same call, but products over more rows may add in another order."""
    model, (of, _) = network(family), written(canvas())
    plain, _ = model.forward(of)
    seen, store = model.forward(replace(of, shadows=asked(of)))
    assert store is None
    torch.testing.assert_close(seen[:, : of.shape[1]][of.real], plain[of.real], atol=2e-6, rtol=2e-6)


@torch.inference_mode()
def test_the_first_place_of_a_shifted_model_predicts_itself():
    model, of = network("dream"), canvas([[3, 1, 4, 1]], 0)
    only = torch.zeros_like(of.given)
    only[0, 0] = True
    assert isinstance(model, Dream)
    found, _ = model.forward(replace(of, shadows=only))
    expected = model.hidden(of.tokens.clone().index_fill_(1, torch.tensor([0]), of.mask_id), None, memory=Memory(Chosen(torch.tensor([[0]])), model.forward(of, Chosen())[1]))
    torch.testing.assert_close(found[:, 4], expected[:, 0], atol=2e-5, rtol=1e-4)


def test_an_exact_denoisers_shadows_are_its_own_rows():
    of = remask.Canvas.from_prompts([[0, 3, 2], [1]], max_new_tokens=4, mask_id=8)
    chosen = torch.zeros_like(of.given)
    chosen[0, [1, 2]] = True
    found, _ = chain_b().forward(replace(of, shadows=chosen))
    plain, _ = chain_b().forward(of)
    assert torch.equal(found[:, :7], plain)
    assert torch.equal(found[0, 7:], plain[0, [1, 2]])


@pytest.mark.parametrize("reuse", ["fresh", "unchanged", "dual", "prefix", "surelock:eps=0.5,gate=80", "delayed"])
@pytest.mark.parametrize("family", ["llada", "dream", "timed", "dsl"])
def test_a_row_that_is_checked_by_shadows_does_not_notice_its_neighbours(family, reuse):
    model = network(family)
    parts = dict(decoder=parse_decoder("wino:tau=0.1"), window=remask.Blocks(4), reuse=parse_reuse(reuse), max_new_tokens=12)
    prompts = [[3, 1, 4], [1, 5, 9, 2, 6], [5]]
    together = remask.decode(model, prompts, seed=[4, 5, 6], **parts)
    for row, prompt in enumerate(prompts):
        alone = remask.decode(model, [prompt], seed=[4 + row], **parts)
        assert torch.equal(together.tokens[row], alone.tokens[0])
        assert together.forwards[row] == alone.forwards[0]
        assert together.positions[row] == alone.positions[0]


@torch.inference_mode()
def test_both_branches_of_guidance_have_shadows():
    model, of = network("llada"), replace(canvas(), shadows=asked(canvas()))
    blind = replace(of, tokens=torch.where(of.given, of.mask_id, of.tokens))
    guided = Guided(model, 0.7)
    logits, seen, unseen = guided.head(guided.forward(of)[0]), model.head(model.forward(of)[0]), model.head(model.forward(blind)[0])
    assert torch.equal(logits, unseen + 1.7 * (seen - unseen))
    assert logits.shape[1] > of.shape[1]


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_every_shadow_row_is_counted(family):
    model = network(family)
    steps = list(remask.denoise(model, canvas([[3, 1, 4]]), decoder=parse_decoder("wino:tau=0.1")))
    assert any(seen.edit.remask.any() for seen in steps), "something is masked again here"
    before, total = canvas([[3, 1, 4]]), 0
    for seen in steps:
        checked = ~before.given & ~before.masked
        total += before.shape[1] + int(checked.sum()) * (2 if family == "dream" else 1)
        before = seen.canvas
    assert steps[-1].positions.tolist() == [total]
    assert computed_rows(torch.tensor([[True, True]]), 1).tolist() == [3]

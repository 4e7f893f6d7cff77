"""ReMDM leaves the marginals as they are: from a canvas of the right law at time t, one step gives the right law at time s."""

from dataclasses import replace

import pytest
import torch

import remask
from remask.decoders.remdm import Memory
from remask.denoise import Plan, start, step
from tests.chains import chain_7

ROWS, LENGTH, MASK = 20_000, 4, 3
BOUND = 5.0
"""Standard errors; 16 places and outcomes per case leave a right sampler a chance of 1e-5 to be outside once."""


class Doubled(remask.ReMDM):
    """Masks again twice as often as the rate at which it writes allows for."""

    def step(self, view, state):
        edit, after = super().step(view, state)
        more = view.filled & (view.uniforms(9) < self.rates(state.made)[2][:, None])
        return replace(edit, remask=edit.remask | more), after


def farthest(decoder, made):
    """Over places and outcomes (the three tokens and the mask): the largest distance from the law at time s, in standard errors."""
    model, plan = chain_7(), Plan(decoder, shapers=(remask.Temperature(1.0),))
    here, there, _ = decoder.rates(torch.tensor([made]))
    visible = torch.rand(ROWS, LENGTH, generator=torch.Generator().manual_seed(made), dtype=torch.float64) < here
    empty = remask.Canvas.from_prompts(torch.full((ROWS, LENGTH), MASK), mask_id=MASK)
    canvas = replace(empty, tokens=torch.where(visible, model.sample(ROWS, LENGTH, seed=made), MASK))
    state = start(empty, plan, torch.arange(ROWS))
    memory = state.decoder
    assert isinstance(memory, Memory)
    state = replace(state, canvas=canvas, decoder=replace(memory, made=memory.made + made))
    _, seen = step(model, state, plan)
    marginal = torch.stack([model.initial @ torch.linalg.matrix_power(model.transition, place) for place in range(LENGTH)])
    law = torch.cat([marginal * there, (1 - there).expand(LENGTH, 1)], 1)
    found = torch.nn.functional.one_hot(seen.canvas.tokens, MASK + 1).double().mean(0)
    return float(((found - law).abs() / (law * (1 - law) / ROWS).sqrt().clamp(min=1 / ROWS)).max())


STRATEGIES = {"cap": 0.04, "rescale": 0.3, "switch": 0.04, "loop": 0.1}


@pytest.mark.parametrize("made", [9, 25, 30])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_step_takes_the_law_at_t_to_the_law_at_s(strategy, made):
    decoder = remask.ReMDM(steps=32, strategy=strategy, eta=STRATEGIES[strategy])
    assert farthest(decoder, made) < BOUND


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_wrong_rate_is_seen(strategy):
    assert farthest(Doubled(steps=32, strategy=strategy, eta=STRATEGIES[strategy]), 25) > 2 * BOUND


def test_conf_masks_again_at_most_one_token_a_step_and_the_least_sure_most_often():
    """The rates of a row add up to the largest one, and fall with the probability that a token had when it was written."""
    decoder, model = remask.ReMDM(steps=8, strategy="conf"), chain_7()
    plan = Plan(decoder)
    canvas = remask.Canvas.from_prompts(torch.full((ROWS, LENGTH), MASK), mask_id=MASK)
    state = start(canvas, plan, torch.arange(ROWS))
    psi = torch.tensor([0.9, 0.1, 0.5, 0.5], dtype=torch.float64).expand(ROWS, -1)
    filled = replace(canvas, tokens=model.sample(ROWS, LENGTH))
    _, seen = step(model, replace(state, canvas=filled, decoder=Memory(state.decoder.made + 4, psi)), plan)
    assert seen.edit.remask is not None
    share = seen.edit.remask.double().mean(0)
    largest = (1 - decoder.rates(torch.tensor([4]))[1]) / decoder.rates(torch.tensor([4]))[0]
    expected = largest.clamp(max=1) * torch.softmax(-psi[0], 0)
    assert ((share - expected).abs() < BOUND * (expected * (1 - expected) / ROWS).sqrt()).all()


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_doubt_masks_again_as_many_as_cap_in_proportion_to_what_the_network_doubts(power):
    decoder, model = remask.ReMDM(steps=8, strategy="doubt", eta=0.1, power=power), chain_7()
    plan = Plan(decoder)
    state = start(remask.Canvas.from_prompts(torch.full((ROWS, LENGTH), MASK), mask_id=MASK), plan, torch.arange(ROWS))
    tokens = torch.tensor([1, 0, 2, 1]).expand(ROWS, -1)
    shown = replace(state.canvas, tokens=tokens)
    _, seen = step(model, replace(state, canvas=shown, decoder=replace(state.decoder, made=state.decoder.made + 4)), plan)
    assert seen.edit.remask is not None
    share = seen.edit.remask.double().mean(0)
    believed = torch.softmax(model.logits(tokens[:1]).double(), dim=-1)[0, :, :MASK]
    doubt = 1 - believed.gather(-1, tokens[0, :, None])[:, 0]
    assert doubt.max() > 2 * doubt.min() > 0.01, "otherwise nothing is tested"
    expected = 0.1 * doubt**power / (doubt**power).mean()
    assert ((share - expected).abs() < BOUND * (expected * (1 - expected) / ROWS).sqrt()).all()
    assert decoder.rescores
    assert not remask.ReMDM().rescores


def test_doubt_without_differences_is_cap():
    """Three tokens that follow each other at random: what stands there is doubted alike everywhere."""
    even = remask.testing.MarkovDenoiser(torch.ones(3), torch.ones(3, 3))
    canvas = torch.full((8, 40), MASK)
    made = [remask.decode(even, canvas, decoder=remask.ReMDM(steps=12, strategy=strategy, eta=0.2), shapers=(remask.Temperature(1.0),), seed=3) for strategy in ("cap", "doubt")]
    assert torch.equal(torch.stack(made[0].tokens), torch.stack(made[1].tokens))

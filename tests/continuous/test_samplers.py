"""Continuous samplers as parts: their budgets, their spec strings, and what a shaper does to a walk."""

import pytest
import torch

import remask
from benchmarks.dsl_markov import chain_b, entropy, measure
from remask import RemaskError
from remask.canvas import Canvas
from remask.continuous import SAMPLERS, SDE, Commit, Discrete, Native, decode_sde, log_normal
from remask.spec import parse_sampler, spec


def empty(rows, length=12):
    return Canvas.from_prompts([[]] * rows, max_new_tokens=length, mask_id=8)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("forwards", [4, 5, 9])
def test_a_sampler_takes_the_forwards_it_is_given(name, forwards):
    sampler = parse_sampler(f"{name}:{forwards},mu=0")
    model = chain_b()
    found = sampler.decode(model, empty(50), seed=3)
    assert all((row < 8).all() for row in found.tokens)
    assert model.calls == int(found.forwards.max()) == forwards
    assert (found.forwards == forwards).all() or name == "commit", "only the decoder behind a commit may be done early"


def test_spec_strings_name_samplers_and_decoders_alike():
    for part in (SDE(16, mu=1.0), Commit(), Native(12, last=5.0)):
        assert parse_sampler(spec(part)) == part
    assert parse_sampler("remdm:steps=9") == Discrete(remask.ReMDM(9))
    assert parse_sampler("sde:16") == SDE(16)
    with pytest.raises(RemaskError, match=r"unknown sampler 'ode'; choose one of sde, .*, remdm"):
        parse_sampler("ode")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        *((text, "forwards is") for text in ("sde:1", "native:1", "commit:3")),
        *((f"{name}:sigma={sigma}", f"sigma is {sigma}") for name in SAMPLERS for sigma in ("0.0", "-1.0")),
        *((f"{name}:last={last}", f"last {last}") for name in SAMPLERS for last in ("0.0", "-2.0")),
        *((f"{name}:last=inf", "last is inf; it must be finite") for name in SAMPLERS),
        ("sde:last=0.01", "last is 0.01, at level .* move mu"),
        ("native:mu=1000", "last is 12.0, at level 0 "),
        ("commit:mu=-1000", "last is 16.0, at level 1 "),
        ("sde:g=1.5", "g is 1.5; it must be from 0"),
    ],
)
def test_a_setting_that_makes_no_grid_is_refused_before_anything_is_decoded(text, told):
    with pytest.raises(RemaskError, match=told):
        parse_sampler(text)


def test_the_part_is_the_function():
    canvas = empty(4)
    by_part = SDE(6, 0.0, 0.9, 40.0).decode(chain_b(), canvas, seed=2)
    by_hand = decode_sde(chain_b(), canvas, grid=log_normal(6, 0.0, 0.9, 40.0), seed=2)
    assert torch.equal(torch.stack(by_part.tokens), torch.stack(by_hand.tokens))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_lower_temperature_sharpens_every_sampler(name):
    """At 0.5 the rows are likelier than the chain's own entropy; at 1 they are not."""
    sampler = parse_sampler(f"{name}:16,mu=0")
    plain, sharp = (
        measure(chain_b(), lambda model, canvas, shapers=shapers: sampler.decode(model, canvas, shapers=shapers, seed=1), 300, 24)[1]
        for shapers in ((), (remask.Temperature(0.5),))
    )
    assert sharp < plain - 0.01
    assert sharp < entropy(chain_b(), 24)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_token_that_a_shaper_forbids_is_never_written(name):
    rows = torch.stack(parse_sampler(f"{name}:8,mu=0").decode(chain_b(), empty(40), shapers=(remask.Suppress((3,)),), seed=1).tokens)
    assert not (rows == 3).any()
    assert (torch.stack(parse_sampler(f"{name}:8,mu=0").decode(chain_b(), empty(40), seed=1).tokens) == 3).any()

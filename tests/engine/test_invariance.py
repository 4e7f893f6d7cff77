"""A row does not notice its neighbours, padding, order of arrival or the size of the batch."""

from dataclasses import replace

import pytest

import remask
from remask.engine import Engine
from remask.models.guidance import Guided
from remask.windows.base import room
from tests.chains import chain_b
from tests.engine.mixes import alone, arrive, mix, told
from tests.laws.test_laws import DECODER_SPECS
from tests.networks import network
from tests.test_daedal import PROBING, RESTLESS


@pytest.mark.parametrize("decoder", DECODER_SPECS)
def test_every_decoder_writes_in_a_batch_what_it_writes_alone(decoder):
    model = chain_b()
    requests = [*mix(1, 3, 8, 8, [decoder]), *mix(2, 3, 8, 8)]
    for request, ticket in zip(requests, arrive(Engine(model, max_rows=4), requests, 3), strict=True):
        assert told(ticket.result(0)) == alone(model, request)


@pytest.mark.parametrize("family", ["llada", "dream", "mdlm"])
@pytest.mark.parametrize("seed", range(4))
def test_any_mix_of_requests_on_a_network_is_written_as_one_by_one(family, seed):
    model = network(family)
    requests = mix(seed, 12, 18, 19)
    engine = Engine(model, max_rows=(2, 3, 5, 12)[seed], forward_cost=(0, 8, 64, 10_000)[seed])
    for request, ticket in zip(requests, arrive(engine, requests, seed), strict=True):
        assert told(ticket.result(0)) == alone(model, request)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_rows_of_few_plans_change_places_with_what_is_stored_for_them(seed, guided):
    """Of a guided network twice: with and without what is given."""
    model = Guided(network("llada"), 0.7) if guided else network("llada")
    rules = [remask.parse_reuse(text) for text in ("surelock:eps=0.1", "dual", "delayed:refresh=3")]
    requests = [replace(request, reuse=rules[number % 3], decoder=remask.Threshold(0.3), shapers=()) for number, request in enumerate(mix(seed + 50, 12, 18, 19))]
    for request, ticket in zip(requests, arrive(Engine(model, max_rows=6, forward_cost=10_000), requests, seed), strict=True):
        assert told(ticket.result(0)) == alone(model, request)


@pytest.mark.parametrize("family", ["chain", "llada", "dream", "mdlm"])
@pytest.mark.parametrize("seed", range(3))
def test_rows_that_grow_are_written_as_one_by_one_beside_rows_that_do_not(family, seed):
    model = chain_b() if family == "chain" else network(family)
    windows = [remask.parse_window(f"{text},length=4") for text in (RESTLESS, PROBING)]
    requests = [
        replace(request, window=windows[number % 3], max_new_tokens=request.max_new_tokens + 9) if number % 3 < 2 else request
        for number, request in enumerate(mix(seed + 90, 12, 8, 8 if family == "chain" else model.mask_id))
    ]
    engine = Engine(model, max_rows=(3, 5, 12)[seed], forward_cost=(0, 64, 10_000)[seed])
    tickets = arrive(engine, requests, seed)
    found = [ticket.result(0) for ticket in tickets]
    for request, update in zip(requests, found, strict=True):
        assert told(update) == alone(model, request)
    begun = [len(request.prompt_ids) + room(request.window, request.prompt_ids, request.max_new_tokens, model.mask_id) for request in requests]
    assert sum(len(update.tokens) > length for update, length in zip(found, begun, strict=True)) >= 3, "some rows grew"

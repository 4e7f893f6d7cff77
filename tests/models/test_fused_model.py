"""The ordinary loop and the engine on fused layers against the model itself: the same tokens, forwards and positions."""

import itertools
from dataclasses import replace

import pytest
import torch

import remask
import remask.kernels.layer
from remask.engine import Engine, Request
from remask.models.fused_model import FusedModel
from remask.models.store import Chosen
from remask.randomness import PROPOSAL
from remask.testing import RecordedUniforms
from remask.trace.record import record
from tests.engine.mixes import alone, arrive, mix, told
from tests.laws.test_laws import DECODER_SPECS, STORING, WHOLE_ROWS
from tests.networks import canvas, network
from tests.test_captured import same
from tests.test_daedal import PROBING, RESTLESS

FAMILIES = ("llada", "grouped", "dream")


@pytest.fixture(params=["padded", "dense"])
def way(request, monkeypatch):
    """As few positions are computed, and as many."""
    if request.param == "dense":
        monkeypatch.setattr("remask.models.fused.FEW", 0)
        monkeypatch.setattr("remask.models.fused.DENSE", 1.0)
    return request.param


def both(model, first, **parts):
    """The steps of both; of the second no more than one above, so that a run that never ends is seen."""
    plain = list(remask.denoise(model, first, **parts))
    return plain, list(itertools.islice(remask.denoise(FusedModel(model), first, **parts), len(plain) + 1))


@pytest.mark.parametrize("window", ["whole", "blocks:6"])
@pytest.mark.parametrize(("family", "reuse"), list(itertools.product(FAMILIES, [*WHOLE_ROWS, *STORING])))
def test_every_reuse_rule_and_window_computes_the_same(way, family, reuse, window):
    for prompts in (((3, 1, 4), (1, 5, 9, 2, 6), (5,)), ((3, 1, 4), (1, 5, 9))):
        parts = {"decoder": remask.Threshold(0.2), "window": remask.parse_window(window), "reuse": remask.parse_reuse(reuse)}
        same(*both(network(family), canvas(prompts), **parts))


@pytest.mark.parametrize(("family", "reuse"), [("grouped", "fresh"), ("dream", "surelock:eps=0.1")])
@pytest.mark.parametrize("decoder", DECODER_SPECS)
def test_every_decoder_writes_the_same(way, decoder, family, reuse):
    parts = {"decoder": remask.parse_decoder(decoder), "window": remask.Blocks(6), "reuse": remask.parse_reuse(reuse), "shapers": (remask.Temperature(0.8),)}
    same(*both(network(family), canvas(), seed=5, **parts))


@pytest.mark.parametrize("window", [RESTLESS, PROBING])
@pytest.mark.parametrize("family", FAMILIES)
def test_canvases_that_grow_are_the_same(way, family, window):
    plain, fused = both(network(family), canvas(new=24), decoder=remask.Threshold(0.2), window=remask.parse_window(f"{window},length=4"))
    same(plain, fused)
    assert any(step.source is not None for step in fused)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_any_mix_of_requests_is_written_in_the_engine_as_one_by_one_by_the_model(way, family, seed):
    model = network(family)
    requests = mix(seed, 12, 18, 19)
    engine = Engine(FusedModel(model), max_rows=(3, 5, 12)[seed], forward_cost=(0, 64, 10_000)[seed])
    for request, ticket in zip(requests, arrive(engine, requests, seed), strict=True):
        assert told(ticket.result(0)) == alone(model, request)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_stored_rows_change_places_in_the_engine(way, family, seed):
    model = network(family)
    rules = [remask.parse_reuse(text) for text in ("surelock:eps=0.1", "dual", "delayed:refresh=3")]
    requests = [replace(request, reuse=rules[number % 3], decoder=remask.Threshold(0.3), shapers=()) for number, request in enumerate(mix(seed + 50, 12, 18, 19))]
    for request, ticket in zip(requests, arrive(Engine(FusedModel(model), max_rows=6, forward_cost=10_000), requests, seed), strict=True):
        assert told(ticket.result(0)) == alone(model, request)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("left", [0, 2])
def test_a_pass_and_what_it_stores_is_the_models(way, family, left):
    """Padding on the left as well: in a shifted model a first position is predicted by the padding before it."""
    model = network(family)
    fused = FusedModel(model)
    place, tokens = torch.arange(13), torch.randint(19, (3, 13), generator=torch.Generator().manual_seed(0))
    real = (place >= left) & (place < torch.tensor([[13], [10], [7]]))
    first = remask.Canvas(tokens, torch.ones_like(real), real, 19)
    second, some = replace(first, tokens=tokens.flip(0)), Chosen.of(real & (place == 3) | real & (place % 3 == 0) & (tokens > 4))
    with torch.inference_mode():
        near(fused.forward(first)[0][real], model.forward(first)[0][real])
        near(fused.logits(tokens, real)[real], model.logits(tokens, real)[real])
        (found, store), (expected, other) = (one.forward(first, Chosen(), None) for one in (fused, model))
        near(found[real], expected[real])
        stored_alike(store, other, real)
        (found, store), (expected, other) = fused.forward(second, some, store), model.forward(second, some, other)
        near(found, expected)
        stored_alike(store, other, real)


def near(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def stored_alike(store, other, real):
    for found, expected in zip((*store.keys, *store.values), (*other.keys, *other.values), strict=True):
        near(found.transpose(1, 2)[real], expected.transpose(1, 2)[real])


def test_a_store_that_was_cut_is_written_where_it_is_read(way):
    model = network("grouped")
    fused, first = FusedModel(model), canvas()
    short, at = first.resized(13), Chosen(torch.tensor([[2, 4], [5, 5], [1, 3]]))
    with torch.inference_mode():
        found = [one.forward(short, at, one.forward(first, Chosen(), None)[1].resized(13)) for one in (fused, model)]
        near(*(hidden for hidden, _ in found))
        assert all(part.is_contiguous() for part in found[0][1].keys)


def test_padding_is_left_out_of_the_products(monkeypatch):
    """Three rows of 15, 17 and 13 positions; of a chosen place a row that repeats it computes it once."""
    monkeypatch.setattr("remask.models.fused.FEW", 0)
    counts, fused = [], FusedModel(network("llada"))
    for name in ("linear_twin", "added_twin"):
        product = getattr(remask.kernels.layer, name)
        monkeypatch.setattr(remask.kernels.layer, name, lambda x, *rest, product=product, **more: counts.append(len(x)) or product(x, *rest, **more))
    with torch.inference_mode():
        _, store = fused.forward(canvas(), Chosen(), None)
        assert set(counts) == {45}
        counts.clear()
        fused.forward(canvas(), Chosen(torch.tensor([[2, 4, 5], [5, 5, 5], [1, 3, 3]])), store)
        assert set(counts) == {6}


@pytest.mark.parametrize(("family", "rows"), [("llada", True), ("grouped", True), ("dream", False)])
def test_attention_reads_rows_as_they_lie_where_nothing_is_stored(monkeypatch, family, rows):
    """Not of a Dream, where what stands before a row is computed and not seen; gaps of any kind are padding."""
    monkeypatch.setattr("remask.models.fused.FEW", 0)
    calls = []
    monkeypatch.setattr("remask.models.fused.attend_rows", lambda *each, attend=remask.models.fused.attend_rows: calls.append(len(each[0])) or attend(*each))
    model, tokens = network(family), torch.arange(36).view(3, 12) % 9 + 1
    real = torch.ones(3, 12, dtype=torch.bool)
    real[0, :5], real[1, 4:6], real[1, 11], real[2] = False, False, False, False
    real[2, 7] = True
    first = remask.Canvas(tokens, real, real, model.mask_id)
    with torch.inference_mode():
        fused = FusedModel(model)
        torch.testing.assert_close(fused.forward(first)[0][real], model.forward(first)[0][real], rtol=1e-4, atol=1e-5)
        assert calls == [int(real.sum())] * rows * len(fused.layers.layers)
        calls.clear()
        fused.forward(first, Chosen(), None)
        assert calls == []
        full = remask.Canvas(tokens, real | True, real | True, model.mask_id)
        torch.testing.assert_close(fused.forward(full)[0], model.forward(full)[0], rtol=1e-4, atol=1e-5)
        assert calls == [36] * rows * len(fused.layers.layers), "without padding too, so that a row alone goes through the same kernel"


@pytest.mark.parametrize(
    ("decoder", "reuse", "asked"), [("threshold:0.2", "fresh", True), ("threshold:0.2", "dual", True), ("local_leap", "fresh", False), ("threshold:0.2", "surelock", False)]
)
def test_the_head_runs_where_a_decoder_reads(monkeypatch, decoder, reuse, asked):
    """Everywhere if the decoder reads all, and where a pass computes if a rule compares logits with those of the pass before."""
    counts, fused = [], FusedModel(network("llada"))
    monkeypatch.setattr(FusedModel, "head", lambda self, hidden, head=FusedModel.head: counts.append(hidden.shape[:-1].numel()) or head(self, hidden))
    first = canvas()
    for number, _ in enumerate(remask.denoise(fused, first, decoder=remask.parse_decoder(decoder), window=remask.Blocks(6), reuse=remask.parse_reuse(reuse))):
        assert number > 0 or counts == [18 if asked else first.tokens.numel()]
        assert len(counts) == number + 1


@pytest.mark.parametrize("decoder", [spec for spec in (*DECODER_SPECS, "starr:temporal_source=logit,sigma=1") if not remask.parse_decoder(spec).everywhere])
def test_a_decoder_that_reads_eligible_positions_alone_runs_the_head_once_and_there(monkeypatch, decoder):
    counts, last = head_of(monkeypatch), canvas()
    for step in remask.denoise(FusedModel(network("llada")), last, decoder=remask.parse_decoder(decoder)):
        assert counts == [max(2, int(last.masked.sum()))]
        last = step.canvas
        counts.clear()


def head_of(monkeypatch):
    """How many positions the head of fused networks is run at, a number each time."""
    counts = []
    monkeypatch.setattr(FusedModel, "head", lambda self, hidden, head=FusedModel.head: counts.append(hidden.shape[:-1].numel()) or head(self, hidden))
    return counts


@pytest.mark.parametrize("reuse", ["fresh", "dual"])
@pytest.mark.parametrize("decoder", ["threshold:0.2", "local_leap"])
def test_a_pass_that_is_observed_runs_the_head_once_at_all_positions(monkeypatch, decoder, reuse):
    fused, first, counts = FusedModel(network("llada")), canvas(), head_of(monkeypatch)
    parts = {"decoder": remask.parse_decoder(decoder), "window": remask.Blocks(6), "reuse": remask.parse_reuse(reuse)}
    found, expected = [], []
    seen = list(record(remask.denoise(fused, first, observed=True, **parts), found))
    assert counts == [first.tokens.numel()] * len(seen)
    list(record(remask.denoise(network("llada"), first, **parts), expected))
    assert [(one.write, one.tokens) for one in found[3:]] == [(one.write, one.tokens) for one in expected[3:]]
    counts.clear()
    list(record(remask.denoise(fused, first, **parts), []))
    assert len(counts) == len(seen) * (1 if decoder == "local_leap" else 2), "unannounced, what the decoder reads first is paid for twice"


@pytest.mark.parametrize("asked", [{"record": True}, {"confidence": True}])
def test_the_engine_runs_the_head_once_at_all_positions_of_rows_that_are_observed(monkeypatch, asked):
    """And of others, though their parts are equal, where the decoder reads."""
    fused, parts = FusedModel(network("llada")), {"decoder": remask.Threshold(0.2), "window": remask.Blocks(4)}
    engine = Engine(fused, forward_cost=10_000)
    seen, plain = engine.submit(Request([3, 1, 4], 8, **parts, **asked)), engine.submit(Request([3, 1, 4], 8, **parts))
    counts = head_of(monkeypatch)
    engine.step()
    assert len(engine._cohorts) == 1
    assert sorted(counts) == [4, 11]
    while engine.step():
        pass
    assert seen.result(0).tokens.tolist() == plain.result(0).tokens.tolist()


def test_rows_of_equal_parts_are_one_group_where_it_is_all_one_who_looks_on():
    engine = Engine(network("llada"))
    for seen in (True, False):
        engine.submit(Request([3, 1, 4], 8, record=seen))
    engine.step()
    assert [len(cohort.groups) for cohort in engine._cohorts] == [1]


@pytest.mark.parametrize("shapers", [(), (remask.Temperature(0.7), remask.TopK(5))])
@pytest.mark.parametrize("reuse", ["fresh", "dual"])
def test_an_observer_may_read_everything_afterwards(reuse, shapers):
    model, parts = network("dream"), {"decoder": remask.Threshold(0.2), "window": remask.Blocks(6), "reuse": remask.parse_reuse(reuse), "shapers": shapers}
    plain, lazy = both(model, canvas(), **parts)
    for one, other in zip(plain, lazy, strict=True):
        real = one.canvas.real
        assert torch.equal(one.prediction.candidates[real], other.prediction.candidates[real])
        for seen in ("raw", "shaped"):
            belief, read = getattr(one.prediction, seen), getattr(other.prediction, seen)
            for name in ("confidence", "margin", "sampled_confidence", "entropy", "height", "probabilities", "token"):
                near(getattr(read, name)[real], getattr(belief, name)[real])
            where = one.edit.write | one.canvas.masked
            few = read.at(where)
            assert (few.shape, few.at(where).token.shape) == (belief.shape, where.shape)
            for name in ("confidence", "margin", "sampled_confidence", "entropy", "height", "token", "candidates"):
                near(getattr(few, name), torch.where(where, getattr(belief, name), 0))
            near(few.logits[real], belief.logits[real])
            for found, expected in zip(few.likeliest(3), belief.likeliest(3), strict=True):
                near(found, torch.where(where[..., None], expected, 0))


def test_a_nan_is_named_where_it_is_read():
    model = network("llada")
    with torch.no_grad():
        model.parts["ln_f"].weight.fill_(float("nan"))
    with pytest.raises(remask.RemaskError, match=r"NaN logits at step 0 in rows \[0, 1, 2\]"):
        remask.decode(FusedModel(model), [[3, 1], [4], [1, 5]], max_new_tokens=4)


def test_rows_that_compare_share_no_forward_with_rows_that_do_not():
    """Of the ones logits are kept, of the others states."""
    model = network("llada")
    asked = [Request([3, 1, 4], 9, decoder=remask.Threshold(0.3), reuse=remask.parse_reuse(("dual", "surelock:eps=0.1")[number % 2])) for number in range(4)]
    for kind, cohorts in ((lambda model: model, 1), (FusedModel, 2)):
        engine = Engine(kind(model))
        tickets = [engine.submit(request) for request in asked]
        engine.step()
        assert len(engine._cohorts) == cohorts
        while engine.step():
            pass
        assert [told(ticket.result(0)) for ticket in tickets] == [alone(model, request) for request in asked]


def test_it_stands_for_the_model(checkpoint):
    model = remask.load(checkpoint)
    fused = FusedModel(model)
    assert (fused.device, fused.dtype, fused.config, fused.vocab_size, fused.tokenizer) == (model.device, model.dtype, model.config, model.vocab_size, model.tokenizer)
    assert (Engine(fused).forward_cost, Engine(fused, forward_cost=7).forward_cost, Engine(model).forward_cost) == (2048, 7, 512)
    asked = {"max_new_tokens": 9, "window": remask.Blocks(4), "reuse": remask.Dual()}
    assert [(one.tokens, one.stats.forwards) for one in remask.generate(fused, ["12", "3456"], **asked)] == [
        (one.tokens, one.stats.forwards) for one in remask.generate(model, ["12", "3456"], **asked)
    ]


def test_other_families_say_so():
    for family in ("mdlm", "positions"):
        with pytest.raises(remask.RemaskError, match="pass the model itself"):
            FusedModel(network(family))


def spoiled(model):
    """`model`, whose states are NaN where a prompt has the token 7: positions that no decoder asks about."""
    inner = model.forward

    def forward(canvas, chosen=None, store=None):
        hidden, store = inner(canvas, chosen, store)
        whole = chosen is None or chosen.place is None
        return hidden.masked_fill(((canvas.tokens == 7) & canvas.given)[..., None], float("nan")) if whole else hidden, store

    model.forward = forward
    return model


@pytest.mark.parametrize("reuse", ["fresh", "dual", "delayed:refresh=3"])
def test_states_that_are_no_numbers_are_refused_wherever_they_are(reuse):
    parts = {"decoder": remask.Threshold(0.2), "window": remask.Blocks(6), "reuse": remask.parse_reuse(reuse)}
    for model in (network("llada"), FusedModel(network("llada"))):
        with pytest.raises(remask.RemaskError, match=r"NaN logits at step 0 in rows \[1\]"):
            remask.decode(spoiled(model), [[3, 1, 4], [7, 1, 4]], max_new_tokens=12, **parts)


@pytest.mark.parametrize("asked", [{"record": True}, {"confidence": True}])
def test_a_row_that_fails_when_it_is_told_is_alone(asked):
    """Its head is run at all positions for that, and overflows at one that nobody else reads."""
    model = FusedModel(network("llada"))
    head, inner = model.head, model.forward

    def forward(canvas, chosen=None, store=None):
        hidden, store = inner(canvas, chosen, store)
        return hidden.masked_fill(((canvas.tokens == 7) & canvas.given)[..., None], float("inf")), store

    model.forward, model.head = forward, lambda hidden: head(hidden).masked_fill(hidden.isinf().any(-1, keepdim=True), float("nan"))
    engine = Engine(model, forward_cost=10_000)
    good = engine.submit(Request([3, 1, 4], 6, decoder=remask.Threshold(0.3), **asked))
    other = engine.submit(Request([2, 5], 6))
    bad = engine.submit(Request([7, 1, 4], 6, decoder=remask.Threshold(0.3), **asked))
    engine.start()
    engine.close()
    assert len(good.result(0).tokens) == 9
    assert len(other.result(0).tokens) == 8
    with pytest.raises(remask.RemaskError, match="NaN logits"):
        bad.result(0)


def test_who_looks_on_draws_no_other_numbers():
    def run(model, watched):
        chance = torch.Generator().manual_seed(0)
        uniforms = RecordedUniforms({PROPOSAL: [torch.rand(1, 12, generator=chance, dtype=torch.float64) for _ in range(9)]})
        steps = remask.denoise(model, canvas(((3, 1, 4),), 9), shapers=(remask.Temperature(1.0),), uniforms=uniforms)
        return list(record(steps, []) if watched else steps)[-1].canvas.tokens.tolist()

    model = network("llada")
    assert run(model, False) == run(FusedModel(model), False) == run(FusedModel(model), True)

"""What only a GPU can show: recorded decodes and fused layers against the ordinary loop in float32, and a recorded training step against the plain one."""

import itertools
from dataclasses import replace

import pytest
import torch

import remask
from remask.captured import Captured
from remask.engine import Engine
from remask.kernels.attention import rows_library, rows_twin
from remask.models.fused import Fused
from remask.models.fused_model import FusedModel
from remask.training.captured import CapturedUpdate
from remask.training.data import Batch
from tests.engine.mixes import arrive, mix, told
from tests.networks import CONFIGS, canvas, network
from tests.test_captured import same

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
FULL = ((3, 1, 4, 1), (1, 5, 9, 2))


def on_gpu(first):
    return remask.Canvas(first.tokens.cuda(), first.given.cuda(), first.real.cuda(), first.mask_id)


@pytest.fixture(autouse=True)
def _exact():
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("body", [None, Fused])
@pytest.mark.parametrize("reuse", ["fresh", "unchanged", "prefix", "dual", "delayed", "vicinity", "surelock:eps=0.1", "dual:inner=(surelock:eps=0.1)"])
@pytest.mark.parametrize("family", ["llada", "grouped", "dream"])
def test_a_recorded_decode_is_the_ordinary_one(family, reuse, body):
    model = network(family).cuda()
    captured = Captured(model, body=None if body is None else body(model))
    for prompts in (FULL, FULL, ((3, 1, 4), (1, 5, 9, 2, 6), (5,)), ((3, 1, 4), (1, 5, 9, 2, 6), (5,))):
        for decoder, shapers in ((remask.LowConfidence(), ()), (remask.Threshold(0.3), ()), (remask.Threshold(0.3), (remask.Temperature(0.8),))):
            parts = {"decoder": decoder, "window": remask.Blocks(6), "reuse": remask.parse_reuse(reuse), "shapers": shapers}
            first = on_gpu(canvas(prompts))
            same(list(remask.denoise(model, first, **parts)), list(remask.denoise(captured, first, **parts)))
    assert captured.recorder.graphs


@pytest.mark.parametrize("body", [None, Fused])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_passes_in_which_a_row_computes_nothing_are_recorded(family, body):
    model = network(family, 2).cuda()
    captured = Captured(model, body=None if body is None else body(model))
    parts = {"decoder": remask.parse_decoder("ancestral:steps=30"), "reuse": remask.parse_reuse("dual:inner=(unchanged)"), "window": remask.Blocks(6)}
    for seed in range(3):
        first = on_gpu(canvas(FULL, 18))
        same(list(remask.denoise(model, first, seed=seed, **parts)), list(remask.denoise(captured, first, seed=seed, **parts)))
    assert {bucket.idle for _, bucket in captured.recorder.graphs} == {False, True}


LAST = [
    *itertools.product(["llada", "grouped", "dream"], ["fresh", "prefix", "dual", "delayed", "vicinity:left=1,right=2,warmup=1"], ["fused"]),
    *itertools.product(["llada", "dream"], ["fresh", "dual"], ["joined", "compiled"]),
]


@pytest.mark.parametrize(("family", "reuse", "way"), LAST)
def test_a_last_layer_of_few_rows_is_recorded(family, reuse, way):
    """Six rows of 52 positions, of which 12 or fewer are asked about: enough for the last layer to leave out the others, and for the compiler to have the rest."""
    model = network(family).cuda()
    body = Fused(model) if way == "fused" else getattr(Fused(model), way)()
    captured, rows = Captured(model, body=body), FULL * 3
    for prompts in (rows, rows[::-1], rows, (*rows[:5], (2, 2))) if way == "fused" else (rows, rows[::-1], rows):
        for decoder in (remask.LowConfidence(steps=16), remask.Threshold(0.3)) if way == "fused" else (remask.Threshold(0.3),):
            parts = {"decoder": decoder, "window": remask.Blocks(12), "reuse": remask.parse_reuse(reuse)}
            first = on_gpu(canvas(prompts, 48))
            same(list(remask.denoise(model, first, **parts)), list(remask.denoise(captured, first, **parts)))
    assert captured.recorder.graphs
    assert all(session.forgets for session in captured.sessions.values())


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("family", ["llada", "grouped", "dream"])
def test_a_last_layer_of_few_rows_stays_near_float32_in_bfloat16(family, stored):
    wide, model = network(family).cuda(), network(family).cuda().bfloat16()
    first, only = on_gpu(canvas(FULL * 3, 48)), torch.tensor([[4, 7, 9, 51]]).cuda().expand(6, -1).contiguous()
    with torch.inference_mode():
        expected, _ = Fused(wide).whole(first, None, stores=stored, padded=False)
        found, _ = Fused(model).whole(first, None, stores=stored, padded=False, only=only)
    expected = expected.gather(1, only[..., None].expand(-1, -1, expected.shape[-1]))
    assert (found.float() - expected).norm() / expected.norm() < 3e-2


@pytest.mark.parametrize("decoder", ["low_confidence", "threshold:0.3", "entropy_bound"])
@pytest.mark.parametrize("reuse", ["fresh", "dual", "surelock:eps=0.1"])
def test_what_follows_the_network_is_compiled_and_recorded(reuse, decoder):
    model = network("llada").cuda()
    captured, first = Captured(model, body=Fused(model).joined()), on_gpu(canvas(FULL))
    parts = {"decoder": remask.parse_decoder(decoder), "window": remask.Blocks(6), "reuse": remask.parse_reuse(reuse)}
    for _ in range(3):
        same(*(list(remask.denoise(one, first, **parts)) for one in (model, captured)))
    assert captured.recorder.graphs
    assert next(iter(captured.sessions.values())).joined is not None


@pytest.mark.parametrize("family", [family for family in CONFIGS if family not in ("llada", "grouped", "dream")])
def test_other_families_are_recorded_by_their_own_layers(family):
    model = network(family).cuda()
    captured, parts = Captured(model), {"window": remask.Blocks(6), "reuse": remask.Dual()}
    for first in map(on_gpu, (canvas(FULL), canvas())):
        for _ in range(2):
            same(list(remask.denoise(model, first, **parts)), list(remask.denoise(captured, first, **parts)))
    assert captured.recorder.graphs


@pytest.mark.parametrize("decoder", ["starr", "factor:f=1", "entropy:steps=6", "ancestral:steps=9", "remdm:steps=9", "entropy_bound", "klass", "topk_margin"])
def test_decoders_are_recorded(decoder):
    model = network("llada").cuda()
    captured, first = Captured(model, body=Fused(model)), on_gpu(canvas(FULL))
    for _ in range(2):
        same(*(list(remask.denoise(one, first, decoder=remask.parse_decoder(decoder), window=remask.Blocks(6))) for one in (model, captured)))


def test_graphs_are_bounded_and_shared_memory_is_not_mixed_up():
    model = network("llada").cuda()
    captured, first = Captured(model, graphs=2), on_gpu(canvas(FULL))
    parts = {"reuse": remask.SureLock(eps=100.0, gate=100)}
    for _ in range(3):
        same(*(list(remask.denoise(one, first, **parts)) for one in (model, captured)))
        assert len(captured.recorder.graphs) <= 2


def test_kernels_in_bfloat16_stay_near_float32():
    wide, model = network("llada").cuda(), network("llada").cuda().bfloat16()
    first = on_gpu(canvas(FULL))
    with torch.inference_mode():
        expected, _ = wide.forward(first)
        found, _ = Fused(model).whole(first, None, stores=True, padded=False)
    assert (found.float() - expected).norm() / expected.norm() < 3e-2


def test_a_recorded_training_step_is_the_plain_one():
    weights = [torch.nn.Linear(8, 8).cuda() for _ in range(2)]
    weights[1].load_state_dict(weights[0].state_dict())
    losses = []
    for layer, recorded in zip(weights, (False, True), strict=True):
        optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2, capturable=True)

        def update(batch, noise, layer=layer, optimizer=optimizer):
            loss = (layer(noise[0]) - batch.weights).square().mean()
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            optimizer.step()
            return loss.detach()

        step = CapturedUpdate(update) if recorded else update
        made = []
        for turn in range(8):
            generator = torch.Generator().manual_seed(turn)
            tokens, x, y = torch.zeros(4, 8, dtype=torch.int64).cuda(), torch.randn(4, 8, generator=generator).cuda(), torch.randn(4, 8, generator=generator).cuda()
            made.append(float(step(Batch(tokens, tokens.bool(), y), (x,))))
        losses.append(made)
    torch.testing.assert_close(*map(torch.tensor, losses), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights[0].weight, weights[1].weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("reuse", ["fresh", "unchanged", "prefix", "dual", "delayed", "vicinity", "surelock:eps=0.1", "dual:inner=(surelock:eps=0.1)"])
@pytest.mark.parametrize("family", ["llada", "grouped", "dream"])
def test_the_ordinary_loop_on_fused_layers_is_the_models(monkeypatch, family, reuse, dense):
    if dense:
        monkeypatch.setattr("remask.models.fused.FEW", 0)
        monkeypatch.setattr("remask.models.fused.DENSE", 1.0)
    model = network(family).cuda()
    for prompts in (FULL, ((3, 1, 4), (1, 5, 9, 2, 6), (5,), (8, 8, 8, 8, 8, 8, 8, 8))):
        first = on_gpu(canvas(prompts, 40))
        for decoder in (remask.LowConfidence(steps=12), remask.Threshold(0.3)):
            parts = {"decoder": decoder, "window": remask.Blocks(12), "reuse": remask.parse_reuse(reuse)}
            same(*(list(remask.denoise(one, first, **parts)) for one in (model, FusedModel(model))))


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_the_engine_on_fused_layers_writes_what_the_model_writes_alone(family):
    """On the device rows go through it one by one as well: the promise is about tokens."""
    model = network(family).cuda()
    asked = [
        replace(request, decoder=remask.Threshold(0.3), reuse=remask.parse_reuse(("fresh", "dual")[number % 2]), shapers=()) for number, request in enumerate(mix(5, 16, 18, 19))
    ]
    engines = Engine(model, max_rows=1), Engine(FusedModel(model), max_rows=8)
    plain, fused = ([told(ticket.result(0)) for ticket in arrive(engine, asked, 1)] for engine in engines)
    assert plain == fused


@pytest.mark.parametrize("family", ["llada", "grouped"])
def test_fused_layers_without_padding_stay_near_float32_in_bfloat16(monkeypatch, family):
    """Rows behind one another where as many heads have keys as have queries, in padded copies elsewhere."""
    calls = []
    monkeypatch.setattr("remask.models.fused.attend_rows", lambda *each, attend=remask.models.fused.attend_rows: calls.append(1) or attend(*each))
    wide, model = network(family).cuda(), network(family).cuda().bfloat16()
    first = on_gpu(canvas([[3] * 20, [1, 4], [5]] * 4, 20))
    with torch.inference_mode():
        expected, found = wide.forward(first)[0][first.real], FusedModel(model).forward(first)[0][first.real]
    assert (found.float() - expected).norm() / expected.norm() < 3e-2
    assert bool(calls) == (family == "llada")


@pytest.mark.parametrize("width", [64, 128])
def test_rows_behind_one_another_do_not_see_each_other(width):
    generator = torch.Generator("cuda").manual_seed(0)
    mixed = torch.randn(157, 12, width, device="cuda", generator=generator).bfloat16()
    query, key, value = (mixed[:, at : at + 4] for at in (0, 4, 8))  # views, as layers have them
    ends = torch.tensor([0, 100, 100, 101, 157], dtype=torch.int32, device="cuda")
    expected = rows_twin(query.double(), key.double(), value.double(), ends, 100)
    torch.testing.assert_close(rows_library(query, key, value, ends, 120).double(), expected, rtol=2e-2, atol=1e-2)

"""Passes of fixed shape against the ordinary loop: the same tokens, forwards and positions, for every part."""

import gc
import itertools
import weakref

import pytest
import torch

import remask
from remask.captured import Captured
from remask.compute import left_of
from remask.fixed_shapes import put, rung
from remask.kernels import has_triton
from remask.kernels.graphs import copied, mapped
from remask.kernels.layer import added_kernel, linear_kernel, mix_kernel
from remask.kernels.places import compact
from remask.models.fused import Fused
from remask.models.fused_model import FusedModel
from tests.chains import chain_b
from tests.laws.test_laws import DECODER_SPECS, PROMPTS, STORING
from tests.networks import CONFIGS, canvas, network

REUSES = ["fresh", "unchanged", *STORING]


def both(model, first, *, body=None, **parts):
    """The steps of the ordinary loop and of the captured one, over one canvas."""
    plain = list(remask.denoise(model, first, **parts))
    return plain, list(remask.denoise(Captured(model, body=None if body is None else body(model)), first, **parts))


def same(plain, fixed):
    assert len(plain) == len(fixed)
    for one, other in zip(plain, fixed, strict=True):
        assert torch.equal(one.canvas.tokens, other.canvas.tokens)
        for name in ("active", "done", "forwards", "positions"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("reuse", ["fresh", "dual", "surelock:eps=0.1"])
@pytest.mark.parametrize("decoder", DECODER_SPECS)
def test_every_decoder_writes_the_same(decoder, reuse):
    parts = {"decoder": remask.parse_decoder(decoder), "window": remask.Blocks(4), "reuse": remask.parse_reuse(reuse), "shapers": (remask.Temperature(0.8),)}
    if decoder.startswith(("wino", "spaced")):
        with pytest.raises(remask.RemaskError, match=r"wino.* asks for shadows|spaced.* waits for the device"):
            both(network("llada"), canvas(), **parts)
    elif decoder.startswith("p2"):  # it ranks by probabilities, and on the chain many are equal up to rounding
        same(*both(network("llada"), canvas(), seed=5, **parts))
    else:
        same(*both(chain_b(), remask.Canvas.from_prompts(PROMPTS, max_new_tokens=12, mask_id=8), seed=5, **parts))


@pytest.mark.parametrize("prompts", [((3, 1, 4), (5,)), ((3, 1, 4), (1, 5, 9))], ids=["padded", "of one length"])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_a_network_loaded_on_fused_layers_is_recorded_on_them(family, prompts):
    model = FusedModel(network(family))
    assert Captured(model).body is model.layers
    same(*both(model, canvas(prompts), decoder=remask.Threshold(0.2), window=remask.Blocks(6), reuse=remask.Dual()))


def test_a_network_may_have_a_body_of_its_own():
    """A usual name for the layers of one."""
    chain = chain_b()
    chain.body = torch.nn.Identity()
    same(*both(chain, remask.Canvas.from_prompts(PROMPTS, max_new_tokens=12, mask_id=8), decoder=remask.Threshold(0.2)))
    model = network("mdlm")
    model.body = torch.nn.Identity()
    assert isinstance(model.body, torch.nn.Identity)


@pytest.mark.parametrize(("family", "reuse"), list(itertools.product(CONFIGS, REUSES)))
def test_every_network_and_reuse_rule_computes_the_same(family, reuse):
    parts = {"decoder": remask.Threshold(0.2), "window": remask.parse_window("blocks:6"), "reuse": remask.parse_reuse(reuse)}
    plain, fixed = both(network(family), canvas(), **parts)
    same(plain, fixed)
    for one, other in zip(plain, fixed, strict=True):
        eligible = one.edit.write
        for name in ("confidence", "margin", "sampled_confidence", "entropy"):
            torch.testing.assert_close(getattr(other.prediction.raw, name)[eligible], getattr(one.prediction.raw, name)[eligible], rtol=1e-4, atol=1e-5)
        assert torch.equal(one.prediction.candidates[eligible], other.prediction.candidates[eligible])


@pytest.mark.parametrize("body", [None, Fused])
@pytest.mark.parametrize(
    ("decoder", "window", "reuse"), [("ancestral:steps=30", "blocks:6", "dual:inner=(unchanged)"), ("remdm:steps=12,strategy=loop,eta=0.1", "whole", "delayed:refresh=0")]
)
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_a_row_that_computes_nothing_for_a_while_keeps_its_keys_and_values(family, decoder, window, reuse, body):
    """Whatever the others compute meanwhile: in some passes all their positions, in others a few."""
    parts = {"decoder": remask.parse_decoder(decoder), "window": remask.parse_window(window), "reuse": remask.parse_reuse(reuse)}
    idle = 0
    for seed in range(2):
        plain, fixed = both(network(family, 2), canvas(new=18), body=body, seed=seed, **parts)
        same(plain, fixed)
        for one, other in zip(plain, fixed, strict=True):
            written = one.edit.write
            torch.testing.assert_close(other.prediction.raw.confidence[written], one.prediction.raw.confidence[written], rtol=1e-4, atol=1e-5)
        idle += sum(int((~step.active.any(1) & ~before.done).sum()) for before, step in itertools.pairwise(plain))
    assert idle


@pytest.mark.parametrize("body", [None, Fused])
@pytest.mark.parametrize("reuse", ["surelock:eps=0.1", "surelock:eps=0.2"])
def test_a_locked_position_whose_right_neighbour_is_computed_is_served_its_old_belief(reuse, body):
    """With shifted logits its state is made again, for the keys alone, also in passes over all positions; a decoder that remasks reads the belief."""
    parts = {"decoder": remask.parse_decoder("remdm:steps=12,strategy=loop,eta=0.1"), "reuse": remask.parse_reuse(reuse)}
    served = 0
    for seed in range(4):
        first = remask.Canvas.from_prompts([[3, 1, 4, 1, 5], [1, 5, 9, 2, 6]], max_new_tokens=18, mask_id=19)
        plain, fixed = both(network("dream", 2), first, body=body, seed=seed, **parts)
        same(plain, fixed)
        for one, other in zip(plain, fixed, strict=True):
            read = other.prediction.raw.confidence > 0
            served += int((read & ~one.active).sum())
            torch.testing.assert_close(other.prediction.raw.confidence[read], one.prediction.raw.confidence[read], rtol=1e-4, atol=1e-5)
    assert served


@pytest.mark.parametrize("body", [None, Fused])
@pytest.mark.parametrize("family", ["llada", "grouped", "dream"])
@pytest.mark.parametrize("reuse", ["fresh", "dual", "surelock:eps=0.1", "prefix"])
def test_padded_and_full_batches_compute_the_same(family, reuse, body):
    for prompts in ([[3, 1, 4], [1, 5, 9, 2, 6], [5]], [[3, 1, 4], [1, 5, 9]]):
        parts = {"decoder": remask.LowConfidence(steps=8), "window": remask.parse_window("blocks:6"), "reuse": remask.parse_reuse(reuse)}
        same(*both(network(family), canvas(prompts), body=body, **parts))


@pytest.mark.parametrize("reuse", ["fresh", "dual", "surelock:eps=0.1"])
@pytest.mark.parametrize("decoder", ["low_confidence", "threshold:0.2", "entropy_bound", "klass", "p2:steps=9", "starr"])
def test_what_follows_the_network_can_be_traced(monkeypatch, decoder, reuse):
    """Traced, not compiled: the compiler takes half a minute here."""
    traced = []
    monkeypatch.setattr("torch._inductor.compile", lambda graph, examples: traced.append(graph) or graph)
    parts = {"decoder": remask.parse_decoder(decoder), "window": remask.Blocks(6), "reuse": remask.parse_reuse(reuse), "shapers": (remask.Temperature(0.8),)}
    same(*both(network("llada"), canvas(), body=lambda model: Fused(model).joined(), seed=5, **parts))
    reads_logits = decoder.startswith(("klass", "p2"))
    assert len(traced) == (not reads_logits)


@pytest.mark.skipif(torch.cuda.is_available() or not has_triton(), reason="needs Triton and no GPU: the interpreter runs kernels on the CPU")
@pytest.mark.parametrize("few", [128, 0])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_norms_that_products_finish_compute_the_same(monkeypatch, family, few):
    """The kernels of few rows, in a whole decode. few: 0 lets even passes as small as these leave out what nobody reads of the last layer."""
    monkeypatch.setattr("remask.models.fused.FEW", few)
    counts = dict.fromkeys(("finished by a product", "finished in the mix"), 0)

    def linear_counted(normal, *more, **named):
        counts["finished by a product"] += normal.squares is not None
        return linear_kernel(normal, *more, **named)

    def mix_counted(normal, *more, **named):
        counts["finished in the mix"] += normal.squares is not None
        return mix_kernel(normal, *more, **named)

    def few_rows():
        monkeypatch.setattr("remask.kernels.layer.streams", lambda x, most=0: True)
        monkeypatch.setattr("remask.kernels.layer.added_twin", added_kernel)
        monkeypatch.setattr("remask.kernels.layer.linear_kernel", linear_counted)
        monkeypatch.setattr("remask.kernels.layer.mix_kernel", mix_counted)
        monkeypatch.setattr("remask.kernels.layer.WIDTHS", (body.head_width,))  # narrower than a GPU takes

    model, first = network(family), canvas()
    body, only, whole = Fused(model), torch.tensor([[3, 5]]).expand(len(first.tokens), -1), {"stores": True, "padded": True}
    with torch.inference_mode():
        expected = [body.whole(first, None, **whole)[0], body.whole(first, None, **whole, only=only)[0]]
        few_rows()
        for found, other in zip((body.whole(first, None, **whole)[0], body.whole(first, None, **whole, only=only)[0]), expected, strict=True):
            torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-4)
    layers = len(body.layers)
    assert counts == {"finished by a product": 2 * layers, "finished in the mix": 2 * (layers - 1)}
    same(*both(model, first, body=Fused, decoder=remask.Threshold(0.2), window=remask.Blocks(6), reuse=remask.Dual()))


def test_joined_weights_are_held_once_and_the_model_still_works():
    model, first = network("dream"), canvas()
    before = model.logits(first.tokens, first.real)
    body = Fused(model)
    assert torch.equal(model.logits(first.tokens, first.real), before)
    assert model.model["layers"][0].mlp.up_proj.weight.untyped_storage().data_ptr() == body.layers[0].gate_up.untyped_storage().data_ptr()


def test_other_families_have_no_fused_layers():
    for family in ("mdlm", "positions"):
        with pytest.raises(remask.RemaskError, match="leave out body="):
            Fused(network(family))


def test_a_session_serves_the_next_batch_and_what_was_handed_out_stays():
    model = network("llada")
    captured = Captured(model)
    first, second = canvas(), canvas(((7, 7, 1), (2, 5, 5, 2, 6), (8,)))
    parts = {"decoder": remask.Threshold(0.2), "window": remask.Blocks(6), "reuse": remask.SureLock(eps=0.1)}
    early = [(step, step.canvas.tokens.clone(), step.prediction.raw.confidence.clone()) for step in remask.denoise(captured, first, **parts)]
    same(list(remask.denoise(model, second, **parts)), list(remask.denoise(captured, second, **parts)))
    assert len(captured.sessions) == 1
    assert all(torch.equal(step.canvas.tokens, tokens) and torch.equal(step.prediction.raw.confidence, sure) for step, tokens, sure in early)


@pytest.mark.parametrize("reuse", ["fresh", "surelock"])
def test_a_session_leaves_the_canvases_it_was_given_alone(reuse):
    """A decoder that reads everywhere asks about what is real: the caller's own tensor."""
    model, decoder = chain_b(), remask.parse_decoder("local_leap")
    one, two = (remask.Canvas.from_prompts(prompts, max_new_tokens=4, mask_id=model.mask_id) for prompts in ([[3, 1, 4, 2], [1, 5]], [[1, 5], [3, 1, 4, 2]]))
    real, captured, found = one.real.clone(), remask.Captured(model), []
    for given in (one, two, one):
        found.append(list(remask.denoise(captured, given, decoder=decoder, reuse=remask.parse_reuse(reuse)))[-1].canvas.tokens)
    assert torch.equal(one.real, real)
    assert torch.equal(found[0], found[2])


def test_a_run_that_another_has_replaced_says_so():
    captured = Captured(network("llada"))
    first = remask.denoise(captured, canvas(), reuse=remask.Dual(), window=remask.Blocks(6))
    next(first)
    list(remask.denoise(captured, canvas(((7, 7, 1), (2, 5, 5, 2, 6), (8,))), reuse=remask.Dual(), window=remask.Blocks(6)))
    with pytest.raises(remask.RemaskError, match="another run of this shape"):
        list(first)


@pytest.mark.parametrize("cause", ["memory", "sessions", "caller"])
def test_a_run_whose_session_was_dropped_says_so(monkeypatch, cause):
    """Also where its shape was decoded again since: it would go on with what the other recorded, and end with masks."""
    model, parts = network("grouped"), {"decoder": remask.LowConfidence(), "reuse": remask.Dual(), "window": remask.Blocks(6)}
    captured = Captured(model, body=Fused(model), sessions=1 if cause == "sessions" else 4)
    replaying(monkeypatch, captured)
    for _ in range(3):
        list(remask.denoise(captured, canvas(new=18), **parts))
    first = remask.denoise(captured, canvas(new=18), **parts)
    next(first)
    if cause == "caller":
        captured.drop(*captured.sessions)
    elif cause == "memory":
        usual, once = Fused.whole, [True]
        monkeypatch.setattr(Fused, "whole", lambda *given, **more: full() if once and once.pop() else usual(*given, **more))
    list(remask.denoise(captured, canvas(new=6), **parts))
    for _ in range(3):
        list(remask.denoise(captured, canvas(new=18), seed=3, **parts))
    why = {
        "memory": "since memory did not suffice for another; finish",
        "sessions": r"since more shapes and plans were begun than sessions \(1\); .* raise sessions=",
        "caller": "by the caller",
    }
    with pytest.raises(remask.RemaskError, match=f"a run of 3 rows of 23 positions was dropped {why[cause]}"):
        list(first)


@pytest.mark.parametrize("reuse", ["fresh", "dual", "surelock:eps=0.1"])
def test_padding_anywhere_computes_the_same(reuse):
    tokens = torch.tensor([[0, 0, 3, 1, 4, 19, 19, 19, 19, 19, 0, 0, 0], [0, 0, 1, 5, 9, 2, 19, 19, 19, 19, 19, 0, 0]])
    first = remask.Canvas.from_prompts(tokens, mask_id=19, attention_mask=(torch.arange(13) >= 2).expand(2, -1) & (torch.arange(13) < torch.tensor([[10], [11]])))
    same(*both(network("grouped"), first, body=Fused, reuse=remask.parse_reuse(reuse)))


def test_a_session_that_is_dropped_leaves_its_memory_at_once():
    """A store is gigabytes, and the garbage collector doesn't know how large what it has not yet collected is."""
    captured = Captured(FusedModel(network("llada")), sessions=1)
    gc.collect()
    gc.disable()
    try:
        dropped = []
        for new in (6, 12):
            remask.decode(captured, [[3, 1]], max_new_tokens=new, decoder=remask.Threshold(0.2), reuse=remask.Dual())
            dropped += map(weakref.ref, captured.sessions.values())
        assert [each() is None for each in dropped] == [True, False]
    finally:
        gc.enable()


def test_sessions_are_bounded():
    captured = Captured(network("llada"), sessions=2)
    for new in (6, 12, 18):
        remask.decode(captured, [[3, 1]], max_new_tokens=new, decoder=remask.Threshold(0.2))
    assert [key[0] for key in captured.sessions] == [(1, 14), (1, 20)]


@pytest.mark.parametrize("body", [None, Fused])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_batches_of_nearly_one_length_share_what_is_recorded(family, body):
    model = network(family)
    captured = Captured(model, body=None if body is None else body(model), lengths=2)
    parts = {"decoder": remask.Threshold(0.2), "window": remask.Blocks(6), "reuse": remask.Dual(), "shapers": (remask.Temperature(0.8),)}
    for prompts, new in (([[3, 1, 4], [1, 5]], 30), ([[3, 1], [1, 5, 9, 2]], 30), ([[3, 1, 4, 1, 5], [9] * 10], 30), ([[3] * 20, [1]], 36)):
        first = canvas(prompts, new)
        plain, fixed = (list(remask.denoise(one, first, seed=3, **parts)) for one in (model, captured))
        length = first.shape[1]
        assert len(plain) == len(fixed)
        for one, other in zip(plain, fixed, strict=True):
            assert torch.equal(one.canvas.tokens, other.canvas.tokens[:, :length])
            assert torch.equal(one.forwards, other.forwards)
            assert torch.equal(one.positions, other.positions)
            assert not other.canvas.real[:, length:].any()
    assert [key[0] for key in captured.sessions] == [(2, 48), (2, 64)]


def test_a_canvas_is_padded_no_further_than_the_model_reaches():
    captured = Captured(network("llada", max_sequence_length=42), lengths=1)
    remask.decode(captured, [[3, 1]], max_new_tokens=38, decoder=remask.Threshold(0.2))
    assert [key[0] for key in captured.sessions] == [(1, 42)]


def test_ids_above_the_mask_are_known():
    model = network("llada", mask_token_id=12)
    tokens = [[3, 17, 4]]
    expected, found = (remask.decode(one, tokens, max_new_tokens=6, decoder=remask.Threshold(0.2)) for one in (model, Captured(model)))
    assert torch.equal(expected.tokens[0], found.tokens[0])


def test_what_cannot_be_captured_is_refused_before_the_first_pass(monkeypatch):
    model, passes = network("llada"), []
    monkeypatch.setattr(type(model), "hidden", lambda *given, **more: passes.append(given))
    for parts, match in (
        ({"decoder": remask.parse_decoder("wino")}, "asks for shadows.*leave out --captured"),
        ({"window": remask.parse_window("daedal")}, "lengthens its canvas.*leave out --captured"),
        ({"decoder": remask.parse_decoder("spaced:(low_confidence)")}, "^spaced:.* waits for the device.*leave out --captured"),
        ({"reuse": remask.parse_reuse("surelock:every=2")}, "^surelock:every=2 waits for the device.*leave out --captured"),
        ({"reuse": remask.parse_reuse("dual:inner=(surelock:every=2)")}, "^dual:inner=.* waits for the device.*leave out --captured"),
    ):
        with pytest.raises(remask.RemaskError, match=match):
            remask.decode(Captured(model), [[3, 1]], max_new_tokens=6, **parts)
    assert not passes


def test_early_stop_and_text_behave_as_ever(checkpoint):
    model = remask.load(checkpoint)
    plain, fixed = (remask.generate(one, ["12", "3456"], max_new_tokens=9, decoder=remask.LowConfidence(), window=remask.Blocks(4)) for one in (model, Captured(model)))
    assert [(one.tokens, one.stats.forwards) for one in plain] == [(one.tokens, one.stats.forwards) for one in fixed]


@pytest.mark.parametrize("bad", [{"graphs": 0}, {"sessions": 0}, {"sizes": 0}, {"lengths": 0}])
def test_room_for_nothing_is_refused(bad):
    with pytest.raises(remask.RemaskError, match=r"graphs is \d+, sessions \d+, sizes \d+ and lengths (\d+|None); all must be 1 or more"):
        Captured(network("llada"), **bad)


def test_a_canvas_without_masks_takes_no_pass():
    same(*both(network("llada"), canvas(new=0)))
    assert not list(remask.denoise(Captured(network("llada")), canvas(new=0)))


@pytest.mark.parametrize("small", ["computed", "asked"])
@pytest.mark.parametrize("body", [None, Fused])
def test_a_bucket_that_was_chosen_too_small_is_noticed(monkeypatch, body, small):
    """After the first pass, so that others keep what they need."""
    calls = []

    def chosen(count, length, **sizes):
        calls.append("computed" if sizes else "asked")
        return rung(count, length, **sizes) // (4 if calls[-1] == small and len(calls) > 1 else 1)

    monkeypatch.setattr("remask.captured.rung", chosen)
    with pytest.raises(remask.RemaskError, match="met more active positions than its bucket holds"):
        both(network("llada"), canvas(new=40), body=body, decoder=remask.LowConfidence(), reuse=remask.Dual())


def test_logits_are_refused_after_the_pass_and_a_nan_is_named():
    model = network("llada")
    step = next(iter(remask.denoise(Captured(model), canvas())))
    with pytest.raises(remask.RemaskError, match="keeps no logits"):
        _ = step.prediction.raw.probabilities
    with torch.no_grad():
        model.parts["ln_f"].weight.fill_(float("nan"))
    with pytest.raises(remask.RemaskError, match="NaN logits"):
        remask.decode(Captured(model), [[3, 1]], max_new_tokens=4)


def test_places_are_compacted_in_order_and_an_overflow_shows():
    active = torch.tensor([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    place, more = compact(active, 4)
    assert place.tolist() == [[1, 3, 4, 4], [0, 0, 0, 0], [0, 1, 2, 3]]
    assert more.tolist() == [False, False, True]


@pytest.mark.parametrize("shift", [0, 1])
def test_states_are_put_where_they_predict_and_a_row_without_any_keeps_its_own(shift):
    active = torch.tensor([[0, 0, 1, 1, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    computed = active | left_of(active, shift)
    place, _ = compact(computed, 4)
    kept, fresh = torch.zeros(2, 5, 1), 10.0 + place[..., None]
    found = put(kept, fresh, place, active, computed, shift)
    assert found[..., 0].tolist() == [[0, 0, 12 - shift, 13 - shift, 0], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize(("between", "waste", "most"), [(1, 1.0, 11), (2, 0.5, 20), (4, 0.25, 36), (8, 0.125, 64)])
def test_a_bucket_holds_what_it_is_chosen_for_and_little_more(between, waste, most):
    for length in (5, 40, 300, 3000):
        sizes = [rung(count, length, sizes=between) for count in range(length + 1)]
        assert all(count <= size <= max(count + 8, (1 + waste) * count) for count, size in enumerate(sizes))
        assert sizes == sorted(sizes)
        assert len(set(sizes)) <= most


@pytest.mark.parametrize("between", [1, 2, 3, 5, 7, 8, 9])
def test_buckets_are_multiples_of_eight_of_any_number_between_two_powers(between):
    sizes = [rung(count, 4096, sizes=between) for count in range(4097)]
    assert all(count <= size <= (1 + 1 / between) * count + 8 for count, size in enumerate(sizes))
    assert all(size % 8 == 0 for size in sizes)
    for power in (64, 256, 1024, 2048):
        assert len({size for size in sizes if power < size <= 2 * power}) <= between


def test_sizes_are_fine_where_positions_cost_time_and_few_where_weights_do():
    met = {}
    for rows, sizes in ((1, 8), (8, 2), (8, 4), (8, 8)):
        captured = Captured(network("llada"), sizes=sizes)
        steps = remask.denoise(captured, canvas([[3, 1, 4]] * rows, 60), reuse=remask.SureLock(eps=1e9, gate=100.0))
        met[rows, sizes] = {session.bucket.chosen for _ in steps for session in captured.sessions.values()} - {None}
    assert 40 in met[8, 4]
    assert 40 not in met[8, 2]
    assert met[1, 8] == met[8, 2] < met[8, 4] <= met[8, 8]


def test_copies_may_be_made_of_one_anothers_sources():
    one, other = torch.tensor([1, 2]), torch.tensor([3, 4])
    copied((one, other), (other, one))
    assert one.tolist() == [3, 4]
    assert other.tolist() == [1, 2]
    with pytest.raises(remask.RemaskError, match="changed its form"):
        copied((one, None), (one, other))


TIGHT = {"max_new_tokens": 12, "reuse": remask.Dual(), "window": remask.Blocks(6)}


def full(*_, **__):
    raise torch.OutOfMemoryError("out of memory")


def test_memory_that_does_not_suffice_names_the_batch_that_would_fit(monkeypatch):
    model = network("grouped")
    captured = Captured(model, body=Fused(model))
    monkeypatch.setattr(Fused, "chosen", full)
    with pytest.raises(remask.RemaskError, match=r"4 rows of 14 positions do not fit into the device's memory; use fewer rows \(--batch\)"):
        remask.decode(captured, [[3, 1]] * 4, **TIGHT)
    assert not captured.sessions, "nothing of it is kept"
    each = 14 * 4 * (2 * 3 * 2 * 8 + 32)  # 3 layers, 2 key heads of width 8, states of width 32
    for free, text in ((4 * each, r"about 2 would \(--batch 2\)"), (100 * each, r"about 3 would \(--batch 3\)"), (each, r"not even one would: .*--reuse fresh")):
        monkeypatch.setattr(Captured, "free", lambda captured, free=free: free)
        with pytest.raises(remask.RemaskError, match=text):
            remask.decode(captured, [[3, 1]] * 4, **TIGHT)
    with pytest.raises(remask.RemaskError, match="not even one would"):
        remask.decode(captured, [[3, 1]], **TIGHT)
    monkeypatch.setattr(Fused, "whole", full)
    for reuse, advised in (("fresh", False), ("surelock", True)):
        with pytest.raises(remask.RemaskError, match=r"not even one would: shorten the canvas") as error:
            remask.decode(captured, [[3, 1]], max_new_tokens=12, reuse=remask.parse_reuse(reuse))
        assert ("--reuse fresh" in str(error.value)) == advised


@pytest.mark.parametrize("pass_", ["whole", "chosen"])
def test_what_is_kept_for_other_runs_makes_room(monkeypatch, pass_):
    """In the first pass and in the second, before anything was handed out."""
    model = network("grouped")
    captured = Captured(model, body=Fused(model))
    for new in (6, 18):
        remask.decode(captured, [[3, 1]], max_new_tokens=new, reuse=remask.Dual())
    kept, usual = list(map(weakref.ref, captured.sessions.values())), getattr(Fused, pass_)
    monkeypatch.setattr(Fused, pass_, lambda *given, **more: full() if any(each() is not None for each in kept) else usual(*given, **more))
    gc.disable()
    try:
        found = remask.decode(captured, [[3, 1]] * 4, **TIGHT)
    finally:
        gc.enable()
    expected = remask.decode(model, [[3, 1]] * 4, **TIGHT)
    assert all(torch.equal(one, other) for one, other in zip(expected.tokens, found.tokens, strict=True))
    assert torch.equal(expected.positions, found.positions)
    assert [key[0] for key in captured.sessions] == [(4, 14)]


def test_a_run_of_which_a_step_was_handed_out_does_not_begin_again(monkeypatch):
    """And leaves nothing of the others either, so that what is said to fit does."""
    model = network("grouped")
    captured = Captured(model, body=Fused(model))
    remask.decode(captured, [[3, 1]], **TIGHT)
    steps = remask.denoise(captured, canvas(), reuse=remask.Dual(), window=remask.Blocks(6))
    next(steps)
    assert len(captured.sessions) == 2
    tries = []
    for name in ("whole", "chosen"):
        monkeypatch.setattr(Fused, name, lambda *given, **more: tries.append(1) or full())
    with pytest.raises(remask.RemaskError, match="do not fit"):
        next(steps)
    assert len(tries) == 1
    assert not captured.sessions


class Replayed:
    """A graph as the recorder sees one: recording changes nothing, and a replay writes into what recording returned."""

    def __init__(self, function, session):
        before = mapped(torch.clone, session.places)
        self.function, self.result = function, function()
        copied(session.places, before)

    def replay(self):
        copied(self.result, self.function())


def replaying(monkeypatch, captured):
    """Let its recorder record, by doubles: what it recorded, in order."""
    recorder, recorded = captured.recorder, []
    recorder.records = True
    monkeypatch.setattr(recorder, "aside", lambda function: function())

    def capture(function):
        graph = Replayed(function, function.__self__)
        recorded.append(graph)
        return graph, graph.result

    monkeypatch.setattr(recorder, "capture", capture)
    return recorded


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_passes_in_which_a_row_computes_nothing_are_replayed_in_place(monkeypatch, family):
    model = network(family, 2)
    captured = Captured(model, body=Fused(model))
    replaying(monkeypatch, captured)
    parts = {"decoder": remask.parse_decoder("ancestral:steps=30"), "reuse": remask.parse_reuse("dual:inner=(unchanged)"), "window": remask.Blocks(6)}
    for seed in range(3):
        same(list(remask.denoise(model, canvas(new=18), seed=seed, **parts)), list(remask.denoise(captured, canvas(new=18), seed=seed, **parts)))
    assert {bucket.idle for _, bucket in captured.recorder.graphs} == {False, True}


@pytest.mark.parametrize("few", [128, 0])
@pytest.mark.parametrize("reuse", ["fresh", "dual", "surelock:eps=100,gate=100"])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_recorded_passes_are_replayed_in_place_and_bounded(monkeypatch, family, reuse, few):
    """few: see above."""
    monkeypatch.setattr("remask.models.fused.FEW", few)
    model = network(family)
    captured = Captured(model, body=Fused(model), graphs=2)
    recorder, recorded = captured.recorder, replaying(monkeypatch, captured)
    parts = {"decoder": remask.LowConfidence(), "reuse": remask.parse_reuse(reuse), "window": remask.parse_window("whole" if "lock" in reuse else "blocks:6")}
    for prompts in (((3, 1, 4), (1, 5, 9)), ((2, 7, 1), (8, 2, 8)), ((6, 2, 8), (3, 1, 8))):
        same(list(remask.denoise(model, canvas(prompts), **parts)), list(remask.denoise(captured, canvas(prompts), **parts)))
        assert 0 < len(recorder.graphs) <= 2
    assert any(bucket.first for _, bucket in recorder.met), "the second run's first pass is one of them"
    assert len(recorded) > len(recorder.graphs) or reuse != "surelock:eps=100,gate=100", "locks shrink the buckets, so that graphs are dropped"
    captured.sessions.clear()
    recorder.forget(next(iter(recorder.graphs))[0])
    assert not recorder.graphs


def test_a_pass_that_was_no_replay_is_counted_for_ever(monkeypatch):
    """Also the first of a session, and those of sessions that are dropped since."""
    captured = Captured(network("llada"), sessions=1)
    parts = {"decoder": remask.LowConfidence(), "reuse": remask.Fresh(), "window": remask.Blocks(6)}
    list(remask.denoise(captured, canvas(), **parts))
    assert captured.slow == 0, "nothing is recorded on a CPU"
    captured.sessions.clear()
    replaying(monkeypatch, captured)
    counts, plans = [], (parts, {**parts, "window": remask.Blocks(4)})
    for plan in (parts, parts, parts, parts, *plans, *plans):
        before = captured.slow
        list(remask.denoise(captured, canvas(), **plan))
        counts.append(captured.slow - before)
    assert counts[0] > counts[2] >= 1, "the first pass of the second run is met, and in the third recorded"
    assert counts[3] == 0
    assert min(counts[4:]) == 0
    assert len(captured.sessions) == 1


def test_the_first_pass_of_a_session_is_counted_too(monkeypatch):
    captured = Captured(network("llada"))
    replaying(monkeypatch, captured)
    counts = []
    for _ in range(4):
        steps = list(remask.denoise(captured, canvas(((3, 1, 4),), 4), decoder=remask.Threshold(1e-9)))
        assert len(steps) == 1
        counts.append(captured.slow)
    assert counts == [1, 2, 3, 3], "made alone, met, recorded, replayed"

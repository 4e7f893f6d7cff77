"""Where no pass reads a state of another, the last layer makes keys and values of all that is computed, and the rest of what is asked about alone."""

from copy import copy
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import remask
from remask.captured import Captured
from remask.decoders.base import Decoder
from remask.kernels.attention import attend
from remask.models.fused import Fused, plain_layer
from remask.models.store import Chosen
from remask.reuse.surelock import divergence
from tests.networks import canvas, network
from tests.test_captured import both, same
from tests.test_waits import FULL, waits

FAMILIES = ("llada", "grouped", "dream")
COVERING = ["fresh", "prefix", "dual", "dual:refresh=2", "delayed:refresh=3", "vicinity:left=1,right=2,warmup=1", "dual:inner=(vicinity:left=2,right=0)"]
PADDED = ((3, 1, 4), (1, 5, 9, 2, 6, 5, 3, 5), (5,))


@pytest.fixture(params=["where it pays", "always"])
def trims(request, monkeypatch):
    """As few positions as there are here, and even where as many are asked about."""
    monkeypatch.setattr("remask.models.fused.FEW", 0)
    if request.param == "always":
        monkeypatch.setattr("remask.models.fused.TRIMMED", 99.0)


@pytest.fixture
def entering(monkeypatch):
    """How many rows each product that ends in a sum, two a layer, gets."""
    counts, added = [], remask.models.fused.added
    monkeypatch.setattr("remask.models.fused.added", lambda x, *rest: counts.append(len(x)) or added(x, *rest))
    return counts


def in_torch(model):
    """A compiled body, but for the compiler."""
    body = copy(Fused(model))
    body.many = plain_layer
    return body


def parts(decoder="threshold:0.2", window="blocks:6", reuse="fresh", **more):
    return {"decoder": remask.parse_decoder(decoder), "window": remask.parse_window(window), "reuse": remask.parse_reuse(reuse), **more}


@pytest.mark.usefixtures("trims")
@pytest.mark.parametrize("window", ["blocks:6", "whole", "blocks:4,origin=canvas"])
@pytest.mark.parametrize("reuse", COVERING)
@pytest.mark.parametrize("family", FAMILIES)
def test_whole_decodes_are_the_ordinary_ones(family, reuse, window):
    """Several blocks, padded rows and rows of one length; with the threshold rows are done at different passes."""
    model = network(family)
    for prompts, decoder in ((FULL, "low_confidence:steps=12"), (PADDED, "threshold:0.2"), (PADDED, "entropy_bound")):
        same(*both(model, canvas(prompts, 24), body=Fused, **parts(decoder, window, reuse)))


@pytest.mark.usefixtures("trims")
@pytest.mark.parametrize("reuse", ["fresh", "dual", "prefix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_early_ends_draws_and_padding_on_both_sides_are_the_same(family, reuse):
    model, place = network(family, 3), torch.arange(33)
    tokens = torch.where((place >= 5) & (place < 29), 19, torch.randint(18, (3, 33), generator=torch.Generator().manual_seed(1)))
    real = (place >= torch.tensor([[0], [2], [4]])) & (place < torch.tensor([[33], [29], [31]]))
    for first in (canvas(PADDED, 24), remask.Canvas.from_prompts(tokens, mask_id=19, attention_mask=real)):
        for early_stop in (False, True):
            same(*both(model, first, body=Fused, seed=5, **parts(reuse=reuse, early_stop=early_stop, shapers=(remask.Temperature(0.8), remask.TopK(6)))))


@pytest.mark.parametrize("reuse", ["fresh", "dual"])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_layers_by_the_compiler_end_in_one_of_few_rows(monkeypatch, entering, family, reuse):
    for name in ("FEW", "EAGER"):
        monkeypatch.setattr(f"remask.models.fused.{name}", 0)
    same(*both(network(family), canvas(PADDED, 24), body=in_torch, **parts(reuse=reuse)))
    assert entering
    assert set(entering) == {3 * 8}


@pytest.mark.parametrize(("family", "reuse", "decoder"), [("llada", "fresh", "threshold:0.2"), ("dream", "dual", "threshold:0.2"), ("dream", "prefix", "entropy_bound")])
def test_fewer_rows_enter_the_last_layer(monkeypatch, entering, family, reuse, decoder):
    monkeypatch.setattr("remask.models.fused.FEW", 0)
    captured, first = Captured(network(family), body=Fused(network(family))), canvas(FULL, 24)
    for _ in remask.denoise(captured, first, **parts(decoder, reuse=reuse)):
        pass
    passes = [entering[start : start + 6] for start in range(0, len(entering), 6)]
    assert passes[0] == [2 * 28] * 4 + [2 * 8] * 2
    for *many, one, other in passes:
        assert one == other == 16
        assert set(many) <= {size for size in range(16, 57, 2)}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_operations_left_out_are_those_of_the_others(monkeypatch, family, stored):
    """Queries in the attention, and the products out, gate, up and down of all but T positions: counted, and exact."""
    monkeypatch.setattr("remask.models.fused.FEW", 0)
    queries, attend_few = [], remask.models.fused.attend_few
    monkeypatch.setattr("remask.models.fused.attend_few", lambda query, *rest: queries.append(query.shape[2]) or attend_few(query, *rest))
    body, first, only = Fused(network(family)), canvas(FULL, 24), torch.tensor([[3, 5, 27], [4, 4, 9]])
    found = []
    for asked in (None, only):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            body.whole(first, None, stores=stored, padded=False, only=asked)
        found.append(sum(count for product, count in counter.get_flop_counts()["Global"].items() if "mm" in str(product)))
    rows, length, width, inner = 2, 28, 32, 48
    assert found[0] - found[1] == 2 * rows * (length - 3) * (width * width + 3 * width * inner)
    assert queries == [28, 28, 28, 28, 28, 3]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("few", [0, 10_000])
@pytest.mark.parametrize("family", FAMILIES)
def test_states_and_stores_are_those_of_a_whole_pass_in_float64(monkeypatch, family, few, stored, padded):
    """few: 10,000 makes all states, and chooses at the end."""
    monkeypatch.setattr("remask.models.fused.FEW", few)
    body, model = Fused(network(family)), network(family).double()
    first, only = canvas(PADDED if padded else FULL, 24), torch.tensor([[0, 1, 3, 24, 24], [0, 4, 9, 10, 27], [2, 2, 2, 2, 2]])
    only = only[: first.shape[0]]
    with torch.inference_mode():
        expected, other = model.forward(first, Chosen() if stored else None, None)
        expected = expected if not stored else Chosen((torch.arange(first.shape[1]) - model.shift).clamp(min=0).expand(first.shape)).take(expected)
        found, store = body.whole(first, None, stores=stored, padded=padded, only=only)
        near(found, Chosen(only).take(expected))
        if not stored:
            assert store is None
            return
        stored_alike(store, other, first.real)
        place = torch.tensor([[1, 3, 5, 20, 24, 25], [0, 4, 9, 10, 25, 25], [2, 2, 2, 2, 2, 2]])[: len(only)]
        which = torch.tensor([[5, 1], [0, 3], [0, 5]])[: len(only)]
        found = body.chosen(first, place, store, padded=padded, only=which)
        expected, other = model.forward(first, Chosen(place), other)
        near(found, Chosen(which).take(expected))
        stored_alike(store, other, first.real)


def near(found, expected):
    assert found.shape == expected.shape
    assert (found.double() - expected).norm() / expected.norm() < 1e-5


def stored_alike(store, other, real):
    for found, expected in zip((*store.keys, *store.values), (*other.keys, *other.values), strict=True):
        near(found.transpose(1, 2)[real], expected.transpose(1, 2)[real])


@pytest.mark.parametrize("stored", [False, True])
def test_kernels_make_the_same_states(monkeypatch, stored):
    """By Triton's interpreter; without a store keys are views among the queries."""
    pytest.importorskip("triton")
    monkeypatch.setattr("remask.models.fused.FEW", 0)
    body, first, only = Fused(network("grouped", n_heads=2, n_kv_heads=1)), canvas(FULL, 24), torch.tensor([[3, 5, 27], [4, 4, 9]])
    with torch.inference_mode():
        expected, _ = body.whole(first, None, stores=stored, padded=False)
        for module in ("layer", "attention"):
            monkeypatch.setattr(f"remask.kernels.{module}.runs_kernels", lambda x: True)
        monkeypatch.setattr("remask.kernels.layer.ATTENDED", 0)
        found, _ = body.whole(first, None, stores=stored, padded=False, only=only)
    near(found, Chosen(only).take(expected).double())


KEPT = [("fresh", "threshold:0.2", "llada", False), ("dual", "starr", "dream", False), ("dual:inner=(fresh)", "low_confidence", "llada", False),
        ("prefix:compat_first_token=true", "threshold:0.2", "llada", False), ("prefix:compat_first_token=true", "threshold:0.2", "dream", True),
        ("unchanged", "threshold:0.2", "llada", True), ("surelock", "threshold:0.2", "llada", True), ("dual:inner=(surelock)", "threshold:0.2", "llada", True),
        ("fresh", "local_leap", "llada", True), ("fresh", "starr:signals=distribution,neighbours=one", "llada", True)]  # fmt: skip


@pytest.mark.parametrize(("reuse", "decoder", "family", "kept"), KEPT)
def test_states_are_kept_only_where_a_later_pass_may_read_them(reuse, decoder, family, kept):
    captured = Captured(network(family))
    list(remask.denoise(captured, canvas(), **parts(decoder, reuse=reuse)))
    assert [(each.places.kept.hidden is not None) for each in captured.sessions.values()] == [kept]


@pytest.mark.parametrize("reuse", ["fresh", "dual"])
@pytest.mark.parametrize("settings", ["signals=distribution,neighbours=commit_conf", "spatial=cos,neighbours=one", "signals=distribution", "temporal_source=logit"])
@pytest.mark.parametrize("seed", [1, 3])
def test_decoders_that_read_distributions_write_the_same(settings, reuse, seed):
    """Of written neighbours as well, which are not among what is asked about unless the decoder says so."""
    decoder = f"starr:{settings},top=4,c_fast=0.6,c_slow=0.05,min_history=1,lam=0.2"
    same(*both(network("llada", seed), canvas(), **parts(decoder, reuse=reuse)))


@dataclass(frozen=True, eq=False)
class Reader(Decoder):
    """Writes the leftmost eligible position, and notes the logits of what is eligible."""

    everywhere = False
    mask_candidates: bool = False
    seen: list = field(default_factory=list)

    def init(self, canvas):
        return None

    def step(self, view, state):
        belief = view.prediction
        assert not any(each.logits.isnan().any() for each in (belief.raw, belief.shaped))
        self.seen.append([each.logits[view.eligible] for each in (belief.raw, belief.shaped)])
        return remask.Edit(view.eligible & (view.eligible.cumsum(1) == 1), belief.candidates), None


@pytest.mark.usefixtures("trims")
@pytest.mark.parametrize("shapers", [(), (remask.Temperature(0.7), remask.TopK(5))])
@pytest.mark.parametrize("reuse", ["fresh", "dual"])
def test_logits_may_be_read_where_something_is_eligible(reuse, shapers):
    model, found = network("dream"), []
    for one in (model, Captured(model, body=Fused(model))):
        decoder = Reader()
        list(remask.denoise(one, canvas(PADDED, 18), **{**parts(reuse=reuse, shapers=shapers), "decoder": decoder}))
        found.append(decoder.seen)
    assert len(found[0]) == len(found[1]) > 10
    for plain, captured in zip(*found, strict=True):
        torch.testing.assert_close(captured, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("trims")
@pytest.mark.parametrize("prompts", [FULL, PADDED])
@pytest.mark.parametrize("reuse", COVERING)
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_nothing_waits(monkeypatch, family, reuse, prompts):
    assert not waits(monkeypatch, network(family), body=Fused, reuse=reuse, prompts=prompts)


@pytest.mark.usefixtures("trims")
@pytest.mark.parametrize("reuse", ["dual", "prefix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_bucket_of_the_whole_canvas_beside_one_of_computed_positions(family, reuse):
    """Most of a short canvas is asked about, so the head runs at all of it, prompt included, which is not computed."""
    for prompts in ([[3, 1, 4], [1, 5, 9]], [[3, 1, 4], [5]]):
        same(*both(network(family), canvas(prompts, 12), body=Fused, **parts("low_confidence", "whole", reuse)))


@dataclass(frozen=True)
class Watched(remask.Delayed):
    """Covers what may be written, as Delayed does, and notes how far posteriors moved, which no rule here that covers reads."""

    seen: ClassVar[list[torch.Tensor]] = []

    @property
    def compares(self):
        return True

    def observe(self, scene, made, state):
        if made.before is not None:
            compared = made.active & (scene.step > 0)[:, None]
            self.seen.append(torch.where(compared, divergence(made.belief, made.before, compared), 0.0))
        return super().observe(scene, made, state)


@pytest.mark.usefixtures("trims")
@pytest.mark.parametrize("decoder", ["threshold:0.2", "ancestral:steps=30"])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_a_rule_that_covers_may_compare_posteriors(family, decoder):
    """Beliefs of the first pass are then needed where nothing may be written, those of the prompt too."""
    model, moved = network(family, 2), []
    for one in (model, Captured(model, body=Fused(model))):
        Watched.seen.clear()
        steps = list(remask.denoise(one, canvas(PADDED, 18), **{**parts(decoder), "reuse": Watched(refresh=2)}))
        moved.append([*Watched.seen])
        assert len(moved[-1]) == len(steps) - 1
    assert Watched().covers
    assert any((each > 1e-3).any() for each in moved[0])
    torch.testing.assert_close(moved[1], moved[0], rtol=1e-3, atol=1e-4)


def test_keys_among_queries_are_not_given_to_the_kernel(monkeypatch):
    """It reads them as if they lay together."""
    pytest.importorskip("triton")
    monkeypatch.setattr("remask.kernels.attention.runs_kernels", lambda x: True)
    mixed = torch.randn(2, 9, 3, 4, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    query, key, value = (part.transpose(1, 2) for part in mixed.unbind(2))
    found = remask.kernels.attention.attend_few(query[:, :, :5], key, value, None)
    torch.testing.assert_close(found, attend(query[:, :, :5], key, value, None), rtol=2e-2, atol=2e-2)

"""The reconstruction after STaRR: the worked example of its specification, and the settings at which it is a static threshold."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import remask
from remask.canvas import Canvas
from remask.decoders.base import View
from remask.decoders.starr import detrended_variance, quantile
from remask.prediction import Prediction
from remask.randomness import keyed_uniforms
from tests.chains import PROMPTS_B, chain_b

VOCABULARY = 4000


def logits_of(confidences, candidates):
    """(1, L, V): each position's candidate has its confidence, every other token an equal share of the rest."""
    chances = torch.tensor(confidences, dtype=torch.float64)[:, None].clamp(min=5e-4)
    rest = ((1 - chances) / (VOCABULARY - 1)).expand(-1, VOCABULARY).clone()
    rest[torch.arange(len(candidates)), torch.tensor(candidates)] = chances[:, 0]
    return rest.log().float()[None]


def see(decoder, state, tokens, confidences, candidates):
    canvas = Canvas.from_prompts([tokens], max_new_tokens=0, mask_id=VOCABULARY)
    canvas = replace(canvas, given=torch.zeros_like(canvas.given))
    logits = logits_of(confidences, candidates)
    zero = torch.zeros(1, dtype=torch.int64)
    view = View(canvas, Prediction.of(logits, logits, logits.argmax(-1)), canvas.masked, zero, zero, keyed_uniforms, torch.ones_like(canvas.given))
    state = decoder.init(canvas) if state is None else state
    edit, after = decoder.step(view, state)
    masked = view.eligible
    tau = decoder.threshold(decoder.temporal_signal(after), decoder.spatial_signal(after, view.prediction.raw.confidence, masked, view), after, masked)
    return edit.write[0].nonzero()[:, 0].tolist(), after, tau[0]


def test_the_worked_example():
    """Section 7.12: four passes over five positions; the candidate of the last one changes at the third."""
    mask, decoder = VOCABULARY, remask.STaRR()
    wrote, state, tau = see(decoder, None, [mask] * 5, [0.70, 0.80, 0.55, 0.65, 0.30], [1, 2, 3, 4, 5])
    assert wrote == [1]
    assert tau.tolist() == pytest.approx([0.9] * 5)
    wrote, state, tau = see(decoder, state, [mask, 2, mask, mask, mask], [0.72, 0.99, 0.60, 0.68, 0.20], [1, 2, 3, 4, 5])
    assert wrote == [0]
    assert tau[[0, 2, 3, 4]].tolist() == pytest.approx([0.675, 0.670833, 0.7625, 0.825], abs=1e-5)
    wrote, state, tau = see(decoder, state, [1, 2, mask, mask, mask], [0.99, 0.99, 0.74, 0.75, 0.40], [1, 2, 3, 4, 6])
    assert wrote == [3]
    assert tau[2:].tolist() == pytest.approx([0.803123, 0.752849, 0.9], abs=1e-5)
    wrote, state, tau = see(decoder, state, [1, 2, mask, 4, mask], [0.99, 0.99, 0.0, 0.99, 0.45], [1, 2, 3, 4, 6])
    assert wrote == [4]
    assert tau[[2, 4]].tolist() == pytest.approx([0.9, 0.7875], abs=1e-5)


def decode(decoder, window="blocks:16,origin=canvas"):
    return remask.decode(chain_b(), PROMPTS_B, max_new_tokens=46, decoder=remask.parse_decoder(decoder), window=remask.parse_window(window))


@pytest.mark.parametrize(
    ("starr", "static"),
    [
        ("starr:c_fast=0.8,c_slow=0.8", "threshold:0.8"),
        ("starr:p=0", "threshold:0.9"),
        ("starr:window=1", "threshold:0.9"),
        ("starr:sigma=inf,delta=inf,min_history=1", "threshold:0.6"),
        ("starr:reading=H2,c_fast=1,c_slow=1,tau_base=0.85", "threshold:0.85"),
        ("starr:reading=H3", "starr"),
        ("starr:reading=H3,slow_steps=0", "threshold:0.6"),
        ("starr:slow_steps=0", "starr"),
        ("starr:spatial=off", "starr:spatial=off,lam=0.1"),
    ],
)
def test_where_the_rule_is_another_one_exactly(starr, static):
    a, b = decode(starr), decode(static)
    assert torch.equal(a.forwards, b.forwards)
    assert all(torch.equal(x, y) for x, y in zip(a.tokens, b.tokens, strict=True))


def test_the_rule_lies_between_its_two_thresholds():
    fast, slow, between = (int(decode(text).forwards.sum()) for text in ("threshold:0.9", "threshold:0.6", "starr"))
    assert slow < between <= fast


SETTINGS = [
    *(f"starr:spatial={name}" for name in ("abs", "neg", "pos", "off", "z", "cos")),
    "starr:temporal=off", "starr:metric=var", "starr:detrend=diff", "starr:detrend=line", "starr:norm=quantile,p=0.5", "starr:combine=max",
    "starr:tau_max=0.97", "starr:reading=H2,c_fast=0.8,c_slow=1,p=0.5", "starr:reading=H3,fast_steps=2,slow_steps=4", "starr:neighbours=commit_conf",
    "starr:neighbours=one", "starr:fallback=argmax_margin", "starr:fallback=topk,at_least=2", "starr:reset_on_flip=false", "starr:carry_history=true",
    "starr:signals=distribution,top=8", "starr:temporal_source=logit,sigma=1",
]  # fmt: skip


@pytest.mark.parametrize("text", SETTINGS)
def test_every_switch_writes_everything_and_never_more_than_one_forward_a_token(text):
    result = decode(text)
    assert (result.forwards <= 46).all()
    assert not any((row == 8).any() for row in result.tokens)


def states():
    """Views of one decode, each with the trace of the steps before it: what a single state of the rule is tested on."""
    canvas, model = Canvas.from_prompts(PROMPTS_B[:6], max_new_tokens=20, mask_id=8), chain_b()
    before, decoder, state = canvas, remask.STaRR(), remask.STaRR().init(canvas)
    zero = torch.zeros(6, dtype=torch.int64)
    for seen in remask.denoise(model, canvas, decoder=decoder):
        logits = seen.prediction.raw.logits
        view = View(before, Prediction.of(logits, logits, logits.argmax(-1)), before.masked, zero, zero, keyed_uniforms, ~before.given)
        yield view, state
        _, state = decoder.step(view, state)
        before = seen.canvas


@pytest.mark.parametrize("text", [text for text in SETTINGS if "H2" not in text and "H3" not in text])
def test_signals_and_thresholds_stay_in_their_bounds_and_what_is_written_lies_between_the_static_rules(text):
    """Sections 7.5 to 7.7, for one and the same state, before the fallback; and one position at least is written."""
    decoder = remask.parse_decoder(text)
    high = decoder.tau_max or decoder.c_fast
    for view, trace in states():
        state = trace if decoder.init(view.canvas).tops is None else decoder.init(view.canvas)
        edit, after = decoder.step(view, state)
        confidence, masked = view.prediction.raw.confidence, view.eligible
        calm, apart = decoder.temporal_signal(after), decoder.spatial_signal(after, confidence, masked, view)
        tau = decoder.threshold(calm, apart, after, masked)[masked]
        assert calm.min() >= 0
        if decoder.temporal_source == "prob" and decoder.signals == "confidence":
            assert calm.max() <= (0.25 if decoder.metric == "var" else 0.5)
        assert apart.min() >= 0
        assert decoder.spatial == "z" or apart.max() <= 1
        assert decoder.c_slow - 1e-6 <= tau.min()
        assert tau.max() <= high + 1e-6
        assert not (edit.write & ~masked).any()
        rows = masked.any(1)
        assert edit.write.any(1)[rows].all(), "every row with masks makes progress"
        reached = (confidence >= decoder.threshold(calm, apart, after, masked)) & masked
        assert not (masked & (confidence >= high) & ~reached).any(), "what the upper threshold writes is written"
        assert not (reached & (confidence < decoder.c_slow)).any(), "what the lower one leaves is left"


def test_a_confidence_that_equals_the_threshold_is_enough_as_for_the_static_rule():
    """Section 7.11: >=, as in Fast-dLLM."""
    canvas = replace(Canvas.from_prompts([[2, 2]], max_new_tokens=0, mask_id=2), given=torch.zeros(1, 2, dtype=torch.bool))
    logits = torch.tensor([[[0.0, 0.0], [0.0, -4.0]]])
    zero = torch.zeros(1, dtype=torch.int64)
    view = View(canvas, Prediction.of(logits, logits, logits.argmax(-1)), canvas.masked, zero, zero, keyed_uniforms, ~canvas.given)
    for decoder in (remask.STaRR(c_fast=0.5, c_slow=0.5), remask.Threshold(0.5)):
        assert decoder.step(view, decoder.init(canvas))[0].write.tolist() == [[True, True]]
    strict = remask.Threshold(0.5, strict=True)
    assert strict.step(view, None)[0].write.tolist() == [[False, True]]


@pytest.mark.parametrize(("text", "passes"), [("starr", 29.7), ("threshold:0.9", 31.9), ("threshold:0.6", 23.6)])
def test_synthetic_traces_take_the_recorded_number_of_passes(text, passes):
    """Section 7.13: confidences of 32 positions that drift upwards over 40 passes, constant candidates; means of 300 traces."""
    rng, tokens = np.random.default_rng(0), 120
    drift = rng.normal(0.12, 0.35, (300, 40, 32)).cumsum(1) + rng.normal(-1, 1.2, (300, 1, 32))
    chances = torch.from_numpy(1 / (1 + np.exp(-drift))).clamp(0.02, 1 - 1e-6)
    decoder = remask.parse_decoder(text)
    empty = Canvas.from_prompts(torch.full((300, 32), tokens), mask_id=tokens)
    canvas, state, taken = empty, decoder.init(empty), torch.zeros(300)
    zero = torch.zeros(300, dtype=torch.int64)
    for number in range(40):
        rest = ((1 - chances[:, number]) / (tokens - 1)).log().float()
        logits = rest[..., None].expand(-1, -1, tokens).clone()
        logits[..., 0] = chances[:, number].log().float()
        view = View(canvas, Prediction.of(logits, logits, logits.argmax(-1)), canvas.masked, zero, zero, keyed_uniforms, ~canvas.given)
        taken += canvas.masked.any(1)
        edit, state = decoder.step(view, state)
        canvas = edit.apply(canvas)
    assert float(taken.mean()) == pytest.approx(passes, abs=0.5)


def test_detrended_variance_of_a_steady_rise_is_nothing():
    rise, counts = torch.tensor([0.7, 0.6, 0.5]).double(), torch.ones(3).double()
    assert float(detrended_variance(rise, counts, "none")) == pytest.approx(0.006667, abs=1e-6)
    assert float(detrended_variance(rise, counts, "diff")) == pytest.approx(0, abs=1e-12)
    assert float(detrended_variance(rise, counts, "line")) == pytest.approx(0, abs=1e-12)
    assert float(detrended_variance(torch.tensor([0.7, 0.5, 0.2]).double(), counts, "line")) > 1e-4


@pytest.mark.parametrize("radius", [1, 2, 7])
def test_dissimilarity_is_one_minus_the_cosine_with_the_mean_of_the_neighbours(radius):
    """Against whole distributions in float64, at both ends of the row, with neighbours that don't count and a place that has none."""
    generator = torch.Generator().manual_seed(1)
    chances = torch.rand(2, 8, 5, generator=generator, dtype=torch.float64).pow(4)
    chances = chances / chances.sum(-1, keepdim=True)
    counted = torch.tensor([[1, 1, 1, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0, 1, 0]]).bool()
    tops, ids = chances.topk(5, dim=-1)
    found = remask.STaRR(signals="distribution", radius=radius).dissimilarity(tops, ids, counted)
    assert found.max() > 0.5, "cosines below and above a half are met"
    for row in range(2):
        for place in range(8):
            near = [other for other in range(8) if other != place and abs(other - place) <= radius and counted[row, other]]
            expected = 0.0
            if near:
                mean = chances[row, near].mean(0)
                expected = 1 - float(chances[row, place] @ mean / (chances[row, place].norm() * mean.norm()))
            assert abs(float(found[row, place]) - expected) < 1e-12, (row, place)


def test_a_quantile_is_that_of_each_row_alone():
    values = torch.tensor([[1.0, 2.0, 3.0, 9.0], [4.0, 5.0, 6.0, 7.0]])
    among = torch.tensor([[True, True, True, False], [False, False, False, False]])
    assert quantile(values, among, 0.5).tolist() == [[2.0], [0.0]]


def test_end_of_text_keeps_the_static_threshold_when_asked():
    mask, made = VOCABULARY, []
    for guard in (False, True):
        decoder, state = remask.STaRR(eos_static=guard), None
        for _ in range(2):
            canvas = Canvas.from_prompts([[mask] * 3], max_new_tokens=0, mask_id=mask)
            canvas = replace(canvas, given=torch.zeros_like(canvas.given))
            logits = logits_of([0.7, 0.7, 0.7], [1, 7, 3])
            zero = torch.zeros(1, dtype=torch.int64)
            view = View(canvas, Prediction.of(logits, logits, logits.argmax(-1)), canvas.masked, zero, zero, keyed_uniforms, torch.ones_like(canvas.given), (7,))
            edit, state = decoder.step(view, decoder.init(canvas) if state is None else state)
        made.append(edit.write[0].tolist())
    assert made == [[True, True, True], [True, False, True]]


@pytest.mark.parametrize(("neighbours", "gaps"), [("masked", [0, 0]), ("commit_conf", [0.45, 0.55]), ("one", [0.5, 0.6])])
def test_written_neighbours_count_with_what_they_were_written_at_or_with_one(neighbours, gaps):
    mask, decoder = VOCABULARY, remask.STaRR(neighbours=neighbours, radius=1)
    wrote, state, _ = see(decoder, None, [mask] * 3, [0.5, 0.95, 0.4], [1, 2, 3])
    assert wrote == [1]
    canvas = replace(Canvas.from_prompts([[mask, 2, mask]], mask_id=mask), given=torch.zeros(1, 3, dtype=torch.bool))
    logits = logits_of([0.5, 0.99, 0.4], [1, 2, 3])
    zero = torch.zeros(1, dtype=torch.int64)
    view = View(canvas, Prediction.of(logits, logits, logits.argmax(-1)), canvas.masked, zero, zero, keyed_uniforms, ~canvas.given)
    found = decoder.spatial_signal(state, view.prediction.raw.confidence, view.eligible, view)
    assert found[0, [0, 2]].tolist() == pytest.approx(gaps, abs=1e-4)

"""What each decoder's specification says must come out exactly: schedules, counts of forwards, rates, limit cases."""

import itertools
import math
import re
import sys

import pytest
import torch

import remask
from remask.decoders.dus import groups
from remask.decoders.joint_threshold import PRESETS
from remask.shapers import TopP
from remask.spec import content_settings
from tests.chains import PROMPTS_B, chain_7, chain_b


def decode_b(decoder, window="whole", **more):
    return remask.decode(chain_b(), PROMPTS_B, max_new_tokens=46, decoder=remask.parse_decoder(decoder), window=remask.parse_window(window), **more)


@pytest.mark.parametrize(
    ("decoder", "window", "forwards"),
    [
        ("entropy_bound:gamma=0.1", "whole", 1076),
        ("klass", "blocks:16,origin=canvas", 433),
        ("hierarchy", "blocks:16,origin=canvas", 223),
        ("dus", "blocks:16,origin=canvas", 288),
        ("slow_fast:slow_tau=0.9", "whole", 207),
        ("credit:reset=false", "blocks:16,origin=canvas", 127),
        ("pc:steps=23", "whole", 552),
        ("halton:steps=23", "whole", 552),
        ("joint_threshold:write_tau=0.5,edit_tau=0.9,check=false", "blocks:16,origin=canvas", 87),
        ("remdm_llada:steps=23,loops=5", "whole", 624),
        ("core:steps=23,every=8,reviews=2,suspects=6", "whole", 624),
        ("wino:tau=0.6,check=0.5,share=1", "blocks:16,origin=canvas", 104),
    ],
)
def test_forwards_on_chain_b_match_the_recorded_runs(decoder, window, forwards):
    """Totals over the 24 prompts (recorded runs of the specification; ties or rounding may move a total by a few units)."""
    result = decode_b(decoder, window)
    assert abs(int(result.forwards.sum()) - forwards) <= 4
    assert float(chain_b().log_likelihood(torch.stack(result.tokens)).mean() / 48) == pytest.approx(-0.1905, abs=3e-3)


def test_saber_stays_within_its_recorded_range():
    """7 to 23 forwards a prompt. The total is left out: confidences here take few values, so that a mean is often equal to the next one within rounding."""
    forwards = decode_b("saber", "blocks:16,origin=canvas").forwards
    assert (int(forwards.min()), int(forwards.max())) == (7, 23)


def test_p2_takes_its_steps():
    result = decode_b("p2:steps=24", shapers=(remask.Temperature(1.0),), seed=1)
    assert int(result.forwards.sum()) == 24 * 24


@pytest.mark.parametrize(
    ("base", "skip", "length", "sizes"),
    [
        (2, 1, 8, [2, 2, 4]),
        (2, 1, 16, [2, 2, 4, 8]),
        (2, 1, 32, [2, 2, 4, 8, 16]),
        (2, 1, 64, [2, 2, 4, 8, 16, 32]),
        (2, 1, 256, [2, 2, 4, 8, 16, 32, 64, 128]),
        (2, 2, 32, [4, 4, 8, 16]),
        (2, 1, 24, [2, 2, 4, 16]),
        (2, 1, 20, [2, 2, 8, 8]),
        (3, 1, 8, [4, 4]),
        (3, 1, 16, [4, 12]),
        (3, 1, 32, [4, 9, 19]),
        (3, 1, 64, [4, 6, 27, 27]),
        (3, 1, 24, [3, 9, 12]),
        (3, 1, 256, [4, 9, 27, 54, 162]),
        (4, 1, 32, [4, 12, 16]),
        (4, 1, 64, [4, 12, 48]),
        (2, 1, 1, [1]),
        (2, 1, 5, [3, 2]),
    ],
)
def test_dus_writes_the_published_groups(base, skip, length, sizes):
    found = groups(torch.tensor([length]), 256, base, skip, merge=False)[0]
    assert found[found >= 0].bincount().tolist() == sizes
    assert (found[length:] == -1).all()


@pytest.mark.parametrize(("length", "sizes"), [(5, [5]), (6, [2, 4]), (7, [3, 4]), (9, [3, 2, 4]), (10, [2, 4, 4]), (16, [2, 2, 4, 8])])
def test_the_merge_rule_of_dus(length, sizes):
    found = groups(torch.tensor([length]), 16, 2, 1, merge=True)[0]
    assert found[found >= 0].bincount().tolist() == sizes


def test_the_rounds_of_dus_end_where_a_stride_jumps_over_one():
    assert groups(torch.tensor([6]), 6, 3, 1, merge=False).tolist() == [[0, 1, 0, 1, 0, 1]]


def test_slow_fast_looks_to_the_end_where_nothing_is_sure():
    """One slow step writes the best; no position reaches `reach`, so the fast phase is about everything, and at tau=0 it writes it."""
    result = decode_b("slow_fast:reach=2,slow_steps=0,tau=0")
    assert result.forwards.tolist() == [2] * 24


def joint_gaps(law, plan):
    """Conditional total correlation of every group of a plan: sum of entropies given the earlier groups minus their joint entropy, in nats."""

    def entropy(axes):
        rest = tuple(axis for axis in range(law.dim()) if axis not in axes)
        return float(torch.special.entr(law.sum(rest) if rest else law).sum())

    known, gaps = [], []
    for group in plan:
        before = entropy(known)
        gaps.append(sum(entropy([*known, place]) - before for place in group) - (entropy([*known, *group]) - before))
        known += group
    return gaps


def test_dilated_groups_of_a_markov_chain_share_nothing_once_midpoints_are_known():
    transition = torch.full((3, 3), 0.1, dtype=torch.float64) + 0.7 * torch.eye(3, dtype=torch.float64)
    law = torch.full((3,), 1 / 3, dtype=torch.float64)
    for _ in range(7):
        law = law[..., None] * transition
    plan = [(groups(torch.tensor([8]), 8, 2, 1, merge=False)[0] == round_).nonzero()[:, 0].tolist() for round_ in range(3)]
    assert joint_gaps(law, plan) == pytest.approx([0.0544039, 0, 0], abs=1e-6)
    assert sum(joint_gaps(law, [[0, 1], [2, 3], [4, 5, 6, 7]])) == pytest.approx(1.690110, abs=1e-6)
    assert joint_gaps(law, [list(range(8))])[0] == pytest.approx(3.217063, abs=1e-6)


def test_dus_takes_its_rounds_whatever_the_threshold_and_writes_every_position_once():
    for threshold in (0.0, 0.6, 0.99):
        canvas = remask.Canvas.from_prompts([[0], [3]], max_new_tokens=32, mask_id=8)
        steps = list(remask.denoise(chain_b(), canvas, decoder=remask.DUS(threshold=threshold), window=remask.parse_window("blocks:16")))
        assert steps[-1].forwards.tolist() == [8, 8]
        assert torch.stack([seen.edit.write for seen in steps]).sum(0)[:, 1:].eq(1).all()


def test_the_spacing_filter_relaxes_with_the_masks_and_keeps_its_distance():
    canvas = remask.Canvas.from_prompts([[2]], max_new_tokens=32, mask_id=8)
    decoder = remask.parse_decoder("spaced:inner=(threshold:0.0)")
    before = canvas
    for seen in remask.denoise(chain_b(), canvas, decoder=decoder, window=remask.parse_window("blocks:32")):
        places, left = seen.edit.write[0].nonzero()[:, 0], int(before.masked.sum())
        assert len(places) >= 1
        assert (places.diff() >= max(2, left * 8 // 32)).all()
        before = seen.canvas
    open_ = [remask.decode(chain_b(), PROMPTS_B, max_new_tokens=46, decoder=remask.parse_decoder(text)).tokens for text in ("threshold:0.7", "spaced:inner=(threshold:0.7),g0=0")]
    assert all(torch.equal(a, b) for a, b in zip(*open_, strict=True))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("local_leap:tau=0.8,near=0.8", "threshold:0.8"),
        ("entropy_bound:gamma=1e9", "threshold:0"),
        ("hierarchy:tau=0.8,low=2", "threshold:0.8,strict=true"),
        ("entropy_bound:gamma=0", "entropy"),
        ("credit:alpha=0,tau=0.8", "threshold:0.8,strict=true"),
        ("prophet:early=1e12,middle=1e12,late=1e12", "low_confidence"),
        ("prophet:early=-1,middle=-1,late=-1", "threshold:0"),
        ("pc:lam=0,alpha=1e9", "low_confidence"),
        ("joint_threshold:write_tau=0.8,edit_tau=1", "threshold:0.8,strict=true"),
        ("core:reviews=0", "low_confidence"),
        ("wino:tau=0.8,check=0,share=0,least=3", "threshold:0.8,strict=true,at_most=3"),
    ],
)
def test_limit_cases_are_the_simpler_decoder(first, second):
    """Identities between decoders at the ends of their parameters."""
    a, b = (decode_b(text, "blocks:16,origin=canvas") for text in (first, second))
    assert all(torch.equal(x, y) for x, y in zip(a.tokens, b.tokens, strict=True))
    assert torch.equal(a.forwards, b.forwards)


def test_klass_without_its_kl_limit_is_a_threshold():
    a, b = decode_b("klass:tau=0.8,eps=1e9,history=1", "blocks:16,origin=canvas"), decode_b("threshold:0.8,strict=true", "blocks:16,origin=canvas")
    assert torch.equal(a.forwards, b.forwards)
    assert all(torch.equal(x, y) for x, y in zip(a.tokens, b.tokens, strict=True))


STRATEGIES = ["cap", "rescale", "conf", "switch", "loop"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_remdm_rates_are_probabilities_and_keep_the_share_of_masks(strategy):
    """Every strategy's chances lie in [0, 1], and a mask share of 1 - alpha_t becomes 1 - alpha_s (eq. 6)."""
    decoder = remask.ReMDM(steps=64, strategy=strategy)
    here, there, sigma = decoder.rates(torch.arange(64))
    for share in (1.0,) if strategy != "conf" else (0.0, 0.3, 1.0):
        again = sigma * share
        chance = (there - (1 - again) * here) / (1 - here)
        assert float(chance.min()) > -1e-12
        assert float(chance.max()) < 1 + 1e-12
        assert float(again.min()) >= 0
        assert float(again.max()) <= 1
        left = (1 - here) * (1 - chance) + here * again
        assert torch.allclose(left, 1 - there, atol=1e-12)


def test_remdm_without_remasking_is_ancestral():
    decoder = remask.ReMDM(steps=50, eta=0.0)
    here, there, _ = decoder.rates(torch.arange(50))
    t = 1 - torch.arange(50).double() * (1 - 1e-5) / 50
    s = 1 - torch.arange(1, 51).double() * (1 - 1e-5) / 50
    assert torch.allclose((there - here) / (1 - here), (t - s) / t, atol=1e-12)
    assert not any(seen.edit.remask.any() for seen in remask.denoise(chain_b(), remask.Canvas.from_prompts([[1]], max_new_tokens=12, mask_id=8), decoder=decoder))


def test_the_phases_of_the_loop_strategy():
    decoder = remask.ReMDM(steps=1024, strategy="loop")
    here, _, sigma = decoder.rates(torch.arange(1024))
    assert int((sigma > 0).sum()) == 512
    first = int((sigma > 0).nonzero()[0])
    assert (first, 1024 - 512 - first) == (461, 51)
    assert (here[sigma > 0] == 0.9).all()


def test_a_dropped_crossing_token_is_remdms_nucleus():
    logits = torch.tensor([[[0.5, 0.3, 0.2]]]).log()
    assert TopP(0.9, crossing="drop")(logits).isfinite().sum() == 2
    assert TopP(0.9)(logits).isfinite().sum() == 3
    assert TopP(0.1, crossing="drop")(logits).isfinite().sum() == 1


def total_variation(decoder, rows=20000, **more):
    result = remask.decode(chain_7(), torch.full((rows, 4), 3), decoder=decoder, shapers=(remask.Temperature(1.0),), **more)
    law = chain_7().log_likelihood(torch.tensor(list(itertools.product(range(3), repeat=4)))).exp()
    codes = (torch.stack(result.tokens) * torch.tensor([27, 9, 3, 1])).sum(1)
    return float(0.5 * (torch.bincount(codes, minlength=81) / rows - law).abs().sum())


def test_first_hitting_samples_exactly_and_one_position_per_forward():
    assert total_variation(remask.FirstHitting()) < 0.025
    assert math.isclose(float(decode_b("first_hitting").forwards.double().mean()), 46)


@pytest.mark.parametrize("strategy", ["cap", "rescale", "conf"])
def test_remdm_comes_near_the_exact_law_with_many_steps(strategy):
    """Remasking leaves the marginals of an exact denoiser: with many steps the whole law is approached, with few it is not."""
    assert total_variation(remask.ReMDM(steps=128, strategy=strategy, eta=0.02), rows=10000) < 0.04
    assert total_variation(remask.ReMDM(steps=2, strategy=strategy, eta=0.02), rows=10000) > 0.06


def corrupted(count=5):
    """A canvas whose written tokens all come from the chain's likeliest continuation, but for `count` of them; and which."""
    best = remask.decode(chain_b(), [[6, 5]], max_new_tokens=46, decoder=remask.LowConfidence()).tokens[0]
    places = torch.arange(6, 46, 40 // count)
    wrong = best.clone()
    wrong[places] = (wrong[places] + 3) % 8
    return best, wrong, places


@pytest.mark.parametrize("text", ["joint_threshold:write_tau=0.9,edit_tau=0.9", "joint_threshold:write_tau=0.9,edit_tau=0.9,remask=true"])
def test_editing_mends_what_does_not_fit(text):
    """Wrong tokens written behind the decoder's back are put right; without edits they stay."""
    best, wrong, places = corrupted()

    def finish(decoder):
        canvas = remask.Canvas.from_prompts([[6, 5]], max_new_tokens=46, mask_id=8)
        tokens = wrong.clone()
        tokens[-1] = 8
        *_, last = remask.denoise(chain_b(), remask.Canvas(tokens[None], canvas.given, canvas.real, 8), decoder=decoder)
        return last.canvas.tokens[0]

    mended, kept = finish(remask.parse_decoder(text)), finish(remask.Threshold())
    assert (mended[places] == best[places]).all()
    assert (kept[places] == wrong[places]).all()


def test_core_masks_suspects_jointly_and_only_the_worst_stay_masked():
    canvas = remask.Canvas.from_prompts([[6, 5]], max_new_tokens=46, mask_id=8)
    steps = list(remask.denoise(chain_b(), canvas, decoder=remask.CoRe(every=10, suspects=4, remask=1, reviews=2)))
    asked = [k for k, seen in enumerate(steps) if seen.edit.remask.any()]
    assert asked == [9, 20]
    for k in asked:
        suspects = steps[k].edit.remask[0]
        assert int(suspects.sum()) == 4
        assert int((steps[k + 1].canvas.tokens[0] == 8)[suspects].sum()) == 1
        back = suspects & steps[k + 1].edit.write[0]
        assert torch.equal(steps[k + 1].canvas.tokens[0][back], steps[k - 1].canvas.tokens[0][back])
    assert len(steps) == 46 + 2 + 2


def test_halton_falls_into_the_widest_gap():
    canvas = remask.Canvas.from_prompts([[2]], max_new_tokens=8, mask_id=8)
    places = [int(seen.edit.write[0].nonzero()[0, 0]) - 1 for seen in remask.denoise(chain_b(), canvas, decoder=remask.Halton())]
    assert places == [0, 4, 2, 6, 1, 5, 3, 7]


def test_prophet_writes_all_when_two_thirds_are_written(monkeypatch):
    """The recorded run changes its gap at 2/3 of the canvas, the published code at 0.67, which here is one token later."""
    assert decode_b("prophet:of=canvas").forwards.tolist() == [32] * 24
    monkeypatch.setattr(sys.modules["remask.decoders.prophet"], "PHASES", (1 / 3, 2 / 3))
    assert int(decode_b("prophet:of=canvas").forwards.sum()) == 744


def test_prophet_looks_at_the_answer_only():
    """A row whose end is sure and whose middle is open: a gap between the two means is enough for the end alone."""
    row = [0, 8, 0, 8, 2, 8, 8]
    best = chain_b().logits(torch.tensor([row]))[0].topk(2).values
    gap = (best[:, 0] - best[:, 1])[[1, 3, 5, 6]]
    needed = float((gap.mean() + gap[2:].mean()) / 2)
    assert gap[2:].mean() > gap.mean()
    every = f"early={needed},middle={needed},late={needed}"
    assert int(remask.decode(chain_b(), [row], decoder=remask.parse_decoder(f"prophet:{every},answer=tail,width=2")).forwards) == 1
    assert int(remask.decode(chain_b(), [row], decoder=remask.parse_decoder(f"prophet:{every}")).forwards) > 1


def test_a_smooth_gap_passes_through_the_three_given_ones():
    smooth, steps = remask.Prophet(early=8, middle=4, late=2, smooth=True), remask.Prophet(early=8, middle=4, late=2)
    assert smooth.gap(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]).double()).tolist() == [8, 6, 4, 3, 2]
    assert steps.gap(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]).double()).tolist() == [8, 8, 4, 2, 2]


def test_a_background_law_of_equal_counts_is_none_and_common_tokens_wait(tmp_path):
    """-p log background: of two equally sure tokens the rarer one is written first."""

    def order(counts):
        (tmp_path / "counts.json").write_text(str(counts))
        decoder = remask.parse_decoder(f"pc:lam=0,background={tmp_path / 'counts.json'}")
        canvas = remask.Canvas.from_prompts([[6, 5]], max_new_tokens=20, mask_id=8)
        return [int(seen.edit.write[0].nonzero()[0, 0]) for seen in remask.denoise(chain_b(), canvas, decoder=decoder)]

    plain = [
        int(seen.edit.write[0].nonzero()[0, 0]) for seen in remask.denoise(chain_b(), remask.Canvas.from_prompts([[6, 5]], max_new_tokens=20, mask_id=8), decoder=remask.PC(lam=0))
    ]
    assert order([1] * 8) == plain
    best = remask.decode(chain_b(), [[6, 5]], max_new_tokens=20).tokens[0]
    common = int(best[plain[0]])
    counts = [1] * 8
    counts[common] = 10_000
    late = order(counts)
    assert all(int(best[place]) != common for place in late[:5])
    with pytest.raises(remask.RemaskError, match="one per token id"):
        remask.PC(background=str(tmp_path / "absent.json"))
    with pytest.raises(remask.RemaskError, match="counts 3 tokens"):
        order([1, 1, 1])
    for none in ([[1, 2]], [-1, 2], [0, 0], 5):
        with pytest.raises(remask.RemaskError, match=r"holds no list of counts; background is a JSON file with a list of numbers from 0"):
            order(none)
    for broken in ("[1, 2", [[1], [2, 3]], '{"a": 1}'):
        with pytest.raises(remask.RemaskError, match=r"cannot read .*; background is a JSON file with a list of counts, one per token id"):
            order(broken)


def test_what_a_part_read_is_noted_by_its_content_however_deep_it_stands(tmp_path):
    found = []
    for name, counts in (("a.json", [1, 2, 3]), ("b.json", [1, 2, 3]), ("a.json", [3, 2, 1])):
        (tmp_path / name).write_text(str(counts))
        parts = {"decoder": remask.parse_decoder(f"spaced:inner=(pc:lam=0,background={tmp_path / name}),g0=3"), "window": remask.Blocks(4)}
        found.append(content_settings(parts))
    assert found[0] == found[1] != found[2]
    assert re.fullmatch(r"spaced:inner=\(pc:lam=0\.0,background=[0-9a-f]{12}\),g0=3.*", found[0]["decoder_content"])
    assert [*found[0]] == ["decoder_content"]
    assert content_settings({"decoder": remask.PC(), "reuse": remask.Dual()}) == {}


def test_a_background_law_is_what_its_file_held_when_the_part_was_made(tmp_path):
    """Two parts of one path are then equal only if they are of the same counts, else an engine would step rows of both by one of them."""
    file = tmp_path / "counts.json"
    logits = torch.tensor([[[0.0, 3.0, 0.0]]])

    def made(counts):
        file.write_text(str(counts))
        return remask.PC(background=str(file))

    def share(part):
        return math.exp(-float(part.surprise(logits)))

    one = made([1, 1, 2])
    other = made([1, 2, 1])
    again = made([1, 1, 2])
    assert [share(part) for part in (one, other, again)] == pytest.approx([0.25, 0.5, 0.25])
    assert (one == again, hash(one) == hash(again), one == other) == (True, True, False)
    assert remask.PC() == remask.PC() != one
    file.unlink()
    assert share(one) == pytest.approx(0.25)


def test_the_presets_of_the_joint_threshold_are_parts():
    for part in PRESETS.values():
        assert remask.parse_decoder(remask.spec(part)) == part

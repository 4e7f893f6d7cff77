"""DAEDAL's growing window: recorded runs, where it inserts, and that everything indexed by position moves along."""

import itertools
from dataclasses import fields, is_dataclass

import pytest
import torch
from torch import Tensor

import remask
from remask.canvas import PADDING
from remask.denoise import Plan, grown, start, step
from remask.spec import parse_decoder, parse_reuse, parse_window
from remask.trace.record import Trace, record, replay
from remask.windows.daedal import insertion
from tests.chains import PROMPTS_B, chain_b
from tests.networks import network

MASK = 8
RESTLESS = "daedal:eos=0,block=6,first=0,enough=2,low=0.95,factor=4,most=30"
"""Never sure of its end, so that a row grows after every pass that leaves something doubtful."""
PROBING = "daedal:eos=0,block=6,first=0.2,look=4,enough=2,low=0.9,factor=3,tail=2,most=30"
PROMPTS = [[0, 1], [3, 4, 5, MASK, 2], [7], [1, MASK, MASK, 6]]


def run(window, prompts=PROMPTS, seed=5, decoder="threshold:tau=0.9,strict=true", reuse="fresh", model=None, new=12):
    model = model or chain_b()
    canvas = remask.Canvas.from_prompts(prompts, max_new_tokens=new, mask_id=model.mask_id)
    return canvas, list(remask.denoise(model, canvas, decoder=parse_decoder(decoder), window=parse_window(window), reuse=parse_reuse(reuse), seed=seed))


def test_forwards_on_chain_b_match_the_recorded_run():
    window = parse_window("daedal:eos=0,block=16,origin=canvas,first=0")
    result = remask.decode(chain_b(), PROMPTS_B, max_new_tokens=46, decoder=remask.Threshold(0.9, strict=True), window=window)
    assert int(result.forwards.sum()) == 228
    assert all(len(row) == 48 for row in result.tokens)


@pytest.mark.parametrize("off", ["enough=0", "low=0"])
def test_without_growth_it_is_a_window_of_blocks(off):
    plain, blocks = run(f"daedal:eos=0,block=6,first=0,{off}")[1], run("blocks:6")[1]
    assert torch.equal(plain[-1].canvas.tokens, blocks[-1].canvas.tokens)
    assert torch.equal(plain[-1].forwards, blocks[-1].forwards)


@pytest.mark.parametrize("decoder", ["threshold:tau=0.9,strict=true", "low_confidence", "starr", "saber", "wino", "credit", "klass", "remdm:steps=9", "core:every=2,suspects=3"])
@pytest.mark.parametrize("window", [RESTLESS, PROBING])
def test_the_laws_hold_while_rows_grow(window, decoder):
    first, steps = run(window, decoder=decoder)
    assert any(seen.source is not None for seen in steps), "something grows here"
    before, finished = first, torch.zeros(len(PROMPTS), dtype=torch.bool)
    for seen in steps:
        then = before if seen.source is None else before.moved(seen.source)
        assert torch.equal(seen.canvas.given, then.given), "the given flags move with their tokens"
        assert torch.equal(seen.canvas.tokens[then.given & then.real], then.tokens[then.given & then.real]), "given tokens never change"
        assert torch.equal(seen.canvas.tokens[finished], then.tokens[finished]), "a finished row is frozen"
        assert not seen.active[finished].any()
        assert ((seen.canvas.real & ~seen.canvas.given).sum(1) <= 30).all()
        before, finished = seen.canvas, seen.done
    assert not before.masked.any()
    given = [[token for token in prompt if token != MASK] for prompt in PROMPTS]
    assert [row[real & kept].tolist() for row, real, kept in zip(before.tokens, before.real, before.given, strict=True)] == given


@pytest.mark.parametrize("reuse", ["fresh", "unchanged", "dual", "surelock:eps=0.5,gate=80"])
@pytest.mark.parametrize("window", [RESTLESS, PROBING])
@pytest.mark.parametrize("family", ["chain", "llada", "dream"])
def test_rows_grow_each_by_itself(family, window, reuse):
    model = chain_b() if family == "chain" else network(family)
    prompts = PROMPTS if family == "chain" else [[3, 1, 4], [1, 5, 9, 2, 6], [5], [2, 19, 19, 7]]
    decoder = "threshold:tau=0.3" if family != "chain" else "threshold:tau=0.9"
    _, together = run(window, prompts, [5, 6, 7, 8], decoder, reuse, model)
    last = together[-1]
    assert len(set(last.canvas.real.sum(1).tolist())) > 1, "rows of different length"
    for row, prompt in enumerate(prompts):
        alone = run(window, [prompt], [5 + row], decoder, reuse, model)[1][-1]
        assert torch.equal(last.canvas.tokens[row][last.canvas.real[row]], alone.canvas.tokens[0])
        assert (int(last.forwards[row]), int(last.positions[row])) == (int(alone.forwards[0]), int(alone.positions[0]))


@pytest.mark.parametrize("rule", ["surelock:eps=-1", "prefix:refresh=1", "delayed:refresh=1"])
def test_a_store_survives_growth(rule):
    """Rules that store and never reuse see the very logits of a decode without a store."""
    model, prompts = network("llada"), [[3, 1, 4], [5]]
    plain, stored = (run(RESTLESS, prompts, 5, "threshold:tau=0.3", reuse, model)[1] for reuse in ("fresh", rule))
    assert len(plain) == len(stored)
    for one, two in zip(plain, stored, strict=True):
        assert torch.equal(one.canvas.tokens, two.canvas.tokens)
        real = one.canvas.real & one.active.any(1, keepdim=True)
        torch.testing.assert_close(one.prediction.raw.logits[real], two.prediction.raw.logits[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rule", ["dual", "surelock:eps=0.5,gate=90", "surelock:eps=0.5,gate=90,safe=false"])
def test_a_row_that_grew_is_computed_whole(rule):
    """Keys are rotated by their places, so that none of the old ones may serve, whatever the rule thinks of them."""
    _, steps = run(RESTLESS, [[3, 1, 4], [5]], 5, "threshold:tau=0.3", rule, network("llada"))
    grown = [(seen.active, seen.canvas.real, (seen.source == -1).any(1)) for seen in steps if seen.source is not None]
    assert grown
    assert all(torch.equal(active[rows], real[rows]) for active, real, rows in grown)


def tensors(remembered):
    if isinstance(remembered, Tensor):
        return [remembered]
    return [tensor for field in fields(remembered) for tensor in tensors(getattr(remembered, field.name))] if is_dataclass(remembered) else []


@pytest.mark.parametrize("decoder", ["starr", "saber", "klass", "credit", "starr:signals=distribution,top=4"])
def test_what_parts_remember_of_a_position_moves_with_it(decoder):
    model, plan = chain_b(), Plan(parse_decoder(decoder), parse_window(RESTLESS), parse_reuse("surelock:eps=0.5,gate=90"))
    canvas = remask.Canvas.from_prompts(PROMPTS, max_new_tokens=12, mask_id=MASK)
    with torch.inference_mode():
        state, _ = step(model, start(canvas, plan, torch.arange(4)), plan)
        after, source = grown(model, state, plan)
    assert source is not None
    assert after.touched[(source == -1).any(1)].sum() == after.canvas.real[(source == -1).any(1)].sum(), "a row that grew is computed whole"
    assert after.kept.logits is not None
    assert state.kept.logits is not None
    moved = 0
    for old, new in zip(tensors(state.decoder) + tensors(state.reuse), tensors(after.decoder) + tensors(after.reuse), strict=True):
        if old.dim() == 1:
            assert torch.equal(old, new)
            continue
        for row in range(4):
            for place, then in enumerate(source[row].tolist()):
                if then >= 0:
                    assert torch.equal(new[row, place].nan_to_num(-1), old[row, then].nan_to_num(-1))
                    moved += place != then
    assert moved > 0


@pytest.mark.parametrize("window", [RESTLESS, PROBING])
def test_a_trace_follows_the_moves(window):
    canvas, records = remask.Canvas.from_prompts(PROMPTS, max_new_tokens=12, mask_id=MASK), []
    steps = remask.denoise(chain_b(), canvas, decoder=remask.Threshold(0.9), window=parse_window(window), seed=5)
    *_, last = record(steps, records, canvas=canvas)
    rows = [row[real].tolist() for row, real in zip(last.canvas.tokens, last.canvas.real, strict=True)]
    assert list(replay(Trace.of(records)).values()) == rows


def test_masks_are_put_behind_the_weakest_and_behind_the_end():
    canvas = remask.Canvas.from_prompts([[5, 6, MASK, MASK], [7, MASK]], mask_id=MASK)
    edit = insertion(canvas, torch.tensor([3, 2]), torch.tensor([2, 1]), torch.tensor([False, True]), 0)
    assert edit.source is not None
    assert edit.source.tolist() == [[0, 1, 2, -1, -1, 3], [0, 1, -1, PADDING, PADDING, PADDING]]
    after = edit.apply(canvas)
    assert after.tokens.tolist() == [[5, 6, MASK, MASK, MASK, MASK], [7, MASK, 0, MASK, MASK, MASK]]
    assert after.given.tolist() == [[True, True, False, False, False, False], [True, False, False, True, True, True]]
    assert after.real.tolist() == [[True] * 6, [True] * 3 + [False] * 3]


def test_the_least_sure_mask_of_the_open_block_becomes_several():
    _, steps = run("daedal:eos=0,block=6,first=0,enough=2,low=0.95,factor=4,most=30", [[0, 1]])
    for now, after in itertools.pairwise(steps):
        if after.source is None:
            continue
        place = int((after.source[0] == -1).long().argmax()) - 1  # the mask that the new ones stand behind
        block = (torch.arange(now.canvas.shape[1]) - 2).div(6, rounding_mode="floor")
        inside = now.canvas.masked[0] & (block == (place - 2) // 6)
        confidence = now.prediction.raw.confidence[0]
        assert inside[place]
        assert confidence[place] == confidence[inside].min() < 0.95
        assert int((after.source[0] == -1).sum()) == 3
        assert (after.source[0][after.source[0] >= 0].diff() == 1).all()


def test_a_row_first_finds_its_length_in_passes_that_write_nothing_and_is_closed():
    _, steps = run("daedal:eos=0,block=6,first=0.9,look=8,factor=3,tail=2,most=18,enough=0", [[0, 1]])
    lengths = [seen.canvas.shape[1] for seen in steps]
    assert lengths[:3] == [14, 17, 20], "12 new positions, then 3 more after each pass, up to 18"
    assert not any(seen.edit.write.any() for seen in steps[:3])
    assert steps[3].edit.write.any()
    likeliest = int(steps[0].prediction.raw.logits[0, -1].argmax())
    _, steps = run(f"daedal:eos={likeliest},block=6,first=1e-9,look=8,factor=3,tail=2,most=18,enough=0", [[0, 1]])
    assert [seen.canvas.shape[1] for seen in steps[:2]] == [14, 16]
    assert steps[1].source is not None
    assert steps[1].source[0].tolist() == [*range(14), -1, -1]
    assert steps[1].canvas.tokens[0, -2:].tolist() == [likeliest] * 2


def test_rows_stay_within_the_length_of_the_model():
    model = chain_b()
    model.max_length = 17
    _, steps = run(RESTLESS, model=model)
    assert steps[-1].canvas.real.sum(1).max() == 17


def test_a_model_without_an_end_is_refused_and_a_wrong_setting_named():
    with pytest.raises(remask.RemaskError, match="daedal:eos="):
        run("daedal")
    with pytest.raises(remask.RemaskError, match="factor=1"):
        parse_window("daedal:factor=1")


def test_a_text_starts_short_and_may_become_as_long_as_asked(checkpoint):
    model = remask.load(checkpoint)
    window = remask.DAEDAL(length=4, block=4, first=0.9, factor=3, tail=1)
    lengths = []

    def watched(steps):
        for seen in steps:
            lengths.append(int(seen.canvas.real.sum()))
            yield seen

    made = remask.generate(model, ["123"], max_new_tokens=11, window=window, early_stop=False, through=watched)[0]
    assert lengths[0] == 3 + 4
    assert lengths[-1] <= 3 + 11
    assert len(made.tokens) <= 11

"""Reuse rules on tiny networks: exact where they promise it, and row by row."""

import itertools

import pytest
import torch

import remask
from remask.models.guidance import Guided
from remask.reuse.base import Scene
from remask.reuse.blocks import Age
from remask.spec import parse_decoder, parse_reuse, parse_window
from tests.networks import CONFIGS, canvas, network

PROMPTS = [[3, 1, 4], [1, 5, 9, 2, 6], [5]]
EXACT = [
    "surelock:eps=-1", "surelock:gate=0,eps=-1", "prefix:refresh=1", "dual:refresh=1", "delayed:refresh=1", "vicinity:warmup=999",
    "dual:refresh=1,inner=(surelock:eps=-1)",
]  # fmt: skip
RULES = [
    "prefix", "prefix:refresh=2", "dual", "delayed", "delayed:refresh=3", "vicinity:left=1,right=2,warmup=1", "surelock:eps=0.5,gate=60",
    "surelock:eps=0.5,gate=60,safe=false", "surelock:eps=0.5,gate=60,on_remask=forbid", "surelock:eps=0.05,gate=100,recheck=3",
    "surelock:eps=0.5,gate=80,patience=2", "surelock:eps=0.5,gate=80,every=3,prompt_after=0.5", "dual:inner=(surelock:eps=0.5,gate=80)",
]  # fmt: skip


def steps(model, rule, decoder="low_confidence", window="blocks:4", first=None, **more):
    return list(remask.denoise(model, canvas() if first is None else first, decoder=parse_decoder(decoder), window=parse_window(window), reuse=parse_reuse(rule), seed=4, **more))


@pytest.mark.parametrize("rule", EXACT)
@pytest.mark.parametrize("family", list(CONFIGS))
def test_a_rule_that_never_reuses_equals_fresh_to_the_bit(family, rule):
    for decoder in ("threshold:tau=0.3", "remdm:steps=6"):
        plain, other = (steps(network(family), reuse, decoder, shapers=(remask.Temperature(0.7),)) for reuse in ("fresh", rule))
        assert len(plain) == len(other)
        for one, two in zip(plain, other, strict=True):
            assert torch.equal(one.canvas.tokens, two.canvas.tokens)
            running = one.active.any(1)
            real = one.canvas.real & running[:, None]
            assert torch.equal(one.prediction.raw.logits[real], two.prediction.raw.logits[real])
            assert torch.equal(one.active & one.canvas.real, two.active)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("family", ["llada", "dream", "timed"])
@pytest.mark.parametrize("decoder", ["threshold:tau=0.3", "remdm:steps=6", "random"])
def test_a_row_does_not_notice_its_neighbours(family, rule, decoder):
    if "safe=false" in rule and "remdm" in decoder:
        pytest.skip("refused: tests/test_combinations.py")
    model = network(family)
    parts = dict(decoder=parse_decoder(decoder), window=parse_window("blocks:4"), reuse=parse_reuse(rule), max_new_tokens=12)
    together = remask.decode(model, PROMPTS, seed=[4, 5, 6], **parts)
    for row, prompt in enumerate(PROMPTS):
        alone = remask.decode(model, [prompt], seed=[4 + row], **parts)
        assert torch.equal(together.tokens[row], alone.tokens[0])
        assert together.forwards[row] == alone.forwards[0]
        assert together.positions[row] == alone.positions[0]


@pytest.mark.parametrize("rule", [rule for rule in RULES if "safe=false" not in rule])
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_what_was_edited_is_computed_next(family, rule):
    for decoder in ("low_confidence", "remdm:steps=8,strategy=conf", "p2:steps=8"):
        previous = None
        for seen in steps(network(family), rule, decoder, window="whole"):
            if previous is not None:
                waiting = previous.edit.touched & ~previous.done[:, None]
                assert (seen.active | ~waiting).all()
            previous = seen


def test_positions_follow_the_formulas():
    model, length, block = network("llada"), 17, 4
    canvas_length = length
    for rule, later in (("prefix", lambda start: canvas_length - start), ("dual", lambda start: block)):
        decoded = remask.decode(model, [PROMPTS[1]], max_new_tokens=12, window=remask.Blocks(block), reuse=parse_reuse(rule))
        expected = sum(canvas_length + (block - 1) * later(start) for start in (5, 9, 13))
        assert decoded.positions.tolist() == [expected]
        assert decoded.forwards.tolist() == [12]


@pytest.mark.parametrize(("left", "right"), [(0, 0), (1, 0), (0, 2), (2, 1)])
@pytest.mark.parametrize("block", [(0, 1), (0, 3), (2, 3), (3, 6), (7, 8)])
def test_the_vicinity_is_counted_from_both_ends_of_the_open_block(block, left, right):
    """The pass that opens it is full; a block of the first position alone has neighbours to the right only."""
    rule, place = remask.Vicinity(left=left, right=right, warmup=0), torch.arange(8)[None]
    first = remask.Canvas.from_prompts([[]], max_new_tokens=8, mask_id=19)
    span, none = (place >= block[0]) & (place < block[1]), torch.zeros(1, 8, dtype=torch.bool)
    scene = Scene(first, span, none, torch.tensor([1]))
    assert rule.active(scene, rule.init(first)).all()
    found = rule.active(scene, Age(torch.tensor([block[0]]), torch.tensor([1])))[0].nonzero()[:, 0].tolist()
    assert found == [*range(max(0, block[0] - left), min(8, block[1] + right))]


@pytest.mark.parametrize("rule", ["prefix", "dual"])
def test_one_block_of_all_new_tokens_is_a_cache_of_the_prompt(rule):
    decoded = remask.decode(network("llada"), [PROMPTS[1]], max_new_tokens=12, window=remask.Blocks(12), reuse=parse_reuse(rule))
    assert decoded.positions.tolist() == [17 + 11 * 12]


@pytest.mark.parametrize("rule", ["prefix", "dual", "vicinity:left=1,right=1,warmup=1", "delayed:refresh=0"])
@pytest.mark.parametrize("family", ["llada", "dream"])
@torch.inference_mode()
def test_the_pass_that_opens_a_block_is_the_plain_forward_on_its_canvas(family, rule):
    model, before, opened = network(family), canvas(PROMPTS[1:2]), 0
    for seen in steps(model, rule, first=before):
        if torch.equal(seen.active, before.real):
            plain = model.logits(before.tokens)
            plain[..., model.mask_id] = float("-inf")
            assert torch.equal(seen.prediction.raw.logits, plain)
            opened += 1
        before = seen.canvas
    assert opened == 3


@pytest.mark.parametrize("decoder", ["ancestral:steps=20", "origin:steps=20"])
def test_a_cache_makes_no_pass_over_a_block_that_nothing_changed(decoder):
    """A pass repeated on the same canvas, over the same stored keys, gives the same."""
    cached, lazy = (steps(network("llada"), rule, decoder)[-1] for rule in ("dual", "dual:inner=(unchanged)"))
    assert torch.equal(cached.canvas.tokens, lazy.canvas.tokens)
    assert (lazy.forwards < cached.forwards).all()


def test_dream_computes_the_left_neighbour_of_the_block_too():
    model = network("dream")
    decoded = remask.decode(model, [PROMPTS[1]], max_new_tokens=12, window=remask.Blocks(4), reuse=remask.Dual())
    assert decoded.positions.tolist() == [3 * (17 + 3 * 5)]


@pytest.mark.parametrize("prompts", [((3, 1, 4), (1, 5, 9, 2, 6), (5,)), ((3, 1, 4), (1, 5, 9))])
def test_a_block_of_one_position_is_served_its_first_belief_where_nothing_predicts_it_again(prompts):
    """Under compat_first_token its left neighbour is not computed."""
    waited = 0
    for before, after in itertools.pairwise(steps(network("dream", 1), "dual:compat_first_token=true", "ancestral:steps=30", "blocks:1", canvas(prompts, 9))):
        again = before.active & after.active & (after.active.sum(1) == 1)[:, None]
        waited += int(again.sum())
        assert torch.equal(before.prediction.raw.logits[again], after.prediction.raw.logits[again])
    assert waited


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_the_last_block_is_the_same_under_prefix_and_dual(family):
    model = network(family)
    found = [remask.decode(model, PROMPTS, max_new_tokens=8, window=remask.Blocks(8), reuse=parse_reuse(rule)) for rule in ("prefix", "dual")]
    assert all(torch.equal(one, two) for one, two in zip(found[0].tokens, found[1].tokens, strict=True))
    assert torch.equal(found[0].positions, found[1].positions)


def test_blocks_finished_by_their_first_pass_need_no_cache():
    model = network("llada")
    parts = dict(max_new_tokens=12, decoder=remask.Threshold(0.0), window=remask.Blocks(4))
    found = [remask.decode(model, PROMPTS, reuse=parse_reuse(rule), **parts) for rule in ("fresh", "prefix", "dual")]
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0].tokens, other.tokens, strict=True))
        assert other.forwards.tolist() == [3, 3, 3]


def test_guidance_keeps_both_branches():
    plain, stored = (steps(Guided(network("llada"), 0.7), rule, "threshold:tau=0.3") for rule in ("fresh", "surelock:eps=-1"))
    assert torch.equal(plain[-1].canvas.tokens, stored[-1].canvas.tokens)
    cached = steps(Guided(network("llada"), 0.7), "dual", "threshold:tau=0.3")
    assert (cached[-1].positions < plain[-1].positions).all()
    assert not torch.equal(cached[4].prediction.raw.logits, steps(network("llada"), "dual", "threshold:tau=0.3")[4].prediction.raw.logits)


def test_a_fork_is_stepped_on_its_own():
    from remask.denoise import Plan, start, step

    model, plan = network("llada"), Plan(window=remask.Blocks(4), reuse=remask.Dual())
    with torch.inference_mode():
        state = start(canvas(), plan, torch.tensor([1, 2, 3]))
        for _ in range(2):
            state, _ = step(model, state, plan)
        fork = state.fork()
        _, one = step(model, state, plan)
        _, two = step(model, fork, plan)
    assert torch.equal(one.prediction.raw.logits, two.prediction.raw.logits)
    assert state.kept.nbytes == fork.kept.nbytes > 0


def test_rows_that_are_done_leave_the_store():
    from remask.denoise import Plan, start, step

    first = canvas([[3, 1, 4] + [19] * 2, [1, 5, 9] + [19] * 9], new=0)
    model, plan = network("llada"), Plan(reuse=remask.SureLock())
    with torch.inference_mode():
        state = start(first, plan, torch.tensor([1, 2]))
        for rows in ([0, 1], [0, 1], [1], [1]):
            state, _ = step(model, state, plan)
            assert state.kept.rows.tolist() == rows
            assert state.kept.store.keys[0].shape[0] == len(rows)

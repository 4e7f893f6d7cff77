"""SureLock's own rules (arXiv 2602.06412, Algorithm 1), one by one."""

import pytest
import torch

import remask
from remask.canvas import Canvas, Edit
from remask.denoise import Plan, start, step
from remask.models.store import Chosen
from remask.prediction import Belief
from remask.reuse.base import Pass, Scene
from remask.reuse.surelock import Locks, SureLock, divergence
from tests.networks import canvas, network

MASK = 9


def logits_of(rows):
    return torch.tensor(rows, dtype=torch.float64).log().float()


def observe(rule, now, before, *, masked_before=(), masked_after=(), touched=(), locked=(), active=None, step=1, prompt=()):
    """One row of positions with probabilities `now` and `before`; the locks after the pass."""
    length = len(now)
    at = torch.arange(length)[None]

    def places(chosen):
        return torch.isin(at, torch.tensor(list(chosen), dtype=torch.int64))

    tokens = torch.zeros(1, length, dtype=torch.int64)
    given, real = places(prompt), torch.ones(1, length, dtype=torch.bool)
    seen = Canvas(tokens.masked_fill(places(masked_before), MASK), given, real, MASK)
    after = Canvas(tokens.masked_fill(places(masked_after), MASK), given, real, MASK)
    logits = logits_of([now])
    made = Pass(real & ~places(locked) if active is None else places(active), Belief(logits, logits.argmax(-1)), logits_of([before]), Edit(places(touched), tokens), after)
    state = Locks(places(locked), places(locked).long() * rule.patience)  # what locked has been calm
    return rule.observe(Scene(seen, real, places(touched), torch.tensor([step])), made, state).locked[0].nonzero()[:, 0].tolist()


SURE, UNSURE, OTHER = [0.98, 0.01, 0.01], [0.5, 0.3, 0.2], [0.3, 0.5, 0.2]


def test_a_settled_sure_position_locks_and_a_moved_or_doubtful_one_does_not():
    rule = SureLock(gate=50)
    assert observe(rule, [SURE, SURE, UNSURE, UNSURE], [SURE, UNSURE, UNSURE, OTHER]) == [0]
    assert observe(SureLock(gate=100), [SURE, SURE, UNSURE, UNSURE], [SURE, UNSURE, UNSURE, OTHER]) == [0, 2]
    assert observe(SureLock(gate=100, eps=10.0), [SURE, SURE, UNSURE, UNSURE], [SURE, UNSURE, UNSURE, OTHER]) == [0, 1, 2, 3]
    assert observe(SureLock(gate=100, eps=-1.0), [SURE] * 3, [SURE] * 3) == []


def test_masked_positions_never_lock_and_are_no_candidates_of_the_gate():
    assert observe(SureLock(gate=100), [SURE, SURE], [SURE, SURE], masked_before=[0], masked_after=[0]) == [1]
    assert observe(SureLock(gate=100, safe=False), [SURE, SURE], [SURE, SURE], masked_before=[0], masked_after=[0]) == [1]
    doubtful = [[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.7, 0.3, 0.0]]
    assert observe(SureLock(gate=0), [SURE, *doubtful], [SURE, *doubtful], masked_before=[0], masked_after=[0]) == [1]


def test_the_gate_is_a_percentile_of_the_candidates_interpolated():
    rows = [[0.99 - 0.01 * i, 0.01 + 0.01 * i] for i in range(11)]
    assert observe(SureLock(gate=20), rows, rows) == [0, 1, 2]
    assert observe(SureLock(gate=0), rows, rows) == [0]
    assert observe(SureLock(gate=25), rows, rows) == [0, 1, 2]


def test_the_position_written_by_this_pass_locks_only_to_the_letter_of_the_paper():
    rows = [SURE, SURE]
    assert observe(SureLock(gate=100), rows, rows, masked_before=[1], touched=[1]) == [0]
    assert observe(SureLock(gate=100, safe=False), rows, rows, masked_before=[1], touched=[1]) == [0, 1]


def test_an_edit_unlocks_unless_it_is_forbidden():
    assert observe(SureLock(), [SURE, SURE], [SURE, SURE], locked=[0, 1], touched=[1], active=[]) == [0]
    rule = SureLock(on_remask="forbid")
    locked = torch.tensor([[True, False]])
    assert torch.equal(rule.protected(Locks(locked, locked.long())), locked)
    assert SureLock().protected(Locks(locked, locked.long())) is None


@pytest.mark.parametrize("patience", [1, 3])
def test_an_edit_of_a_running_decode_unlocks(patience):
    """A locked position is not computed when it is edited, so nothing else in that pass says that it is calm no more."""
    seen = []

    class Watched(SureLock):
        def observe(self, scene, made, state):
            after = super().observe(scene, made, state)
            seen.append((int((state.locked & made.edit.touched).sum()), int((after.locked & made.edit.touched).sum())))
            return after

    rule = Watched(eps=0.5, gate=100, patience=patience)
    for _ in remask.denoise(network("llada"), canvas(new=24), decoder=remask.ReMDM(steps=24), reuse=rule, seed=1):
        pass
    edited, still = map(sum, zip(*seen, strict=True))
    assert edited > 5
    assert still == 0


def test_a_recheck_unlocks_what_has_moved():
    rule = SureLock(recheck=3, gate=0, eps=1e-3)
    assert observe(rule, [SURE, SURE, UNSURE], [SURE, UNSURE, UNSURE], locked=[0, 1], active=[0, 1, 2], step=2)[:1] == [0]
    assert 1 not in observe(rule, [SURE, SURE, UNSURE], [SURE, UNSURE, UNSURE], locked=[0, 1], active=[0, 1, 2], step=2)


def test_the_prompt_waits_for_its_share_of_the_answer():
    rows = [SURE] * 4
    for share, expected in ((0, [0, 1, 2]), (0.5, [0, 1, 2]), (0.75, [2]), (1, [2])):
        assert observe(SureLock(gate=100, prompt_after=share), rows, rows, prompt=[0, 1], masked_before=[3], masked_after=[3]) == expected
    assert observe(SureLock(gate=100, prompt_after=0.75), rows, rows, prompt=[0, 1]) == [0, 1, 2, 3]
    assert observe(SureLock(gate=100, prompt_after=1), rows, rows, prompt=[0, 1]) == [2, 3]


def passes(rule, beliefs):
    """The locks of a written row after each of some passes, one belief (L, V) a pass."""
    row = torch.zeros(1, len(beliefs[0]), dtype=torch.int64)
    seen = Canvas(row, row.bool(), ~row.bool(), MASK)
    state, before = rule.init(seen), None
    for number, rows in enumerate(beliefs):
        logits = logits_of([rows])
        scene = Scene(seen, seen.real, row.bool(), torch.tensor([number]))
        made = Pass(rule.active(scene, state), Belief(logits, logits.argmax(-1)), before, Edit(row.bool(), row), seen)
        state, before = rule.observe(scene, made, state), logits
        yield state.locked[0].tolist()


def test_a_slow_drift_adds_up_where_looks_are_far_apart():
    """0.001 of probability a pass: 5e-6 nats from pass to pass, 2e-4 over eight."""
    beliefs = [[[0.9 - 0.001 * step, 0.1 + 0.001 * step], [0.9, 0.1]] for step in range(9)]
    rule = SureLock(gate=100, eps=1e-4)
    assert list(passes(rule, beliefs))[1:] == [[True, True]] * 8
    assert list(passes(remask.parse_reuse("surelock:gate=100,eps=1e-4,every=8"), beliefs)) == [[False, False]] * 8 + [[False, True]]


def test_patience_counts_looks():
    beliefs = [[[0.9, 0.1]]] * 9
    assert list(passes(SureLock(gate=100, patience=3), beliefs)) == [[False]] * 3 + [[True]] * 6
    assert list(passes(SureLock(gate=100, patience=3, every=2), beliefs)) == [[False]] * 6 + [[True]] * 3


def test_the_divergence_is_from_now_to_before():
    now, before = logits_of([[[0.9, 0.1]]]), logits_of([[[0.5, 0.5]]])
    where = torch.ones(1, 1, dtype=torch.bool)
    found = divergence(Belief(now, now.argmax(-1)), before, where)
    assert found.item() == pytest.approx(0.9 * torch.log(torch.tensor(1.8)).item() + 0.1 * torch.log(torch.tensor(0.2)).item(), rel=1e-5)
    assert divergence(Belief(now, now.argmax(-1)), before, ~where).item() == float("inf")
    ruled_out = torch.tensor([[[0.0, float("-inf")]]])
    assert divergence(Belief(ruled_out, now.argmax(-1)), ruled_out, where).item() == 0


def run(model, rule, decoder=remask.LowConfidence()):
    """Every step's state before and after, and what was seen."""
    plan = Plan(decoder=decoder, reuse=rule)
    with torch.inference_mode():
        state = start(canvas(), plan, torch.tensor([1, 2, 3]))
        while not bool(state.done.all()):
            before = state.fork()
            state, seen = step(model, state, plan)
            yield before, state, seen


def test_nothing_locks_at_the_first_pass_and_nothing_is_saved_before_the_third():
    model = network("llada")
    counts = [seen.active.sum(1) for _, _, seen in run(model, SureLock(eps=100.0, gate=100))]
    real = canvas().real.sum(1)
    assert torch.equal(counts[0], real)
    assert torch.equal(counts[1], real)
    assert (counts[2] < real).all()
    assert torch.equal(counts[2], canvas().masked.sum(1) - 1 + 0 * real), "everything but masks: locked at the second pass, the token written by it is computed once more"


def test_a_locked_row_keeps_its_keys_values_posterior_and_token():
    model, settled = network("grouped"), 0
    for before, after, seen in run(model, SureLock(eps=0.5, gate=60)):
        locked = before.reuse.locked & ~before.done[:, None]
        assert not (seen.active & locked).any()
        assert (after.reuse.locked[locked]).all(), "the active set only shrinks"
        assert not (after.reuse.locked & after.canvas.masked).any()
        assert torch.equal(after.canvas.tokens[locked], before.canvas.tokens[locked])
        settled += int(locked.sum())
        if not bool(locked.any()) or bool(before.done.any()):
            continue
        assert torch.equal(after.kept.logits[locked], before.kept.logits[locked])
        for new, old in zip(after.kept.store.keys, before.kept.store.keys, strict=True):
            assert torch.equal(new.transpose(1, 2)[locked], old.transpose(1, 2)[locked])
    assert settled > 50


def test_without_the_safe_choice_the_keys_of_a_mask_stay_for_ever():
    """The head is zero: every posterior is the same at every pass, so a position may lock in the pass that writes it."""
    model = network("llada")
    with torch.no_grad():
        model.parts["ff_out"].weight.zero_()
    wrong = {safe: stale_keys(model, SureLock(gate=100, safe=safe)) for safe in (True, False)}
    assert wrong[True] == 0
    assert wrong[False] == 12 - 1 - 1, "all but the token of the first pass, which nothing locks, and the last, which nothing reads"


def stale_keys(model, rule):
    """Positions of a row of 16 whose stored keys of the first layer (functions of token and place) are not those of its tokens, at the last pass."""
    plan = Plan(reuse=rule)
    first = canvas([[3, 1, 4, 1]])
    with torch.inference_mode():
        state = start(first, plan, torch.tensor([1]))
        while not bool(state.done.all()):
            before = state
            state, _ = step(model, state, plan)
        _, true = model.forward(before.canvas, Chosen())
    return int((~torch.isclose(state.kept.store.keys[0], true.keys[0], atol=1e-5).all(-1).all(1)).sum())


@pytest.mark.parametrize(("new", "passes", "share"), [(64, 64, 0.243), (64, 32, 0.264)])
@pytest.mark.parametrize("safe", [False, True])
def test_masks_never_lock_so_that_no_run_is_cheaper_than_the_floor(new, passes, share, safe):
    """A prompt of 80, every posterior the same at every pass: all that may lock does, and the shares follow from the schedule alone."""
    model = network("llada", max_sequence_length=160)
    with torch.no_grad():
        model.parts["ff_out"].weight.zero_()
    rule = SureLock(gate=100, safe=safe)
    decoded = remask.decode(model, [[3] * 80], max_new_tokens=new, decoder=remask.LowConfidence(steps=passes), reuse=rule)
    length, each = 80 + new, new // passes
    masks = sum(new - each * step for step in range(2, passes))
    assert decoded.positions.item() == 2 * length + masks + (each * (passes - 2) if safe else 0)
    if not safe:
        assert decoded.positions.item() / (length * passes) == pytest.approx(share, abs=5e-4)


def test_bad_parameters_are_named():
    with pytest.raises(remask.RemaskError, match="gate is 120"):
        remask.parse_reuse("surelock:gate=120")
    with pytest.raises(remask.RemaskError, match="recheck is -1"):
        remask.parse_reuse("surelock:recheck=-1")
    with pytest.raises(remask.RemaskError, match="every 0"):
        remask.parse_reuse("surelock:every=0")
    with pytest.raises(remask.RemaskError, match=r"prompt_after is 1\.5"):
        remask.parse_reuse("surelock:prompt_after=1.5")
    with pytest.raises(remask.RemaskError, match="refresh is -2"):
        remask.parse_reuse("dual:refresh=-2")
    with pytest.raises(remask.RemaskError, match="left is -3"):
        remask.parse_reuse("vicinity:left=-3")


TEXTS = [
    "surelock:eps=0.1,gate=40.0,safe=false,on_remask=forbid,recheck=4", "surelock:every=4,prompt_after=0.5", "dual:inner=(surelock:eps=0.001)", "prefix:refresh=4",
    "delayed:refresh=4", "vicinity:left=8",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_rule_survives_its_spec_string(text):
    rule = remask.parse_reuse(text)
    assert remask.spec(rule) == text
    assert eval(repr(rule), vars(remask)) == rule

"""A reuse rule that `covers` computes, in every pass, all that a decoder may write: looked at in decodes with whatever parts."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import remask
from remask.denoise import look
from tests.chains import chain_b
from tests.laws.test_laws import DECODER_SPECS, MASK

REFRESH = some.integers(0, 4)
FIRST = some.booleans()
COVERING = some.one_of(
    some.just(remask.Fresh()),
    some.builds(remask.Prefix, refresh=REFRESH, compat_first_token=FIRST),
    some.builds(remask.Dual, refresh=REFRESH, compat_first_token=FIRST),
    some.builds(remask.Delayed, refresh=REFRESH),
    some.builds(remask.Vicinity, left=some.integers(0, 3), right=some.integers(0, 3), warmup=some.integers(0, 2), refresh=REFRESH),
)
RULES = some.one_of(COVERING, some.builds(lambda refresh, inner: remask.Dual(refresh=refresh, inner=inner), REFRESH, COVERING))
WINDOWS = some.one_of(
    some.just(remask.Whole()),
    some.builds(remask.Blocks, length=some.integers(1, 7), origin=some.sampled_from(["prompt", "canvas"]), lead=some.booleans()),
    some.builds(remask.DAEDAL, block=some.integers(2, 5), length=some.integers(1, 9), factor=some.integers(2, 3), first=some.sampled_from([0.0, 0.6]), enough=some.just(1.0),
                low=some.floats(0.3, 1), tail=some.integers(0, 2), look=some.integers(1, 4), eos=some.just(0), most=some.just(16)),
)  # fmt: skip
PROMPTS = some.lists(some.lists(some.integers(0, MASK), max_size=7), min_size=1, max_size=4)
SHAPERS = some.sampled_from([(), (remask.Temperature(1.0),)])


def left_out(monkeypatch, prompts, *, new=9, most=60, **parts):
    """(eligible, active) of every pass in which something that may be written was not computed, and how many passes there were."""
    passes = []

    def watched(state, plan):
        sight = look(state, plan)
        assert not (sight.eligible & ~sight.scene.span).any(), "what may be written lies in the open block"
        passes.append((sight.eligible, sight.active))
        return sight

    monkeypatch.setattr(sys.modules["remask.denoise"], "look", watched)  # the name in the package is the function
    canvas = remask.Canvas.from_prompts(prompts, max_new_tokens=new, mask_id=MASK)
    for _, _ in zip(range(most), remask.denoise(chain_b(), canvas, **parts), strict=False):
        pass
    return [each for each in passes if (each[0] & ~each[1]).any()], len(passes)


@settings(deadline=None, max_examples=150)
@given(some.sampled_from(DECODER_SPECS), WINDOWS, RULES, PROMPTS, SHAPERS, some.integers(0, 99))
def test_a_rule_that_covers_computes_all_that_may_be_written(decoder, window, reuse, prompts, shapers, seed):
    assert reuse.covers
    decoder = remask.parse_decoder(decoder)
    if decoder.revises and reuse.lone:
        return  # refused: remask.combinations
    with pytest.MonkeyPatch.context() as patch:
        missing, passes = left_out(patch, prompts, decoder=decoder, window=window, reuse=reuse, shapers=shapers, seed=seed)
    assert passes or not any(MASK in row for row in prompts)
    assert not missing


@pytest.mark.parametrize("reuse", ["unchanged", "dual:inner=(unchanged)"])
def test_a_rule_that_does_not_cover_is_seen_to_leave_something_out(monkeypatch, reuse):
    """`ancestral` has passes that write nothing, after which an unchanged row is served from before."""
    assert not remask.parse_reuse(reuse).covers
    missing, passes = left_out(monkeypatch, [[3, 1, 4], [5]], decoder=remask.parse_decoder("ancestral:steps=30"), reuse=remask.parse_reuse(reuse))
    assert 0 < len(missing) < passes


def test_every_rule_that_covers_is_tried():
    """And a rule around another covers if that one does."""
    tried = {"fresh", "prefix", "dual", "delayed", "vicinity"}
    assert {name for name, kind in remask.reuses().items() if kind().covers} == tried
    for name, kind in remask.reuses().items():
        assert remask.Dual(inner=kind()).covers == kind().covers, name
    assert not remask.Dual(inner=remask.Dual(inner=remask.SureLock())).covers


def test_a_rule_with_an_active_of_its_own_says_itself_whether_it_covers():
    """One made from a rule that covers may compute less."""

    class Narrow(remask.Prefix):
        def active(self, scene, state):
            return super().active(scene, state) & (scene.step % 2 == 0)[:, None]

    class Same(remask.Prefix):
        covers = True

        def active(self, scene, state):
            return super().active(scene, state)

    class Renamed(remask.Prefix):
        pass

    assert (Narrow().covers, Same().covers, Renamed().covers) == (False, True, True)

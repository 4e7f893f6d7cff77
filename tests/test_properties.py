"""Spec strings, schedules and selection, for whatever values: drawn by hypothesis, compared with the plainest code that does the same."""

import contextlib
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

import remask
from remask.canvas import Canvas
from remask.decoders.select import longest_prefix, top
from remask.schedules import BlockClock, falling_share, time_at
from remask.spec import options

M = 99
SHARES = some.floats(0, 1, allow_nan=False)
STEPS = some.none() | some.integers(1, 10**6)
DECODERS = some.one_of(
    some.builds(remask.Threshold, tau=SHARES, strict=some.booleans(), at_most=some.none() | some.integers(1, 9), score=some.sampled_from(["max", "sampled"])),
    some.builds(remask.LowConfidence, steps=STEPS, last=some.lists(some.integers(0, 10**6), max_size=3).map(tuple)),
    some.builds(remask.MaskgitPlus, steps=STEPS, alg_temp=some.floats(0, 1e6), rank_by=some.sampled_from(["max", "sampled"])),
    some.builds(remask.ReMDM, steps=some.integers(1, 999), eta=SHARES),
    some.builds(remask.JointThreshold, write_tau=SHARES, edit_tau=SHARES, remask=some.booleans()),
)
WINDOWS = some.builds(remask.Blocks, length=some.integers(1, 10**4), origin=some.sampled_from(["prompt", "canvas"]), lead=some.booleans())
LOCKS = some.builds(remask.SureLock, eps=some.floats(0, 1), gate=some.floats(0, 100), safe=some.booleans(), on_remask=some.sampled_from(["unlock", "forbid"]))


@settings(deadline=None)
@given(DECODERS, some.integers(1, 99))
def test_a_decoder_is_what_its_spec_string_says(decoder, distance):
    assert remask.parse_decoder(str(decoder)) == decoder
    around = remask.Spaced(decoder, distance)
    assert remask.parse_decoder(str(around)) == around
    assert remask.parse_decoder(f"spaced:({decoder}),g0={distance}") == around, "the first value needs no name, whatever stands in its parentheses"


@settings(deadline=None)
@given(WINDOWS, LOCKS, some.integers(0, 99))
def test_windows_and_nested_rules_are_what_their_spec_strings_say(window, locks, refresh):
    assert remask.parse_window(str(window)) == window
    nested = remask.Dual(refresh=refresh, inner=remask.Dual(inner=locks))
    assert remask.parse_reuse(str(nested)) == nested
    assert remask.parse_reuse(f"  {nested}  ") == nested


@settings(deadline=None)
@given(some.text(alphabet="abct:=,()+-.019 ", max_size=30))
def test_any_text_is_a_part_or_one_clear_error(text):
    for parse in (remask.parse_decoder, remask.parse_window, remask.parse_reuse):
        for asked in (text, f"threshold:{text}", f"dual:{text}", f"blocks:{text}"):
            with contextlib.suppress(remask.RemaskError):
                assert parse(str(parse(asked))) == parse(asked)


def test_the_types_of_a_part_are_read_once(monkeypatch):
    """They are text until then, and a server reads three spec strings a request."""
    first = remask.parse_decoder("starr:c_fast=0.8")
    monkeypatch.setattr(sys.modules[options.__module__], "get_type_hints", None)
    assert remask.parse_decoder("starr:c_fast=0.8") == first


@settings(deadline=None)
@given(some.dictionaries(some.sampled_from(["n", "of", "share"]), some.integers(-9, 9), max_size=3))
def test_options_come_back_as_their_types(values):
    text = ",".join(f"{key}={value}" for key, value in values.items())
    assert options(text, {"n": int, "of": int, "share": float}, "thing") == values


def canvas_of(masks: int) -> Canvas:
    return Canvas.from_prompts([[0]], max_new_tokens=masks, mask_id=M)


@settings(deadline=None)
@given(some.integers(1, 60), some.integers(1, 80), some.integers(1, 20))
def test_an_even_schedule_gives_each_block_its_share_of_the_steps_and_steps_that_differ_by_one_at_most(masks, steps, length):
    """Blocks from left to right; a block with more steps than masks has steps that write nothing."""
    canvas, shares = canvas_of(masks), []
    clock = BlockClock.start(canvas, steps)
    place = torch.arange(canvas.shape[1])
    while bool(canvas.masked.any()):
        eligible = canvas.masked & ((place - 1) // length == (canvas.masked[0].long().argmax() - 1) // length)
        clock = clock.enter(canvas, eligible)
        count = int(clock.even_share())
        if int(clock.done) == 0:
            shares.append([])
        shares[-1].append(count)
        canvas = remask.Edit(torch.isin(place, eligible[0].nonzero()[:count, 0])[None], torch.zeros_like(canvas.tokens)).apply(canvas)
        clock = clock.tick()
    assert [sum(share) for share in shares] == [min(length, masks - start) for start in range(0, masks, length)]
    for share in shares:
        assert share == sorted(share, reverse=True)
        assert share[0] - share[-1] <= 1
    assert sum(map(len, shares)) <= max(steps, len(shares))


@settings(deadline=None)
@given(some.integers(1, 500), some.integers(1, 300))
def test_dreams_schedule_falls_to_nothing_left(masks, steps):
    left = masks
    for done in range(steps):
        count = int(falling_share(torch.tensor([left]), torch.tensor([done]), torch.tensor([steps])))
        assert 0 <= count <= left
        left -= count
    assert left == 0


@settings(deadline=None)
@given(some.integers(1, 400), some.sampled_from([1e-3, 1e-5]))
def test_times_are_those_of_linspace(steps, end):
    index = torch.arange(steps + 1)
    torch.testing.assert_close(time_at(index, torch.tensor(steps), end), torch.linspace(1, end, steps + 1), atol=1e-7, rtol=0)


SCORES = some.lists(some.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), min_size=1, max_size=8)


@settings(deadline=None)
@given(SCORES, some.data(), some.integers(0, 9))
def test_the_best_are_the_best_and_the_left_one_of_equals(scores, data, count):
    eligible = data.draw(some.lists(some.booleans(), min_size=len(scores), max_size=len(scores)))
    order = sorted((place for place in range(len(scores)) if eligible[place]), key=lambda place: -scores[place])
    found = top(torch.tensor([scores]), torch.tensor([eligible]), count)[0].nonzero()[:, 0].tolist()
    assert found == sorted(order[:count])
    assert torch.equal(top(torch.tensor([scores]), torch.tensor([eligible]), torch.tensor([count])), top(torch.tensor([scores]), torch.tensor([eligible]), count))


@settings(deadline=None, max_examples=200)
@given(SCORES, some.data(), some.sampled_from([0.15, 0.5, 0.8, 2.0]), some.integers(0, 3), some.none() | some.integers(1, 4))
def test_the_longest_prefix_passes_but_for_its_least_and_its_most(scores, data, tau, at_least, at_most):
    eligible = data.draw(some.lists(some.booleans(), min_size=len(scores), max_size=len(scores)))
    order = sorted((place for place in range(len(scores)) if eligible[place]), key=lambda place: -scores[place])
    passing = len([place for place in order if scores[place] >= tau])
    kept = max(passing, at_least) if at_most is None else min(max(passing, at_least), at_most)
    found = longest_prefix(torch.tensor([scores]), torch.tensor([eligible]), lambda falling: falling >= tau, at_least=at_least, at_most=at_most)
    assert found[0].nonzero()[:, 0].tolist() == sorted(order[:kept])


def test_a_part_that_reads_files_and_does_not_say_by_which_settings_is_not_for_strangers(monkeypatch):
    assert remask.parse_decoder("pc:lam=0", files=False) == remask.PC(lam=0)
    monkeypatch.setattr(remask.PC, "files", ())
    with pytest.raises(remask.RemaskError, match="decoder 'pc' reads files and does not say which settings name them"):
        remask.parse_decoder("pc:lam=0", files=False)
    assert remask.parse_decoder("pc:lam=0") == remask.PC(lam=0)

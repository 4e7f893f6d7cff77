"""The phases of the loop on small canvases, beside the laws (tests/laws) that hold them for every part."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import remask
from remask import RemaskError
from remask.canvas import Canvas
from remask.denoise import Plan, State, check_fit, row_seeds, shadowed, start, step, stop_at_end_of_text
from tests.chains import chain_b
from tests.networks import canvas as prompted
from tests.networks import network

M = 8


def canvas(*rows, given=1):
    """Rows of tokens whose first `given` are given; the others were written or are masks."""
    made = Canvas.from_prompts(list(rows), mask_id=M)
    return replace(made, given=(torch.arange(made.shape[1]) < given).expand(made.shape))


def test_a_row_ends_at_an_end_of_text_with_no_mask_before_it():
    before = canvas([5, 1, 6, M, M], [5, M, 6, M, M], [5, 1, 2, M, M], [6, 1, M, M, M], [5, 7, M, 3, M])
    after, done = stop_at_end_of_text(before, torch.tensor([False, False, False, False, False]), (7, 6))
    assert after.tokens.tolist() == [[5, 1, 6, 7, 7], [5, M, 6, M, M], [5, 1, 2, M, M], [6, 1, M, M, M], [5, 7, 7, 3, 7]]
    assert done.tolist() == [True, False, False, False, True]
    unchanged, same = stop_at_end_of_text(before, done, ())
    assert unchanged is before
    assert same is done


def test_a_row_that_was_done_stays_done():
    done = torch.tensor([True, False])
    assert stop_at_end_of_text(canvas([5, 1, M], [5, 1, M]), done, (6,))[1].tolist() == [True, False]


def test_shadows_stand_beside_real_places_of_running_rows_only():
    rows = Canvas.from_prompts([[1, 2, 3], [1, 2], [3, 2, 1]], mask_id=M)
    running = torch.tensor([[True], [True], [False]])
    made = shadowed(rows, torch.ones(3, 3).bool(), running)
    assert made.shadows.long().tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]
    assert shadowed(rows, None, running) is rows
    assert shadowed(rows, torch.zeros(3, 3).bool(), running) is rows
    assert shadowed(rows, torch.ones(3, 3).bool(), ~running & (torch.arange(3) == 9)[:, None]) is rows


def test_a_step_counts_for_running_rows_alone():
    plan = Plan(reuse=remask.Unchanged())
    state = start(Canvas.from_prompts([[1, 2, 3], [1, M, M]], mask_id=M), plan, torch.tensor([4, 9]))
    assert state.done.tolist() == [True, False]
    assert state.seeds.tolist() == [4, 9]
    model = chain_b()
    model.evaluations = 2
    for number in (1, 2):
        state, seen = step(model, state, plan)
        assert state.step.tolist() == [0, number]
        assert state.forwards.tolist() == seen.forwards.tolist() == [0, 2 * number]
        assert state.positions.tolist() == seen.positions.tolist() == [0, 2 * 3 * number]
        assert seen.active.tolist() == [[False] * 3, [True] * 3]
        assert int(seen.edit.write.sum()) == 1
    assert state.done.tolist() == [True, True]


def test_an_int_seeds_rows_in_turn_and_the_first_is_0():
    assert row_seeds(5, 3) == [5, 6, 7]
    assert row_seeds([3, 1], 2) == [3, 1]
    with pytest.raises(RemaskError, match="1 seeds for 2 rows; pass one int, or one seed per row"):
        row_seeds([3], 2)

    def decoded(**seed):
        found = remask.decode(chain_b(), [[0], [0]], max_new_tokens=12, decoder=remask.Random(), shapers=[remask.Temperature(1.0)], **seed)
        return [row.tolist() for row in found.tokens]

    drawn = [decoded(), decoded(seed=0), decoded(seed=[0, 1]), decoded(seed=1)]
    assert drawn[0] == drawn[1] == drawn[2] != drawn[3]
    assert drawn[0][1] == drawn[3][0]
    canvas = Canvas.from_prompts([[0], [0]], max_new_tokens=12, mask_id=M)
    *_, last = remask.denoise(chain_b(), canvas, decoder=remask.Random(), shapers=[remask.Temperature(1.0)])
    assert last.canvas.tokens.tolist() == drawn[0]


def test_a_canvas_must_fit_the_model():
    rows = Canvas.from_prompts([[0, 4]], mask_id=M)
    check_fit(SimpleNamespace(max_length=2, mask_id=M, vocab_size=5), rows)
    check_fit(SimpleNamespace(max_length=None, mask_id=4), rows)
    with pytest.raises(RemaskError, match="the canvas has 2 positions and the model was made for 1; shorten"):
        check_fit(SimpleNamespace(max_length=1, mask_id=M, vocab_size=5), rows)
    with pytest.raises(RemaskError, match="ids from 0 to 4 and the model knows 0 to 3"):
        check_fit(SimpleNamespace(max_length=None, mask_id=M, vocab_size=4), rows)
    with pytest.raises(RemaskError, match="ids from -1 to 4"):
        check_fit(SimpleNamespace(max_length=None, mask_id=M), Canvas.from_prompts([[-1, 4]], mask_id=M))


def test_nothing_to_write_costs_nothing():
    found = remask.decode(chain_b(), [[1, 2], [3]])
    assert [row.tolist() for row in found.tokens] == [[1, 2], [3]]
    assert (found.forwards.tolist(), found.positions.tolist()) == ([0, 0], [0, 0])


@pytest.mark.parametrize("fresh_first", [False, True])
@pytest.mark.parametrize("reuse", ["fresh", "dual", "surelock:eps=0.1"])
def test_rows_that_begin_and_rows_under_way_join_and_go_on_as_they_would_alone(reuse, fresh_first):
    """What one side has and the other has not yet is made up for so many rows as that side has, and keys and values are found at their new rows."""
    model = network("llada")
    plan = Plan(remask.Threshold(0.2), remask.Blocks(4), remask.parse_reuse(reuse))
    with torch.inference_mode():
        running = start(prompted([[3, 1, 4], [1, 5, 9]], 12), plan, torch.arange(2))
        running, _ = step(model, running, plan)
        running, _ = step(model, running, plan)
        beginning = start(prompted([[2, 6, 5, 3, 5]], 12), plan, torch.tensor([2]))
        parts = [beginning, running] if fresh_first else [running, beginning]
        both = State.joined([part.fork() for part in parts])
        for _ in range(3):
            both, seen = step(model, both, plan)
            stepped = [step(model, part, plan) for part in parts]
            parts = [part for part, _ in stepped]
            for name in ("edit", "active"):
                found, expected = getattr(seen, name), [getattr(alone, name) for _, alone in stepped]
                if name == "edit":
                    found, expected = found.touched, [edit.touched for edit in expected]
                length = found.shape[1]
                assert torch.equal(found, torch.cat([torch.nn.functional.pad(part, (0, length - part.shape[1])) for part in expected]))
            assert [row[real].tolist() for row, real in zip(seen.canvas.tokens, seen.canvas.real, strict=True)] == [
                row[real].tolist() for _, alone in stepped for row, real in zip(alone.canvas.tokens, alone.canvas.real, strict=True)
            ]

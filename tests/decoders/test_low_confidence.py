"""LLaDA's order: which candidates may be put off, and the literal block loop."""

import pytest
import torch

import remask
from remask import RemaskError
from remask.memory import resized
from remask.schedules import LiteralBlocks
from tests.chains import chain_b

MASK = 8


def test_a_candidate_that_is_put_off_is_written_only_where_no_other_waits():
    canvas = remask.Canvas.from_prompts([[2], [0, 4]], max_new_tokens=12, mask_id=MASK)
    put_off = torch.tensor([3, 6])
    seen_both = False
    for seen in remask.denoise(chain_b(), canvas, decoder=remask.LowConfidence(last=(3, 6))):
        late = torch.isin(seen.prediction.candidates, put_off)
        others = (canvas.masked & ~late).any(1, keepdim=True)
        assert not (seen.edit.write & late & others).any()
        seen_both |= bool(((canvas.masked & late).any(1, keepdim=True) & others).any())
        canvas = seen.canvas
    assert seen_both


def test_new_positions_are_the_masks_at_the_end_and_each_row_has_its_own_blocks():
    canvas = remask.Canvas.from_prompts([[0, MASK, 1], [5]], max_new_tokens=4, mask_id=MASK)
    clock = LiteralBlocks.start(canvas, 4, 2)
    assert clock.block.tolist() == [[-1, -1, -1, 0, 0, 1, 1], [-1, 0, 0, 1, 1, -1, -1]]
    assert clock.steps.tolist() == [2, 2]
    clock, open_, count = clock.enter(canvas)
    assert (open_ & canvas.masked).tolist() == [[False, True, False, True, True, False, False], [False, True, True, False, False, False, False]]
    assert count.tolist() == [1, 1]


def test_a_row_whose_masks_are_all_inside_writes_one_a_step_whatever_padding_it_got():
    canvas = remask.Canvas.from_prompts([[0, MASK, 1, MASK, 2], [5, MASK, MASK, MASK, MASK, MASK, MASK]], mask_id=MASK)
    clock = resized(LiteralBlocks.start(canvas, 4, 2), 9)
    assert clock.blocks.tolist() == [0, 3]
    assert clock.enter(remask.Canvas.from_prompts([[0, MASK, 1, MASK, 2], [5, *[MASK] * 6], [7] * 9], mask_id=MASK).rows(slice(0, 2)))[2].tolist() == [1, 2]


@pytest.mark.parametrize("options", [{"literal_blocks": 4}, {"literal_blocks": 0, "steps": 4}])
def test_literal_blocks_need_steps_and_a_length(options):
    with pytest.raises(RemaskError, match=f"literal_blocks is {options['literal_blocks']}"):
        remask.LowConfidence(**options)


def test_ids_survive_their_spec_string():
    decoder = remask.LowConfidence(last=(126081, 126348))
    assert remask.spec(decoder) == "low_confidence:last=126081+126348"
    assert remask.parse_decoder(remask.spec(decoder)) == decoder
    with pytest.raises(RemaskError, match="'x'"):
        remask.parse_decoder("low_confidence:last=3+x")

"""The canvas and the edit, position by position."""

import pytest
import torch

from remask import RemaskError
from remask.canvas import PADDING, Canvas, Edit

M = 9


def flags(*rows):
    return torch.tensor(rows).bool()


def shown(canvas):
    """Tokens, given and real as lists of ints."""
    return [tensor.long().tolist() for tensor in (canvas.tokens, canvas.given, canvas.real)]


def two_rows():
    """A row of two known tokens and two masks, and one of a token, a mask and padding."""
    return Canvas.from_prompts([[1, 2], [3]], max_new_tokens=2, mask_id=M)


def test_prompts_get_masks_behind_them_and_shorter_rows_padding():
    assert shown(two_rows()) == [[[1, 2, M, M], [3, M, M, M]], [[1, 1, 0, 0], [1, 0, 0, 1]], [[1, 1, 1, 1], [1, 1, 1, 0]]]
    assert two_rows().masked.long().tolist() == [[0, 0, 1, 1], [0, 1, 1, 0]]
    assert two_rows().shape == (2, 4)
    assert two_rows().tokens.dtype == torch.int64


def test_a_mask_in_a_prompt_is_unknown_and_needs_no_new_tokens():
    infill = Canvas.from_prompts(torch.tensor([[1, M, 2]], dtype=torch.int32), mask_id=M)
    assert shown(infill) == [[[1, M, 2]], [[1, 0, 1]], [[1, 1, 1]]]


def test_what_the_attention_mask_leaves_out_is_padding():
    padded = Canvas.from_prompts(torch.tensor([[7, 1], [2, M]]), max_new_tokens=1, mask_id=M, attention_mask=torch.tensor([[0, 1], [1, 1]]))
    assert shown(padded) == [[[7, 1, M], [2, M, M]], [[1, 1, 0], [1, 0, 0]], [[0, 1, 1], [1, 1, 1]]]


def test_the_device_is_that_of_the_prompts_unless_another_is_named():
    prompts = torch.tensor([[1, 2]])
    assert Canvas.from_prompts(prompts, mask_id=M).tokens.device == prompts.device
    assert {tensor.device.type for tensor in (lambda made: (made.tokens, made.given, made.real))(Canvas.from_prompts(prompts, mask_id=M, device="meta"))} == {"meta"}


WRONG = [
    (dict(prompts=[[1]], max_new_tokens=-1), "max_new_tokens is -1; it must be 0"),
    (dict(prompts=torch.tensor([1, 2])), r"shape \(2,\) .*; pass \(B, L\) integers"),
    (dict(prompts=torch.tensor([[1.0]])), "torch.float32; pass"),
    (dict(prompts=[]), "no prompts; pass at least one row"),
    (dict(prompts=[[]]), "no positions; give a prompt"),
    (dict(prompts=[[1]], attention_mask=torch.ones(1, 1)), r"attention_mask has shape \(1, 1\); pass one of the shape of a \(B, L\) tensor"),
    (dict(prompts=torch.ones(1, 2).long(), attention_mask=torch.ones(1, 3)), r"attention_mask has shape \(1, 3\)"),
]


@pytest.mark.parametrize(("asked", "message"), WRONG)
def test_what_makes_no_canvas_says_what_would(asked, message):
    with pytest.raises(RemaskError, match=message):
        Canvas.from_prompts(**asked, mask_id=M)


def test_chosen_rows_keep_their_order_and_only_shadows_that_they_have():
    canvas = two_rows()
    assert shown(canvas.rows(torch.tensor([1, 0]))) == [tensor[::-1] for tensor in shown(canvas)]
    shadowed = Canvas(canvas.tokens, canvas.given, canvas.real, M, flags([0, 1, 0, 0], [0, 0, 0, 0]))
    assert shadowed.rows(slice(0, 1)).shadows.tolist() == [[False, True, False, False]]
    assert shadowed.rows(slice(1, 2)).shadows is None
    assert canvas.rows(slice(0, 1)).shadows is None


def test_a_canvas_is_cut_and_padded_on_the_right():
    canvas = two_rows()
    shadowed = Canvas(canvas.tokens, canvas.given, canvas.real, M, flags([0, 1, 0, 0], [1, 0, 0, 1]))
    longer = shadowed.resized(5)
    assert shown(longer) == [[[1, 2, M, M, M], [3, M, M, M, M]], [[1, 1, 0, 0, 1], [1, 0, 0, 1, 1]], [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]]
    assert longer.shadows.long().tolist() == [[0, 1, 0, 0, 0], [1, 0, 0, 1, 0]]
    assert shown(shadowed.resized(1)) == [[[1], [3]], [[1], [1]], [[1], [1]]]
    assert shadowed.resized(1).shadows.long().tolist() == [[0], [1]]
    assert shown(canvas.resized(4)) == shown(canvas)


def test_positions_move_along_a_map_and_new_ones_are_masks():
    moved = two_rows().moved(torch.tensor([[0, -1, 1, 2, 3], [0, 1, 2, PADDING, 3]]))
    assert shown(moved) == [[[1, M, 2, M, M], [3, M, M, M, M]], [[1, 0, 1, 0, 0], [1, 0, 0, 1, 1]], [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]]


def test_joined_rows_are_padded_to_the_longest_or_to_what_is_asked():
    short, long = Canvas.from_prompts([[5]], max_new_tokens=1, mask_id=M), two_rows()
    joined = Canvas.joined([short, long])
    assert shown(joined) == [[[5, M, M, M], *shown(long)[0]], [[1, 0, 1, 1], *shown(long)[1]], [[1, 1, 0, 0], *shown(long)[2]]]
    assert joined.shadows is None
    assert Canvas.joined([short, long], 6).shape == (3, 6)
    shadowed = Canvas(short.tokens, short.given, short.real, M, flags([1, 0]))
    assert Canvas.joined([long, shadowed]).shadows.long().tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]


def test_what_is_held_is_given_as_well():
    assert shown(two_rows().holding(flags([0, 0, 0, 1], [0, 0, 0, 1])))[1] == [[1, 1, 0, 1], [1, 0, 0, 1]]
    assert shown(two_rows().holding(None)) == shown(two_rows())


def test_an_edit_writes_and_masks_again_but_never_what_is_given():
    canvas = Edit(flags([1, 0, 1, 1], [0, 1, 0, 1]), torch.full((2, 4), 4)).apply(two_rows())
    assert canvas.tokens.tolist() == [[1, 2, 4, 4], [3, 4, M, M]]
    edit = Edit(flags([0, 0, 1, 0], [0, 0, 1, 0]), torch.full((2, 4), 5), flags([1, 0, 0, 1], [0, 1, 0, 0]))
    assert edit.apply(canvas).tokens.tolist() == [[1, 2, 5, M], [3, M, 5, M]]
    assert edit.touched.long().tolist() == [[1, 0, 1, 1], [0, 1, 1, 0]]
    assert Edit(edit.write, edit.tokens).touched is edit.write


def test_what_is_written_and_masked_again_at_once_is_written():
    everywhere = flags([1, 1, 1, 1], [1, 1, 1, 1])
    assert Edit(everywhere, torch.full((2, 4), 4), everywhere).apply(two_rows()).tokens.tolist() == [[1, 2, 4, 4], [3, 4, 4, M]]


def test_an_edit_with_a_map_speaks_of_the_longer_canvas():
    source = torch.tensor([[0, 1, -1, 2, 3], [0, 1, 2, 3, PADDING]])
    edit = Edit(flags([0, 0, 1, 0, 0], [0, 1, 0, 0, 1]), torch.full((2, 5), 6), source=source)
    assert edit.apply(two_rows()).tokens.tolist() == [[1, 2, 6, M, M], [3, 6, M, M, M]]
    assert edit.within(~edit.write).source is source


def test_the_part_of_an_edit_within_some_positions():
    edit = Edit(flags([1, 1, 0, 0]), torch.zeros(1, 4).long(), flags([0, 0, 1, 1]))
    part = edit.within(flags([1, 0, 1, 0]))
    assert part.write.long().tolist() == [[1, 0, 0, 0]]
    assert part.remask.long().tolist() == [[0, 0, 1, 0]]
    assert Edit(edit.write, edit.tokens).within(edit.write).remask is None

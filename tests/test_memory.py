"""Rows and positions of memories, without knowing what they mean."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from remask import Blocks, Canvas, RemaskError, memory


@dataclass(frozen=True, eq=False)
class Inner:
    count: Tensor
    seen: Tensor
    late: Tensor | None


@dataclass(frozen=True, eq=False)
class Outer:
    inner: Inner
    pair: tuple[Tensor, None]


def outer(rows: int, length: int, late: bool = True) -> Outer:
    count = torch.arange(rows)
    return Outer(Inner(count, torch.arange(rows * length).reshape(rows, length), torch.ones(rows, length, 2) if late else None), (count + 10, None))


def test_rows_are_taken_in_the_order_asked_for():
    taken = memory.rows(outer(3, 4), torch.tensor([2, 0]))
    assert taken.inner.count.tolist() == [2, 0]
    assert taken.inner.seen.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert taken.pair[0].tolist() == [12, 10]
    assert taken.pair[1] is None


def test_joined_memories_are_padded_and_none_reads_as_zeros():
    made = memory.joined([outer(1, 2), outer(2, 3, late=False)], [1, 2], 4)
    assert made.inner.seen.tolist() == [[0, 1, 0, 0], [0, 1, 2, 0], [3, 4, 5, 0]]
    assert made.inner.late[:, :, 0].tolist() == [[1, 1, 0, 0], [0] * 4, [0] * 4]
    assert made.inner.count.tolist() == [0, 0, 1]
    assert memory.joined([None, None], [1, 1], 3) is None


def test_moved_positions_keep_their_memory_and_new_ones_are_fresh():
    source = torch.tensor([[0, -1, 1, 3], [-1, 2, 2, -1]])
    made = memory.moved(outer(2, 4), source, outer(2, 4, late=False))
    assert made.inner.seen.tolist() == [[0, 1, 1, 3], [4, 6, 6, 7]]
    assert made.inner.late[:, :, 1].tolist() == [[1, 0, 1, 1], [0, 1, 1, 0]]
    assert made.inner.count.tolist() == [0, 1]


def test_size_and_cutting():
    made = memory.resized(outer(2, 4), 3)
    assert made.inner.seen.shape == (2, 3)
    assert memory.nbytes(made) == 8 * (2 + 6 + 2) + 4 * 12


def test_what_is_no_memory_is_refused():
    with pytest.raises(RemaskError, match="list"):
        memory.rows([torch.zeros(2)], torch.tensor([0]))


def test_blocks_of_a_canvas_that_is_partly_written_are_those_of_the_first_canvas():
    first = Canvas.from_prompts([[1, 2], [3, 4, 5]], max_new_tokens=6, mask_id=9)
    written = Canvas(first.tokens.masked_fill(first.masked & (torch.arange(9) < 6), 7), first.given, first.real, 9)
    assert torch.equal(Blocks(2).init(written), Blocks(2).init(first))

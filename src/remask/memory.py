"""What parts remember, by rows and positions: others reorder, join and move it without knowing what it means.

A memory is None, a tensor, or a tuple or frozen dataclass of memories. A tensor is (B,), one number a row, or (B, L, ...) with the positions at
dim 1, and nothing else. A field that is None until the first step reads as zeros beside a tensor, so zeros must mean "nothing yet".
tests/laws holds every registered part to this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from remask.errors import RemaskError

Memory = Any


def rows(memory: Memory, index: Tensor | slice) -> Memory:
    """The chosen rows, in the order of `index`."""
    return mapped(lambda tensor: tensor[index], memory)


def resized(memory: Memory, length: int) -> Memory:
    """For a canvas of `length` positions: cut at the end, or padded there with zeros, which nobody reads."""
    return mapped(lambda tensor: padded(tensor, length), memory)


def joined(memories: Sequence[Memory], counts: Sequence[int], length: int) -> Memory:
    """Rows below one another, counts[i] of them in memories[i], on a canvas of `length` positions."""

    def below(*tensors: Tensor | None) -> Tensor:
        like = next(tensor for tensor in tensors if tensor is not None)
        filled = [like.new_zeros(count, *like.shape[1:]) if tensor is None else tensor for tensor, count in zip(tensors, counts, strict=True)]
        return torch.cat([padded(tensor, length) for tensor in filled])

    return mapped(below, *memories)


def moved(old: Memory, source: Tensor, fresh: Memory) -> Memory:
    """After positions were inserted, deleted or shifted: every position's own memory, at its new place.

    source: (B, L') int64, the old index of every new position, -1 where there was none.  fresh: what `init` gives for the new canvas; new
    positions take it, or zeros where `init` leaves None. Numbers of a row stay. A memory that is a function of the canvas (`Blocks`) is not
    moved but made again by `init`.
    """
    known = source >= 0

    def carried(before: Tensor | None, now: Tensor | None) -> Tensor | None:
        if before is None or before.dim() == 1:
            return now if before is None else before
        shape = (*source.shape, *[1] * (before.dim() - 2))
        taken = before.gather(1, source.clamp(min=0).reshape(shape).expand(*source.shape, *before.shape[2:]))
        return torch.where(known.reshape(shape), taken, torch.zeros_like(taken) if now is None else now)

    return mapped(carried, old, fresh)


def nbytes(memory: Memory) -> int:
    """Size in bytes of all tensors."""
    sizes: list[int] = []
    mapped(lambda tensor: sizes.append(tensor.numel() * tensor.element_size()), memory)
    return sum(sizes)


def check(memory: Memory, count: int, length: int) -> None:
    """Raise unless every tensor has `count` rows, and positions at dim 1 if it has more dims."""

    def right(tensor: Tensor) -> None:
        if tensor.dim() == 0 or tensor.shape[0] != count or (tensor.dim() > 1 and tensor.shape[1] != length):
            raise RemaskError(f"a part's memory holds a tensor of shape {tuple(tensor.shape)} for {count} rows of {length} positions; make it (B,) or (B, L, ...)")

    mapped(right, memory)


def padded(tensor: Tensor, length: int) -> Tensor:
    """(B, L, ...) -> (B, length, ...), zeros at the end; a (B,) tensor stays."""
    if tensor.dim() == 1 or tensor.shape[1] == length:
        return tensor
    if tensor.shape[1] > length:
        return tensor[:, :length]
    return functional.pad(tensor, [0, 0] * (tensor.dim() - 2) + [0, length - tensor.shape[1]])


def mapped(change: Callable[..., Any], *memories: Memory) -> Memory:
    """`change` of the tensors that stand at the same place of memories of one form; None where all have None."""
    form = next((memory for memory in memories if memory is not None), None)
    if form is None:
        return None
    if isinstance(form, Tensor):
        return change(*memories)
    if isinstance(form, tuple):
        parts = zip(*([None] * len(form) if memory is None else memory for memory in memories), strict=True)
        return tuple(mapped(change, *part) for part in parts)
    if not dataclasses.is_dataclass(form) or isinstance(form, type):
        raise RemaskError(f"a memory holds {type(form).__name__}; it may hold None, tensors, tuples and frozen dataclasses of them")
    names = [field.name for field in dataclasses.fields(form)]
    values = {name: mapped(change, *(None if memory is None else getattr(memory, name) for memory in memories)) for name in names}
    return dataclasses.replace(form, **values)

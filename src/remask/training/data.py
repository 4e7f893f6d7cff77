"""Training data as memory-mapped token ids: one flat file, and where each row and its answer begin."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from remask.errors import RemaskError


@dataclass(frozen=True, eq=False)
class Batch:
    """tokens: (B, L) int64, clean. eligible: (B, L) bool, what may be masked. weights: (B, L) float or None."""

    tokens: Tensor
    eligible: Tensor
    weights: Tensor | None = None


class Source(Protocol):
    """Batches as a function of the step alone, so that a run may stop and continue anywhere."""

    def batch(self, step: int) -> Batch: ...


class Rows:
    """Rows of uint16 ids with the length of each one's prompt; nothing is read before it is asked for."""

    def __init__(self, path: Path) -> None:
        try:
            self.tokens: np.ndarray[Any, Any] = np.asarray(np.memmap(path.with_suffix(".tokens"), dtype=np.uint16, mode="r"))
            bounds: np.ndarray[Any, Any] = np.load(path.with_suffix(".bounds.npy"))
        except (FileNotFoundError, ValueError) as error:
            raise RemaskError(f"training data {str(path)!r} is missing or broken ({error}); run the recipe's `prepare` first") from None
        self.starts, self.prompts = bounds[:-1, 0], bounds[:-1, 1]
        self.lengths = np.diff(bounds[:, 0])

    def __len__(self) -> int:
        return len(self.starts)

    def row(self, index: int) -> tuple[np.ndarray[Any, Any], int]:
        """(ids, prompt length)."""
        start = int(self.starts[index])
        return self.tokens[start : start + int(self.lengths[index])], int(self.prompts[index])

    def window(self, rows: np.ndarray[Any, Any], length: int, offsets: np.ndarray[Any, Any] | int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """(B,) rows -> ids (B, length) from each row's offset, and how many of them are the row's own (B,)."""
        own = np.minimum(self.lengths[rows] - offsets, length)
        place = (self.starts[rows] + offsets)[:, None] + np.minimum(np.arange(length), own[:, None] - 1)
        return self.tokens[place], own


def write_rows(path: Path, rows: Iterable[tuple[list[int], int]]) -> int:
    """Write (ids, prompt length) rows; returns how many. Ids must be below 65,536."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bounds: list[tuple[int, int]] = []
    position = 0
    with open(path.with_suffix(".tokens.part"), "wb") as file:
        for ids, prompt in rows:
            bounds.append((position, prompt))
            file.write(np.asarray(ids, dtype=np.uint16).tobytes())
            position += len(ids)
    np.save(path.with_suffix(".bounds.npy"), np.array([*bounds, (position, 0)], dtype=np.int64))
    path.with_suffix(".tokens.part").replace(path.with_suffix(".tokens"))
    return len(bounds)


def write_stream(path: Path, ids: np.ndarray[Any, Any]) -> None:
    """One row of ids below 65,536 as compressed uint16: small enough to carry to another machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(lzma.compress(ids.astype(np.uint16).tobytes(), preset=2))
    part.replace(path)


MOST = 1 << 30
"""Bytes that a compressed file of ids may unpack to."""


def read_stream(path: Path) -> Tensor:
    """(N,) int32 ids that `write_stream` left."""
    try:
        with lzma.open(path) as file:
            unpacked = file.read(MOST + 1)
        ids = np.frombuffer(unpacked[:MOST], dtype=np.uint16)
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise RemaskError(f"token ids {str(path)!r} are missing or broken ({error}); run the recipe with --prepare first") from None
    if len(unpacked) > MOST:
        raise RemaskError(f"token ids {str(path)!r} unpack to more than {MOST:,} bytes; split the file")
    return torch.from_numpy(ids.astype(np.int32))


def encode_pairs(encode: Callable[[list[str]], list[list[int]]], pairs: Iterable[tuple[str, str]], eos_id: int, *, chunk: int = 1000) -> Iterator[tuple[list[int], int]]:
    """(prompt, answer) texts -> (prompt + answer + end-of-text, prompt length)."""
    held: list[tuple[str, str]] = []

    def flush() -> Iterator[tuple[list[int], int]]:
        prompts, answers = encode([prompt for prompt, _ in held]), encode([answer for _, answer in held])
        for prompt, answer in zip(prompts, answers, strict=True):
            yield [*prompt, *answer, eos_id], len(prompt)

    for pair in pairs:
        held.append(pair)
        if len(held) == chunk:
            yield from flush()
            held.clear()
    yield from flush()


def pad_rows(ids: np.ndarray[Any, Any], own: np.ndarray[Any, Any], prompts: np.ndarray[Any, Any], eos_id: int, *, tail_weight: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Windows (B, L) as tokens filled up with end-of-text; what may be masked, behind the prompt; weights, less in the tail."""
    place = np.arange(ids.shape[1])[None]
    inside = place < own[:, None]
    tokens = np.where(inside, ids, eos_id).astype(np.int64)
    weights = np.where(inside, 1, tail_weight).astype(np.float32)
    return torch.from_numpy(tokens), torch.from_numpy(place >= prompts[:, None]), torch.from_numpy(weights)

"""The canvas a decoder writes on, and the edit that makes the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from remask.errors import RemaskError

PADDING = -2
"""In a source map: a position that is padding; -1 is a new position of the row."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """B rows of L positions: tokens known so far, the mask everywhere else.

    tokens: (B, L) int64.  given: (B, L) bool, positions that never change (padding counts as given).
    real: (B, L) bool, False where a shorter row was padded; the network must not look there.
    shadows: (B, L) bool or None, places whose leave-one-out rows the next pass computes as well; the loop sets them for that pass.
    """

    tokens: Tensor
    given: Tensor
    real: Tensor
    mask_id: int
    shadows: Tensor | None = None

    @property
    def masked(self) -> Tensor:
        """(B, L) bool: positions still to be written."""
        return (self.tokens == self.mask_id) & ~self.given

    @property
    def shape(self) -> tuple[int, int]:
        rows, length = self.tokens.shape
        return rows, length

    def rows(self, index: Tensor | slice) -> Canvas:
        """The chosen rows as a canvas of their own."""
        shadows = None if self.shadows is None or not bool(self.shadows[index].any()) else self.shadows[index]
        return replace(self, tokens=self.tokens[index], given=self.given[index], real=self.real[index], shadows=shadows)

    def resized(self, length: int) -> Canvas:
        """With `length` positions: padded on the right, or cut there."""
        room = max(0, length - self.shape[1])
        tokens, given, real = (
            functional.pad(tensor[:, :length], (0, room), value=value) for tensor, value in ((self.tokens, self.mask_id), (self.given, True), (self.real, False))
        )
        shadows = None if self.shadows is None else functional.pad(self.shadows[:, :length], (0, room), value=False)
        return replace(self, tokens=tokens, given=given, real=real, shadows=shadows)

    def moved(self, source: Tensor) -> Canvas:
        """The canvas whose positions stood at `source` (B, L') in this one: -1 is a new mask, PADDING is padding."""
        known, index = source >= 0, source.clamp(min=0)
        tokens = torch.where(known, self.tokens.gather(1, index), self.mask_id)
        return Canvas(tokens, (known & self.given.gather(1, index)) | (source == PADDING), (known & self.real.gather(1, index)) | (source == -1), self.mask_id)

    @staticmethod
    def joined(canvases: Sequence[Canvas], length: int | None = None) -> Canvas:
        """Rows below one another, padded to the longest, or to `length`."""
        same = [canvas.resized(length or max(canvas.shape[1] for canvas in canvases)) for canvas in canvases]
        tokens, given, real = (torch.cat(parts) for parts in zip(*((canvas.tokens, canvas.given, canvas.real) for canvas in same), strict=True))
        shadows = None
        if any(canvas.shadows is not None for canvas in same):
            shadows = torch.cat([torch.zeros_like(canvas.given) if canvas.shadows is None else canvas.shadows for canvas in same])
        return replace(same[0], tokens=tokens, given=given, real=real, shadows=shadows)

    def holding(self, frozen: Tensor | None) -> Canvas:
        """With the frozen (B, L) positions given as well; None: none."""
        return self if frozen is None else replace(self, given=self.given | frozen)

    @staticmethod
    def from_prompts(
        prompts: Sequence[Sequence[int]] | Tensor,
        *,
        max_new_tokens: int = 0,
        mask_id: int,
        attention_mask: Tensor | None = None,
        device: torch.device | str | None = None,
    ) -> Canvas:
        """Prompts followed by `max_new_tokens` masks; shorter rows are padded on the right.

        A mask inside a prompt is an unknown position, so `max_new_tokens=0` infills.
        """
        if max_new_tokens < 0:
            raise RemaskError(f"max_new_tokens is {max_new_tokens}; it must be 0 (infill) or more")
        if isinstance(prompts, Tensor):
            if prompts.dim() != 2 or prompts.is_floating_point():
                raise RemaskError(f"tokens has shape {tuple(prompts.shape)} and type {prompts.dtype}; pass (B, L) integers")
            device = prompts.device if device is None else device
            rows = prompts.tolist()
        else:
            rows = [list(row) for row in prompts]
        if not rows:
            raise RemaskError("no prompts; pass at least one row (an empty row [[]] generates unconditionally)")
        if attention_mask is not None:
            if not isinstance(prompts, Tensor) or attention_mask.shape != prompts.shape:
                raise RemaskError(f"attention_mask has shape {tuple(attention_mask.shape)}; pass one of the shape of a (B, L) tensor of tokens")
            keep = [flags + [True] * max_new_tokens for flags in attention_mask.bool().tolist()]
        else:
            keep = None
        lengths = [len(row) + max_new_tokens for row in rows]
        length = max(lengths)
        if length == 0:
            raise RemaskError("the canvas has no positions; give a prompt or a max_new_tokens above 0")
        tokens = torch.tensor([row + [mask_id] * (length - len(row)) for row in rows], dtype=torch.int64, device=device)
        real = torch.tensor(lengths, device=device)[:, None] > torch.arange(length, device=device) if keep is None else torch.tensor(keep, device=device)
        return Canvas(tokens, (tokens != mask_id) | ~real, real, mask_id)


@dataclass(frozen=True, eq=False)
class Edit:
    """What a decoder or a window asks for: write `tokens` where `write`, put the mask where `remask`.

    write, remask: (B, L) bool, disjoint.  tokens: (B, L) int64, read only where `write`.
    source: (B, L) int64 or None, a window's: where each position stood before (see Canvas.moved); the others then speak of the new canvas.
    """

    write: Tensor
    tokens: Tensor
    remask: Tensor | None = None
    source: Tensor | None = None

    @property
    def touched(self) -> Tensor:
        """(B, L) bool: positions whose stored computation is no longer true."""
        return self.write if self.remask is None else self.write | self.remask

    def within(self, allowed: Tensor) -> Edit:
        """The part of the edit that falls on allowed (B, L) positions."""
        return Edit(self.write & allowed, self.tokens, None if self.remask is None else self.remask & allowed, self.source)

    def apply(self, canvas: Canvas) -> Canvas:
        """The next canvas. Given positions stay, whatever the edit says."""
        canvas = canvas if self.source is None else canvas.moved(self.source)
        edit = self.within(~canvas.given)
        tokens = torch.where(edit.write, edit.tokens, canvas.tokens)
        if edit.remask is not None:
            tokens = tokens.masked_fill(edit.remask & ~edit.write, canvas.mask_id)
        return replace(canvas, tokens=tokens)

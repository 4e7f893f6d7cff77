"""The window protocol: which positions a decoder may write at this step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.part import Part
from remask.prediction import Belief


class Window(Part, Protocol):
    """`eligible` returns (B, L) bool, a subset of the masked positions of `span`, which is the whole open block.

    `init` gives the window's memory of a canvas, which may be partly written.
    grows: the window may lengthen the canvas before a pass.
    """

    papers: ClassVar[tuple[Paper, ...]] = ()
    grows: ClassVar[bool] = False

    def init(self, canvas: Canvas) -> Any: ...

    def opened(self, max_new_tokens: int, *, inside: int = 0) -> tuple[Window, int]:
        """For a text of at most `max_new_tokens`: the window, and how many masks the canvas starts with behind the prompt.

        inside: positions from the prompt's first mask to its end.
        """
        return self, max_new_tokens

    def grow(self, canvas: Canvas, belief: Belief | None, state: Any, *, limit: int | None, eos_ids: tuple[int, ...]) -> tuple[Edit | None, Any]:
        """Before a pass: an edit with a source map or None, and the window's memory of the canvas that the pass will see.

        belief: of the last pass on this canvas, None before the first.  limit: the most positions of a row, the model's.
        """
        return None, state

    def check(self, canvas: Canvas) -> None:
        """Raise RemaskError if `decode` must refuse the canvas, which `generate` would have rounded up."""

    def most_new(self, new: int) -> int:
        """How many positions to be written a row may come to have that starts with `new`."""
        return new

    def most_open(self, new: int) -> int:
        """How many positions of a row with `new` to be written are eligible at once, at most."""
        return new

    def eligible(self, canvas: Canvas, state: Any) -> Tensor: ...

    def span(self, canvas: Canvas, state: Any) -> Tensor: ...


def room(window: Window, prompt: Sequence[int], max_new_tokens: int, mask_id: int) -> int:
    """How many positions a caller who asks for text is given behind the prompt: blocks from the first unknown position are filled up.

    An infill (max_new_tokens=0) stays as it is.
    """
    prompt = list(prompt)
    return window.opened(max_new_tokens, inside=len(prompt) - prompt.index(mask_id) if mask_id in prompt else 0)[1]

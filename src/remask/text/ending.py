"""Where a generated text ends."""

from __future__ import annotations

from collections.abc import Sequence


def before_end(ids: Sequence[int], eos_ids: Sequence[int]) -> list[int]:
    """The ids before the first end-of-text."""
    for index, token in enumerate(ids):
        if token in eos_ids:
            return list(ids[:index])
    return list(ids)

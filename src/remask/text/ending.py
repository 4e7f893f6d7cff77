"""Where a generated text ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TURN_ENDS = ("<|eot_id|>", "<|im_end|>", "<|role_end|>")
"""What LLaDA, Dream and LLaDA2 write after an answer, before the end-of-text."""


def end_ids(model: Any) -> tuple[int, ...]:
    """The ids that end a text of this model: its end-of-text, and the end of a turn if its tokenizer has one."""
    turns = (model.tokenizer.id_of(token) for token in TURN_ENDS)
    return (*model.eos_ids, *(index for index in turns if index is not None and index not in model.eos_ids))


def before_end(ids: Sequence[int], end_ids: Sequence[int]) -> list[int]:
    """The ids before the first that ends the text."""
    return list(ids[: min((ids.index(end) for end in end_ids if end in ids), default=len(ids))])

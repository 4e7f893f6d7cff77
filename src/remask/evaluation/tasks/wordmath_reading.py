"""What a reader gets from a word problem who combines its numbers in the order of the prompt and never asks who is meant."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence

WORDS: dict[str, Callable[[int, int], int]] = {
    **dict.fromkeys(("more", "plus", "Add", "added", "together"), operator.add),
    **dict.fromkeys(("fewer", "less", "minus", "Take", "beyond", "gap"), operator.sub),
    **dict.fromkeys(("times", "Multiply", "every"), operator.mul),
}
"""The words of a statement that name an operation."""


def in_order(statements: Sequence[str]) -> int:
    """The first number, then each next number by the next operation that a word names."""
    numbers: list[int] = [int(number) for statement in statements for number in re.findall(r"\d+", statement)]
    named = [WORDS[word] for statement in statements for word in re.findall(r"[A-Za-z]+", statement) if word in WORDS]
    value = numbers[0]
    for number, operation in zip(numbers[1:], named, strict=False):
        value = operation(value, number)
    return value


def unread(statements: list[str], result: int) -> list[str]:
    """The statements, turned by one until such a reader is wrong; as they are if every turn is lucky."""
    turns = [statements[start:] + statements[:start] for start in range(len(statements))]
    return next((turn for turn in turns if in_order(turn) != result), statements)

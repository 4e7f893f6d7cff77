"""Addition with long carries: adversarial to confidence, since a column that sums to 9 looks easy and hangs on all columns below it.

The "confidence shortcut" of arXiv 2605.29123: easy digits are written before the carry is known.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial

from remask.evaluation.tasks.base import Item, check_choice, check_request, split_of

STRATA = {"short": (0, 4), "medium": (5, 9), "long": (10, 19)}
"""Longest run of columns that sum to 9, from and to."""


@dataclass(frozen=True)
class Addition:
    """`a+b=` with `digits` digits each, leading zeros kept, highest digit first; the answer has one digit more."""

    digits: int = 20
    model: str = "addition"

    @property
    def max_new_tokens(self) -> int:
        """The digits of the answer, a token each."""
        return self.digits + 1

    def sample(self, n: int, *, seed: int = 0, split: str = "test", stratum: str | None = None) -> list[Item]:
        """n problems; without a stratum they take turns."""
        check_request(n, split)
        if stratum is not None:
            check_choice("stratum", stratum, tuple(STRATA))
        rng = random.Random(f"addition {self.digits} {seed} {split} {stratum}")
        turns = [stratum] if stratum is not None else list(STRATA)
        return [self.item(rng, split, turns[k % len(turns)]) for k in range(n)]

    def item(self, rng: random.Random, split: str, stratum: str) -> Item:
        """Sums are drawn until one has the runs of the stratum and is of the split."""
        low, high = STRATA[stratum]
        while True:
            a, b = operands(rng, self.digits, rng.randint(low, min(high, self.digits - 1)))
            if low <= longest_run(a, b) <= high and split_of(canonical(a, b)) == split:
                answer = f"{int(a) + int(b):0{self.digits + 1}d}"
                return Item(f"{a}+{b}=", answer, stratum, partial(equals, answer))


def operands(rng: random.Random, digits: int, run: int) -> tuple[str, str]:
    """Two random numbers with a run of columns that sum to 9 somewhere above the lowest column."""
    a = [rng.randrange(10) for _ in range(digits)]
    b = [rng.randrange(10) for _ in range(digits)]
    first = rng.randint(0, digits - 1 - run)
    b[first : first + run] = [9 - digit for digit in a[first : first + run]]
    return "".join(map(str, a)), "".join(map(str, b))


def longest_run(a: str, b: str) -> int:
    """The most neighbouring columns that sum to 9."""
    columns = "".join("9" if int(x) + int(y) == 9 else " " for x, y in zip(a, b, strict=True))
    return max(map(len, columns.split()), default=0)


def canonical(a: str, b: str) -> str:
    """One text for a + b and b + a."""
    return "+".join(sorted((a, b)))


def equals(answer: str, text: str) -> bool:
    """The same digits, spaces aside."""
    return "".join(text.split()) == answer

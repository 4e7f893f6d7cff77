"""`wordmath`: word problems on a graph of quantities, statements shuffled, with a worked answer.

The answer first restates the definitions that the question needs, from the asked quantity down (each name is looked up
where it was first mentioned), then computes them from the leaves up, then gives the number. Only that number is checked.
Its numbers have three digits each, so that the frame of a statement does not depend on values which are not yet known:
a decoder that writes in any order fixes the frame first, and a number that does not fit it comes out wrong.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from remask.errors import RemaskError
from remask.evaluation.tasks.base import Item, check_choice, check_request, split_of
from remask.evaluation.tasks.wordmath_phrases import HELD_OUT, ITEM_SETS, NAMES, PHRASES, QUESTIONS
from remask.evaluation.tasks.wordmath_reading import unread

LARGEST = 999
MOST_OPERATIONS = 10
OPERATORS = {"more": "+", "fewer": "-", "times": "*", "sum": "+", "difference": "-"}


@dataclass
class Quantity:
    """One definition. sources: the quantities it names, by index; number: its constant, if the kind has one."""

    kind: str
    sources: tuple[int, ...] = ()
    number: int = 0
    value: int = 0


@dataclass(frozen=True)
class Problem:
    """Quantities in the order the answer restates them (the asked one first), then the distractors."""

    quantities: list[Quantity]
    needed: int

    @property
    def canonical(self) -> str:
        """What stays of the problem without names, nouns, wording, order and distractors."""
        return ";".join(f"{q.kind}{q.sources}{q.number}" for q in self.quantities[: self.needed])


@dataclass(frozen=True)
class WordMath:
    """Strata are the numbers of operations."""

    max_new_tokens: int = 240
    model: str = "demo"

    def sample(
        self, n: int, *, seed: int = 0, split: str = "test", operations: tuple[int, int] = (2, 8), distractors: tuple[int, int] = (0, 2), wording: str = "seen"
    ) -> list[Item]:
        """n problems of operations[0] to operations[1] operations; wording="new" uses phrases that training never shows."""
        check_request(n, split)
        check_choice("wording", wording, ("seen", "new"))
        for name, (low, high), least, most in (("operations", operations, 1, MOST_OPERATIONS), ("distractors", distractors, 0, 8)):
            if not least <= low <= high <= most:
                raise RemaskError(f"{name}=({low}, {high}) is no range from {least} to {most}; write (low, high)")
        rng = random.Random(f"wordmath {seed} {split}")
        items: list[Item] = []
        while len(items) < n:
            problem = sample_problem(rng, rng.randint(*operations), rng.randint(*distractors))
            if split_of(problem.canonical) == split:
                items.append(write(problem, rng, PHRASES if wording == "seen" else HELD_OUT))
        return items


def sample_problem(rng: random.Random, operations: int, distractors: int) -> Problem:
    """A random graph with exactly this many operations, every one of them needed, and values from 0 to 999."""
    quantities = _grow(rng, operations)
    for quantity in reversed(quantities):
        _settle(rng, quantity, quantities)
    needed = len(quantities)
    for _ in range(distractors):
        used = rng.random() < 0.5
        source = rng.randrange(needed) if used else rng.randrange(len(quantities))
        kind = rng.choice(("more", "fewer", "times", "sum", "difference")) if used else rng.choice(("constant", "more", "fewer"))
        if kind in ("sum", "difference"):
            other = rng.choice([index for index in range(len(quantities)) if index != source])
            extra = Quantity(kind, (source, other))
        else:
            extra = Quantity(kind, () if kind == "constant" else (source,))
        _settle(rng, extra, quantities)
        quantities.append(extra)
    return Problem(quantities, needed)


def _grow(rng: random.Random, operations: int) -> list[Quantity]:
    """Breadth first from the asked quantity; a quantity may be named twice, but only before it is expanded."""
    quantities = [Quantity("")]
    left, index = operations, 0
    while index < len(quantities):
        waiting = len(quantities) - index - 1
        if left and (waiting == 0 or rng.random() < 0.6):
            kind = rng.choice(("more", "fewer", "times", "sum", "difference", "difference", "difference"))
            left -= 1
            sources: list[int] = []
            for _ in range(2 if kind in ("sum", "difference") else 1):
                shared = [other for other in range(index + 1, len(quantities)) if other not in sources]
                if shared and rng.random() < 0.1:
                    sources.append(rng.choice(shared))
                else:
                    sources.append(len(quantities))
                    quantities.append(Quantity(""))
            quantities[index] = Quantity(kind, tuple(sources))
        else:
            quantities[index] = Quantity("constant")
        index += 1
    return quantities


def _settle(rng: random.Random, quantity: Quantity, quantities: list[Quantity]) -> None:
    """Choose the constant and the value; where the kind would leave 0 to 999, a kindred one takes its place."""
    values = [quantities[source].value for source in quantity.sources]
    if quantity.kind == "constant":
        quantity.number = quantity.value = rng.randint(2, rng.choice((20, 99, 400)))
        return
    if quantity.kind == "sum" and sum(values) > LARGEST:
        quantity.kind = "difference"
    if quantity.kind == "difference":
        if values[0] < values[1] and sum(values) <= LARGEST:
            quantity.kind, quantity.value = "sum", sum(values)
            return
        if values[0] < values[1]:
            quantity.sources, values = quantity.sources[::-1], values[::-1]
        quantity.value = values[0] - values[1]
        return
    if quantity.kind == "sum":
        quantity.value = sum(values)
        return
    value = values[0]
    if quantity.kind == "times" and not 1 <= value <= LARGEST // 2:
        quantity.kind = "fewer" if value else "more"
    if quantity.kind == "more" and value > LARGEST - 2:
        quantity.kind = "fewer"
    if quantity.kind == "fewer" and value < 2:
        quantity.kind = "more"
    if quantity.kind == "times":
        quantity.number = rng.randint(2, min(9, LARGEST // value))
        quantity.value = value * quantity.number
    elif quantity.kind == "more":
        quantity.number = rng.randint(1, min(rng.choice((20, 200)), LARGEST - value))
        quantity.value = value + quantity.number
    else:
        quantity.number = rng.randint(1, min(rng.choice((20, 200)), value))
        quantity.value = value - quantity.number


def write(problem: Problem, rng: random.Random, phrases: dict[str, tuple[str, ...]] = PHRASES) -> Item:
    """Names, a noun and a phrasing for each statement; statements shuffled, so that reading on does not solve it, the question last."""
    names: list[str] = rng.sample(NAMES, len(problem.quantities))
    noun = rng.choice(rng.choice(ITEM_SETS))
    statements = [_state(quantity, names, index, noun, rng.choice(phrases[quantity.kind])) for index, quantity in enumerate(problem.quantities)]
    rng.shuffle(statements)
    question = rng.choice(QUESTIONS).format(a=names[0], i=noun)
    result = problem.quantities[0].value
    operations = sum(quantity.kind != "constant" for quantity in problem.quantities[: problem.needed])
    statements = unread(statements, result)
    return Item(" ".join([*statements, question]), solution(problem, names), str(operations), partial(answers, str(result)))


def _state(quantity: Quantity, names: Sequence[str], index: int, noun: str, phrase: str) -> str:
    b, c = ([names[source] for source in quantity.sources] + ["", ""])[:2]
    return phrase.format(a=names[index], b=b, c=c, n=quantity.number, i=noun)


def solution(problem: Problem, names: Sequence[str]) -> str:
    """The worked answer: `Finn = Rae - 009. Rae = 012. So Finn = 012 - 009 = 003. #### 003`."""
    needed = problem.quantities[: problem.needed]
    restated = [f"{names[i]} = {_right_side(q, names)}." for i, q in enumerate(needed)]
    values: Any = [digits(q.value) for q in problem.quantities]
    computed = [f"{names[i]} = {_right_side(q, values)} = {values[i]}." for i, q in reversed(list(enumerate(needed))) if q.kind != "constant"]
    return f"{' '.join(restated)} So {' '.join(computed)} #### {values[0]}"


def _right_side(quantity: Quantity, words: Sequence[str]) -> str:
    if quantity.kind == "constant":
        return digits(quantity.number)
    operands = [words[source] for source in quantity.sources]
    if len(operands) == 1:
        operands.append(digits(quantity.number))
    return f"{operands[0]} {OPERATORS[quantity.kind]} {operands[1]}"


def digits(number: int) -> str:
    """A number as the worked answer writes it."""
    return f"{number:03d}"


def answers(result: str, text: str) -> bool:
    """Whether the last number of the text is the result; leading zeros do not matter."""
    numbers = re.findall(r"-?\d+(?:\.\d+)?", text.replace(",", ""))
    return bool(numbers) and float(numbers[-1]) == float(result)

"""What a task is: items with a prompt, a reference answer and a check; splits that follow from the problem itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from remask.errors import RemaskError

Split = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Item:
    """One problem. `answer` is a reference answer in the form the model is taught; `check` accepts every right one.

    after: text behind the answer that is given as well, when the task is to fill a gap.
    """

    prompt: str
    answer: str
    stratum: str
    checker: Callable[[str], bool] = field(repr=False, compare=False)
    after: str = ""

    def check(self, text: str) -> bool:
        """Whether generated text (the end-of-text and what follows it cut off) answers the problem."""
        return self.checker(text)


class Task(Protocol):
    """max_new_tokens: room that the longest default answer needs, in tokens of the shipped checkpoint for it."""

    @property
    def max_new_tokens(self) -> int: ...
    @property
    def model(self) -> str: ...
    @property
    def sample(self) -> Callable[..., list[Item]]: ...


def bucket(canonical: str, buckets: int = 100) -> int:
    """A number from 0 to buckets - 1 that depends on nothing but the canonical problem."""
    digest = hashlib.blake2b(canonical.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % buckets


def split_of(canonical: str) -> Split:
    """5 % test, 5 % valid, 90 % train, by the hash of the canonical problem and never by the seed."""
    number = bucket(canonical)
    return "test" if number < 5 else "valid" if number < 10 else "train"


def check_request(n: int, split: str) -> None:
    """The errors that all tasks share."""
    if n < 0:
        raise RemaskError(f"cannot sample {n} items; ask for 0 or more")
    if split not in get_args(Split):
        raise RemaskError(f"unknown split {split!r}; choose one of {', '.join(get_args(Split))}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """An option that must be one of a few words."""
    if value not in choices:
        raise RemaskError(f"unknown {name} {value!r}; choose one of {', '.join(choices)}")

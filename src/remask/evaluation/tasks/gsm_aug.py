"""`gsm_aug`: grade-school problems with numbers and names redrawn (source problems: Cobbe et al., arXiv 2110.14168, MIT).

The answer is the chain of equations, then the number: `6*52=312 312/26=12 #### 12`. Only the number is checked.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from remask.evaluation.tasks.base import Item, bucket, check_choice, check_request
from remask.evaluation.tasks.files import data_file, lines
from remask.evaluation.tasks.wordmath import answers

HELD_OUT_SOURCES = 200
FILES = {"seen": "gsm_aug_test_newnumbers.jsonl.xz", "new": "gsm_aug_test_newtemplates.jsonl.xz"}


@dataclass(frozen=True)
class GsmAug:
    """Strata are the numbers of equations. The validation split is all variants of 200 source problems of the training file."""

    max_new_tokens: int = 128
    model: str = "demo"

    def sample(self, n: int, *, seed: int = 0, split: str = "test", templates: str = "seen") -> list[Item]:
        """n problems without repetition, or all if there are fewer. On the test split, templates="new" asks source problems that training never shows."""
        check_request(n, split)
        check_choice("templates", templates, ("seen", "new"))
        found = (
            records(data_file(FILES[templates]))
            if split == "test"
            else [record for record in records(training_file()) if (record["t"] in held_out(training_file())) == (split == "valid")]
        )
        rng = random.Random(f"gsm_aug {seed} {split} {templates}")
        return [item(record) for record in rng.sample(found, min(n, len(found)))]


def item(record: dict[str, Any]) -> Item:
    """A record of the files as an item."""
    chain = record["e"].replace("<<", "").replace(">>", "").strip()
    return Item(record["q"], f"{chain} #### {record['a']}", str(len(chain.split())), partial(answers, record["a"].replace(",", "")))


@lru_cache
def records(path: Path) -> list[dict[str, Any]]:
    """All records of a file."""
    return [json.loads(line) for line in lines(path) if line.strip()]


def training_file() -> Path:
    """Training and validation together."""
    return data_file("gsm_aug_train.jsonl.xz")


@lru_cache
def held_out(path: Path) -> frozenset[int]:
    """The 200 source problems of the training file that validate: those of the least hash."""
    sources = {record["t"] for record in records(path)}
    return frozenset(sorted(sources, key=lambda source: (bucket(f"gsm_aug {source}", 2**60), source))[:HELD_OUT_SOURCES])


def training_pairs() -> Iterator[tuple[str, str]]:
    """(prompt, answer) of every problem that may be trained on."""
    path = training_file()
    for record in records(path):
        if record["t"] not in held_out(path):
            made = item(record)
            yield made.prompt, made.answer

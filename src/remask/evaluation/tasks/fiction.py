"""`fiction` and `fiction_infill`: passages of public-domain English fiction, to continue or to complete.

Open text has no exact answer: `check` only says whether the words are the book's own, so its accuracy is near 0 for
continuation; judge such text with the text metrics instead.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from remask.evaluation.tasks.base import Item, check_request
from remask.evaluation.tasks.files import data_file, lines

FILES = {"train": "pdfiction_train_a.txt.xz", "valid": "pdfiction_valid.txt.xz", "test": "pdfiction_test.txt.xz"}


@dataclass(frozen=True)
class Fiction:
    """`gap=0` continues a passage after its first half; `gap=n` leaves out n words in the middle. Splits are by book."""

    gap: int = 0
    max_new_tokens: int = 128
    model: str = "demo"

    def sample(self, n: int, *, seed: int = 0, split: str = "test") -> list[Item]:
        """n passages without repetition, or all if there are fewer."""
        check_request(n, split)
        found = passages(data_file(FILES[split]))
        rng = random.Random(f"fiction {self.gap} {seed} {split}")
        return [self.item(passage, rng) for passage in rng.sample(found, min(n, len(found)))]

    def item(self, passage: str, rng: random.Random) -> Item:
        """A passage without its second half, or without `gap` words somewhere in its middle half."""
        words = passage.split(" ")
        if not self.gap:
            half = len(words) // 2
            answer = " ".join(words[half:])
            return Item(" ".join(words[:half]), answer, "continuation", partial(same_words, answer))
        start = rng.randint(len(words) // 4, max(len(words) // 4, 3 * len(words) // 4 - self.gap))
        answer = " ".join(words[start : start + self.gap])
        return Item(" ".join(words[:start]), answer, "infill", partial(same_words, answer), after=" " + " ".join(words[start + self.gap :]))


@lru_cache
def passages(path: Path) -> list[str]:
    """Passages of a file: paragraphs by newline, passages by blank line."""
    found: list[str] = []
    paragraphs: list[str] = []
    for line in lines(path):
        if line.strip():
            paragraphs.append(line.strip())
        elif paragraphs:
            found.append("\n".join(paragraphs))
            paragraphs = []
    return [*found, "\n".join(paragraphs)] if paragraphs else found


def same_words(answer: str, text: str) -> bool:
    """Equality up to spaces."""
    return text.split() == answer.split()

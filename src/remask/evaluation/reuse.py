"""Reuse rules against the same decoder without reuse: quality, work and seconds, all in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from remask.evaluation.flops import Shape
from remask.evaluation.harness import encoded, environment
from remask.evaluation.intervals import paired_difference, wilson
from remask.evaluation.replaying import replayed
from remask.evaluation.tasks.base import Item
from remask.generate import Completion, complete

REFERENCE = "fresh"


def compare(
    model: Any,
    items: Sequence[Item],
    rules: Mapping[str, Mapping[str, Any]],
    *,
    max_new_tokens: int,
    batch: int = 16,
    seed: int = 0,
    report: Callable[[int], None] | None = None,
    against: Mapping[str, str] | None = None,
) -> Iterator[dict[str, dict[str, Any]]]:
    """After every batch a summary per rule (its parts as keyword arguments; `fresh` among them) of all batches so far; rules take turns, each batch's order turned by one.

    Recorded passes are replayed (remask.evaluation.replaying).

    against: rule -> another one that it is compared with as well (a rule inside a cache with the cache alone), under "against".
    """
    where = environment(model)
    shape = Shape.of(model.config)
    made: dict[str, list[tuple[Completion, bool, int]]] = {name: [] for name in rules}
    seconds = dict.fromkeys(rules, 0.0)
    names = list(rules)
    for start in range(0, len(items), batch):
        chosen = items[start : start + batch]
        before, behind = zip(*encoded(model, chosen), strict=True)
        lengths = [len(prompt) + max_new_tokens + len(end) for prompt, end in zip(before, behind, strict=True)]
        seeds = [seed + start + i for i in range(len(chosen))]
        turn = start // batch % len(names)
        for name in names[turn:] + names[:turn]:
            completions = replayed(model, partial(complete, model, before, behind, max_new_tokens=max_new_tokens, seed=seeds, **rules[name]))
            made[name] += [(done, item.check(done.text), length) for done, item, length in zip(completions, chosen, lengths, strict=True)]
            seconds[name] += completions[0].stats.seconds
            if report is not None:
                report(sum(map(len, made.values())))
        yield summaries(made, seconds, shape, against or {}, where)


def summaries(
    made: Mapping[str, Sequence[tuple[Completion, bool, int]]], seconds: Mapping[str, float], shape: Shape, against: Mapping[str, str], where: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Every rule beside the reference, and beside what it is to be compared with as well."""
    others = {name: {"against": {"rule": other, **summary(made[name], made[other], shape)}} for name, other in against.items()}
    return {
        name: {
            **others.get(name, {}),
            **summary(found, made[REFERENCE], shape),
            "seconds": seconds[name],
            "seconds_ratio": seconds[name] / seconds[REFERENCE],
            "environment": where,
        }
        for name, found in made.items()
    }


def summary(found: Sequence[tuple[Completion, bool, int]], reference: Sequence[tuple[Completion, bool, int]], shape: Shape) -> dict[str, Any]:
    """Accuracy and its difference from the reference, both with 95 % intervals; flip rate; work relative to the reference."""
    right, base = [flag for _, flag, _ in found], [flag for _, flag, _ in reference]
    flipped = sum(flips(one.tokens, other.tokens) for (one, _, _), (other, _, _) in zip(found, reference, strict=True))
    generated = sum(len(done.tokens) for done, _, _ in reference)
    return {
        "items": len(found),
        "accuracy": sum(right) / len(right),
        "interval": wilson(sum(right), len(right)),
        "difference": paired_difference(right, base),
        "flip_rate": flipped / max(1, generated),
        "forwards_per_row": sum(done.stats.forwards for done, _, _ in found) / len(found),
        "positions_ratio": sum(done.stats.positions for done, _, _ in found) / sum(done.stats.positions for done, _, _ in reference),
        "flops_ratio": flops(found, shape) / flops(reference, shape),
    }


def flops(found: Sequence[tuple[Completion, bool, int]], shape: Shape) -> int:
    """Of all rows; keys count in full, whatever was stored."""
    return sum(done.stats.positions * shape.of_position(length) for done, _, length in found)


def flips(tokens: Sequence[int], other: Sequence[int]) -> int:
    """Places at which two answers differ, a missing token counting as one."""
    return sum(a != b for a, b in zip(tokens, other, strict=False)) + abs(len(tokens) - len(other))

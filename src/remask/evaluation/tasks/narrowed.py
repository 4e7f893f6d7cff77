"""A task with some options of its `sample` fixed, as a spec string writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, get_type_hints

from remask.evaluation.tasks.base import Item, Task
from remask.spec import options

EACH_CALL = ("n", "seed", "split", "return")


@dataclass(frozen=True)
class Narrowed:
    """A Task whose items are those of `task` with `asked`."""

    task: Task
    asked: tuple[tuple[str, Any], ...]
    max_new_tokens: int

    @staticmethod
    def of(task: Task, name: str, text: str) -> Narrowed:
        """From the text behind a task's name; RemaskError names what it takes."""
        hints = {key: hint for key, hint in get_type_hints(task.sample).items() if key not in EACH_CALL}
        asked = options(text, {**hints, "max_new_tokens": int}, f"task {name!r}")
        room = asked.pop("max_new_tokens", task.max_new_tokens)
        return Narrowed(task, tuple(asked.items()), room)

    @property
    def model(self) -> str:
        return self.task.model

    @property
    def sample(self) -> Callable[..., list[Item]]:
        return partial(self.task.sample, **dict(self.asked))

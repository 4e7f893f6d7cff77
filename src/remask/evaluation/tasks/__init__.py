"""Tasks with exact answers: `get("wordmath").sample(10, split="test")`."""

from remask.errors import RemaskError
from remask.evaluation.tasks.addition import Addition
from remask.evaluation.tasks.base import Item, Split, Task, split_of
from remask.evaluation.tasks.fiction import Fiction
from remask.evaluation.tasks.gsm_aug import GsmAug
from remask.evaluation.tasks.narrowed import Narrowed
from remask.evaluation.tasks.sudoku import Sudoku
from remask.evaluation.tasks.wordmath import WordMath

TASKS: dict[str, Task] = {
    "wordmath": WordMath(),
    "gsm_aug": GsmAug(),
    "fiction": Fiction(),
    "fiction_infill": Fiction(gap=8, max_new_tokens=16),
    "addition": Addition(),
    "sudoku": Sudoku(),
    "sudoku4": Sudoku(box=2, model="sudoku4"),
}


def get(name: str) -> Task:
    """The task of this name; `wordmath:operations=2+4,max_new_tokens=120` fixes options of its `sample`, and its room."""
    bare, _, rest = name.partition(":")
    if bare not in TASKS:
        raise RemaskError(f"unknown task {bare!r}; choose one of {', '.join(TASKS)}")
    return Narrowed.of(TASKS[bare], bare, rest) if rest else TASKS[bare]


__all__ = ["TASKS", "Item", "Split", "Task", "get", "split_of"]

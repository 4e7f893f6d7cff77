"""The registered reuse rules: name -> class."""

from remask.reuse.base import Reuse
from remask.reuse.fresh import Fresh
from remask.reuse.unchanged import Unchanged

REUSES: dict[str, type[Reuse]] = {"fresh": Fresh, "unchanged": Unchanged}

__all__ = ["REUSES", "Fresh", "Reuse", "Unchanged"]

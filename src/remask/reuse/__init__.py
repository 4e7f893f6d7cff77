"""The registered reuse rules: name -> class."""

from remask.reuse.base import Reuse
from remask.reuse.delayed import Delayed
from remask.reuse.fast_dllm import Dual, Prefix
from remask.reuse.fresh import Fresh
from remask.reuse.surelock import SureLock
from remask.reuse.unchanged import Unchanged
from remask.reuse.vicinity import Vicinity

REUSES: dict[str, type[Reuse]] = {
    "fresh": Fresh,
    "unchanged": Unchanged,
    "prefix": Prefix,
    "dual": Dual,
    "delayed": Delayed,
    "vicinity": Vicinity,
    "surelock": SureLock,
}

__all__ = ["Delayed", "Dual", "Fresh", "Prefix", "Reuse", "SureLock", "Unchanged", "Vicinity"]

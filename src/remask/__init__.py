"""remask decodes masked diffusion language models.

The names come from the modules of HOMES, which are imported when the first name is asked for: so the command line can print its help before torch is loaded.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remask.decoders import *  # noqa: F403
    from remask.public import *  # noqa: F403
    from remask.reuse import *  # noqa: F403
    from remask.windows import *  # noqa: F403

__version__ = "0.1.0"

HOMES = ("remask.public", "remask.decoders", "remask.windows", "remask.reuse")
FUNCTIONS = {"citation", "decoders", "denoise", "generate", "spec", "windows"}
"""Public functions that are called as a module of ours is."""


class Package(ModuleType):
    """This module: its names are there from the first use on."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        homes = [import_module(home) for home in HOMES]
        found = {public: getattr(home, public) for home in homes for public in home.__all__}
        vars(self).update(found, __all__=sorted(found))
        if name not in vars(self):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return vars(self)[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in FUNCTIONS and isinstance(value, ModuleType)):  # the import of `remask.decoders` must not hide `remask.decoders()`
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return [*self.__all__, "__version__"]


sys.modules[__name__].__class__ = Package

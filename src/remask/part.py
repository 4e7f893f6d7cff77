"""What decoders, windows, reuse rules and samplers have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import inf
from numbers import Real
from typing import Any, ClassVar, Protocol, cast

from remask.errors import RemaskError


class Part(Protocol):
    """A frozen dataclass whose fields are its settings. One that checks more calls `super().__post_init__()` first.

    unbounded: the settings that may be infinite, of which its docstring says what that means.
    files: the settings that name a file, which is read when the part is made: a spec string from a stranger may not give them.
    """

    unbounded: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()

    @property
    def contents(self) -> Mapping[str, bytes]:
        """Of each of `files` that is given: what it held when the part was made. Results depend on that, and not on the name."""
        return {}

    def __post_init__(self) -> None:
        """Raise RemaskError on NaN, every comparison with which is false, so that it would slip through other checks, and on infinity, times 0 a NaN again."""
        for field in fields(cast(Any, self)):  # parts are dataclasses by contract, which no protocol can say
            value = getattr(self, field.name)
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, Real) and one != one:
                    raise RemaskError(f"{field.name} is {value}; it must be a number")
                if isinstance(one, Real) and (one == -inf or (one == inf and field.name not in self.unbounded)):
                    raise RemaskError(f"{field.name} is {value}; it must be finite")

"""What decoders, windows, reuse rules and samplers have in common."""

from __future__ import annotations

from dataclasses import fields
from numbers import Real
from typing import Any, Protocol, cast

from remask.errors import RemaskError


class Part(Protocol):
    """A frozen dataclass whose fields are its settings. One that checks more calls `super().__post_init__()` first."""

    def __post_init__(self) -> None:
        """Raise RemaskError on NaN: every comparison with it is false, so it would slip through other checks and stop nothing or everything."""
        for field in fields(cast(Any, self)):  # parts are dataclasses by contract, which no protocol can say
            value = getattr(self, field.name)
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, Real) and one != one:
                    raise RemaskError(f"{field.name} is {value}; it must be a number")

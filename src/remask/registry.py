"""Names of parts: ours, and those that other distributions announce as entry points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from remask.errors import RemaskError


class Registry(Mapping[str, type[Any]]):
    """Name -> class. A distribution announces a decoder in the entry-point group `remask.decoders`; its module is imported when the name is asked for.

    kind: decoder, window, reuse or sampler, and the group's name without its s.  base: the protocol, which every part names as its base.
    """

    def __init__(self, kind: str, base: type[Any], own: Mapping[str, type[Any]]) -> None:
        self.kind, self.base = kind, base
        self._own, self._loaded = own, dict(own)

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self.announced

    def __len__(self) -> int:
        return len(self._own) + len(self.announced)

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self.announced

    def __getitem__(self, name: str) -> type[Any]:
        if name not in self._loaded:
            self._loaded[name] = self._load(self.announced[name])
        return self._loaded[name]

    @cached_property
    def announced(self) -> dict[str, EntryPoint]:
        """The names of other distributions, whose modules are not imported yet."""
        found: dict[str, EntryPoint] = {}
        for entry in entry_points(group=f"remask.{self.kind}s"):
            if entry.name in self._own or entry.name in found:
                other = "remask" if entry.name in self._own else source(found[entry.name])
                raise RemaskError(f"{source(entry)} brings a {self.kind} {entry.name!r}, and so does {other}; rename it, or uninstall one of the two")
            if not entry.name.isidentifier():
                raise RemaskError(f"{source(entry)} brings a {self.kind} named {entry.name!r}; a name is letters, digits and underscores, or uninstall it")
            found[entry.name] = entry
        return found

    def name_of(self, kind: type[Any]) -> str | None:
        """The name of a class; None if it has none. Of what is not imported yet, only what stands in the package of the class is."""
        for name, known in self._loaded.items():
            if known is kind:
                return name
        package = kind.__module__.partition(".")[0]
        near = (name for name, entry in self.announced.items() if entry.module.partition(".")[0] == package)
        return next((name for name in near if self[name] is kind), None)

    def _load(self, entry: EntryPoint) -> type[Any]:
        where = f"the {self.kind} {entry.name!r} of {source(entry)} ({entry.value})"
        try:
            found = entry.load()
        except Exception as error:
            raise RemaskError(f"cannot load {where}: {type(error).__name__}: {error}; repair or uninstall {source(entry)}") from error
        frozen = getattr(getattr(found, "__dataclass_params__", None), "frozen", False)
        if not (frozen and isinstance(found, type) and self.base in found.__mro__):
            raise RemaskError(f"{where} is no frozen dataclass with the base {self.base.__module__}.{self.base.__name__}; repair or uninstall {source(entry)}")
        return found


def source(entry: EntryPoint) -> str:
    """The distribution that an entry point comes from."""
    return entry.dist.name if entry.dist else entry.value

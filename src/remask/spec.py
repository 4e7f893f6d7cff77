"""Spec strings: "threshold:tau=0.9" <-> Threshold(tau=0.9). One grammar for every border of the library.

name[:first_value][,key=value]...       a part as a value stands in parentheses: dual:inner=(surelock:eps=5e-4); several numbers: last=2+7
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from remask.continuous import SAMPLERS, Discrete, Sampler
from remask.decoders import DECODERS, Decoder
from remask.errors import RemaskError
from remask.registry import Registry
from remask.reuse import REUSES, Reuse
from remask.windows import WINDOWS, Window

_DECODERS = Registry("decoder", Decoder, DECODERS)
_WINDOWS = Registry("window", Window, WINDOWS)
_REUSES = Registry("reuse", Reuse, REUSES)
_SAMPLERS = Registry("sampler", Sampler, SAMPLERS)
REGISTRIES = (_DECODERS, _WINDOWS, _REUSES, _SAMPLERS)

DEEPEST = 16
"""Most parts inside one another: each is a call inside another wherever it is read, and spec strings come from strangers too."""


def parse_decoder(text: str, *, files: bool = True) -> Decoder:
    """A decoder from its spec string; RemaskError names what is wrong and what exists. files: whether settings may name files, which are then read."""
    return _parse(text, _DECODERS, files=files)


def parse_window(text: str, *, files: bool = True) -> Window:
    """A window from its spec string."""
    return _parse(text, _WINDOWS, files=files)


def parse_reuse(text: str, *, files: bool = True) -> Reuse:
    """A reuse rule from its spec string."""
    return _parse(text, _REUSES, files=files)


def parse_sampler(text: str) -> Sampler:
    """What writes whole rows: a sampler of the continuous state (`sde:forwards=32`), or any decoder (`remdm:steps=32`)."""
    name = _name(text)
    if name not in _SAMPLERS and name not in _DECODERS:
        raise RemaskError(f"unknown sampler {name!r}; choose one of {', '.join([*_SAMPLERS, *_DECODERS])}")
    return _parse(text, _SAMPLERS) if name in _SAMPLERS else Discrete(_parse(text, _DECODERS))


def decoders() -> dict[str, type]:
    """Registered decoder names -> classes."""
    return dict(_DECODERS)


def windows() -> dict[str, type]:
    """Registered window names -> classes."""
    return dict(_WINDOWS)


def reuses() -> dict[str, type]:
    """Registered reuse names -> classes."""
    return dict(_REUSES)


def spec(part: Any, *, content: bool = False) -> str:
    """The shortest spec string that parses to an equal part. content: of files not their names, but twelve digits of what the part read there, which do not parse."""
    for registry in REGISTRIES:
        if (name := registry.name_of(type(part))) is not None:
            values = {field.name: value for field in _fields(type(part)) if (value := getattr(part, field.name)) != field.default}
            read = {setting: sha256(held).hexdigest()[:12] for setting, held in part.contents.items()} if content else {}
            fields = [f"{setting}={read.get(setting) or written(value, content=content)}" for setting, value in values.items()]
            return name + (":" + ",".join(fields) if fields else "")
    raise RemaskError(f"{part!r} is no registered part; register its class under a name")


def content_settings(parts: Mapping[str, Any]) -> dict[str, str]:
    """What results note of parts, by kind, beside their spec strings: of those that read files `<kind>_content`, of the others nothing."""
    read = {kind: part for kind, part in parts.items() if any(one.contents for one in _with_inner(part))}
    return {f"{kind}_content": spec(part, content=True) for kind, part in read.items()}


def _with_inner(part: Any) -> Iterator[Any]:
    """A part and those that are settings of it, however deep."""
    yield part
    for field in _fields(type(part)):
        if dataclasses.is_dataclass(inner := getattr(part, field.name)):
            yield from _with_inner(inner)


def _text(self: Any) -> str:
    """`str` of a registered part: its spec string, so that parse(str(part)) == part; any other one keeps its repr."""
    return spec(self) if any(registry.name_of(type(self)) for registry in REGISTRIES) else repr(self)


for _registry in REGISTRIES:
    _base: Any = _registry.base
    _base.__str__ = _text


def _fields(kind: Any) -> tuple[dataclasses.Field[Any], ...]:
    """The parameters of a part; parts are dataclasses by contract, which no protocol can say."""
    return dataclasses.fields(kind)


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    """The types of a part's parameters. They are annotated in text, which takes longer to read than all else of a spec string, and a server reads many."""
    found = get_type_hints(kind)
    return {field.name: found[field.name] for field in _fields(kind)}


def _name(text: str) -> str:
    """The name that a spec string begins with."""
    return text.partition(":")[0].strip()


def _parse(text: str, registry: Registry, *, files: bool = True) -> Any:
    name, rest, kind = _name(text), text.strip().partition(":")[2], registry.kind
    if name not in registry:
        raise RemaskError(f"unknown {kind} {name!r}; choose one of {', '.join(registry)}")
    made = registry[name]
    if not files and not made.files and made.contents is not registry.base.contents:
        raise RemaskError(f"{kind} {name!r} reads files and does not say which settings name them, so it may not be used here; its class must name them in `files`")
    values = options(rest, _hints(made), f"{kind} {name!r}", files=files)
    if not files and (named := [name for name in made.files if name in values]):
        raise RemaskError(f"{named[0]} of {kind} {name!r} names a file, which may not be done here; leave it out")
    for field in _fields(made):
        if field.name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise RemaskError(f"{kind} {name!r} needs {field.name}; write {name}:{field.name}=...")
    return made(**values)


def options(text: str, hints: Mapping[str, Any], owner: str, *, files: bool = True) -> dict[str, Any]:
    """What stands behind a name, "value,key=value,...", as values of the annotated types; a first value without a key is that of the first of `hints`."""
    values: dict[str, Any] = {}
    for index, item in enumerate(_split(text)):
        key, equals, value = item.partition("=")
        if index == 0 and hints and (not equals or item.lstrip().startswith("(")):
            key, value = next(iter(hints)), item
        key = key.strip()
        if key not in hints:
            raise RemaskError(f"unknown parameter {key!r} of {owner}; it takes: {', '.join(hints) or 'none'}")
        if key in values:
            raise RemaskError(f"parameter {key!r} of {owner} is given twice; give it once")
        values[key] = _read(value.strip(), hints[key], f"{key} of {owner}", files=files)
    return values


def _split(text: str) -> list[str]:
    """Commas outside parentheses."""
    parts, depth, current = [], 0, ""
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if depth > DEEPEST:
            raise RemaskError(f"parts stand more than {DEEPEST} deep inside one another in {text[:40]!r}...; use fewer")
        if character == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += character
    if depth != 0:
        raise RemaskError(f"unbalanced parentheses in {text!r}; a part as a value stands in one pair of them")
    return [*parts, current] if current or parts else []


def _read(text: str, hint: Any, where: str, *, files: bool) -> Any:
    """The text as the annotated type."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if text.lower() == "none" and type(None) in get_args(hint):
            return None
        return _read(text, next(arm for arm in get_args(hint) if arm is not type(None)), where, files=files)
    if origin is Literal:
        if text not in get_args(hint):
            raise RemaskError(f"{where} is {text!r}; it must be one of {', '.join(map(str, get_args(hint)))}")
        return text
    if origin is tuple:
        return tuple(_read(one, get_args(hint)[0], where, files=files) for one in text.split("+") if one)
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise RemaskError(f"{where} is {text!r}; it must be true or false")
        return text.lower() == "true"
    for registry in REGISTRIES:
        if hint is registry.base:
            if not (text.startswith("(") and text.endswith(")")):
                raise RemaskError(f"{where} is {text!r}; a part as a value stands in parentheses")
            return _parse(text[1:-1], registry, files=files)
    try:
        value = hint(text)
        if value != value:
            raise ValueError("nan compares with nothing")
    except ValueError:
        raise RemaskError(f"{where} is {text!r}; it must be {'a whole number' if hint is int else 'a number'}") from None
    return value


def written(value: object, *, content: bool = False) -> str:
    """A parameter's value as a spec string writes it. content: see spec."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "+".join(map(written, value))  # pyright: ignore[reportUnknownArgumentType]
    return f"({spec(value, content=content)})" if dataclasses.is_dataclass(value) else str(value)


__all__ = ["content_settings", "decoders", "options", "parse_decoder", "parse_reuse", "parse_sampler", "parse_window", "reuses", "spec", "windows", "written"]

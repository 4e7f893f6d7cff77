"""Values of config.json, each checked: the class defaults of the published code are traps, so what shapes a network must be written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remask.errors import RemaskError

Config = Mapping[str, Any]


def require(config: Config, keys: tuple[str, ...], family: str) -> None:
    """Raise unless every key has a value."""
    missing = [key for key in keys if config.get(key) is None]
    if missing:
        raise RemaskError(f"config.json has no {', '.join(missing)}; {family} checkpoint needs them")


def refuse(config: Config, only: Mapping[str, Any]) -> None:
    """Raise if a key has a value that this library does not compute; absent and null are as good as the supported one."""
    for key, value in only.items():
        if config.get(key) not in (None, value) and (value or config[key]):
            raise RemaskError(f"config.json has {key} {config[key]!r}; only {value!r} is supported")


MOST, DEEPEST = 1 << 24, 1000
"""Of a whole number, and of layers: no published network comes near, and one that did would be built for hours before its weights are found not to fit."""
LAYERS = ("n_layers", "num_hidden_layers", "num_layers", "n_blocks")


def whole(config: Config, key: str, default: Any = None, *, least: int = 1) -> int:
    """A whole number; null is the default."""
    value = default if config.get(key) is None else config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RemaskError(f"config.json has {key} {value!r}; it must be a whole number of {least} or more")
    if value > (most := DEEPEST if key in LAYERS else MOST):
        raise RemaskError(f"config.json has {key} {str(value)[:20]}; more than {most} is refused, so download it again")
    return value


def number(config: Config, key: str) -> float:
    """A positive number; published files write 500000 and 500000.0."""
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e30:
        raise RemaskError(f"config.json has {key} {str(value)[:20]}; it must be a number above 0 and below 1e30")
    return float(value)


def multiple(config: Config, key: str, of: str) -> None:
    """Raise unless one whole number is a multiple of the other."""
    if config[key] % config[of]:
        raise RemaskError(f"config.json has {key} {config[key]} and {of} {config[of]}; the first must be a multiple of the second")


def mask_id(config: Config, vocab_size: int) -> int:
    """`mask_token_id`, inside the vocabulary."""
    return _inside(whole(config, "mask_token_id", least=0), "mask_token_id", vocab_size)


def end_ids(config: Config, vocab_size: int) -> tuple[int, ...]:
    """`eos_token_id`: one, several or none, each inside the vocabulary."""
    value = config.get("eos_token_id")
    found = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(_inside(whole({"eos_token_id": one}, "eos_token_id", least=0), "eos_token_id", vocab_size) for one in found)


def _inside(token: int, key: str, vocab_size: int) -> int:
    if token >= vocab_size:
        raise RemaskError(f"config.json has {key} {token} and a vocabulary of {vocab_size}; they are of different checkpoints")
    return token

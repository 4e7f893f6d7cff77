"""Whole-row samplers as parts: the continuous ones with one budget, `sde:forwards=32`, and any decoder of the library, `remdm:steps=32`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

from remask.canvas import Canvas
from remask.continuous.grids import check_grid, log_normal
from remask.continuous.hybrid import decode_commit, decode_native
from remask.continuous.sde import check_noise, decode_sde
from remask.decoders import Ancestral, Decoder
from remask.denoise import Decoded, decode
from remask.errors import RemaskError
from remask.part import Part
from remask.shapers import Shaper


class Sampler(Part, Protocol):
    """Writes every unknown position of a canvas. states: whether it needs a network that reads them (StateDenoiser)."""

    states: ClassVar[bool]

    def decode(self, model: Any, canvas: Canvas, *, shapers: Sequence[Shaper] = (), seed: int | list[int] = 0) -> Decoded: ...


@dataclass(frozen=True)
class SDE(Sampler):
    """`decode_sde` over a log-normal grid (mu, sigma) up to the SNR `last`; its default suits 4,000 tokens."""

    forwards: int = 32
    mu: float = 2.3
    sigma: float = 1.0
    last: float = 75.0
    g: float = 1.0
    states: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_budget(self.forwards, 2)
        check_noise(self.g)
        check_grid(self.grid)

    @cached_property
    def grid(self) -> tuple[float, ...]:
        """The SNRs of its forwards."""
        return log_normal(self.forwards, self.mu, self.sigma, self.last)

    def decode(self, model: Any, canvas: Canvas, *, shapers: Sequence[Shaper] = (), seed: int | list[int] = 0) -> Decoded:
        return decode_sde(model, canvas, grid=self.grid, g=self.g, shapers=shapers, seed=seed)


@dataclass(frozen=True)
class Commit(Sampler):
    """`decode_commit`: half of the forwards up to the SNR `last`, then the ancestral decoder, which may be done early."""

    forwards: int = 32
    tau: float = 0.9
    mu: float = 2.3
    sigma: float = 1.0
    last: float = 16.0
    states: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_budget(self.forwards, 4)
        check_grid(self.grid)

    @cached_property
    def grid(self) -> tuple[float, ...]:
        """The SNRs of the first half of its forwards."""
        return log_normal(self.forwards // 2, self.mu, self.sigma, self.last)

    def decode(self, model: Any, canvas: Canvas, *, shapers: Sequence[Shaper] = (), seed: int | list[int] = 0) -> Decoded:
        grid = self.grid
        return decode_commit(model, canvas, grid=grid, tau=self.tau, decoder=Ancestral(self.forwards - len(grid)), shapers=shapers, seed=seed)


@dataclass(frozen=True)
class Native(Sampler):
    """`decode_native`: half of the forwards up to the SNR `last`, half to draw the tokens."""

    forwards: int = 32
    mu: float = 2.3
    sigma: float = 1.0
    last: float = 12.0
    states: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_budget(self.forwards, 2)
        check_grid(self.grid)

    @cached_property
    def grid(self) -> tuple[float, ...]:
        """The SNRs of the first half of its forwards, and of where they lead."""
        return log_normal(self.forwards // 2 + 1, self.mu, self.sigma, self.last)

    def decode(self, model: Any, canvas: Canvas, *, shapers: Sequence[Shaper] = (), seed: int | list[int] = 0) -> Decoded:
        grid = self.grid
        return decode_native(model, canvas, grid=grid, steps=self.forwards - len(grid) + 1, shapers=shapers, seed=seed)


@dataclass(frozen=True)
class Discrete(Sampler):
    """A decoder over the whole canvas."""

    decoder: Decoder
    states: ClassVar[bool] = False

    def decode(self, model: Any, canvas: Canvas, *, shapers: Sequence[Shaper] = (), seed: int | list[int] = 0) -> Decoded:
        return decode(model, canvas.tokens, attention_mask=canvas.real, decoder=self.decoder, shapers=shapers, seed=seed)


def check_budget(forwards: int, least: int) -> None:
    """Raise where a sampler could not make its first and last step."""
    if forwards < least:
        raise RemaskError(f"forwards is {forwards}; it must be {least} or more")


SAMPLERS: Mapping[str, type[Sampler]] = {"sde": SDE, "commit": Commit, "native": Native}

"""Stored uniforms played back, for parity with references only."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from remask.errors import RemaskError


class RecordedUniforms:
    """Serves one stored (B, L) tensor per call for each stream; raises when a stream has run out."""

    def __init__(self, streams: dict[int, Iterable[Tensor]]) -> None:
        self._streams = {stream: iter(stored) for stream, stored in streams.items()}

    def __call__(self, seeds: Tensor, step: Tensor, length: int, stream: int) -> Tensor:
        try:
            return next(self._streams[stream]).to(seeds.device)
        except (KeyError, StopIteration):
            raise RemaskError(f"no uniforms left in stream {stream}; record one tensor per step") from None

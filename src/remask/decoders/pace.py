"""How many of the ranked positions are written: one a forward, or the share of a schedule."""

from __future__ import annotations

from torch import Tensor

from remask.canvas import Edit
from remask.decoders.base import View
from remask.decoders.select import top
from remask.schedules import BlockClock


def write_best(view: View, score: Tensor, clock: BlockClock, steps: int | None) -> tuple[Edit, BlockClock]:
    """Write the best positions: one, or the even share of the block's schedule."""
    clock = clock.enter(view.canvas, view.eligible)
    count = 1 if steps is None else clock.even_share()
    return Edit(top(score, view.eligible, count), view.prediction.candidates), clock.tick()

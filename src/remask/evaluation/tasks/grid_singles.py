"""Naked and hidden singles over many Sudoku grids at once: what they solve, and digging down to what they still solve.

A cell is a field of four bits a digit in an int64: 0 open, else the bit of its digit; and candidates likewise, so that sums count cells. Arrays are (cells, N).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Fields = NDArray[np.int64]
UNITS = ((2, 3), (0, 1), (1, 3))
"""The axes of (band, row in it, stack, column in it, N) that a row, a column and a box run along."""


def singles_solve(puzzles: ArrayLike, box: int) -> NDArray[np.int64]:
    """(N, cells) ints, 0 = empty -> the same with every cell filled that naked and hidden singles give."""
    placed = fields(puzzles)
    while (new := singles(placed, box)).any():
        placed = placed | new
    digits = np.log2(np.maximum(placed, 1)).astype(np.int64) // 4 + 1
    return np.where(placed > 0, digits, 0).T


def dig_by_singles(solutions: ArrayLike, clues: ArrayLike, order: ArrayLike, box: int) -> NDArray[np.int64]:
    """Take clues away from (N, cells), in each row's own order (N, cells), while singles alone still solve it and more than clues (N,) are left."""
    placed, clues, order = fields(solutions).copy(), np.asarray(clues), np.asarray(order)
    left = np.full(len(clues), len(placed))
    for turn in range(len(placed)):
        rows = np.flatnonzero(left > clues)
        cell = order[rows, turn]
        trial = placed[:, rows]
        trial[cell, np.arange(len(rows))] = 0
        gone = refills(trial, cell, box)
        placed[cell[gone], rows[gone]] = 0
        left[rows[gone]] -= 1
    return np.where(placed.T > 0, solutions, 0)


def refills(placed: Fields, cell: NDArray[np.int64], box: int) -> NDArray[np.bool_]:
    """(N,) bool: singles fill this cell of a grid, which they could solve with it.

    All that they find is true and what they found they find again, so they then solve the rest as well: nothing beyond the cell has to be tried.
    """
    found, waiting = np.zeros(len(cell), bool), np.arange(len(cell))
    while len(waiting):
        new = singles(placed, box)
        placed = placed | new
        filled = placed[cell, np.arange(len(waiting))] > 0
        found[waiting[filled]] = True
        going_on = ~filled & new.any(0)
        placed, cell, waiting = placed[:, going_on], cell[going_on], waiting[going_on]
    return found


def singles(placed: Fields, box: int) -> Fields:
    """The cells that singles fill at once, 0 elsewhere; a contradictory cell takes one digit: it is then wrong, and seen as unsolved."""
    ones = sum(1 << 4 * digit for digit in range(box * box))
    grid = placed.reshape(box, box, box, box, -1)
    row, column, square = along_units(np.bitwise_or.reduce, grid)
    candidates = np.where(grid == 0, ones & ~(row | column | square), 0)
    row, column, square = (count & ~(count >> 1) & ~(count >> 2) & ~(count >> 3) & ones for count in along_units(np.add.reduce, candidates))
    several = candidates & (candidates - 1) > 0
    new: Fields = np.where(several, candidates & (row | column | square), candidates)
    return (new & -new).reshape(placed.shape)


def along_units(reduce: Callable[..., Any], grid: Fields) -> Sequence[Any]:
    """Reduced along rows, columns and boxes, in shapes that spread over the grid again."""
    return [reduce(grid, axis=axes, keepdims=True) for axes in UNITS]


def fields(grids: ArrayLike) -> Fields:
    """(N, cells) ints -> (cells, N) fields."""
    digits = np.asarray(grids, dtype=np.int64).T
    return np.where(digits > 0, np.int64(1) << 4 * np.maximum(digits - 1, 0), 0)

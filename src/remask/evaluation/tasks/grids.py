"""Sudoku grids of box size 2 or 3: making, solving and digging by search.

A grid is a tuple of side * side ints, row by row, 0 = empty. side = box * box.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache

Grid = tuple[int, ...]


@lru_cache
def units(box: int) -> tuple[tuple[int, ...], ...]:
    """Rows, columns and boxes as tuples of cells."""
    side = box * box
    rows = [tuple(range(side * r, side * r + side)) for r in range(side)]
    columns = [tuple(range(c, side * side, side)) for c in range(side)]
    boxes = [tuple(side * (box * i + r) + box * j + c for r in range(box) for c in range(box)) for i in range(box) for j in range(box)]
    return tuple(rows + columns + boxes)


@lru_cache
def memberships(box: int) -> tuple[tuple[int, int, int], ...]:
    """The three units of every cell."""
    side = box * box
    return tuple((cell // side, side + cell % side, 2 * side + cell // side // box * box + cell % side // box) for cell in range(side * side))


def is_solution(grid: Sequence[int], box: int) -> bool:
    """Every unit holds every digit once."""
    digits = set(range(1, box * box + 1))
    return len(grid) == box**4 and all({grid[cell] for cell in unit} == digits for unit in units(box))


@lru_cache
def _fields(box: int) -> tuple[int, tuple[int, ...]]:
    """An int with a field of four bits a cell, 1 in all of them; and for every cell the same with 0 at the cell and at all that share a unit with it."""
    every = sum(1 << 4 * cell for cell in range(box**4))
    near = [{other for unit in of for other in units(box)[unit]} for of in memberships(box)]
    return every, tuple(every - sum(1 << 4 * other for other in others) for others in near)


def solve(grid: Sequence[int], box: int, *, limit: int = 2, rng: random.Random | None = None) -> list[Grid]:
    """Up to `limit` solutions, by search on the first cell with the fewest candidates; `rng` shuffles the digits tried.

    Which numbers are drawn is part of what a seed means: cells with one candidate are filled in any order, since they draw none.
    """
    empty, apart = _fields(box)
    planes = [empty] * (box * box)
    for cell, digit in enumerate(grid):
        if digit:
            if not planes[digit - 1] >> 4 * cell & 1:
                return []
            planes[digit - 1] &= apart[cell]
            empty ^= 1 << 4 * cell
    found: list[Grid] = []
    _search(list(grid), planes, empty, apart, limit, rng, found)
    return found


def _search(cells: list[int], planes: list[int], empty: int, apart: tuple[int, ...], limit: int, rng: random.Random | None, found: list[Grid]) -> None:
    """planes: of every digit 1 in the fields of the cells that may hold it, right where `empty` is 1; their sum counts each cell's candidates."""
    while empty:
        count = sum(planes)
        twos, above = count >> 1, count >> 2 | count >> 3
        single = empty & ~(twos | above)
        if single & ~count:  # a cell has no candidate
            return
        if not single:
            break
        empty ^= single
        for index, plane in enumerate(planes):
            here = plane & single
            while here:
                bit = here & -here
                cell = bit.bit_length() >> 2
                cells[cell] = index + 1
                plane &= apart[cell]
                here ^= bit
                if here & ~plane:  # two cells of a unit had nothing but this digit
                    return
            planes[index] = plane
    else:
        found.append(tuple(cells))
        return
    fewest = empty & twos & ~(count | above) or next(here for number in range(3, len(planes) + 1) if (here := _holding(count, number) & empty))
    bit = fewest & -fewest
    cell = bit.bit_length() >> 2
    digits = [digit for digit, plane in enumerate(planes, 1) if plane & bit]
    if rng is not None:
        rng.shuffle(digits)
    for digit in digits:
        cells[cell] = digit
        tried = planes.copy()
        tried[digit - 1] &= apart[cell]
        _search(cells, tried, empty ^ bit, apart, limit, rng, found)
        if len(found) >= limit:
            return


def _holding(count: int, number: int) -> int:
    """1 in the fields of `count` that hold the number, at their lowest bit; the bits above are of no meaning."""
    held = -1
    for place in range(4):
        held &= count >> place if number >> place & 1 else ~(count >> place)
    return held


def random_solution(rng: random.Random, box: int) -> Grid:
    """A full grid: random diagonal boxes, the rest by randomised search."""
    side = box * box
    while True:  # in 4x4 some diagonals cannot be completed
        grid = [0] * side**2
        for i in range(box):
            for cell, digit in zip(units(box)[2 * side + i * (box + 1)], rng.sample(range(1, side + 1), side), strict=True):
                grid[cell] = digit
        if found := solve(grid, box, limit=1, rng=rng):
            return found[0]


def dig_by_search(puzzle: Sequence[int], clues: int, rng: random.Random, box: int) -> Grid:
    """Take clues away in random order while the solution stays unique and more than `clues` are left."""
    cells = list(puzzle)
    filled = [cell for cell, digit in enumerate(cells) if digit]
    rng.shuffle(filled)
    for cell in filled:
        if sum(digit > 0 for digit in cells) <= clues:
            break
        digit, cells[cell] = cells[cell], 0
        if len(solve(cells, box)) > 1:
            cells[cell] = digit
    return tuple(cells)

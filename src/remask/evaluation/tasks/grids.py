"""Sudoku grids of box size 2 or 3: making, digging, solving, and what symmetry leaves unchanged.

A grid is a tuple of side * side ints, row by row, 0 = empty. side = box * box.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor

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


def solve(grid: Sequence[int], box: int, *, limit: int = 2, rng: random.Random | None = None) -> list[Grid]:
    """Up to `limit` solutions, by search on the cell with the fewest candidates; `rng` shuffles the digits tried."""
    side = box * box
    cells, used = list(grid), [0] * (3 * side)
    for cell, digit in enumerate(cells):
        if digit:
            for unit in memberships(box)[cell]:
                if used[unit] >> digit & 1:
                    return []
                used[unit] |= 1 << digit
    found: list[Grid] = []
    _search(cells, used, [cell for cell, digit in enumerate(cells) if not digit], box, limit, rng, found)
    return found


def _search(cells: list[int], used: list[int], empty: list[int], box: int, limit: int, rng: random.Random | None, found: list[Grid]) -> None:
    if not empty:
        found.append(tuple(cells))
        return
    full, best, fewest = (2 << box * box) - 2, -1, 99
    of = memberships(box)
    for index, cell in enumerate(empty):
        row, column, square = of[cell]
        count = (full & ~(used[row] | used[column] | used[square])).bit_count()
        if count < fewest:
            best, fewest = index, count
            if count < 2:
                break
    if fewest == 0:
        return
    cell = empty[best]
    rest = empty[:best] + empty[best + 1 :]
    row, column, square = of[cell]
    free = full & ~(used[row] | used[column] | used[square])
    digits = [digit for digit in range(1, box * box + 1) if free >> digit & 1]
    if rng is not None:
        rng.shuffle(digits)
    for digit in digits:
        bit = 1 << digit
        cells[cell] = digit
        used[row], used[column], used[square] = used[row] | bit, used[column] | bit, used[square] | bit
        _search(cells, used, rest, box, limit, rng, found)
        used[row], used[column], used[square] = used[row] & ~bit, used[column] & ~bit, used[square] & ~bit
        cells[cell] = 0
        if len(found) >= limit:
            return


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


@lru_cache
def _matrices(box: int, device: str) -> tuple[Tensor, Tensor]:
    """peers (cells, cells) and incidence (cells, units), float."""
    incidence = torch.zeros(box**4, 3 * box * box)
    for index, unit in enumerate(units(box)):
        incidence[list(unit), index] = 1
    peers = ((incidence @ incidence.T) > 0).float() - torch.eye(box**4)
    return peers.to(device), incidence.to(device)


def singles_solve(puzzles: Tensor, box: int) -> Tensor:
    """(N, cells) int64, 0 = empty -> the same with every cell filled that naked and hidden singles give."""
    peers, incidence = _matrices(box, str(puzzles.device))
    placed = torch.nn.functional.one_hot(puzzles, box * box + 1)[..., 1:].float()  # (N, cells, digits)
    while True:
        open_cells = placed.sum(-1, keepdim=True) == 0
        candidates = ((torch.einsum("ncd,ce->ned", placed, peers) == 0) & open_cells).float()
        naked = (candidates.sum(-1, keepdim=True) == 1) & (candidates > 0)
        lonely = (torch.einsum("ncd,cu->nud", candidates, incidence) == 1).float()
        hidden = (torch.einsum("nud,cu->ncd", lonely, incidence) > 0) & (candidates > 0)
        new = naked | hidden
        new &= new.float().cumsum(-1) == 1  # a contradictory cell takes one digit; it is then wrong, and seen as unsolved
        if not bool(new.any()):
            return torch.where(placed.sum(-1) > 0, placed.argmax(-1) + 1, 0)
        placed = placed + new.float()


def dig_by_singles(solutions: Tensor, clues: Tensor, order: Tensor, box: int) -> Tensor:
    """Take clues away, in each row's own order, while singles alone still solve it and more than clues (N,) are left."""
    puzzles = solutions.clone()
    rows = torch.arange(len(puzzles), device=puzzles.device)
    for turn in range(puzzles.shape[1]):
        wanting = (puzzles > 0).sum(1) > clues
        if not bool(wanting.any()):
            break
        trial = puzzles.clone()
        trial[rows, order[:, turn]] = 0
        kept = wanting.clone()
        kept[wanting] = (singles_solve(trial[wanting], box) == solutions[wanting]).all(1)
        puzzles = torch.where(kept[:, None], trial, puzzles)
    return puzzles


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


def invariant(solution: Sequence[int], box: int) -> str:
    """A name that relabelling, transposition and permuting bands, stacks and the lines in them leave unchanged.

    For two lines, the digits of one over those of the other form a permutation, whose cycle lengths survive every such
    symmetry. Equivalent grids have equal names; so a split by this name never puts one of them on the other side.
    """
    side = box * box
    rows = [solution[side * r : side * r + side] for r in range(side)]
    columns = [solution[c::side] for c in range(side)]
    return str(sorted(_lines_invariant(lines, box) for lines in (rows, columns)))


def _lines_invariant(lines: Sequence[Sequence[int]], box: int) -> tuple[object, ...]:
    bands = [lines[box * b : box * b + box] for b in range(box)]
    inside = sorted(tuple(sorted(_cycles(a, b) for a, b in combinations(band, 2))) for band in bands)
    across = sorted(tuple(sorted(_cycles(a, b) for a in one for b in other)) for one, other in combinations(bands, 2))
    return tuple(inside), tuple(across)


def _cycles(above: Sequence[int], below: Sequence[int]) -> tuple[int, ...]:
    to = dict(zip(above, below, strict=True))
    lengths: list[int] = []
    while to:
        start, digit = next(iter(to.items()))
        del to[start]
        length = 1
        while digit != start:
            digit = to.pop(digit)
            length += 1
        lengths.append(length)
    return tuple(sorted(lengths))

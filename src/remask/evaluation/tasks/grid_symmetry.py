"""What relabelling, transposition and permuting bands, stacks and the lines in them leave unchanged of a full Sudoku grid."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def invariants(solutions: ArrayLike, box: int) -> list[str]:
    """(N, cells) full grids -> a name each that every such symmetry leaves unchanged.

    For two lines, the digits of one over those of the other form a permutation, whose cycle lengths survive every
    symmetry. Equivalent grids have equal names; so a split by this name never puts one of them on the other side.
    """
    side = box * box
    rows = np.asarray(solutions, dtype=np.int64).reshape(-1, side, side) - 1
    lines = np.stack([rows, rows.transpose(0, 2, 1)], axis=1).reshape(-1, side, side)
    above, below = pairs(box)
    to = np.take_along_axis(lines[:, below], lines.argsort(-1)[:, above], -1)
    found = fixed_points(to.reshape(-1, side)).reshape(-1, 2, len(above)).tolist()
    return [f"[{', '.join(sorted(in_any_order(codes, box) for codes in grid))}]" for grid in found]


@lru_cache
def pairs(box: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The upper and the lower line of all pairs: those within each band, then those across each two bands."""
    bands = [range(box * band, box * band + box) for band in range(box)]
    inside = [pair for band in bands for pair in combinations(band, 2)]
    across = [(a, b) for one, other in combinations(bands, 2) for a in one for b in other]
    above, below = np.array(inside + across).T
    return above, below


def in_any_order(codes: list[int], box: int) -> str:
    """The cycles of all pairs of the rows, or of the columns, of a grid, sorted where a symmetry may change their order.

    Tuples of tuples, as Python writes them: of numbers of one digit such strings sort as the tuples do, and faster.
    """
    lengths = [cycles(code) for code in codes]
    near, far = box * (box - 1) // 2, box * box  # pairs of one band, of two
    split = near * box
    inside = sorted(as_tuple(sorted(lengths[at : at + near])) for at in range(0, split, near))
    across = sorted(as_tuple(sorted(lengths[at : at + far])) for at in range(split, len(lengths), far))
    return as_tuple([as_tuple(inside), as_tuple(across)])


def as_tuple(written: list[str]) -> str:
    """A tuple as Python writes it, of values that are written already."""
    return f"({', '.join(written)}{',)' if len(written) == 1 else ')'}"


def fixed_points(permutations: NDArray[np.int64]) -> NDArray[np.int64]:
    """(M, side) -> (M,) codes: `side` and how many digits each permutation and its second, third and fourth power leave in place, in four bits each."""
    count, side = permutations.shape
    place = np.arange(count)
    once = permutations.T * count + place  # as indices into itself, which then compose by `take`
    start, flat = np.arange(side)[:, None] * count + place, once.ravel()
    code, power = np.full(count, side), once
    for _ in range(4):
        code = 16 * code + (power == start).sum(0)
        power = flat.take(power)
    return code


@lru_cache
def cycles(code: int) -> str:
    """The cycle lengths of a permutation of at most nine, ascending, by its `fixed_points`: at most one of them is above four."""
    side, one, two, three, four = (code >> 4 * place & 15 for place in (4, 3, 2, 1, 0))
    short = [1] * one + [2] * ((two - one) // 2) + [3] * ((three - one) // 3) + [4] * ((four - two) // 4)
    left = side - sum(short)
    return str((*short, left) if left else tuple(short))

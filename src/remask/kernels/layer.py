"""What a transformer layer does around its matrix products, in one call each: twins in torch, kernels for few rows on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from remask.kernels import runs_kernels
from remask.kernels.attention import FEW as ATTENDED
from remask.kernels.attention import WIDTHS

FEW = 64
"""Rows up to which our own products, with what stands behind them, are faster than the library's and that: measured at LLaDA-8B's sizes on an H200 (docs/findings/gpu.md)."""
FEW_PLAIN = 32
"""The same of a product behind which nothing stands, as the head's."""


def streams(x: Tensor, most: int = FEW) -> bool:
    """Whether x (N, D) goes through our own products."""
    return runs_kernels(x) and x.dtype == torch.bfloat16 and x.shape[0] <= most


@dataclass(frozen=True, eq=False)
class Normal:
    """An RMSNorm, (N, D): x, or if `squares` are given x with each row still to be divided by the root of the mean of its squares, plus eps.

    squares: (N, P) float32, which add up over P to the squares of a row of what is normed; with them, eps. A product divides its sums instead of its input, so that
    nobody waits for all of a row.
    """

    x: Tensor
    squares: Tensor | None = None
    eps: float = 0.0


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm of x (N, D), contiguous, by `weight` (D,)."""
    return (normed_kernel if runs_kernels(x) else normed_twin)(x, weight, eps)


def normed_twin(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same in plain torch, rounded where the networks round."""
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def normed_kernel(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same by Triton."""
    from remask.kernels.layer_triton import launch_norm

    return launch_norm(x, weight, eps)


def linear(normal: Normal, weight: Tensor, bias: Tensor | None = None, *, gated: bool = False) -> Tensor:
    """A norm (N, D) times weight (O, D) transposed, plus bias; then SiLU of the first half times the second, if gated. Returns (N, O), or (N, O / 2) if gated."""
    x = normal.x
    if normal.squares is not None or streams(x, FEW if gated else FEW_PLAIN):
        return linear_kernel(normal, weight, bias, gated=gated)
    return (linear_many if runs_kernels(x) else linear_twin)(x, weight, bias, gated=gated)


def linear_twin(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gated: bool = False) -> Tensor:
    """The same of a norm that is whole, in plain torch, rounded where the networks round."""
    y = functional.linear(x, weight, bias)
    if gated:
        gate, up = y.chunk(2, dim=-1)
        y = functional.silu(gate) * up
    return y


def linear_kernel(normal: Normal, weight: Tensor, bias: Tensor | None = None, *, gated: bool = False) -> Tensor:
    """The same by Triton in one launch; sums in float32, rounded once at the end."""
    from remask.kernels.layer_triton import launch_linear

    return launch_linear(normal.x, weight, bias, normal.squares, normal.eps, gated)


def linear_many(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gated: bool = False) -> Tensor:
    """The same for more rows, where the library's product is hard to beat: a kernel for the gate behind it."""
    from remask.kernels.layer_triton import launch_gate

    y = functional.linear(x, weight, bias)
    return launch_gate(y) if gated else y


def added(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor, norm: Tensor, eps: float) -> tuple[Tensor, Normal]:
    """residual (N, O), contiguous, which may be written over, plus x (N, D) times weight (O, D) transposed, plus bias; and the RMSNorm of that by `norm` (O,)."""
    how = added_twin
    if runs_kernels(x):
        how = added_kernel if streams(x) else added_many
    return how(x, weight, bias, residual, norm, eps)


def added_twin(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor, norm: Tensor, eps: float) -> tuple[Tensor, Normal]:
    """The same in plain torch, rounded where the networks round."""
    now = residual + functional.linear(x, weight, bias)
    return now, Normal(normed_twin(now, norm, eps))


def added_kernel(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor, norm: Tensor, eps: float) -> tuple[Tensor, Normal]:
    """The same by Triton in one launch, the norm in the state that a product finishes."""
    from remask.kernels.layer_triton import launch_add

    now, ahead, squares = launch_add(x, weight, bias, residual, norm)
    return now, Normal(ahead, squares, eps)


def added_many(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor, norm: Tensor, eps: float) -> tuple[Tensor, Normal]:
    """The same for more rows: the library's product adds to the residual where it lies, which it would copy first elsewhere."""
    now = residual.addmm_(x, weight.t()) if bias is None else residual + functional.linear(x, weight, bias)
    return now, Normal(normed_kernel(now, norm, eps))


def mix(
    normal: Normal, weight: Tensor, bias: Tensor | None, cos: Tensor, sin: Tensor, keys: Tensor | None, values: Tensor | None, place: Tensor | None, heads: int,
    *, shape: tuple[int, int], slot: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """A norm (N, D) times the weights ((H + 2 K) E, D) of queries, keys and values, plus bias, then as `turn`.

    shape: (B, M).  slot: (B * M,) int64, which of the N stands at each place, None for N = B * M.  Angles, stores and places are contiguous.
    """
    if slot is None and cos.shape[-1] in WIDTHS and (normal.squares is not None or streams(normal.x)):
        return mix_kernel(normal, weight, bias, cos, sin, keys, values, place, heads, shape=shape)
    mixed = linear(normal, weight, bias)
    return turn((mixed if slot is None else mixed.index_select(0, slot)).view(*shape, -1), cos, sin, keys, values, place, heads)


def mix_kernel(
    normal: Normal, weight: Tensor, bias: Tensor | None, cos: Tensor, sin: Tensor, keys: Tensor | None, values: Tensor | None, place: Tensor | None, heads: int,
    *, shape: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The same by Triton in one launch, for heads whose width is a power of two from 16; sums in float32 until they are turned."""
    from remask.kernels.layer_triton import launch_mix

    if keys is None or values is None:
        keys, values, place = *_unstored(normal.x, shape, weight.shape[0] // cos.shape[-1], cos.shape[-1], heads), None
    query = launch_mix(normal.x, weight, bias, normal.squares, normal.eps, cos, sin, keys, values, place, shape)
    return query, keys, values


def turn(mixed: Tensor, cos: Tensor, sin: Tensor, keys: Tensor | None, values: Tensor | None, place: Tensor | None, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Projections (B, M, (H + 2 K) E) side by side -> queries (B, H, M, E), and keys and values (B, K, L, E).

    Queries and keys are rotated by cos and sin, (B or 1, M, E); keys and values are written into the stores `keys`, `values` (B, K, L, E) at `place`
    (B, M), everywhere if it is None; without stores those of the M positions are returned as they are, maybe as views of `mixed`.
    """
    how = turn_twin
    if runs_kernels(mixed) and cos.shape[-1] in WIDTHS:
        how = turn_here if keys is None and mixed.shape[0] * mixed.shape[1] > ATTENDED else turn_kernel
    return how(mixed, cos, sin, keys, values, place, heads)


def turn_here(mixed: Tensor, cos: Tensor, sin: Tensor, keys: Tensor | None, values: Tensor | None, place: Tensor | None, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same without stores: turned in `mixed` by Triton, and views of it, which a library's attention reads as they are."""
    from remask.kernels.layer_triton import launch_turn_here

    width = cos.shape[-1]
    launch_turn_here(mixed, cos, sin, (mixed.shape[-1] // width + heads) // 2)
    query, key, value = (part.unflatten(-1, (-1, width)).transpose(1, 2) for part in _parts(mixed, heads, width))
    return query, key, value


def turn_twin(mixed: Tensor, cos: Tensor, sin: Tensor, keys: Tensor | None, values: Tensor | None, place: Tensor | None, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same in plain torch."""
    width = cos.shape[-1]
    query, key, value = (part.unflatten(-1, (-1, width)).transpose(1, 2) for part in _parts(mixed, heads, width))
    query, key = (_rotated(part, cos[:, None], sin[:, None]) for part in (query, key))
    if keys is None or values is None:
        return query, key, value
    for old, new in ((keys, key), (values, value)):
        if place is None:
            old.copy_(new)
        else:
            old.scatter_(2, place[:, None, :, None].expand_as(new), new)
    return query, keys, values


def turn_kernel(mixed: Tensor, cos: Tensor, sin: Tensor, keys: Tensor | None, values: Tensor | None, place: Tensor | None, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same by Triton in one launch."""
    from remask.kernels.layer_triton import launch_turn

    if keys is None or values is None:
        width = cos.shape[-1]
        keys, values, place = *_unstored(mixed, (mixed.shape[0], mixed.shape[1]), mixed.shape[2] // width, width, heads), None
    return launch_turn(mixed, cos, sin, keys, values, place, heads), keys, values


def _unstored(like: Tensor, shape: tuple[int, int], all_heads: int, width: int, heads: int) -> tuple[Tensor, Tensor]:
    """Room for the keys and values of the positions alone."""
    rows, chosen = shape
    keys, values = (like.new_empty(rows, (all_heads - heads) // 2, chosen, width) for _ in range(2))
    return keys, values


def _parts(mixed: Tensor, heads: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    own = heads * width
    shared = (mixed.shape[-1] - own) // 2
    query, key, value = mixed.split([own, shared, shared], dim=-1)
    return query, key, value


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)

"""What a transformer layer does around its matrix products, in one call each: twins in torch, kernels for few rows on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from remask.kernels import runs_kernels
from remask.kernels.attention import FEW as ATTENDED


def streams(x: Tensor, weight: Tensor, gated: bool) -> bool:
    """Whether our own product, which reads its weights once, is faster than the library's: measured at LLaDA-8B's sizes on an H200 (docs/findings/gpu.md)."""
    rows, narrow = x.shape[0], weight.shape[0] <= weight.shape[1]
    return runs_kernels(x) and x.dtype == torch.bfloat16 and (rows <= 32 or (rows <= 64 and (gated or narrow)))


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


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, residual: Tensor | None = None, gated: bool = False) -> Tensor:
    """x (N, D) times weight (O, D) transposed, plus bias; then SiLU of the first half times the second, if gated; then plus residual. Returns (N, O), or (N, O / 2) if gated."""
    how = linear_twin
    if runs_kernels(x):
        how = linear_kernel if streams(x, weight, gated) else linear_many
    return how(x, weight, bias, residual=residual, gated=gated)


def linear_twin(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, residual: Tensor | None = None, gated: bool = False) -> Tensor:
    """The same in plain torch, rounded where the networks round."""
    y = functional.linear(x, weight, bias)
    if gated:
        gate, up = y.chunk(2, dim=-1)
        y = functional.silu(gate) * up
    return y if residual is None else residual + y


def linear_kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, residual: Tensor | None = None, gated: bool = False) -> Tensor:
    """The same by Triton in one launch; sums in float32, rounded once at the end."""
    from remask.kernels.layer_triton import launch_linear

    return launch_linear(x, weight, bias, residual, gated)


def linear_many(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, residual: Tensor | None = None, gated: bool = False) -> Tensor:
    """The same for more rows, where the library's product is hard to beat: the residual inside it, a kernel for the gate behind it."""
    from remask.kernels.layer_triton import launch_gate

    if residual is not None and bias is None and not gated:
        return torch.addmm(residual, x, weight.t())
    y = functional.linear(x, weight, bias)
    if gated:
        y = launch_gate(y)
    return y if residual is None else residual + y


@dataclass(frozen=True, eq=False)
class Sum:
    """x (N, D), and what is still to be added to it: parts (P, N, D) float32 and bias (D,), or nothing."""

    x: Tensor
    parts: Tensor | None = None
    bias: Tensor | None = None


def added(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor) -> Sum:
    """residual (N, O), which may be written over, plus the product of x and weight and the bias; of few rows in parts, for the norm behind it to add up.

    A product of few columns is over before the card reads at full speed: more programs, each with a part of the inner dimension, start it faster.
    """
    parts = parts_for(x, weight)
    if parts == 1 and bias is None and runs_kernels(x) and not streams(x, weight, gated=False):
        return Sum(residual.addmm_(x, weight.t()))  # elsewhere the library copies the residual first
    if parts == 1:
        return Sum(linear(x, weight, bias, residual=residual))
    return Sum(residual, (parts_kernel if runs_kernels(x) else parts_twin)(x, weight, parts), bias)


def parts_for(x: Tensor, weight: Tensor) -> int:
    """How many parts pay: see `streams`."""
    columns, inner = weight.shape
    if columns > inner or not streams(x, weight, gated=False):
        return 1
    return 2 if x.shape[0] <= 32 or columns == inner else 4


def parts_twin(x: Tensor, weight: Tensor, parts: int) -> Tensor:
    """x (N, D) times weight (O, D) transposed as `parts` sums over D that are still to be added: (parts, N, O) float32."""
    size = -(-x.shape[1] // parts)
    return torch.stack([functional.linear(a.float(), b.float()) for a, b in zip(x.split(size, 1), weight.split(size, 1), strict=True)])


def parts_kernel(x: Tensor, weight: Tensor, parts: int) -> Tensor:
    """The same by Triton."""
    from remask.kernels.layer_triton import launch_parts

    return launch_parts(x, weight, parts)


def settled(sum_: Sum, norm: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The sum, (N, D), and its RMSNorm by `norm` (D,)."""
    x, parts, bias = sum_.x, sum_.parts, sum_.bias
    if parts is None:
        return x, normed(x, norm, eps)
    return (settle_kernel if runs_kernels(x) else settle_twin)(x, parts, bias, norm, eps)


def settle_twin(x: Tensor, parts: Tensor, bias: Tensor | None, norm: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x (N, D) plus parts (P, N, D) float32 and bias (D,), and the RMSNorm of that by `norm` (D,): (N, D) each."""
    wide = x.float() + parts.sum(0)
    x = (wide if bias is None else wide + bias.float()).to(x.dtype)
    return x, normed_twin(x, norm, eps)


def settle_kernel(x: Tensor, parts: Tensor, bias: Tensor | None, norm: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The same by Triton in one launch."""
    from remask.kernels.layer_triton import launch_settle

    return launch_settle(x, parts, bias, norm, eps)


def turn(mixed: Tensor, cos: Tensor, sin: Tensor, keys: Tensor | None, values: Tensor | None, place: Tensor | None, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Projections (B, M, (H + 2 K) E) side by side -> queries (B, H, M, E), and keys and values (B, K, L, E).

    Queries and keys are rotated by cos and sin, (B or 1, M, E); keys and values are written into the stores `keys`, `values` (B, K, L, E) at `place`
    (B, M), everywhere if it is None; without stores those of the M positions are returned as they are, maybe as views of `mixed`.
    """
    how = turn_twin
    if runs_kernels(mixed):
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
        rows, chosen, total = mixed.shape
        width = cos.shape[-1]
        keys, values = (mixed.new_empty(rows, (total // width - heads) // 2, chosen, width) for _ in range(2))
        place = None
    return launch_turn(mixed, cos, sin, keys, values, place, heads), keys, values


def _parts(mixed: Tensor, heads: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    own = heads * width
    shared = (mixed.shape[-1] - own) // 2
    query, key, value = mixed.split([own, shared, shared], dim=-1)
    return query, key, value


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)

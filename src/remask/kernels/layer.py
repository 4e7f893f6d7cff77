"""What a transformer layer does around its matrix products, in one call each: twins in torch, kernels for few rows on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from remask.kernels import runs_kernels

FEW = 32
"""Rows up to which our own product streams its weights faster than the library's does."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, norm: Tensor | None = None, eps: float = 0.0, residual: Tensor | None = None, gated: bool = False) -> Tensor:
    """RMSNorm of x (N, D), if `norm` (D,) is given, times weight (O, D) transposed, plus bias; then SiLU of the first half times the second, if
    gated; then plus residual. Returns (N, O), or (N, O / 2) if gated.
    """
    how = linear_twin
    if runs_kernels(x):
        how = linear_kernel if x.shape[0] <= FEW and x.dtype == torch.bfloat16 else linear_many
    return how(x, weight, bias, norm=norm, eps=eps, residual=residual, gated=gated)


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm of x (N, D), contiguous, by `weight` (D,)."""
    if runs_kernels(x):
        from remask.kernels.layer_triton import launch_norm

        return launch_norm(x, weight, eps)
    return normed_twin(x, weight, eps)


def normed_twin(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same in plain torch, rounded where the networks round."""
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def linear_twin(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, norm: Tensor | None = None, eps: float = 0.0, residual: Tensor | None = None, gated: bool = False
) -> Tensor:
    """The same in plain torch, rounded where the networks round."""
    if norm is not None:
        x = normed_twin(x, norm, eps)
    y = functional.linear(x, weight, bias)
    if gated:
        gate, up = y.chunk(2, dim=-1)
        y = functional.silu(gate) * up
    return y if residual is None else residual + y


def linear_kernel(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, norm: Tensor | None = None, eps: float = 0.0, residual: Tensor | None = None, gated: bool = False
) -> Tensor:
    """The same by Triton, the norm in a launch of its own and the rest in one; sums in float32, rounded once at the end."""
    from remask.kernels.layer_triton import launch_linear, launch_norm

    return launch_linear(x if norm is None else launch_norm(x, norm, eps), weight, bias, residual, gated)


def linear_many(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, norm: Tensor | None = None, eps: float = 0.0, residual: Tensor | None = None, gated: bool = False
) -> Tensor:
    """The same for more rows, where the library's product is hard to beat: a kernel before it and one behind it, the residual inside it."""
    from remask.kernels.layer_triton import launch_gate, launch_norm

    if norm is not None:
        x = launch_norm(x, norm, eps)
    if residual is not None and bias is None and not gated:
        return torch.addmm(residual, x, weight.t())
    y = functional.linear(x, weight, bias)
    if gated:
        y = launch_gate(y)
    return y if residual is None else residual + y


def parts_twin(x: Tensor, weight: Tensor, parts: int) -> Tensor:
    """x (N, D) times weight (O, D) transposed as `parts` sums over D that are still to be added: (parts, N, O) float32."""
    size = -(-x.shape[1] // parts)
    return torch.stack([functional.linear(a.float(), b.float()) for a, b in zip(x.split(size, 1), weight.split(size, 1), strict=True)])


def parts_kernel(x: Tensor, weight: Tensor, parts: int) -> Tensor:
    """The same by Triton: with few columns one sum each keeps too few multiprocessors reading."""
    from remask.kernels.layer_triton import launch_parts

    return launch_parts(x, weight, parts)


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
    (B, M), everywhere if it is None; without stores those of the M positions are returned as they are.
    """
    how = turn_kernel if runs_kernels(mixed) else turn_twin
    return how(mixed, cos, sin, keys, values, place, heads)


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

"""LLaDA and Dream with fewer, larger matrix products: one layer function for both families, keys and values written where they are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from remask.canvas import Canvas
from remask.errors import RemaskError
from remask.kernels.attention import FEW, attend, attend_few, attend_rows
from remask.kernels.layer import Normal, added, linear, linear_twin, mix, normed, normed_twin, turn_twin
from remask.models.attention import positions, rotary
from remask.models.bodies import empty_store, predicting
from remask.models.dream import Dream
from remask.models.held import Held
from remask.models.llada import LLaDA
from remask.models.store import Store

EAGER = 256
"""Positions up to which a compiled body runs the kernels: what the compiler makes of the scatter is slower there."""

DENSE = 0.95
"""The share of real positions above which padding is computed: leaving it out is two copies a layer, as much as 3 % of a layer at LLaDA-8B's widths."""


TRIMMED = 0.75
"""The share of a pass's positions up to which its last layer makes the states asked for alone: choosing them is a launch more than choosing among the states of all, some 3 us."""


@dataclass(frozen=True, eq=False)
class Layer:
    """The weights of one layer. mix: queries, keys, values below one another, ((H + 2 K) E, D).  gate_up: (2 F, D)."""

    norm: Tensor
    mix: Tensor
    mix_bias: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    norm2: Tensor
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None


@dataclass(frozen=True, eq=False)
class Dense:
    """The T of B * M positions that are computed; the others are padding, or what a row repeats.

    at: (T,) int64, where each stands among the B * M.  slot: (B * M,) int64, which of the T stands at each place: its own, or the last before it.
    ends: (B + 1,) int32, where the rows begin among the T, and T, if the T are also what each row may see: attention then reads them as they lie, else padded copies.
    longest: M.
    """

    at: Tensor
    slot: Tensor
    ends: Tensor | None = None
    longest: int = 0

    @staticmethod
    def of(needed: Tensor, *, sees: bool = False) -> Dense | None:
        """From (B, M) bool, of which it waits for the count; None where leaving the others out would not pay.

        sees: a row sees all of its own, and nothing else; then whatever is left out, nothing included.
        """
        if needed.numel() <= FEW:  # so few take as long as their weights are read, whatever their number
            return None
        flat = needed.flatten()
        at = flat.nonzero()[:, 0]
        if not 0 < len(at) <= (1.0 if sees else DENSE) * len(flat):
            return None
        slot = flat.long().cumsum(0) - 1
        ends = functional.pad(slot.view_as(needed)[:, -1] + 1, (1, 0)).int() if sees else None
        return Dense(at, slot.clamp(min=0), ends, needed.shape[1])


@dataclass(frozen=True, eq=False)
class Reading:
    """What a layer reads beside its input. cos, sin: (B or 1, M, E).  keys, values: (B, K, L, E), what is stored, None if nothing is.

    place: (B, M), the positions computed, None for all.  seen: (B, L) bool, the keys that are real, None for all.  dense: of the B * M, those that enter the layer, None for all.
    leaving: (B * T,) int64, of the B * M those whose states leave it, None for all that enter; not both.  apart: the B rows that stand here as one of T positions, where they do.
    """

    cos: Tensor
    sin: Tensor
    keys: Tensor | None
    values: Tensor | None
    place: Tensor | None
    seen: Tensor | None
    dense: Dense | None = None
    leaving: Tensor | None = None
    apart: Dense | None = None

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, H, M, E) queries over the keys and values (B, K, L, E) that each may see -> (B * M, H * E)."""
        if self.apart is None or self.apart.ends is None:
            return attend_few(query, key, value, self.seen).flatten(0, 1)
        query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))
        return attend_rows(query, key, value, self.apart.ends, self.apart.longest)


def run_layer(x: Tensor, normal: Normal | None, layer: Layer, reading: Reading, heads: int, eps: float, *, shape: tuple[int, int], after: Tensor) -> tuple[Tensor, Normal]:
    """x (B * M, D) -> (B * M, D), or the rows of those that enter or leave: pre-norm attention over the stores, and SwiGLU. shape: (B, M).

    normal: x by this layer's norm, if it was made already.  after: (D,), the weight of the norm behind this layer, by which the result is returned as well.
    """
    entering, dense = Normal(normed(x, layer.norm, eps)) if normal is None else normal, reading.dense
    query, key, value = mix(
        entering, layer.mix, layer.mix_bias, reading.cos, reading.sin, reading.keys, reading.values, reading.place, heads, shape=shape, slot=None if dense is None else dense.slot
    )
    if reading.leaving is not None:
        x, query = x.index_select(0, reading.leaving), asking(query, reading.leaving)
    seen = reading.attend(query, key, value)
    x, between = added(seen if dense is None else seen.index_select(0, dense.at), layer.out, layer.out_bias, x, layer.norm2, eps)
    return added(linear(between, layer.gate_up, layer.gate_up_bias, gated=True), layer.down, layer.down_bias, x, after, eps)


def asking(query: Tensor, leaving: Tensor) -> Tensor:
    """Queries (B, H, M, E) -> (B, H, T, E), in memory (B, T, H, E): those at `leaving`, (B * T,) int64, of the B * M."""
    return query.transpose(1, 2).flatten(0, 1).index_select(0, leaving).unflatten(0, (query.shape[0], -1)).transpose(1, 2)


def plain_layer(x: Tensor, layer: Layer, reading: Reading, heads: int, eps: float, *, shape: tuple[int, int]) -> Tensor:
    """The same in torch alone, for the compiler."""
    mixed = linear_twin(normed_twin(x, layer.norm, eps), layer.mix, layer.mix_bias).view(*shape, -1)
    query, key, value = turn_twin(mixed, reading.cos, reading.sin, reading.keys, reading.values, reading.place, heads)
    x = x + linear_twin(attend(query, key, value, reading.seen).flatten(0, 1), layer.out, layer.out_bias)
    inner = linear_twin(normed_twin(x, layer.norm2, eps), layer.gate_up, layer.gate_up_bias, gated=True)
    return x + linear_twin(inner, layer.down, layer.down_bias)


class Fused:
    """A Body (remask.models.bodies) of a LLaDA with rotary positions or of a Dream. The model's own weights become views of the joined ones; a copy joins its own."""

    def __init__(self, model: LLaDA | Dream) -> None:
        self.model = model
        self.many: Callable[..., Tensor] | None = None
        self.compiles = False
        self.join()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("model", "many", "compiles")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.join()

    def join(self) -> None:
        """Join the model's weights where they aren't, and note where they lie; a RemaskError if it is none that can be joined."""
        model = self.model
        if not isinstance(model, LLaDA | Dream) or (isinstance(model, LLaDA) and not model.rope):
            raise RemaskError(f"{type(model).__name__} has no fused layers; they are for LLaDA with rotary positions and Dream: leave out body=, or pass the model itself")
        if model.processes > 1:
            raise RemaskError(f"fused layers do not take a network split over {model.processes} processes; leave out body=, or load it anew")
        self.theta, self.head_width = model.theta, model.head_width
        blocks: Any = model.parts["blocks"] if isinstance(model, LLaDA) else model.model["layers"]
        read = of_llada if isinstance(model, LLaDA) else of_dream
        for each in (each for block in blocks for each in block.modules() if isinstance(each, nn.Linear)):
            if type(each.weight) is not nn.Parameter:  # those of torchao are of classes of their own
                raise RemaskError(f"fused layers do not take weights of {type(each.weight).__name__}; leave out float8, or body= and fused")
        self.layers = [read(block) for block in blocks]
        attention = blocks[0] if isinstance(model, LLaDA) else blocks[0].self_attn
        self.heads, self.key_heads = attention.heads, attention.key_heads
        parts: Any = model.parts if isinstance(model, LLaDA) else model.model
        self.embedding = parts["wte"] if isinstance(model, LLaDA) else parts["embed_tokens"]
        self.norm: Any = parts["ln_f"] if isinstance(model, LLaDA) else parts["norm"]
        own: Any = parts._modules.get("ff_out") if isinstance(model, LLaDA) else model.lm_head
        self.last: Tensor = self.embedding.weight if own is None else own.weight
        self.last_bias: Tensor | None = None if own is None else own.bias
        assert model.max_length is not None, "both families say how long a row may be"
        longest = torch.arange(model.max_length, device=self.last.device)[None]
        self.cos, self.sin = (angle[0, 0] for angle in rotary(longest, self.head_width, self.theta))  # (most positions, E) each
        self.held = Held(model, "its fused layers were")

    def joined(self) -> Fused:
        """The same weights; what follows the network (decoder, canvas, reuse rule, flags) is compiled into a few launches, once for a shape and plan, in seconds.

        It saves 0.1 - 0.4 ms of a step of up to 256 positions at LLaDA-8B's shape, and nothing of a longer one (docs/findings/gpu.md).
        """
        other = copy(self)
        other.compiles = True
        return other

    def compiled(self) -> Fused:
        """The same weights; passes of more than EAGER positions go through `torch.compile`, one graph for all layers and each bucket.

        Each bucket takes seconds to compile, and the process's limit of compiled forms a function is raised to hold them all.
        """
        from torch import _dynamo as dynamo

        dynamo.config.recompile_limit = max(dynamo.config.recompile_limit, 64)
        other = copy(self)
        other.many = torch.compile(plain_layer, dynamic=False)
        return other

    @property
    def shift(self) -> int:
        return self.model.shift

    def whole(self, canvas: Canvas, store: Store | None, *, stores: bool, padded: bool, only: Tensor | None = None) -> tuple[Tensor, Store | None]:
        if stores and store is None:
            store = self.empty(*canvas.shape)
        at = only if only is None or self.shift == 0 else (only - self.shift).clamp(min=0)
        hidden = self.through(canvas, None, store if stores else None, padded=padded, only=at)
        return hidden if only is not None else predicting(hidden, self.shift), store

    def chosen(self, canvas: Canvas, place: Tensor, store: Store, *, padded: bool, only: Tensor | None = None) -> Tensor:
        return self.through(canvas, place, store, padded=padded, only=only)

    def head(self, hidden: Tensor) -> Tensor:
        return linear(Normal(hidden.flatten(0, -2)), self.last, self.last_bias).unflatten(0, hidden.shape[:-1])

    def bytes_per_row(self, length: int, *, stores: bool, compares: bool) -> int:
        """Keys and values if it stores, logits if it compares, and the states of a layer, which are kept or at least made."""
        vocabulary, width = self.last.shape
        kept = 2 * len(self.layers) * self.key_heads * self.head_width if stores else 0
        return length * self.last.element_size() * (kept + width + (vocabulary if compares else 0))

    def empty(self, rows: int, length: int) -> Store:
        """A store for the first pass to write."""
        return empty_store(rows, length, len(self.layers), self.key_heads, self.head_width, dtype=self.last.dtype, device=self.last.device)

    def through(self, canvas: Canvas, place: Tensor | None, store: Store | None, *, padded: bool, dense: Dense | None = None, only: Tensor | None = None) -> Tensor:
        """All layers, and the last norm, over the whole canvas or the positions `place`: (B, M, D), each where it was computed.

        only: (B, T) int64, which of the M are returned, (B, T, D); not of rows apart. Where that pays (TRIMMED) the last layer makes of the others keys and values, no more.
        """
        self.held.check()
        tokens, where = canvas.tokens, positions(canvas.real) if padded else None
        if place is not None:
            tokens, where = tokens.gather(1, place), place if where is None else where.gather(1, place)
        apart = dense if dense is not None and dense.ends is not None else None
        if apart is not None:
            assert where is not None
            tokens, where, dense = tokens.flatten()[apart.at][None], where.flatten()[apart.at][None], None
        cos, sin = (angles[None, : canvas.shape[1]] if where is None else angles[where] for angles in (self.cos, self.sin))
        rows, chosen = tokens.shape
        few = self.many is None or apart is not None or dense is not None or tokens.numel() <= EAGER
        entering = tokens.flatten() if dense is None else tokens.flatten()[dense.at]
        leaving = None if only is None else among(only, chosen)
        trims = leaving is not None and tokens.numel() > FEW and len(leaving) <= TRIMMED * tokens.numel()
        x, normal = self.embedding(entering), None
        norms = [*(layer.norm for layer in self.layers[1:]), self.norm.weight]
        for number, layer in enumerate(self.layers):
            last = trims and number == len(self.layers) - 1
            keys, values = (None, None) if store is None else (store.keys[number], store.values[number])
            reading = Reading(cos, sin, keys, values, place, canvas.real if padded else None, dense, leaving if last else None, apart)
            if few or last or self.many is None:
                x, normal = run_layer(x, normal, layer, reading, self.heads, self.norm.eps, shape=(rows, chosen), after=norms[number])
            else:
                x, normal = self.many(x, layer, reading, self.heads, self.norm.eps, shape=(rows, chosen)), None
        # no product stands behind the last norm to finish it
        hidden = normal.x if normal is not None and normal.squares is None else normed(x, self.norm.weight, self.norm.eps)
        if apart is not None:
            return hidden.index_select(0, apart.slot).unflatten(0, canvas.shape)
        hidden = hidden if dense is None else hidden.index_select(0, dense.slot)
        if leaving is not None and not trims:
            hidden = hidden.index_select(0, leaving)
        return hidden.unflatten(0, (rows, -1))


def among(only: Tensor, chosen: int) -> Tensor:
    """(B, T), which of the M of each row -> (B * T,), which of the B * M."""
    return only.flatten() if len(only) == 1 else (only + chosen * torch.arange(len(only), device=only.device)[:, None]).flatten()


def of_llada(block: Any) -> Layer:
    """The joined weights of a LLaDA block."""
    mix, mix_bias = joined(block.q_proj, block.k_proj, block.v_proj)
    gate_up, gate_up_bias = joined(block.ff_proj, block.up_proj)
    return Layer(
        block.attn_norm.weight, mix, mix_bias, block.attn_out.weight, block.attn_out.bias,
        block.ff_norm.weight, gate_up, gate_up_bias, block.ff_out.weight, block.ff_out.bias,
    )  # fmt: skip


def of_dream(layer: Any) -> Layer:
    """The joined weights of a Dream layer."""
    attention, inner = layer.self_attn, layer.mlp
    mix, mix_bias = joined(attention.q_proj, attention.k_proj, attention.v_proj)
    gate_up, gate_up_bias = joined(inner.gate_proj, inner.up_proj)
    return Layer(
        layer.input_layernorm.weight, mix, mix_bias, attention.o_proj.weight, attention.o_proj.bias,
        layer.post_attention_layernorm.weight, gate_up, gate_up_bias, inner.down_proj.weight, inner.down_proj.bias,
    )  # fmt: skip


def joined(*parts: nn.Linear) -> tuple[Tensor, Tensor | None]:
    """Weights and biases below one another; the parts' own become views of them, so that nothing is held twice. Where they are already, nothing is moved."""
    weight = together([part.weight.detach() for part in parts])
    bias = together([part.bias.detach() for part in parts]) if parts[0].bias is not None else None
    sizes = [part.weight.shape[0] for part in parts]
    for part, view in zip(parts, weight.split(sizes), strict=True):
        part.weight = nn.Parameter(view, requires_grad=False)
    if bias is not None:
        for part, view in zip(parts, bias.split(sizes), strict=True):
            part.bias = nn.Parameter(view, requires_grad=False)
    return weight, bias


def together(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors below one another: the memory they lie in, if they lie in it so, else a copy."""
    first, at = tensors[0], tensors[0].storage_offset()
    for tensor in tensors:
        same = tensor.untyped_storage().data_ptr() == first.untyped_storage().data_ptr() and tensor.is_contiguous() and tensor.dtype == first.dtype
        if not same or tensor.storage_offset() != at:
            return torch.cat(list(tensors))
        at += tensor.numel()
    return first.as_strided((sum(map(len, tensors)), *first.shape[1:]), first.stride())

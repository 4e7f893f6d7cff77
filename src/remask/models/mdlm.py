"""MDLM (arXiv 2406.07524) in its published tensor names: a diffusion transformer with adaptive layer norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from remask.citation import MDLM as MDLM_PAPER
from remask.citation import Paper
from remask.errors import RemaskError
from remask.kernels.attention import attend
from remask.models.attention import heads, placed, rotary, rotate
from remask.models.base import Network
from remask.models.config import end_ids, multiple, require, whole
from remask.models.store import Memory
from remask.schedules import log_linear_noise

FEATURES = 256
"""Width of the embedding of sigma."""


@dataclass(frozen=True, eq=False)
class Condition:
    """What the noise level does to one sublayer: its norm's scale and shift, and the gate of its output.

    Each (D,) float32 where all rows share it, else (B, 1, D).
    """

    scale: Tensor
    shift: Tensor
    gate: Tensor | None = None

    @staticmethod
    def of(norm: ScaleNorm, shift: Tensor, scale: Tensor, gate: Tensor | None = None) -> Condition:
        """The norm's own weight folded into the scale: LN(x) w (1 + scale) + shift."""
        return Condition(norm.weight.float() * (1 + scale), shift, gate)

    def normalise(self, x: Tensor) -> Tensor:
        """(B, L, D): layer norm in float32, scaled and shifted; one kernel where the rows share it."""
        if self.scale.dim() == 1:
            return functional.layer_norm(x.float(), self.scale.shape, self.scale, self.shift, 1e-5).to(x.dtype)
        return (functional.layer_norm(x.float(), self.scale.shape[-1:], eps=1e-5) * self.scale + self.shift).to(x.dtype)


class ScaleNorm(nn.Module):
    """The weight of a layer norm without a bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


class TokenTable(nn.Module):
    """The published embedding: a bare parameter."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(rows, width))
        nn.init.kaiming_uniform_(self.embedding, a=math.sqrt(5))


class NoiseEmbedding(nn.Module):
    """sigma (...) -> (..., cond_dim): cosines and sines at 128 rates through two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FEATURES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, sigma: Tensor) -> Tensor:
        half = FEATURES // 2
        rate = 10000 ** (-torch.arange(half, device=sigma.device, dtype=torch.float32) / half)
        angle = sigma.float()[..., None] * rate
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1)
        return functional.silu(self.mlp(waves.to(next(self.mlp.parameters()).dtype)))


class Block(nn.Module):
    """Attention and feed-forward, each gated, behind conditioned norms."""

    def __init__(self, width: int, count: int, cond: int) -> None:
        super().__init__()
        self.count = count
        self.norm1, self.norm2 = ScaleNorm(width), ScaleNorm(width)
        self.attn_qkv = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.adaLN_modulation = zeroed(nn.Linear(cond, 6 * width))

    def conditions(self, c: Tensor) -> tuple[Condition, Condition]:
        """Those of the attention and of the feed-forward."""
        shift, scale, gate, shift2, scale2, gate2 = self.adaLN_modulation(c).float().chunk(6, dim=-1)
        return Condition.of(self.norm1, shift, scale, gate), Condition.of(self.norm2, shift2, scale2, gate2)

    def forward(self, x: Tensor, conditions: tuple[Condition, Condition], angles: tuple[Tensor, Tensor], real: Tensor | None, memory: Memory | None = None) -> Tensor:
        mixing, thinking = conditions
        assert mixing.gate is not None
        assert thinking.gate is not None
        query, key, value = (heads(part, self.count) for part in self.attn_qkv(mixing.normalise(x)).chunk(3, dim=-1))
        query, key = rotate(query, *angles), rotate(key, *angles)
        mixed = attend(query, key, value, real) if memory is None else memory.mix(query, key, value, real)
        x = x + mixing.gate.to(x.dtype) * self.attn_out(mixed)
        return x + thinking.gate.to(x.dtype) * self.mlp(thinking.normalise(x))


class Output(nn.Module):
    """The last conditioned norm and the head."""

    def __init__(self, width: int, vocab_size: int, cond: int) -> None:
        super().__init__()
        self.norm_final = ScaleNorm(width)
        self.linear = zeroed(nn.Linear(width, vocab_size))
        self.adaLN_modulation = zeroed(nn.Linear(cond, 2 * width))

    def condition(self, c: Tensor) -> Condition:
        shift, scale = self.adaLN_modulation(c).float().chunk(2, dim=-1)
        return Condition.of(self.norm_final, shift, scale)


Conditions = tuple[list[tuple[Condition, Condition]], Condition]


class MDLM(Network):
    """Raw logits over all ids, the mask's included; `subs_log_probs` is the published parameterisation.

    Where the checkpoint is not time-conditioned, sigma is 0 for every input. The conditions are then constants of the
    weights: computed once, and again after a move, a cast, `train`, `eval` or `load_state_dict`.
    """

    papers: ClassVar[tuple[Paper, ...]] = (MDLM_PAPER,)

    def __init__(self, config: Mapping[str, Any]) -> None:
        width, cond, blocks, count, vocab_size = _sizes(config)
        super().__init__(
            mask_id=vocab_size - 1,
            eos_ids=end_ids(config, vocab_size),
            max_length=whole(config, "model_length"),
            vocab_size=vocab_size,
        )
        self.time_conditioning, self.head_width = bool(config.get("time_conditioning", False)), width // count
        self.ragged = not self.time_conditioning
        parts: dict[str, nn.Module] = {"vocab_embed": TokenTable(vocab_size, width), "sigma_map": NoiseEmbedding(cond)}
        parts["blocks"] = nn.ModuleList(Block(width, count, cond) for _ in range(blocks))
        parts["output_layer"] = Output(width, vocab_size, cond)
        self.backbone = nn.ModuleDict(parts)
        self._folded: Conditions | None = None
        self.register_load_state_dict_post_hook(_unfold)

    @property
    def parts(self) -> Any:
        return self.backbone

    def hidden(self, tokens: Tensor, real: Tensor | None, sigma: Tensor | None = None, memory: Memory | None = None) -> Tensor:
        """sigma: (B,) noise level, read only if time-conditioned; None is the level of the row's masked share."""
        place, seen = placed(tokens, real)
        conditions = self._conditions(tokens, real, sigma)
        if memory is not None:
            tokens, place = memory.enter(tokens, place)
        return self.through(self.embed(tokens), place, seen, conditions, memory)

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, L, D). Not by indexing, whose gradient adds up one row's duplicates one after the other: half of a training batch is the mask."""
        return functional.embedding(tokens, self.parts["vocab_embed"].embedding)

    def through(self, x: Tensor, place: Tensor, seen: Tensor | None, conditions: Conditions, memory: Memory | None = None) -> Tensor:
        """Embedded positions (B, M, D), their places and what is real -> hidden states (B, M, D)."""
        blocks, last = conditions
        angles = rotary(place, self.head_width, 10000.0)
        for block, own in zip(self.parts["blocks"], blocks, strict=True):
            x = block(x, own, angles, seen, memory)
        return last.normalise(x)

    def head(self, hidden: Tensor) -> Tensor:
        return self.parts["output_layer"].linear(hidden).float()

    def _conditions(self, tokens: Tensor, real: Tensor | None, sigma: Tensor | None) -> Conditions:
        if self.time_conditioning:
            return self._conditioned(noise_of(tokens, self.mask_id, real) if sigma is None else _per_row(sigma, tokens))
        if any(parameter.requires_grad for parameter in self.parts["sigma_map"].parameters()):  # in training they change
            return self._conditioned(torch.zeros((), device=tokens.device))
        if self._folded is None:
            with torch.inference_mode(False), torch.no_grad():
                self._folded = self._conditioned(torch.zeros((), device=self.device))
        return self._folded

    def _conditioned(self, sigma: Tensor) -> Conditions:
        """Of one level for all rows, (), or one a row, (B,)."""
        c = self.parts["sigma_map"](sigma if sigma.dim() == 0 else sigma[:, None])
        return [block.conditions(c) for block in self.parts["blocks"]], self.parts["output_layer"].condition(c)

    def train(self, mode: bool = True) -> MDLM:
        self._folded = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MDLM:
        self._folded = None
        return super()._apply(fn, recurse)

    @staticmethod
    def rename(name: str, config: Mapping[str, Any]) -> str:
        """Published names are ours."""
        return name


def subs_log_probs(logits: Tensor, tokens: Tensor, mask_id: int) -> Tensor:
    """(B, L, V): the mask is never predicted, and a visible token stays itself (SUBS; arXiv 2406.07524, section 3.2.3)."""
    forbidden = torch.arange(logits.shape[-1], device=logits.device) == mask_id
    logits = logits - 1e6 * forbidden
    log_probs = logits - logits.logsumexp(-1, keepdim=True)
    itself = torch.full_like(log_probs, -1e6).scatter(-1, tokens[..., None], 0.0)
    return torch.where((tokens == mask_id)[..., None], log_probs, itself)


def noise_of(tokens: Tensor, mask_id: int, real: Tensor | None = None) -> Tensor:
    """(B,): the noise level at which the row's masked share is expected, padding aside."""
    real = torch.ones_like(tokens, dtype=torch.bool) if real is None else real
    share = ((tokens == mask_id) & real).sum(1) / real.sum(1).clamp(min=1)
    return log_linear_noise(share)[0]


def zeroed(layer: nn.Linear) -> nn.Linear:
    """A new layer starts at zero (the published initialisation of modulations and head)."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _unfold(model: MDLM, keys: Any) -> None:
    model._folded = None


def _per_row(sigma: Tensor, tokens: Tensor) -> Tensor:
    if tuple(sigma.shape) != (tokens.shape[0],):
        raise RemaskError(f"sigma has shape {tuple(sigma.shape)}; pass one noise level a row, ({tokens.shape[0]},)")
    return sigma.to(tokens.device)


def _sizes(config: Mapping[str, Any]) -> tuple[int, int, int, int, int]:
    """Width, width of the condition, blocks, heads, rows of the vocabulary."""
    needed = ("hidden_dim", "cond_dim", "n_blocks", "n_heads", "vocab_size")
    require(config, (*needed, "model_length"), "an MDLM")
    width, cond, blocks, count, vocab_size = (whole(config, key) for key in needed)
    multiple(config, "hidden_dim", "n_heads")
    return width, cond, blocks, count, vocab_size

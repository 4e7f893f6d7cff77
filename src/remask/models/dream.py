"""Dream, Dream-Coder and DiffuCoder (arXiv 2508.15487) in Qwen2's tensor names: bidirectional, logits shifted by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from remask.citation import DREAM, Paper
from remask.errors import RemaskError
from remask.models.attention import RMSNorm, attend, heads, placed, rotary, rotate
from remask.models.base import Network, aligned
from remask.models.store import Memory


class Attention(nn.Module):
    """Grouped-query attention; q, k and v have a bias, the output has none."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, self.heads, self.key_heads = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
        head_width = width // self.heads
        self.q_proj = nn.Linear(width, self.heads * head_width)
        self.k_proj = nn.Linear(width, self.key_heads * head_width)
        self.v_proj = nn.Linear(width, self.key_heads * head_width)
        self.o_proj = nn.Linear(self.heads * head_width, width, bias=False)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], real: Tensor | None, memory: Memory | None = None) -> Tensor:
        query = rotate(heads(self.q_proj(x), self.heads), *angles)
        key, value = rotate(heads(self.k_proj(x), self.key_heads), *angles), heads(self.v_proj(x), self.key_heads)
        return self.o_proj(attend(query, key, value, real) if memory is None else memory.mix(query, key, value, real))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(config), FeedForward(config)
        self.input_layernorm = RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self.post_attention_layernorm = RMSNorm(config["hidden_size"], config["rms_norm_eps"])

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], real: Tensor | None, memory: Memory | None = None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), angles, real, memory)
        return x + self.mlp(self.post_attention_layernorm(x))


class Dream(Network):
    """The hidden states are moved one place right, so that logits are aligned with the positions they predict."""

    shift = 1
    papers: ClassVar[tuple[Paper, ...]] = (DREAM,)

    def __init__(self, config: Mapping[str, Any]) -> None:
        needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "rms_norm_eps", "rope_theta", "mask_token_id")
        missing = [key for key in needed if config.get(key) is None]
        if missing:
            raise RemaskError(f"config.json has no {', '.join(missing)}; a Dream checkpoint needs them")
        if config.get("rope_scaling") or config.get("use_sliding_window"):
            raise RemaskError("config.json asks for rope_scaling or a sliding window, which Dream checkpoints don't have; set them to null and false")
        config = {**config, "num_key_value_heads": config.get("num_key_value_heads") or config["num_attention_heads"]}
        ends = config.get("eos_token_id")
        super().__init__(
            mask_id=config["mask_token_id"],
            eos_ids=() if ends is None else tuple(ends) if isinstance(ends, list) else (ends,),
            max_length=config.get("max_position_embeddings"),
            vocab_size=config["vocab_size"],
        )
        self.theta, self.head_width = float(config["rope_theta"]), config["hidden_size"] // config["num_attention_heads"]
        parts: dict[str, nn.Module] = {"embed_tokens": nn.Embedding(self.vocab_size, config["hidden_size"])}
        parts["layers"] = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        parts["norm"] = RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self.model = nn.ModuleDict(parts)
        self.lm_head = None if config.get("tie_word_embeddings") else nn.Linear(config["hidden_size"], self.vocab_size, bias=False)

    def hidden(self, tokens: Tensor, real: Tensor | None, sigma: Tensor | None = None, memory: Memory | None = None) -> Tensor:
        place, seen = placed(tokens, real)
        if memory is not None:
            tokens, place = memory.enter(tokens, place)
        x = self.model["embed_tokens"](tokens)
        angles = rotary(place, self.head_width, self.theta)
        for layer in self.model["layers"]:  # pyright: ignore[reportGeneralTypeIssues]
            x = layer(x, angles, seen, memory)
        x = self.model["norm"](x)
        return x if memory is not None else aligned(x, self.shift)

    def head(self, hidden: Tensor) -> Tensor:
        weight = self.model["embed_tokens"].weight if self.lm_head is None else self.lm_head.weight
        return functional.linear(hidden, weight).float()  # pyright: ignore[reportArgumentType]

    @staticmethod
    def rename(name: str, config: Mapping[str, Any]) -> str:
        """Published names are ours."""
        return name

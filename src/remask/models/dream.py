"""Dream, Dream-Coder and DiffuCoder (arXiv 2508.15487) in Qwen2's tensor names: bidirectional, logits shifted by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from remask.citation import DREAM, Paper
from remask.kernels.attention import attend
from remask.models.attention import RMSNorm, heads, placed, rotary, rotate
from remask.models.base import Network
from remask.models.config import end_ids, mask_id, multiple, number, refuse, require, whole
from remask.models.store import Memory, aligned


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
    ragged = True
    papers: ClassVar[tuple[Paper, ...]] = (DREAM,)

    def __init__(self, config: Mapping[str, Any]) -> None:
        config = _explicit(config)
        super().__init__(
            mask_id=mask_id(config, config["vocab_size"]),
            eos_ids=end_ids(config, config["vocab_size"]),
            max_length=config["max_position_embeddings"],
            vocab_size=config["vocab_size"],
        )
        self.theta, self.head_width = config["rope_theta"], config["hidden_size"] // config["num_attention_heads"]
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
        if self.lm_head is not None:
            return self.lm_head(hidden).float()
        return functional.linear(hidden, self.model["embed_tokens"].weight).float()  # pyright: ignore[reportArgumentType]

    @staticmethod
    def rename(name: str, config: Mapping[str, Any]) -> str:
        """Published names are ours."""
        return name


def _explicit(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every value that shapes the network, checked."""
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    require(config, (*sizes, "rms_norm_eps", "rope_theta", "mask_token_id"), "a Dream")
    refuse(config, {"hidden_act": "silu", "rope_scaling": False, "use_sliding_window": False})
    full = dict(config)
    for key in sizes:
        full[key] = whole(config, key)
    full["num_key_value_heads"] = whole(config, "num_key_value_heads", full["num_attention_heads"])
    full["rms_norm_eps"], full["rope_theta"] = number(config, "rms_norm_eps"), number(config, "rope_theta")
    full["max_position_embeddings"] = None if config.get("max_position_embeddings") is None else whole(config, "max_position_embeddings")
    multiple(full, "hidden_size", "num_attention_heads")
    multiple(full, "num_attention_heads", "num_key_value_heads")
    return full

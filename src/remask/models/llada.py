"""LLaDA (arXiv 2502.09992) in its published tensor names: a bidirectional Llama."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from remask.citation import LLADA, Paper
from remask.errors import RemaskError
from remask.models.attention import RMSNorm, attend, heads, placed, rotary, rotate
from remask.models.base import Network
from remask.models.store import Memory


class Block(nn.Module):
    """Pre-norm attention and SwiGLU; `ff_proj` is the gate, `ff_out` the way down."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, inner, bias = config["d_model"], config["mlp_hidden_size"], bool(config.get("include_bias", False))
        self.heads, self.key_heads = config["n_heads"], config["n_kv_heads"]
        key_width = width // self.heads * self.key_heads
        qkv_bias = bias or bool(config.get("include_qkv_bias", False))
        self.attn_norm = RMSNorm(width, config["rms_norm_eps"])
        self.q_proj = nn.Linear(width, width, bias=qkv_bias)
        self.k_proj = nn.Linear(width, key_width, bias=qkv_bias)
        self.v_proj = nn.Linear(width, key_width, bias=qkv_bias)
        self.attn_out = nn.Linear(width, width, bias=bias)
        self.ff_norm = RMSNorm(width, config["rms_norm_eps"])
        self.ff_proj = nn.Linear(width, inner, bias=bias)
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.ff_out = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor] | None, real: Tensor | None, memory: Memory | None = None) -> Tensor:
        n = self.attn_norm(x)
        query, key, value = heads(self.q_proj(n), self.heads), heads(self.k_proj(n), self.key_heads), heads(self.v_proj(n), self.key_heads)
        if angles is not None:
            query, key = rotate(query, *angles), rotate(key, *angles)
        x = x + self.attn_out(attend(query, key, value, real) if memory is None else memory.mix(query, key, value, real))
        n = self.ff_norm(x)
        return x + self.ff_out(functional.silu(self.ff_proj(n)) * self.up_proj(n))


class LLaDA(Network):
    """LLaDA-8B Base, Instruct, 1.5, and our own checkpoints."""

    papers: ClassVar[tuple[Paper, ...]] = (LLADA,)

    def __init__(self, config: Mapping[str, Any]) -> None:
        config = _explicit(config)
        super().__init__(
            mask_id=config["mask_token_id"],
            eos_ids=(config["eos_token_id"],),
            max_length=config["max_sequence_length"],
            vocab_size=config["embedding_size"],
        )
        self.rope, self.theta = config["rope"], float(config["rope_theta"])
        self.head_width = config["d_model"] // config["n_heads"]
        parts: dict[str, nn.Module] = {"wte": nn.Embedding(self.vocab_size, config["d_model"])}
        if not self.rope:
            parts["wpe"] = nn.Embedding(config["max_sequence_length"], config["d_model"])
        parts["blocks"] = nn.ModuleList(Block(config) for _ in range(config["n_layers"]))
        parts["ln_f"] = RMSNorm(config["d_model"], config["rms_norm_eps"])
        if not config["weight_tying"]:
            parts["ff_out"] = nn.Linear(config["d_model"], self.vocab_size, bias=bool(config.get("include_bias", False)))
        self.model = nn.ModuleDict({"transformer": nn.ModuleDict(parts)})

    @property
    def parts(self) -> Any:
        return self.model["transformer"]

    def hidden(self, tokens: Tensor, real: Tensor | None, sigma: Tensor | None = None, memory: Memory | None = None) -> Tensor:
        place, seen = placed(tokens, real)
        if memory is not None:
            tokens, place = memory.enter(tokens, place)
        x = self.parts["wte"](tokens)
        angles = rotary(place, self.head_width, self.theta) if self.rope else None
        if angles is None:
            x = x + self.parts["wpe"](place)
        for block in self.parts["blocks"]:
            x = block(x, angles, seen, memory)
        return self.parts["ln_f"](x)

    def head(self, hidden: Tensor) -> Tensor:
        if "ff_out" in self.parts:
            return self.parts["ff_out"](hidden).float()
        return functional.linear(hidden, self.parts["wte"].weight).float()

    @staticmethod
    def rename(name: str, config: Mapping[str, Any]) -> str:
        """`block_groups.{g}.{j}` of grouped checkpoints -> `blocks.{i}`."""
        if ".block_groups." not in name:
            return name
        before, _, after = name.partition(".block_groups.")
        group, index, rest = after.split(".", 2)
        return f"{before}.blocks.{int(group) * int(config.get('block_group_size', 1)) + int(index)}.{rest}"


def _explicit(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every value that shapes the network, checked: class defaults of the published code are traps."""
    needed = ("d_model", "n_layers", "n_heads", "vocab_size", "mask_token_id", "eos_token_id", "max_sequence_length", "rms_norm_eps")
    missing = [key for key in needed if config.get(key) is None]
    if missing:
        raise RemaskError(f"config.json has no {', '.join(missing)}; a LLaDA checkpoint needs them")
    unlike = {"layer_norm_type": "rms", "block_type": "llama", "activation_type": "silu", "alibi": False, "attention_layer_norm": False}
    for key, value in unlike.items():
        if config.get(key, value) != value:
            raise RemaskError(f"config.json has {key} {config[key]!r}; only {value!r} is supported")
    if config.get("rope", True) and config.get("rope_theta") is None:
        raise RemaskError("config.json has no rope_theta; a LLaDA checkpoint with rotary positions needs it")
    full = dict(config)
    full["rope"] = bool(config.get("rope", True))
    full["rope_theta"] = config.get("rope_theta") or 0.0
    full["n_kv_heads"] = config.get("n_kv_heads") or (1 if config.get("multi_query_attention") else config["n_heads"])
    full["mlp_hidden_size"] = config.get("mlp_hidden_size") or config["mlp_ratio"] * config["d_model"]
    full["embedding_size"] = config.get("embedding_size") or config["vocab_size"]
    full["weight_tying"] = bool(config.get("weight_tying", False))
    return full

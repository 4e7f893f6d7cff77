"""LLaDA (arXiv 2502.09992) in its published tensor names: a bidirectional Llama."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from remask.citation import LLADA, Paper
from remask.kernels.attention import attend
from remask.models.attention import RMSNorm, heads, placed, rotary, rotate
from remask.models.base import Network
from remask.models.config import end_ids, mask_id, multiple, number, refuse, require, whole
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

    ragged = True
    papers: ClassVar[tuple[Paper, ...]] = (LLADA,)

    def __init__(self, config: Mapping[str, Any]) -> None:
        config = _explicit(config)
        super().__init__(
            mask_id=mask_id(config, config["embedding_size"]),
            eos_ids=end_ids(config, config["embedding_size"]),
            max_length=config["max_sequence_length"],
            vocab_size=config["embedding_size"],
        )
        self.rope, self.theta = config["rope"], config["rope_theta"]
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
        found = re.fullmatch(r"(.+)\.block_groups\.([0-9]{1,9})\.([0-9]{1,9})\.(.+)", name)
        if found is None:
            return name
        before, group, index, rest = found.groups()
        return f"{before}.blocks.{int(group) * whole(config, 'block_group_size', 1) + int(index)}.{rest}"


def _explicit(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every value that shapes the network, checked."""
    needed = ("d_model", "n_layers", "n_heads", "vocab_size", "mask_token_id", "max_sequence_length", "rms_norm_eps")
    require(config, needed, "a LLaDA")
    refuse(config, {"layer_norm_type": "rms", "block_type": "llama", "activation_type": "silu", "alibi": False, "attention_layer_norm": False})
    refuse(config, {"scale_logits": False, "input_emb_norm": False, "rope_scaling": False})
    if config.get("mlp_hidden_size") is None:
        require(config, ("mlp_ratio",), "a LLaDA without mlp_hidden_size")
    full = dict(config)
    for key in ("d_model", "n_layers", "n_heads", "vocab_size", "max_sequence_length"):
        full[key] = whole(config, key)
    full["rms_norm_eps"] = number(config, "rms_norm_eps")
    full["rope"] = bool(config.get("rope", True))
    if full["rope"]:
        require(config, ("rope_theta",), "a LLaDA with rotary positions")
    full["rope_theta"] = number(config, "rope_theta") if full["rope"] else 0.0
    full["n_kv_heads"] = whole(config, "n_kv_heads", 1 if config.get("multi_query_attention") else full["n_heads"])
    full["mlp_hidden_size"] = whole(config, "mlp_hidden_size", whole(config, "mlp_ratio", 0, least=0) * full["d_model"])
    full["embedding_size"] = whole(config, "embedding_size", full["vocab_size"], least=full["vocab_size"])
    full["block_group_size"] = whole(config, "block_group_size", 1)
    full["weight_tying"] = bool(config.get("weight_tying", False))
    multiple(full, "d_model", "n_heads")
    multiple(full, "n_heads", "n_kv_heads")
    return full

"""A small causal Llama that reads text from left to right. It judges what others write and fills no masks.

config.json: "architectures": ["CausalJudge"], hidden_size, num_layers, num_heads, intermediate_size, vocab_size, max_length, eos_token_id, mask_token_id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional

from remask.canvas import Canvas
from remask.errors import RemaskError
from remask.models.attention import RMSNorm, heads, rotary, rotate
from remask.models.base import Network
from remask.models.config import end_ids, mask_id, multiple, require, whole
from remask.models.store import Chosen, Memory, Store


class Block(nn.Module):
    """Pre-norm causal attention and SwiGLU."""

    def __init__(self, width: int, count: int, inner: int) -> None:
        super().__init__()
        self.count = count
        self.attn_norm, self.ff_norm = RMSNorm(width, 1e-5), RMSNorm(width, 1e-5)
        self.attn_qkv = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.ff_in = nn.Linear(width, 2 * inner, bias=False)
        self.ff_out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        query, key, value = (heads(part, self.count) for part in self.attn_qkv(self.attn_norm(x)).chunk(3, dim=-1))
        mixed = functional.scaled_dot_product_attention(rotate(query, *angles), rotate(key, *angles), value, is_causal=True)
        x = x + self.attn_out(mixed.transpose(1, 2).flatten(2))
        gate, up = self.ff_in(self.ff_norm(x)).chunk(2, dim=-1)
        return x + self.ff_out(functional.silu(gate) * up)


class Causal(Network):
    """`hidden` and `logits` are position-aligned as everywhere here: those of a position predict its token, from the tokens before it alone.

    The first token is predicted from an end-of-text, which is how a row cut from a stream begins too.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        needed = ("hidden_size", "num_layers", "num_heads", "intermediate_size", "vocab_size", "max_length", "eos_token_id", "mask_token_id")
        require(config, needed, "a CausalJudge")
        width, layers, count, inner, vocab_size, length = (whole(config, key) for key in needed[:6])
        multiple(config, "hidden_size", "num_heads")
        super().__init__(mask_id=mask_id(config, vocab_size), eos_ids=end_ids(config, vocab_size), max_length=length, vocab_size=vocab_size)
        self.head_width = width // count
        embed, head = nn.Embedding(vocab_size, width), nn.Linear(width, vocab_size, bias=False)
        nn.init.normal_(embed.weight, std=0.02)
        nn.init.zeros_(head.weight)
        blocks = nn.ModuleList(Block(width, count, inner) for _ in range(layers))
        self.model = nn.ModuleDict({"embed": embed, "blocks": blocks, "norm": RMSNorm(width, 1e-5), "head": head})

    @property
    def parts(self) -> Any:
        return self.model

    def read(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, L + 1, D): the state before the first token, then after each."""
        x = self.parts["embed"](functional.pad(tokens, (1, 0), value=self.eos_ids[0]))
        angles = rotary(torch.arange(x.shape[1], device=tokens.device)[None], self.head_width, 10000.0)
        for block in self.parts["blocks"]:
            x = block(x, angles)
        return self.parts["norm"](x)

    def hidden(self, tokens: Tensor, real: Tensor | None, sigma: Tensor | None = None, memory: Memory | None = None) -> Tensor:
        if memory is not None or (real is not None and not bool(real.all())):
            raise RemaskError("a causal judge reads whole rows of equal length; cut the rows or judge them one by one")
        return self.read(tokens[:, :-1])

    def head(self, hidden: Tensor) -> Tensor:
        return self.parts["head"](hidden).float()

    def forward(self, canvas: Canvas, chosen: Chosen | None = None, store: Store | None = None) -> NoReturn:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Refused: it would take a mask for a word."""
        raise RemaskError("a causal judge cannot fill masks; decode with a masked diffusion checkpoint and pass this one as the judge")

    @staticmethod
    def rename(name: str, config: Mapping[str, Any]) -> str:
        """Stored names are ours."""
        return name

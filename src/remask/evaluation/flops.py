"""Multiplications and additions of the layers, by position computed (SureLock, arXiv 2602.06412, section 5.1; head left out)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remask.errors import RemaskError


@dataclass(frozen=True)
class Shape:
    """What the count needs of a network. key_width: key heads times their width.  matrices: of the feed-forward, 3 with a gate, else 2."""

    layers: int
    width: int
    key_width: int
    inner: int
    matrices: int = 3

    @staticmethod
    def of(config: Mapping[str, Any]) -> Shape:
        """From a checkpoint's config.json."""
        if "d_model" in config:
            heads = config["n_heads"]
            return Shape(config["n_layers"], config["d_model"], config["d_model"] // heads * (config.get("n_kv_heads") or heads), config["mlp_hidden_size"])
        if "num_hidden_layers" in config:
            width, heads = config["hidden_size"], config["num_attention_heads"]
            return Shape(config["num_hidden_layers"], width, width // heads * config.get("num_key_value_heads", heads), config["intermediate_size"])
        if "n_blocks" in config:
            return Shape(config["n_blocks"], config["hidden_dim"], config["hidden_dim"], 4 * config["hidden_dim"], matrices=2)
        raise RemaskError(f"config.json of architectures {config.get('architectures')} tells no shape; FLOPs are counted for LLaDA, Dream and MDLM")

    def attention(self, length: int) -> int:
        """Of one position over `length` keys, all layers."""
        return self.layers * 4 * length * self.width

    @property
    def linear(self) -> int:
        """Of one position: projections and feed-forward, all layers."""
        return self.layers * (4 * self.width**2 + 4 * self.width * self.key_width + 2 * self.matrices * self.width * self.inner)

    def of_position(self, length: int) -> int:
        """Of one position over `length` keys; a decode costs this times its positions."""
        return self.linear + self.attention(length)

"""Products and attention of a layer by themselves, by the library and by our kernels, however these are cut into programs: what `step.py --tiles` and `--products` time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import torch
from scripted import fastest
from torch import Tensor

from remask.kernels.attention import attend
from remask.kernels.graphs import Recorder
from remask.kernels.layer import Normal, added_kernel, added_many, added_twin, linear_kernel, linear_many, linear_twin, turn
from remask.models.fused import Fused

TILES = {
    "mix": ((16, 128, 4, 4), (16, 128, 4, 5), (16, 256, 4, 3), (32, 128, 4, 3), (32, 128, 4, 4), (32, 128, 4, 3, True), (32, 128, 4, 4, True), (64, 64, 4, 6, True)),
    "out": ((32, 256, 2, 6), (32, 256, 4, 5), (32, 256, 4, 6), (32, 128, 4, 8), (16, 256, 4, 4), (64, 128, 4, 6), (64, 128, 4, 6, True)),
    "gate_up": ((32, 128, 4, 3), (32, 64, 4, 4), (32, 64, 4, 6), (16, 128, 4, 5), (64, 64, 8, 4), (32, 128, 4, 3, True), (64, 64, 4, 4, True)),
    "down": ((32, 256, 2, 6), (32, 256, 4, 5), (32, 256, 4, 6), (32, 128, 4, 8), (16, 256, 4, 4), (64, 128, 4, 6), (64, 128, 4, 6, True)),
}
"""Matrix -> columns and depth of a tile, warps, stages, and whether the product is turned."""
CUTS = ((64, 1, 4, 3), (128, 1, 4, 2), (128, 1, 8, 2), (64, 2, 4, 3), (64, 4, 4, 2), (128, 2, 4, 2), (32, 8, 4, 3))
"""Keys at a time, parts, warps and stages of the attention."""


Job = tuple[dict[str, Any], list[Any], float]
"""What is said of it, the calls that take turns, and the gigabytes that one reads."""


@dataclass(frozen=True, eq=False)
class Product:
    """A product of a layer with what stands behind it, of some rows: rotation and stores, residual and norm, or the gate."""

    name: str
    layers: Fused
    normal: Normal
    residual: Tensor
    turns: tuple[Tensor, ...]

    @staticmethod
    def of(name: str, layers: Fused, weight: Tensor, rows: int) -> Product:
        """With random rows, of 512 positions."""
        x, residual = (torch.randn(rows, weight.shape[at], device=weight.device, dtype=weight.dtype) for at in (1, 0))
        keys, values = torch.empty(2, 1, layers.key_heads, 512, layers.head_width, device=weight.device, dtype=weight.dtype)
        place = torch.arange(rows, device=weight.device)[None]
        return Product(
            name, layers, Normal(x, torch.rand(rows, 128, device=weight.device), 1e-5), residual, (layers.cos[None, :rows], layers.sin[None, :rows], keys, values, place)
        )

    def library(self, weight: Tensor) -> Any:
        """By the library, the norm in front being whole."""
        x = self.normal.x
        if self.name == "mix":
            return turn(linear_many(x, weight).view(1, len(x), -1), *self.turns, self.layers.heads)
        return linear_many(x, weight, gated=True) if self.name == "gate_up" else added_many(x, weight, None, self.residual, self.layers.layers[0].norm, 1e-5)

    def ours(self, weight: Tensor, tile: dict[str, Any]) -> Any:
        """By our kernel, which finishes the norm."""
        from remask.kernels.layer_triton import launch_add, launch_linear, launch_mix

        x, squares, eps = self.normal.x, self.normal.squares, self.normal.eps
        if self.name == "mix":
            return launch_mix(x, weight, None, squares, eps, *self.turns, (1, len(x)), tile)
        if self.name == "gate_up":
            return launch_linear(x, weight, None, squares, eps, True, tile)
        return launch_add(x, weight, None, self.residual, self.layers.layers[0].norm, tile)


def product_jobs(layers: Fused) -> Iterator[Job]:
    """Each matrix by the library and by every tile, several copies in turn so that no cache holds them."""
    layer = layers.layers[0]
    for name, weight in (("mix", layer.mix), ("out", layer.out), ("gate_up", layer.gate_up), ("down", layer.down)):
        copies = [weight.clone() for _ in range(2 if name == "gate_up" else 4)]
        size = 1e-9 * weight.numel() * weight.element_size()
        for rows in (32, 64):
            made = Product.of(name, layers, weight, rows)
            yield {"matrix": name, "rows": rows, "way": "library"}, [partial(made.library, each) for each in copies], size
            for columns, depth, warps, stages, *turned in TILES[name]:
                tile = {"ROWS": rows, "COLUMNS": columns, "INNER": depth, "TURNED": bool(turned), "num_warps": warps, "num_stages": stages}
                said = {"matrix": name, "rows": rows, "columns": columns, "depth": depth, "warps": warps, "stages": stages, "turned": bool(turned)}
                yield said, [partial(made.ours, each, tile) for each in copies], size


def attention_jobs(device: torch.device, dtype: torch.dtype) -> Iterator[Job]:
    """32 heads over 512 keys, by the library and by every cut."""
    from remask.kernels.attention_triton import launch_attend

    stored, size = [torch.randn(16, 1, 32, 512, 128, device=device, dtype=dtype) for _ in range(2)], 4e-9 * 32 * 512 * 128
    for chosen in (32, 128):
        query = torch.randn(1, chosen, 32, 128, device=device, dtype=dtype).transpose(1, 2)
        for keys, parts, warps, stages in CUTS:
            cut = {"KEYS": keys, "PARTS": parts, "num_warps": warps, "num_stages": stages}
            said = {"attention": "512 keys", "rows": chosen, "keys": keys, "parts": parts, "warps": warps, "stages": stages}
            yield said, [partial(launch_attend, query, k, v, None, cut) for k, v in zip(*stored, strict=True)], size
        yield {"attention": "512 keys", "rows": chosen, "way": "library"}, [partial(attend, query, k, v, None) for k, v in zip(*stored, strict=True)], size


def tiles(model: Any, dtype: torch.dtype, share: int, shares: int, count: int = 16) -> None:
    """Microseconds of a product with what stands behind it, and of attention, by tile; every `shares`-th."""
    for said, calls, gigabytes in islice(chain(product_jobs(Fused(model)), attention_jobs(model.device, dtype)), share, None, shares):
        recorder = Recorder(model.device)
        try:
            took = fastest(lambda recorder=recorder, calls=calls: recorder(("tiles", 0), lambda: tuple(call() for call in calls * (count // len(calls)))), model.device)
        except Exception as error:  # a tile that does not fit, say: the others are still worth having
            print(json.dumps(said | {"failed": str(error).splitlines()[0][:80]}), flush=True)
            continue
        print(json.dumps(said | {"us": round(1e6 * took / count, 2), "GB/s": round(gigabytes * count / took)}), flush=True)


def products(model: Any, dtype: torch.dtype, counts: tuple[int, ...]) -> None:
    """Each matrix of a layer at each number of rows, without rotation, several copies in turn so that no cache holds them: bytes of weights a second, ours over the library's."""
    layer = Fused(model).layers[0]
    kernels = model.device.type == "cuda"

    def once(way: str, name: str, weight: Tensor, x: Tensor, residual: Tensor) -> Any:
        if name in ("out", "down"):
            return {"library": added_many if kernels else added_twin, "kernel": added_kernel}[way](x, weight, None, residual, layer.norm, 1e-5)
        gated = name == "gate_up"
        return linear_kernel(Normal(x), weight, gated=gated) if way == "kernel" else (linear_many if kernels else linear_twin)(x, weight, gated=gated)

    for name, weight in (("mix", layer.mix), ("out", layer.out), ("gate_up", layer.gate_up), ("down", layer.down)):
        copies = [weight.clone() for _ in range(4)]
        for rows in counts:
            x, residual = (torch.randn(rows, weight.shape[at], device=model.device, dtype=dtype) for at in (1, 0))
            found: dict[str, Any] = {"matrix": name, "rows": rows, "megabytes": round(weight.numel() * weight.element_size() / 1e6, 1)}
            for way in ("library", "kernel") if kernels else ("library",):
                recorder = Recorder(model.device)

                def work(way: str = way, name: str = name, recorder: Any = recorder, copies: Any = copies, x: Any = x, residual: Any = residual) -> Any:
                    return recorder(("products", 0), lambda: tuple(once(way, name, each, x, residual) for each in copies * 4))

                found[way] = round(16 * weight.numel() * weight.element_size() / fastest(work, model.device) / 1e9, 1)
            print(json.dumps(found | {"unit": "GB/s"}), flush=True)

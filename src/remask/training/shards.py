"""Tensors on disk as safetensors shards with an index; written beside, then moved, so that a kill loses nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from remask.errors import RemaskError
from remask.files import write_json

LIMIT = 15 * 10**6


def write_shards(folder: Path, tensors: Mapping[str, Tensor], *, limit: int = LIMIT, metadata: Mapping[str, Any] | None = None) -> None:
    """model.safetensors, or shards of at most `limit` bytes and their index. A tensor above the limit has a shard of its own."""
    groups: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        bytes_ = tensor.numel() * tensor.element_size()
        if groups[-1] and size + bytes_ > limit:
            groups.append({})
            size = 0
        groups[-1][name] = tensor.detach().cpu().contiguous()
        size += bytes_
    if len(groups) == 1:
        save_file(groups[0], folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    else:
        where: dict[str, str] = {}
        for index, group in enumerate(groups):
            file = f"model-{index + 1:05d}-of-{len(groups):05d}.safetensors"
            save_file(group, folder / file, metadata={"format": "pt"})
            where |= dict.fromkeys(group, file)
        total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})
    if metadata is not None:
        write_json(folder / "state.json", metadata)


def read_shards(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder."""
    index = folder / "model.safetensors.index.json"
    names = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    found: dict[str, Tensor] = {}
    for name in names:
        try:
            with safe_open(folder / name, framework="pt") as file:
                found |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, FileNotFoundError) as error:
            raise RemaskError(f"{folder / name} is missing or broken ({error}); start again from an older folder or from weights with --init") from None
    return found


def replace_folder(new: Path, old: Path) -> None:
    """Let `new` take the place of `old`; at every moment one of them is whole."""
    spare = old.with_name(old.name + ".old")
    shutil.rmtree(spare, ignore_errors=True)
    if old.exists():
        os.rename(old, spare)
    os.rename(new, old)
    shutil.rmtree(spare, ignore_errors=True)

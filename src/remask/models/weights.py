"""Weights from safetensors, by name, into a network made on the meta device."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from remask.errors import RemaskError
from remask.files import read_object
from remask.models.base import Network

PIECE, PIECES = 1 << 12, 256
"""Bytes of a piece of a file of weights, and how many tell it from another."""

BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "chat_template.jinja")
"""What else of a folder is read to load it, of what is there."""

NUMBERS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""The types of safetensors that a network computes in."""

HEADS = ("model.transformer.ff_out.weight", "lm_head.weight")
"""Copies of the embedding that some tied checkpoints store too."""


def shards(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, by its index if it has one."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        listed = read_object(index)
        try:
            names = sorted(set(listed["weight_map"].values()))
            outside = any(Path(name).name != name for name in names)
        except (KeyError, AttributeError, TypeError) as error:
            raise RemaskError(f"{index} is broken ({error}); download it again") from None
        if outside:
            raise RemaskError(f"{index} names a file outside its folder; download it again")
    for name in names:
        if not (folder / name).is_file():
            raise missing_file(folder, name)
    return [folder / name for name in names]


def missing_file(folder: Path, name: str) -> RemaskError:
    """What to say of weights that are not there: pickled ones are never read, since reading them runs what is in them."""
    pickled = sorted(path.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(kind))
    if pickled:
        return RemaskError(f"{folder} holds only pickled weights ({pickled[0]}), which can run code when read; convert them to safetensors")
    return RemaskError(f"{folder / name} is missing; download the checkpoint again")


def fingerprint(folder: Path) -> str:
    """Twelve digits that tell the network of a folder from another of the same name: of its configuration and tokenizer, and of the size and some pieces of every file of weights.

    A network that was trained on differs in nearly every byte, or in those of some layers' matrices: many small pieces meet these, and large files are not read whole.
    """
    found = hashlib.sha256()
    for path in (folder / name for name in BESIDE):
        if path.exists():
            found.update(f"{path.name} {path.stat().st_size}".encode() + path.read_bytes())
    for path in shards(folder):
        size = path.stat().st_size
        found.update(f"{path.name} {size}".encode())
        with open(path, "rb") as file:
            for number in range(PIECES):
                file.seek(size * number // PIECES)
                found.update(file.read(PIECE))
    return found.hexdigest()[:12]


def stored_dtype(paths: list[Path]) -> torch.dtype:
    """The type that most numbers of the checkpoint have: a network computes in one type, and files mix them (norms in float32)."""
    counts: dict[str, int] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as stored:
                for key in stored.keys():  # noqa: SIM118
                    part = stored.get_slice(key)
                    counts[part.get_dtype()] = counts.get(part.get_dtype(), 0) + math.prod(part.get_shape())
        except SafetensorError as error:
            raise RemaskError(f"{path} is truncated or broken ({error}); download it again") from None
    most = max(counts, key=lambda name: counts[name], default="F32")
    if most not in NUMBERS:
        raise RemaskError(f"{paths[0].parent} stores its weights as {most}; only {', '.join(NUMBERS)} are supported, so load a checkpoint that is not quantised")
    return NUMBERS[most]


def fill(model: Network, paths: list[Path], config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> None:
    """Move every tensor into its place, one at a time: the peak is the checkpoint and one tensor."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing, tied = dict(wanted), bool(config.get("weight_tying") or config.get("tie_word_embeddings"))
    for path in paths:
        try:
            with safe_open(path, framework="pt") as stored:
                for key in stored.keys():  # noqa: SIM118
                    name = model.rename(key, config)  # pyright: ignore[reportCallIssue]
                    if name.endswith("inv_freq") or (tied and name in HEADS):
                        continue
                    if name not in wanted:
                        raise RemaskError(f"{path} holds an unexpected tensor {key!r}; is config.json of this checkpoint?")
                    tensor = stored.get_tensor(key)
                    if tuple(tensor.shape) != wanted[name]:
                        raise RemaskError(f"{key!r} in {path} has shape {tuple(tensor.shape)}, config.json asks for {wanted[name]}; they are of different checkpoints")
                    place(model, name, tensor.to(device, dtype))
                    missing.pop(name, None)
        except SafetensorError as error:
            raise RemaskError(f"{path} is truncated or broken ({error}); download it again") from None
    if missing:
        first = next(iter(missing))
        raise RemaskError(f"{len(missing)} tensors are missing from {paths[0].parent}, the first {first!r}; download the checkpoint again")


def place(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a tensor where a meta parameter stood."""
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))

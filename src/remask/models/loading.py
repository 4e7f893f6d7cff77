"""Checkpoints from a folder in the published layout, a shipped name, or a Hub id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from remask.errors import RemaskError
from remask.models.base import Network
from remask.models.causal import Causal
from remask.models.dream import Dream
from remask.models.dsl import DSL
from remask.models.llada import LLaDA
from remask.models.mdlm import MDLM
from remask.text.tokenizer import Tokenizer

FAMILIES: dict[str, Any] = {"LLaDAModelLM": LLaDA, "DreamModel": Dream, "MDLM": MDLM, "DSL": DSL, "CausalJudge": Causal}
"""`architectures[0]` of config.json -> class: model_type is ambiguous (LLaDA-MoE also says llada)."""

HEADS = ("model.transformer.ff_out.weight", "lm_head.weight")
"""Copies of the embedding that some tied checkpoints store too."""


def load(source: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | str | None = None, revision: str | None = None) -> Network:
    """The network at `source`, in eval mode. dtype=None keeps the checkpoint's own."""
    folder = locate(source, revision)
    config = read_config(folder)
    names: list[str] = config.get("architectures") or [""]
    if names[0] not in FAMILIES:
        raise RemaskError(f"{folder / 'config.json'} is for {names[0]!r}; supported architectures: {', '.join(FAMILIES)}")
    family = FAMILIES[names[0]]
    with torch.device("meta"):
        model = family(config)
    fill(model, folder, config, torch.device(device), as_dtype(dtype))
    model.config = config
    model.tokenizer = Tokenizer.from_folder(folder)
    return model.eval().requires_grad_(False)


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A torch dtype by object or name."""
    if not isinstance(dtype, str):
        return dtype
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
    if dtype not in names:
        raise RemaskError(f"unknown dtype {dtype!r}; choose one of {', '.join(names)}")
    return names[dtype]


def shelves() -> tuple[Path, Path]:
    """Where shipped checkpoints lie: in the package, and beside `src` of a checkout."""
    here = Path(__file__).resolve().parents[1]
    return here / "checkpoints", here.parents[1] / "checkpoints"


def shipped() -> list[str]:
    """Names of the checkpoints found there."""
    return sorted({path.parent.name for shelf in shelves() for path in shelf.glob("*/config.json")})


def locate(source: str | Path, revision: str | None = None) -> Path:
    """The folder that holds the checkpoint."""
    path = Path(source)
    if path.is_dir():
        return path
    for shelf in shelves():
        if "/" not in str(source) and (shelf / str(source)).is_dir():
            return shelf / str(source)
    if str(source).count("/") == 1 and not str(source).startswith((".", "/")):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(str(source), revision=revision, allow_patterns=["*.json", "*.safetensors", "merges.txt", "*.jinja"]))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise RemaskError(f"cannot fetch {source!r} from the Hub: {str(error).splitlines()[0]}; pass a local folder") from None
    raise RemaskError(
        f"no checkpoint {str(source)!r}: it is no folder, no shipped name and no Hub id; pass the folder that holds config.json (shipped ones lie in checkpoints/ of a checkout)"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as a dictionary."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RemaskError(f"{path} is missing; pass a folder in the published layout") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RemaskError(f"{path} is not valid JSON ({error}); download it again") from None
    if not isinstance(config, dict):
        raise RemaskError(f"{path} holds {type(config).__name__}, not an object; download it again")
    return config


def shards(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, by its index if it has one."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (json.JSONDecodeError, KeyError, AttributeError, UnicodeDecodeError) as error:
            raise RemaskError(f"{index} is broken ({error}); download it again") from None
        if any(Path(name).name != name for name in names):
            raise RemaskError(f"{index} names a file outside its folder; download it again")
    else:
        names = ["model.safetensors"]
    for name in names:
        if not (folder / name).is_file():
            raise RemaskError(f"{folder / name} is missing; download the checkpoint again")
    return [folder / name for name in names]


def fill(model: Network, folder: Path, config: dict[str, Any], device: torch.device, dtype: torch.dtype | None) -> None:
    """Move every tensor into its place, one at a time: the peak is the checkpoint and one tensor."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing, tied = dict(wanted), bool(config.get("weight_tying") or config.get("tie_word_embeddings"))
    for path in shards(folder):
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
                    place(model, name, tensor.to(device, dtype or tensor.dtype))
                    missing.pop(name, None)
        except SafetensorError as error:
            raise RemaskError(f"{path} is truncated or broken ({error}); download it again") from None
    if missing:
        first = next(iter(missing))
        raise RemaskError(f"{len(missing)} tensors are missing from {folder}, the first {first!r}; download the checkpoint again")


def place(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a tensor where a meta parameter stood."""
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))

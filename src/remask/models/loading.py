"""Checkpoints from a folder in the published layout, a shipped name, or a Hub id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from remask.errors import RemaskError
from remask.files import read_object
from remask.models.base import Network
from remask.models.causal import Causal
from remask.models.dream import Dream
from remask.models.dsl import DSL
from remask.models.llada import LLaDA
from remask.models.mdlm import MDLM
from remask.models.weights import fill, shards, stored_dtype
from remask.text.tokenizer import Tokenizer

FAMILIES: dict[str, Any] = {"LLaDAModelLM": LLaDA, "DreamModel": Dream, "MDLM": MDLM, "DSL": DSL, "CausalJudge": Causal}
"""`architectures[0]` of config.json -> class: model_type is ambiguous (LLaDA-MoE also says llada)."""

MASKS = ("<|mdm_mask|>", "<|mask|>", "[MASK]", "<mask>")
"""How published tokenizers spell the mask, where neither config.json nor tokenizer_config.json names it."""


def load(source: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | str | None = None, revision: str | None = None, fused: bool = False) -> Network:
    """The network at `source`, in eval mode. dtype=None: bfloat16 on a GPU, elsewhere the checkpoint's own; float32 is exact.

    fused: on fused layers (remask.models.fused_model), for LLaDA with rotary positions and Dream; equal to its own up to rounding.
    On a CPU consider torch.set_flush_denormal(True), as the command line does for its own process: `demo` is about ten times faster with it.
    """
    wanted = as_dtype(dtype)
    folder = locate(source, revision)
    model, paths = unfilled(folder), shards(folder)
    fill(model, paths, model.config, torch.device(device), wanted or precision(torch.device(device), paths))
    model.eval().requires_grad_(False)
    return on_fused_layers(model, source) if fused else model


def unfilled(folder: Path) -> Any:
    """The network of a folder with its configuration and tokenizer, its weights on the meta device."""
    config = read_config(folder)
    family, tokenizer = family_of(config, folder / "config.json"), Tokenizer.from_folder(folder)
    if not issubclass(family, MDLM):
        config = completed(config, tokenizer)
    with torch.device("meta"), Unfilled():
        model = family(config)
    model.config, model.tokenizer = config, tokenizer
    return model


def check_fused(source: str | Path) -> None:
    """Raise what load(source, fused=True) would of a network without fused layers. It reads no weights and fetches nothing: of a checkpoint that is elsewhere it says nothing."""
    try:
        folder = locate(source, fetch=False)
    except ElsewhereError:
        return
    on_fused_layers(unfilled(folder), source)


def on_fused_layers(model: Any, source: str | Path) -> Network:
    """A network that was read from `source` on fused layers; a RemaskError if it has none."""
    from remask.models.fused_model import FusedModel

    try:
        return FusedModel(model)
    except RemaskError:
        raise RemaskError(f"{source} has no fused layers; they are for LLaDA with rotary positions and Dream: leave out fused (--fused)") from None


class ElsewhereError(RemaskError):
    """No checkpoint on this machine has that name."""


class Unfilled(TorchFunctionMode):
    """Parameters made under it get no random numbers, since weights are to come in their place: on the meta device torch imports a compiler to draw none, which takes a second."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        return options["tensor"] if getattr(function, "__module__", "") == "torch.nn.init" else function(*arguments, **options)


def precision(device: torch.device, paths: list[Path]) -> torch.dtype:
    """What a network of these weights computes in on a device if nobody asks for something else."""
    return torch.bfloat16 if device.type == "cuda" else stored_dtype(paths)


def family_of(config: dict[str, Any], source: str | Path) -> Any:
    """The class of the network that a config.json, read from `source`, describes."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else names
    if not isinstance(name, str) or name not in FAMILIES:
        raise RemaskError(f"{source} is for {name!r}; supported architectures: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def completed(config: dict[str, Any], tokenizer: Tokenizer | None) -> dict[str, Any]:
    """The configuration with the ids that the tokenizer knows and config.json leaves out.

    Not for MDLM: its mask is the last id, and its rows begin with the end-of-text.
    """
    if tokenizer is None:
        return config
    known = {"mask_token_id": (tokenizer.special("mask_token"), *MASKS), "eos_token_id": (tokenizer.special("eos_token"),)}
    found = dict(config)
    for key, spellings in known.items():
        ids = [index for spelling in spellings if spelling is not None and (index := tokenizer.id_of(spelling)) is not None]
        if config.get(key) is None and ids:
            found[key] = ids[0]
    return found


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A torch dtype by object or name."""
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
    found = names.get(dtype) if isinstance(dtype, str) else dtype
    if dtype is not None and found not in names.values():
        raise RemaskError(f"unknown dtype {str(dtype)!r}; choose one of {', '.join(names)}")
    return found


def shelves() -> tuple[Path, Path]:
    """Where shipped checkpoints lie: in the package, and beside `src` of a checkout."""
    here = Path(__file__).resolve().parents[1]
    return here / "checkpoints", here.parents[1] / "checkpoints"


def shipped() -> list[str]:
    """Names of the checkpoints found there."""
    return sorted({path.parent.name for shelf in shelves() for path in shelf.glob("*/config.json")})


def locate(source: str | Path, revision: str | None = None, *, fetch: bool = True) -> Path:
    """The folder that holds the checkpoint; ElsewhereError if there is none. fetch: a Hub id that is not in the cache is downloaded, and one that is, looked up; else one
    that is not whole there is elsewhere.
    """
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
            found = Path(snapshot_download(str(source), revision=revision, allow_patterns=["*.json", "*.safetensors", "merges.txt", "*.jinja"], local_files_only=not fetch))
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            # what is no id, or not in the cache, may be a folder of another machine
            kind = ElsewhereError if isinstance(error, HFValidationError | LocalEntryNotFoundError) else RemaskError
            raise kind(f"cannot fetch {source!r} from the Hub: {str(error).splitlines()[0]}; pass a local folder") from None
        if not fetch and not is_whole(found):
            raise ElsewhereError(f"of {source!r} the cache holds a part; load it once, or pass a local folder")
        return found
    raise ElsewhereError(
        f"no checkpoint {str(source)!r}: it is no folder, no shipped name and no Hub id; pass the folder that holds config.json (shipped ones lie in checkpoints/ of a checkout)"
    )


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint's configuration and all its files of weights are there."""
    try:
        return (folder / "config.json").is_file() and bool(shards(folder))
    except RemaskError:
        return False


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as a dictionary."""
    path = folder / "config.json"
    if not path.is_file():
        raise RemaskError(f"{path} is missing; pass a folder in the published layout")
    return read_object(path)

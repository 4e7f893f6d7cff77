"""What the GPU benchmarks share: real shapes with random weights, decoders and locks by script, and the ceilings of the card.

Random weights say nothing about which tokens are sure or when one settles, but a step's time depends on shapes alone. So the decoder writes a given number of
tokens a pass (the surest, so that scores are computed and ranked), and locks follow the active shares published for SureLock (arXiv 2602.06412, the figure
of the ratio per step), while divergence, gate, the rule's own locks and compaction are computed and timed. Every figure made with this is to say so.
"""

from __future__ import annotations

import importlib.util
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

import remask
from remask.canvas import Canvas, Edit
from remask.decoders.base import Decoder, View
from remask.decoders.select import top
from remask.evaluation.harness import commit
from remask.models.dream import Dream
from remask.models.llada import LLaDA
from remask.models.loading import Unfilled
from remask.reuse.base import Pass, Scene
from remask.reuse.surelock import Locks, SureLock

LLADA_8B: dict[str, Any] = {
    "architectures": ["LLaDAModelLM"], "d_model": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 32, "mlp_hidden_size": 12288, "vocab_size": 126464,
    "max_sequence_length": 4096, "rope": True, "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "mask_token_id": 126336, "eos_token_id": 126081,
}  # fmt: skip
DREAM_7B: dict[str, Any] = {
    "architectures": ["DreamModel"], "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "vocab_size": 152064, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "mask_token_id": 151666, "eos_token_id": 151643, "max_position_embeddings": 131072,
}  # fmt: skip
DEMO: dict[str, Any] = {**LLADA_8B, "d_model": 512, "n_layers": 8, "n_heads": 8, "n_kv_heads": 8, "mlp_hidden_size": 1152, "vocab_size": 4096, "weight_tying": True,
                        "mask_token_id": 4095, "eos_token_id": 4094}  # fmt: skip
TINY_LLADA = {**LLADA_8B, "d_model": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "mlp_hidden_size": 48, "vocab_size": 97, "mask_token_id": 96, "eos_token_id": 95}
TINY_DREAM = {**DREAM_7B, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 97,
              "mask_token_id": 96, "eos_token_id": 95, "max_position_embeddings": 4096}  # fmt: skip
SHAPES = {"llada-8b": LLADA_8B, "dream-7b": DREAM_7B, "demo": DEMO, "tiny-llada": TINY_LLADA, "tiny-dream": TINY_DREAM}
SHARES = {
    True: ((0.0, 1.0), (2 / 1024, 1.0), (64 / 1024, 0.88), (256 / 1024, 0.71), (0.5, 0.50), (1.0, 0.05)),
    False: ((0.0, 1.0), (2 / 64, 1.0), (4 / 64, 0.825), (8 / 64, 0.70), (16 / 64, 0.60), (0.5, 0.49), (1.0, 0.315)),
}
"""Progress -> share of positions that SureLock still computes; long (1,024 new tokens) and short (64)."""


@dataclass(frozen=True)
class PerStep(Decoder):
    """Write the `count` surest eligible positions of each row; 0 leaves everything as it is, for ever."""

    count: int = 1
    everywhere: ClassVar[bool] = False
    mask_candidates: bool = False

    def init(self, canvas: Canvas) -> None:
        return None

    def step(self, view: View, state: None) -> tuple[Edit, None]:
        return Edit(top(view.prediction.raw.confidence, view.eligible, self.count), view.prediction.candidates), None


@dataclass(frozen=True, eq=False)
class Script:
    """locked, written: (B, L) bool, written as the last pass left it.  counts: (B, L) int64, locks by the number of masked positions.  rule: SureLock's own memory."""

    locked: Tensor
    written: Tensor
    counts: Tensor
    rule: Locks


@dataclass(frozen=True)
class ScriptedLocks(SureLock):
    """SureLock with all its work, kept, but the number of locks follows SHARES at the row's progress, the leftmost written twice over first; for rows with a prompt.

    The script itself is about 17 launches a step, found in a table: its work is none of SureLock's.
    """

    long: bool = True

    def init(self, canvas: Canvas) -> Script:  # pyright: ignore[reportIncompatibleMethodOverride]
        own, length = (~canvas.given).sum(1, keepdim=True), canvas.real.sum(1, keepdim=True)
        written = (own - torch.arange(canvas.shape[1], device=own.device)).clamp(min=0)
        counts = length - (share_at(written / own.clamp(min=1), SHARES[self.long]) * length).ceil().long()
        return Script(torch.zeros_like(canvas.given), torch.zeros_like(canvas.given), counts, super().init(canvas))

    def observe(self, scene: Scene, made: Pass, state: Script) -> Script:  # pyright: ignore[reportIncompatibleMethodOverride]
        masked = made.canvas.masked
        written = made.canvas.real & ~(masked | made.edit.touched)
        ready = written & state.written & ~state.locked
        more = state.counts.gather(1, masked.sum(1, keepdim=True)) - state.locked.sum(1, keepdim=True)
        return Script(state.locked | (ready & (ready.cumsum(1) <= more)), written, state.counts, super().observe(scene, made, state.rule))


def share_at(progress: Tensor, table: tuple[tuple[float, float], ...]) -> Tensor:
    """Linear between the points of a table."""
    share = torch.full_like(progress, table[0][1])
    for (left, high), (right, low) in pairwise(table):
        share = torch.where(progress >= left, high + (low - high) * ((progress - left) / (right - left)).clamp(max=1), share)
    return share


def network(name: str, device: str, dtype: torch.dtype) -> Any:
    """A network of SHAPES with random weights, made on the device; nothing of its size is ever on the host."""
    config = SHAPES[name]
    with torch.device("meta"), Unfilled():
        model = Dream(config) if config["architectures"] == ["DreamModel"] else LLaDA(config)
    model = model.to(dtype).to_empty(device=device)
    torch.manual_seed(0)
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.normal_(std=0.02) if parameter.dim() > 1 else parameter.fill_(1.0)
    model.config = config
    return model.eval().requires_grad_(False)


def canvas_of(model: Any, rows: int, prompt: int, new: int, seed: int = 0) -> Canvas:
    """Rows of equal length: random prompts, then masks."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, min(model.mask_id, *model.eos_ids), (rows, prompt), generator=generator)
    return Canvas.from_prompts(tokens, max_new_tokens=new, mask_id=model.mask_id, device=model.device)


def waiting(device: torch.device) -> None:
    """Until everything is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def marks(model: Any, canvas: Canvas, most: int | None = None, **parts: Any) -> tuple[list[float], Any]:
    """The host's clock, in seconds, before the run and at each step, and the last step. A step is handed out when its flags have reached the host."""
    steps: Iterator[Any] = remask.denoise(model, canvas, **parts)
    waiting(canvas.tokens.device)
    times, last = [time.perf_counter()], None
    for last in steps:
        times.append(time.perf_counter())
        if most is not None and len(times) > most:
            break
    waiting(canvas.tokens.device)
    return times, last


def ceilings(device: torch.device, dtype: torch.dtype, *, size: int = 8192, gigabytes: float = 4.0) -> tuple[float, float]:
    """Bytes a second of a copy, read and written counted, and operations a second of a large matrix product on random numbers."""
    count = int(gigabytes * 1e9 / 4)
    places = [torch.randn(count, device=device) for _ in range(2)]
    bandwidth = 8 * count / fastest(lambda: places[0].copy_(places[1]), device)
    places.clear()
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return bandwidth, 2 * size**3 / fastest(lambda: a @ b, device)


def fastest(work: Any, device: torch.device, rounds: int = 10) -> float:
    """Median seconds of a call, after three to warm up."""
    found: list[float] = []
    for turn in range(rounds + 3):
        waiting(device)
        started = time.perf_counter()
        work()
        waiting(device)
        if turn >= 3:
            found.append(time.perf_counter() - started)
    return sorted(found)[len(found) // 2]


@dataclass(frozen=True)
class Roofline:
    """The least seconds of a pass: `weights` numbers used a position (head included, embedding table not), `layers`, `width` of keys, `vocabulary`."""

    weights: int
    layers: int
    width: int
    key_width: int
    vocabulary: int
    bandwidth: float
    peak: float

    @staticmethod
    def of(model: Any, bandwidth: float, peak: float) -> Roofline:
        """From the network and the ceilings."""
        config = model.config
        llada = "d_model" in config
        width, heads = (config["d_model"], config["n_heads"]) if llada else (config["hidden_size"], config["num_attention_heads"])
        key_heads = config["n_kv_heads"] if llada else config["num_key_value_heads"]
        weights = sum(parameter.numel() for parameter in model.parameters()) - config["vocab_size"] * width
        return Roofline(weights, config["n_layers"] if llada else config["num_hidden_layers"], width, width // heads * key_heads, config["vocab_size"], bandwidth, peak)

    def seconds(self, rows: int, chosen: int, length: int) -> float:
        """Of `chosen` positions in each of `rows` rows over `length` keys: bytes or operations, whichever takes longer."""
        stored = 4 * self.layers * rows * length * self.key_width if chosen < length else 0
        moved = 2 * self.weights + stored + 2 * rows * chosen * self.vocabulary
        done = 2 * self.weights * rows * chosen + 4 * self.layers * rows * chosen * length * self.width
        return max(moved / self.bandwidth, done / self.peak)


def environment(device: torch.device, dtype: torch.dtype) -> str:
    """Card, versions and commit, in one line."""
    card = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()}, {torch.get_num_threads()} threads"
    triton = "none"
    if importlib.util.find_spec("triton") is not None:
        from importlib.metadata import version

        triton = version("triton")
    return f"{card}, {dtype}, torch {torch.__version__}, triton {triton}, python {platform.python_version()}, remask {remask.__version__} at {commit()}"

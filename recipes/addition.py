"""`addition`: 20-digit sums with long carries, one layer, 0.2M parameters.

One layer can't carry across the whole sum in one pass, two layers can (docs/findings.md): the order of writing decides, which is what
the task is for. The pool is drawn by the task itself, so that no held-out sum is in it.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import remask
from remask.evaluation.intervals import wilson
from remask.evaluation.tasks.addition import STRATA, Addition
from remask.evaluation.tasks.base import Item
from remask.models.llada import LLaDA
from remask.training.corruption import antithetic_times, mask_randomly
from remask.training.data import Batch
from remask.training.run import Recipe
from remask.training.vocabulary import characters, write_tokenizer

ALPHABET = "0123456789+="
EOS, MASK = 12, 13
PROMPT, LENGTH = 42, 63
BATCH = 1024
POOL, JOBS = 1_200_000, 120
CONFIG: dict[str, Any] = {
    "architectures": ["LLaDAModelLM"], "model_type": "llada",
    "d_model": 128, "n_layers": 1, "n_heads": 4, "n_kv_heads": 4, "mlp_hidden_size": 320,
    "vocab_size": 14, "embedding_size": 16, "max_sequence_length": LENGTH, "rope": False, "rms_norm_eps": 1e-5,
    "weight_tying": False, "include_bias": False, "mask_token_id": MASK, "eos_token_id": EOS, "pad_token_id": EOS,
}  # fmt: skip


def prepare(folder: Path, processes: int = 2) -> None:
    """The pool of training sums, all strata alike."""
    with ProcessPoolExecutor(processes) as pool:
        rows = np.concatenate(list(pool.map(make, range(JOBS))))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "addition.npy", rows)


def make(seed: int) -> np.ndarray[Any, Any]:
    """(n, 63) uint8 token ids of prompts and answers."""
    items = Addition().sample(POOL // JOBS, seed=seed, split="train")
    return np.array([encode(item.prompt + item.answer) for item in items], dtype=np.uint8)


def encode(text: str) -> list[int]:
    """Token ids: the character's place in the alphabet."""
    return [ALPHABET.index(character) for character in text]


class Sums:
    """Batches of pool rows, operands swapped at random."""

    def __init__(self, folder: Path, device: torch.device, stream: int, size: int) -> None:
        self.rows = torch.from_numpy(np.load(folder / "addition.npy")).to(device)
        self.stream, self.size, self.device = stream, size, device
        place = torch.arange(LENGTH, device=device)
        self.swapped = torch.cat([place[21:41], place[20:21], place[:20], place[41:]])
        self.eligible = (place >= PROMPT).expand(BATCH, -1)

    def batch(self, step: int) -> Batch:
        generator = torch.Generator(self.device).manual_seed(step * self.size + self.stream + 10**9)
        rows = self.rows[torch.randint(len(self.rows), (BATCH,), device=self.device, generator=generator)].long()
        swap = torch.rand(BATCH, 1, device=self.device, generator=generator) < 0.5
        return Batch(torch.where(swap, rows[:, self.swapped], rows), self.eligible)


def corrupt(batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The answer only, uniform masks (LLaDA's fine-tuning)."""
    times = antithetic_times(len(batch.tokens), generator)
    return mask_randomly(batch.eligible, times, generator), times


def evaluate(model: LLaDA, valid: dict[str, list[Item]]) -> dict[str, Any]:
    """Exact shares on held-out sums, margin order, one token per forward."""
    found: dict[str, Any] = {}
    for stratum, items in valid.items():
        decoded = remask.decode(model, [encode(item.prompt) for item in items], max_new_tokens=LENGTH - PROMPT, decoder=remask.TopKMargin())
        right = sum(item.check("".join(ALPHABET[token] for token in row[PROMPT:] if token < EOS)) for item, row in zip(items, decoded.tokens, strict=True))
        found[stratum] = {"exact": right / len(items), "interval": wilson(right, len(items))}
    return found


def recipe(folder: Path) -> Recipe:
    """About half a minute on one H100."""
    valid = {stratum: Addition().sample(500, seed=1, split="valid", stratum=stratum) for stratum in STRATA}
    return Recipe(
        name="addition",
        config=CONFIG,
        source=lambda device, stream, size: Sums(folder, device, stream, size),
        corrupt=corrupt,
        write_tokenizer=lambda where: write_tokenizer(characters(ALPHABET), where),
        steps=2_500,
        evaluate=lambda model: evaluate(model, valid),
    )

"""`sudoku`: 9x9 grids, 5.6M parameters. A pool of training puzzles, then symmetric variants of them without end.

Positions are learned vectors, not rotations: the rules depend on where a cell is, not on how far apart two cells are.
"""

from __future__ import annotations

import json
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import remask
from remask.evaluation.intervals import wilson
from remask.evaluation.tasks.sudoku import Sudoku, solves
from remask.models.llada import LLaDA
from remask.training.corruption import antithetic_times, mask_randomly
from remask.training.data import Batch
from remask.training.run import Recipe
from remask.training.vocabulary import characters, write_tokenizer

EOS, MASK = 10, 11
BATCH = 512
SINGLES, HARDER = 60_000, 6_000
CONFIG: dict[str, Any] = {
    "architectures": ["LLaDAModelLM"], "model_type": "llada",
    "d_model": 256, "n_layers": 7, "n_heads": 8, "n_kv_heads": 8, "mlp_hidden_size": 704,
    "vocab_size": 12, "embedding_size": 16, "max_sequence_length": 162, "rope": False, "rms_norm_eps": 1e-5,
    "weight_tying": False, "include_bias": False, "mask_token_id": MASK, "eos_token_id": EOS, "pad_token_id": EOS,
}  # fmt: skip


def prepare(folder: Path, processes: int = 2) -> None:
    """The pool: training grids only, `harder` ones oversampled since they are dear to make."""
    jobs = [("singles", SINGLES // 60, seed) for seed in range(60)] + [("harder", HARDER // 60, seed) for seed in range(60)]
    random.Random(0).shuffle(jobs)
    with ProcessPoolExecutor(processes) as pool:
        pairs = np.concatenate(list(pool.map(make, jobs)))
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "sudoku.npz", puzzles=pairs[:, 0], solutions=pairs[:, 1])
    write_valid(folder / "sudoku_valid.json")


def make(job: tuple[str, int, int]) -> np.ndarray[Any, Any]:
    """(n, 2, 81) uint8 puzzles and solutions of one stratum."""
    stratum, n, seed = job
    torch.set_num_threads(1)
    rng = random.Random(f"sudoku pool {stratum} {seed}")
    pairs: list[Any] = []
    while len(pairs) < n:
        pairs += Sudoku().puzzles(min(250, n - len(pairs)), rng, "train", stratum)
    return np.array(pairs, dtype=np.uint8)


class Grids:
    """Batches of pool puzzles under random symmetries, made on the device."""

    def __init__(self, folder: Path, device: torch.device, stream: int, size: int) -> None:
        with np.load(folder / "sudoku.npz") as pool:
            self.pairs = torch.tensor(np.stack([pool["puzzles"], pool["solutions"]], 1), dtype=torch.int64, device=device)
        self.stream, self.size, self.device = stream, size, device

    def batch(self, step: int) -> Batch:
        generator = torch.Generator(self.device).manual_seed(step * self.size + self.stream + 10**9)
        chosen = torch.randint(len(self.pairs), (BATCH,), device=self.device, generator=generator)
        tokens = symmetric(self.pairs[chosen], generator).flatten(1)
        eligible = (torch.arange(162, device=self.device) >= 81).expand(BATCH, -1)
        return Batch(tokens, eligible)


def symmetric(pairs: Tensor, generator: torch.Generator) -> Tensor:
    """(B, K, 81) -> the same after relabelling, moving bands, stacks and lines, and transposing, each row in its own way."""
    count, device = len(pairs), pairs.device

    def shuffled(*shape: int) -> Tensor:
        return torch.rand(count, *shape, device=device, generator=generator).argsort(-1)

    def lines() -> Tensor:
        return (3 * shuffled(3)[:, :, None] + shuffled(3, 3)).flatten(1)

    rows, columns = lines(), lines()
    flip = torch.rand(count, 1, 1, device=device, generator=generator) < 0.5
    source = torch.where(flip, 9 * columns[:, None, :] + rows[:, :, None], 9 * rows[:, :, None] + columns[:, None, :]).flatten(1)
    labels = torch.cat([torch.zeros(count, 1, dtype=torch.int64, device=device), shuffled(9) + 1], dim=1)
    moved = pairs.gather(2, source[:, None, :].expand_as(pairs))
    return labels.gather(1, moved.flatten(1)).view_as(pairs)


def corrupt(batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The answer only, uniform masks (LLaDA's fine-tuning)."""
    times = antithetic_times(len(batch.tokens), generator)
    return mask_randomly(batch.eligible, times, generator), times


def write_valid(path: Path) -> None:
    """Held-out puzzles by stratum."""
    counts = {"singles": 1000, "harder": 250, "sparse": 250}
    prompts = {stratum: [item.prompt for item in Sudoku().sample(n, seed=1, split="valid", stratum=stratum)] for stratum, n in counts.items()}
    path.write_text(json.dumps(prompts), encoding="utf-8")


def evaluate(model: LLaDA, valid: dict[str, list[str]]) -> dict[str, Any]:
    """Solved shares on held-out base grids, margin order, one token per forward."""
    found: dict[str, Any] = {}
    for stratum, prompts in valid.items():
        decoded = remask.decode(model, [[int(digit) for digit in prompt] for prompt in prompts], max_new_tokens=81, decoder=remask.TopKMargin())
        right = sum(solves(prompt, 3, "".join(map(str, row[81:].tolist()))) for prompt, row in zip(prompts, decoded.tokens, strict=True))
        found[stratum] = {"solved": right / len(prompts), "interval": wilson(right, len(prompts))}
    return found


def recipe(folder: Path) -> Recipe:
    """About 8 minutes on one H100."""
    valid = json.loads((folder / "sudoku_valid.json").read_text(encoding="utf-8"))
    return Recipe(
        name="sudoku",
        config=CONFIG,
        source=lambda device, stream, size: Grids(folder, device, stream, size),
        corrupt=corrupt,
        write_tokenizer=lambda where: write_tokenizer(characters("0123456789"), where),
        steps=30_000,
        evaluate=lambda model: evaluate(model, valid),
    )

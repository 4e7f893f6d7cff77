"""`fiction`: MDLM on public-domain English fiction, 11.4M parameters; what `fiction_dsl` starts from and is compared with.

`prepare` keeps tier a of the prose as compressed token ids, small enough to carry to another machine: train `--prepare` here, copy the folder, train there.
Rows are windows of 256 tokens anywhere in the stream of passages, each passage ended by an end-of-text.
"""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

import remask
from remask.errors import RemaskError
from remask.evaluation.tasks.fiction import FILES, passages
from remask.evaluation.tasks.files import data_file
from remask.models.mdlm import MDLM
from remask.training.corruption import antithetic_times, mask_randomly
from remask.training.data import Batch
from remask.training.objectives import Unmasking, cross_entropy, reduce
from remask.training.run import Recipe
from remask.training.vocabulary import train_bpe, write_tokenizer

VOCABULARY = 4096
EOS, MASK = VOCABULARY - 2, VOCABULARY - 1
LENGTH, ROWS = 256, 256
CONFIG: dict[str, Any] = {
    "architectures": ["MDLM"], "model_type": "mdlm", "hidden_dim": 320, "cond_dim": 8, "n_blocks": 7, "n_heads": 5,
    "vocab_size": VOCABULARY, "model_length": LENGTH, "time_conditioning": False, "eos_token_id": EOS, "mask_token_id": MASK,
}  # fmt: skip


def prepare(folder: Path, processes: int = 2) -> None:
    """Tokenizer and token ids, train and valid; about two minutes, 26 MB."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tokenizer.json").exists():
        write_tokenizer(train_bpe(passages(data_file(FILES["train"]))[::8], VOCABULARY), folder)
    tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for split in ("valid", "train"):
        if (folder / f"fiction_{split}.xz").exists():
            continue
        texts, rows = passages(data_file(FILES[split])), []
        for start in range(0, len(texts), 4000):
            rows += [[*encoding.ids, EOS] for encoding in tokenizer.encode_batch(texts[start : start + 4000], add_special_tokens=False)]
        stream = np.concatenate([np.array(row, dtype=np.uint16) for row in rows])
        part = folder / f"fiction_{split}.part"
        part.write_bytes(lzma.compress(stream.tobytes(), preset=2))
        part.replace(folder / f"fiction_{split}.xz")


def stream(folder: Path, split: str) -> Tensor:
    """(N,) int16 token ids of a split."""
    try:
        ids = np.frombuffer(lzma.decompress((folder / f"fiction_{split}.xz").read_bytes()), dtype=np.uint16)
    except (FileNotFoundError, lzma.LZMAError) as error:
        raise RemaskError(f"training data {str(folder / f'fiction_{split}.xz')!r} is missing or broken ({error}); run with --prepare first") from None
    return torch.from_numpy(ids.astype(np.int16))


class Windows:
    """Windows at random places of the stream, which lies on the device."""

    def __init__(self, ids: Tensor, device: torch.device, rank: int, size: int, rows: int = ROWS) -> None:
        self.ids, self.device, self.rank, self.size, self.rows = ids.to(device), device, rank, size, rows
        self.inside = torch.arange(LENGTH, device=device)
        self.eligible = torch.ones(rows, LENGTH, dtype=torch.bool, device=device)
        self.weights = torch.ones(rows, LENGTH, device=device)

    def batch(self, step: int) -> Batch:
        generator = torch.Generator(self.device).manual_seed(step * self.size + self.rank + 10**9)
        begin = torch.randint(len(self.ids) - LENGTH, (self.rows, 1), device=self.device, generator=generator)
        return Batch(self.ids[begin + self.inside].long(), self.eligible, self.weights)


def corrupt(batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Uniform masks (MDLM)."""
    times = antithetic_times(len(batch.tokens), generator)
    return mask_randomly(batch.eligible, times, generator), times


@torch.inference_mode()
def evaluate(model: MDLM, folder: Path, rows: int = 512) -> dict[str, Any]:
    """The masked bound in nats a token on validation windows (the same windows and masks for every network), and two samples."""
    tokens = stream(folder, "valid")[: rows * LENGTH].view(-1, LENGTH).long()
    generator = torch.Generator().manual_seed(1)
    total, chunk = 0.0, 64
    for part in tokens.split(chunk):
        batch = Batch(part, torch.ones_like(part, dtype=torch.bool))
        masked, times = corrupt(batch, generator)
        logits = model.logits(part.masked_fill(masked, model.mask_id)).cpu()
        total += float(reduce(cross_entropy(logits, part, model.mask_id), masked, batch.eligible, times, "elbo")) * len(part)
    found = remask.decode(model, [[], []], max_new_tokens=LENGTH, decoder=remask.Ancestral(128), seed=1)
    tokenizer: Any = model.tokenizer
    return {"masked_bound": round(total / len(tokens), 4), "samples": [tokenizer.decode(row.tolist()) for row in found.tokens]}


def recipe(folder: Path, steps: int = 12_000) -> Recipe:
    """About 8 minutes on one H100 (estimated from the demo checkpoint's throughput, not measured)."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def judged(model: MDLM) -> dict[str, Any]:
        model.tokenizer = tokenizer
        return evaluate(model, folder)

    return Recipe(
        name="fiction",
        config=CONFIG,
        source=lambda device, rank, size: Windows(stream(folder, "train"), device, rank, size),
        corrupt=corrupt,
        objective=Unmasking("flat"),
        write_tokenizer=lambda where: write_tokenizer(tokenizer, where),
        steps=steps,
        matrix_rate=0.01,
        other_rate=1e-3,
        weight_decay=0.2,
        save_every=2000,
        evaluate=judged,
    )

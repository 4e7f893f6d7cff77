"""`fiction`: MDLM on public-domain English fiction, 11.4M parameters; what `fiction_dsl` starts from and is compared with.

`prepare` keeps tier a of the prose as compressed token ids, small enough (26 MB) to carry to another machine:
`remask train fiction --prepare-only` here, copy the folder, train there.
Rows are windows of 256 tokens anywhere in the stream of passages, each passage ended by an end-of-text. Another part of the tier goes to the judge
(`fiction_judge`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

import remask
from remask.evaluation.tasks.fiction import FILES, passages
from remask.evaluation.tasks.files import data_file
from remask.models.mdlm import MDLM
from remask.training.corruption import antithetic_times, mask_randomly
from remask.training.data import Batch, read_stream, write_stream
from remask.training.objectives import Unmasking, cross_entropy, reduce
from remask.training.run import Recipe
from remask.training.vocabulary import train_bpe, write_tokenizer

VOCABULARY = 4096
EOS, MASK = VOCABULARY - 2, VOCABULARY - 1
LENGTH, ROWS = 256, 256
MATRIX_RATE, OTHER_RATE = 0.01, 1e-3
"""From random weights."""
CONFIG: dict[str, Any] = {
    "architectures": ["MDLM"], "model_type": "mdlm", "hidden_dim": 320, "cond_dim": 8, "n_blocks": 7, "n_heads": 5,
    "vocab_size": VOCABULARY, "model_length": LENGTH, "time_conditioning": False, "eos_token_id": EOS, "mask_token_id": MASK,
}  # fmt: skip
OWN, GAP, JUDGE = 18_000, 1_300, 11_000
"""Passages in a turn: this recipe's, none's, the judge's, none's. The longest book of the training files has 1,291 (pdfiction_manifest.tsv)."""


def shares(texts: list[str]) -> tuple[list[str], list[str]]:
    """This recipe's passages and the judge's, in turns; no book has passages in both.

    A file holds its books one after the other but does not name them. A gap longer than any book keeps every book on one side. It cannot do so for
    authors, who come again all over the file.
    """
    turn = OWN + GAP + JUDGE + GAP
    own = [text for place, text in enumerate(texts) if place % turn < OWN]
    judges = [text for place, text in enumerate(texts) if OWN + GAP <= place % turn < OWN + GAP + JUDGE]
    return own, judges


def prepare(folder: Path, processes: int = 2) -> None:
    """Tokenizer and token ids: train, the judge's train, valid and test. What is there is kept; CPU only."""
    folder.mkdir(parents=True, exist_ok=True)
    own, judges = shares(passages(data_file(FILES["train"])))
    if not (folder / "tokenizer.json").exists():
        write_tokenizer(train_bpe(own[::5], VOCABULARY), folder)
    tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = {"fiction_train": own, "judge_train": judges, "fiction_valid": passages(data_file(FILES["valid"])), "fiction_test": passages(data_file(FILES["test"]))}
    for name, found in texts.items():
        if not (folder / f"{name}.xz").exists():
            write_stream(folder / f"{name}.xz", encode(tokenizer, found))


def encode(tokenizer: Any, texts: list[str], chunk: int = 4000) -> np.ndarray[Any, Any]:
    """(N,) ids of the passages in one row, an end-of-text behind each."""
    rows = [[*encoding.ids, EOS] for start in range(0, len(texts), chunk) for encoding in tokenizer.encode_batch(texts[start : start + chunk], add_special_tokens=False)]
    return np.concatenate([np.array(row, dtype=np.uint16) for row in rows])


class Windows:
    """Windows at random places of the stream, which lies on the device."""

    def __init__(self, ids: Tensor, device: torch.device, stream: int, size: int, rows: int = ROWS) -> None:
        self.ids, self.device, self.stream, self.size, self.rows = ids.to(device), device, stream, size, rows
        self.inside = torch.arange(LENGTH, device=device)
        self.eligible = torch.ones(rows, LENGTH, dtype=torch.bool, device=device)
        self.weights = torch.ones(rows, LENGTH, device=device)

    def batch(self, step: int) -> Batch:
        generator = torch.Generator(self.device).manual_seed(step * self.size + self.stream + 10**9)
        begin = torch.randint(len(self.ids) - LENGTH, (self.rows, 1), device=self.device, generator=generator)
        return Batch(self.ids[begin + self.inside].long(), self.eligible, self.weights)


def corrupt(batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Uniform masks (MDLM)."""
    times = antithetic_times(len(batch.tokens), generator)
    return mask_randomly(batch.eligible, times, generator), times


def real_rows(folder: Path, rows: int) -> Tensor:
    """(rows, LENGTH) int64: the first windows of the validation text."""
    return read_stream(folder / "fiction_valid.xz")[: rows * LENGTH].view(-1, LENGTH).long()


@torch.inference_mode()
def evaluate(model: MDLM, folder: Path, rows: int = 512, steps: int = 128) -> dict[str, Any]:
    """The masked bound in nats a token on validation windows (the same windows and masks for every network), and two samples."""
    tokens = real_rows(folder, rows)
    generator = torch.Generator().manual_seed(1)
    total = 0.0
    for part in tokens.split(64):
        batch = Batch(part, torch.ones_like(part, dtype=torch.bool))
        masked, times = corrupt(batch, generator)
        logits = model.logits(part.masked_fill(masked, model.mask_id)).cpu()
        total += float(reduce(cross_entropy(logits, part, model.mask_id), masked, batch.eligible, times, "elbo")) * len(part)
    found = remask.decode(model, [[], []], max_new_tokens=LENGTH, decoder=remask.Ancestral(steps), seed=1)
    tokenizer: Any = model.tokenizer
    return {"masked_bound": round(total / len(tokens), 4), "samples": [tokenizer.decode(row.tolist()) for row in found.tokens]}


def recipe(folder: Path, steps: int = 10_000) -> Recipe:
    """467 s on one H200 at 1.48M tokens/s, 25 s of it compiling; the gradient of its embedding has been made faster since (docs/findings/dsl.md)."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def judged(model: MDLM) -> dict[str, Any]:
        model.tokenizer = tokenizer
        return evaluate(model, folder)

    return Recipe(
        name="fiction",
        config=CONFIG,
        source=lambda device, stream, size: Windows(read_stream(folder / "fiction_train.xz"), device, stream, size),
        corrupt=corrupt,
        objective=Unmasking("flat"),
        write_tokenizer=lambda where: write_tokenizer(tokenizer, where),
        steps=steps,
        matrix_rate=MATRIX_RATE,
        other_rate=OTHER_RATE,
        weight_decay=0.2,
        save_every=2000,
        evaluate=judged,
    )

"""`fiction_judge`: a causal Llama of 11.3M parameters that judges what `fiction` and its kin write; its books are none of theirs.

It shares their tokenizer and folder of data. It stays outside the repository: make it, then `remask eval text --judge runs/fiction_judge/checkpoint ...`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from remask.cli.train import load_recipe
from remask.evaluation.text.judge import negative_log_likelihood, sample
from remask.models.causal import Causal
from remask.training.data import read_stream
from remask.training.objectives import Predicting
from remask.training.run import Recipe

fiction: Any = load_recipe(Path(__file__).with_name("fiction.py"))
prepare = fiction.prepare
CONFIG: dict[str, Any] = {
    "architectures": ["CausalJudge"], "model_type": "causal_judge", "hidden_size": 320, "num_layers": 7, "num_heads": 5, "intermediate_size": 864,
    "vocab_size": fiction.VOCABULARY, "max_length": fiction.LENGTH, "eos_token_id": fiction.EOS, "mask_token_id": fiction.MASK,
}  # fmt: skip


def evaluate(model: Causal, folder: Path, rows: int = 512) -> dict[str, Any]:
    """Nats a token on validation windows, and two samples."""
    nats = negative_log_likelihood(model, fiction.real_rows(folder, rows))
    made = sample(model, 2, fiction.LENGTH, seed=1)
    tokenizer: Any = model.tokenizer
    return {"nats": round(float(nats.mean()), 4), "samples": [tokenizer.decode(row.tolist()) for row in made]}


def recipe(folder: Path, steps: int = 3_000) -> Recipe:
    """87 s on one H200 at 3.04M tokens/s. Its share is read some 20 times and learned by heart in part: 2.46 nats a token in training, 3.68 on validation text."""
    plan = fiction.recipe(folder, steps)

    def judged(model: Causal) -> dict[str, Any]:
        model.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return evaluate(model, folder)

    return replace(
        plan,
        name="fiction_judge",
        config=CONFIG,
        source=lambda device, stream, size: fiction.Windows(read_stream(folder / "judge_train.xz"), device, stream, size),
        corrupt=lambda batch, generator: (),
        objective=Predicting(),
        evaluate=judged,
    )

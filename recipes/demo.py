"""`demo`: word problems and some grade-school equation chains; 24.7M parameters.

Problems grow from few operations to many; distractors and equation chains come last; sums alone are drilled throughout. Half of the rows are
masked from a random cut to the end, so that the next statement must be looked up; the others at random, or in their numbers alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

import remask
from remask.evaluation import tasks
from remask.evaluation.intervals import wilson
from remask.evaluation.tasks import fiction, gsm_aug
from remask.evaluation.tasks.files import data_file
from remask.evaluation.tasks.wordmath_phrases import NAMES
from remask.models.llada import LLaDA
from remask.training.corruption import antithetic_times, mask_randomly, mask_suffix
from remask.training.data import Batch, Rows, encode_pairs, pad_rows, write_rows
from remask.training.run import Corruption, Recipe
from remask.training.vocabulary import train_bpe, write_tokenizer

VOCABULARY = 4096
SPACE = "\u0120"
"""How a byte-level tokenizer writes a space."""
EOS, MASK = VOCABULARY - 2, VOCABULARY - 1
CONFIG: dict[str, Any] = {
    "architectures": ["LLaDAModelLM"], "model_type": "llada",
    "d_model": 512, "n_layers": 8, "n_heads": 8, "n_kv_heads": 8, "mlp_hidden_size": 1152,
    "vocab_size": VOCABULARY, "embedding_size": VOCABULARY, "max_sequence_length": 512, "rope": True, "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5, "weight_tying": True, "include_bias": False,
    "mask_token_id": MASK, "eos_token_id": EOS, "pad_token_id": EOS,
}  # fmt: skip
TOKENS = 32_768
"""A batch, whatever the length of its rows."""
LENGTHS = (128, 208, 288, 416)
ROOM = (107, 153, 198, 241, 286, 328, 370, 405)
"""Tokens that nearly every problem of 1, 2, ... operations fits into."""
LARGEST = 8
PER_OPERATIONS = 160_000
SHARDS = 12
CHAINS_FROM = 0.3
DRILLS = 0.12
"""The share of batches that are sums alone: a row of a problem teaches little arithmetic, since later statements repeat a result."""


def prepare(folder: Path, processes: int = 2) -> None:
    """Tokenizer, then word problems by number of operations, equation chains and fiction as token ids."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tokenizer.json").exists():
        write_tokenizer(train_bpe(corpus(), VOCABULARY), folder)
    jobs = [("wordmath", operations, shard) for operations in range(1, LARGEST + 1) for shard in sorted(range(SHARDS), key=lambda s: s % 3)]
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(make, [str(folder)] * (len(jobs) + 1), [*jobs[: 2 * SHARDS], ("gsm_aug", 0, 0), *jobs[2 * SHARDS :]]))


def corpus() -> list[str]:
    """What the tokenizer learns its merges from; names and nouns become single tokens."""
    words = tasks.get("wordmath").sample(20_000, split="train", operations=(1, 8))
    texts = [f"{item.prompt} {item.answer}" for item in words]
    texts += [f"{prompt} {answer}" for prompt, answer in islice(gsm_aug.training_pairs(), 0, None, 5)]
    return texts + fiction.passages(data_file(fiction.FILES["train"]))[::8]


def make(folder: str, job: tuple[str, int, int]) -> None:
    """One file of rows."""
    kind, operations, shard = job
    tokenizer: Any = Tokenizer.from_file(f"{folder}/tokenizer.json")

    def encode(texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]

    if kind == "gsm_aug":
        write_rows(Path(folder) / kind, encode_pairs(encode, gsm_aug.training_pairs(), EOS))
    else:
        n = PER_OPERATIONS // SHARDS
        items = tasks.get("wordmath").sample(n, seed=shard, split="train", operations=(operations, operations), distractors=(0, shard % 3))
        write_rows(Path(folder) / f"wordmath_{operations}_{shard}", encode_pairs(encode, ((item.prompt, item.answer) for item in items), EOS))


def stage(step: int, steps: int) -> tuple[int, int, int]:
    """(least operations, most operations, most distractors) at this step."""
    share = step / steps
    for until, plan in ((0.05, (1, 3, 0)), (0.15, (1, 4, 1)), (0.3, (1, 6, 2))):
        if share < until:
            return plan
    return (1, 8, 2)


class Mixture:
    """Word problems and, late, a tenth of equation chains; the rows of a batch are of one length class."""

    def __init__(self, folder: Path, device: torch.device, stream: int, size: int, steps: int) -> None:
        self.folder, self.device, self.stream, self.size, self.steps = folder, device, stream, size, steps
        self.files: dict[str, Rows] = {}
        self.words = Words(Tokenizer.from_file(str(folder / "tokenizer.json")))

    def rows(self, name: str) -> Rows:
        if name not in self.files:
            self.files[name] = Rows(self.folder / name)
        return self.files[name]

    def batch(self, step: int) -> Batch:
        rng = random.Random(step * self.size + self.stream)
        if rng.random() < DRILLS:
            return self.place(*self.drills(np.random.default_rng(rng.getrandbits(64))))
        length = LENGTHS[-1] if rng.random() < 0.1 else 0
        least, most, distractors = stage(step, self.steps)
        chains = step > CHAINS_FROM * self.steps and rng.random() < 0.1
        top = 1
        if chains:
            sources = ["gsm_aug"]
        else:
            top = rng.choices(range(least, most + 1), weights=[1 + 0.25 * k for k in range(least, most + 1)])[0]
            sources = [f"wordmath_{k}_{shard}" for k in {max(least, top - 1), top} for shard in rng.choices([s for s in range(SHARDS) if s % 3 <= distractors], k=2)]
        length = max(length, LENGTHS[0] if chains else next((limit for limit in LENGTHS if limit >= ROOM[top - 1]), LENGTHS[-1]))
        numbers = np.random.default_rng(rng.getrandbits(64))
        parts = [self.draw(self.rows(name), count, length, numbers) for name, count in zip(sources, shares(TOKENS // length, len(sources)), strict=True)]
        ids, own, prompts = (np.concatenate(column) for column in zip(*parts, strict=True))
        return self.place(*pad_rows(ids, own, prompts, EOS, tail_weight=0.2))

    def draw(self, file: Rows, count: int, length: int, numbers: np.random.Generator) -> tuple[np.ndarray[Any, Any], ...]:
        """Random rows of a file that fit: ids, how many are the row's own, prompt lengths."""
        chosen = numbers.integers(len(file), size=3 * count + 16)
        chosen = chosen[file.lengths[chosen] <= length][:count]
        ids, own = file.window(chosen, length)
        return ids, own, file.prompts[chosen]

    def drills(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of unrelated worked statements, of which the results alone may be masked."""
        rows, length = TOKENS // LENGTHS[0], LENGTHS[0]
        shape = (rows, (length - 1) // 14)
        first, second = (rng.integers(0, rng.choice((20, 99, 400, 999), shape) + 1) for _ in range(2))
        kind, factor = rng.choice(3, shape, p=(0.4, 0.35, 0.25)), rng.integers(2, 10, shape)
        high, low = np.maximum(first, second), np.minimum(first, second)
        left = np.select([kind == 0, kind == 1], [first, high], np.minimum(first, 999 // factor))
        right = np.select([kind == 0, kind == 1], [second % (1000 - first), low], factor)
        result = np.select([kind == 0, kind == 1], [left + right, left - right], left * right)
        words, digit = self.words, self.words.digits
        equals, stop = (np.full((*shape, 1), word) for word in (words.equals, words.stop))
        sums = np.concatenate(
            [
                rng.choice(words.names, (*shape, 1)),
                equals,
                digit(left),
                words.operators[kind][..., None],
                digit(right),
                equals,
                digit(result),
                stop,
            ],
            axis=-1,
        )
        tokens = np.full((rows, length), EOS, dtype=np.int64)
        tokens[:, 0] = words.so
        tokens[:, 1 : 1 + sums[0].size] = sums.reshape(rows, -1)
        place = (np.arange(length) - 1) % 14
        inside = (np.arange(length) >= 1) & (np.arange(length) <= sums[0].size) & (place >= 10) & (place < 13)
        return torch.from_numpy(tokens), torch.from_numpy(np.broadcast_to(inside, tokens.shape).copy()), torch.ones(tokens.shape)

    def place(self, tokens: Tensor, eligible: Tensor, weights: Tensor) -> Batch:
        if self.device.type == "cuda":
            tokens, eligible, weights = tokens.pin_memory(), eligible.pin_memory(), weights.pin_memory()
        return Batch(*(tensor.to(self.device, non_blocking=True) for tensor in (tokens, eligible, weights)))


class Words:
    """Token ids of what a worked statement is made of; names of several tokens are left out."""

    def __init__(self, tokenizer: Any) -> None:
        def ids(texts: Iterable[str]) -> np.ndarray[Any, Any]:
            found = [tokenizer.token_to_id(text.replace(" ", SPACE)) for text in texts]
            return np.array([index for index in found if index is not None])

        self.names, self.operators = ids(f" {name}" for name in NAMES), ids((" +", " -", " *"))
        self.equals, self.stop, self.so = ids((" =", ".", " So"))
        self.leading, self.following = ids(f" {digit}" for digit in range(10)), ids(map(str, range(10)))

    def digits(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """(...) numbers up to 999 -> (..., 3) ids."""
        return np.stack([self.leading[values // 100], self.following[values // 10 % 10], self.following[values % 10]], axis=-1)


def shares(total: int, parts: int) -> list[int]:
    """total in almost equal whole parts."""
    return [total // parts + (index < total % parts) for index in range(parts)]


def corruption(words: Words) -> Corruption:
    """A row is masked from a cut to the end, at random, or in its numbers alone, where all lookups stand open at once."""
    numbers = torch.zeros(VOCABULARY, dtype=torch.bool)
    numbers[np.concatenate([words.leading, words.following])] = True
    on: dict[torch.device, Tensor] = {}

    def corrupt(batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = batch.tokens.device
        times = antithetic_times(len(batch.tokens), generator)
        kind = torch.rand(len(batch.tokens), 1, device=device, generator=generator)
        scattered = mask_randomly(batch.eligible, times, generator)
        if device not in on:
            on[device] = numbers.to(device)
        return torch.where(kind < 0.5, mask_suffix(batch.eligible, times), torch.where(kind < 0.8, scattered, scattered & on[device][batch.tokens])), times

    return corrupt


def evaluate(model: LLaDA, n: int = 200) -> dict[str, Any]:
    """Exact shares on validation problems, most confident first, one token per forward."""
    tokenizer: Any = model.tokenizer
    found: dict[str, Any] = {}
    for name, options in (("wordmath", (2, 4)), ("wordmath", (5, 8)), ("gsm_aug", None)):
        task = tasks.get(name)
        items = task.sample(n, seed=1, split="valid", **({} if options is None else {"operations": options}))
        prompts = [tokenizer.encode(item.prompt).ids for item in items]
        decoded = remask.decode(model, prompts, max_new_tokens=task.max_new_tokens, early_stop=True)
        texts = [tokenizer.decode(cut(row[len(prompt) :].tolist())) for row, prompt in zip(decoded.tokens, prompts, strict=True)]
        right = [item.check(text) for item, text in zip(items, texts, strict=True)]
        found[f"{name} {options or ''}".strip()] = {"exact": sum(right) / n, "interval": wilson(sum(right), n)}
        wrong = next((i for i, good in enumerate(right) if not good), 0)
        found[f"{name} {options or ''} wrong"] = [items[wrong].prompt, items[wrong].answer, texts[wrong]]
    return found


def cut(ids: list[int]) -> list[int]:
    """What stands before the end-of-text."""
    return ids[: ids.index(EOS)] if EOS in ids else ids


def recipe(folder: Path, steps: int = 20_000) -> Recipe:
    """About 20 minutes on one H100."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def judged(model: LLaDA) -> dict[str, Any]:
        model.tokenizer = tokenizer
        return evaluate(model)

    return Recipe(
        name="demo",
        config=CONFIG,
        source=lambda device, stream, size: Mixture(folder, device, stream, size, steps),
        corrupt=corruption(Words(tokenizer)),
        write_tokenizer=lambda where: write_tokenizer(tokenizer, where),
        steps=steps,
        matrix_rate=0.01,
        other_rate=1e-3,
        weight_decay=0.2,
        evaluate=judged,
    )

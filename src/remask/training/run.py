"""One training run: it may be killed at any moment and continued, and it leaves a checkpoint in the published layout."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from remask.errors import RemaskError
from remask.models.base import Network
from remask.models.dsl import DSL
from remask.models.llada import LLaDA
from remask.models.loading import FAMILIES, load
from remask.training import listwise
from remask.training.average import Average
from remask.training.captured import CapturedUpdate
from remask.training.data import Batch, Source
from remask.training.objectives import Objective, Unmasking, cross_entropy
from remask.training.optimizer import make_optimizers
from remask.training.shards import read_shards, replace_folder, write_json, write_shards

Corruption = Callable[[Batch, torch.Generator], tuple[Tensor, ...]]
"""batch, generator -> what the objective reads: masked (B, L) bool and times (B,), unless the recipe names another objective."""
GOLDEN = 2654435769
"""2^32 over the golden ratio: its multiples modulo 2^31 lie far apart. Generators of a CPU read 32 bits of a seed."""


@dataclass(frozen=True)
class Recipe:
    """All that makes a run. Rates are peaks: linear warm-up, constant, then linear to zero over the last `cooldown` of the steps.

    source: device, stream, processes -> its batches, drawn by step * processes + stream. A stream is a rank plus what all processes of a seed share: `stream % processes`
    differs in each. seed: another one gives other weights to start from, batches and noise.
    """

    name: str
    config: Mapping[str, Any]
    source: Callable[[torch.device, int, int], Source]
    corrupt: Corruption
    write_tokenizer: Callable[[Path], None]
    steps: int
    matrix_rate: float = 0.02
    other_rate: float = 3e-3
    warmup: int = 300
    cooldown: float = 0.4
    weight_decay: float = 0.0
    objective: Objective = Unmasking()
    decay: float = 0.999
    clip: float = 1.0
    save_every: int = 5000
    seed: int = 0
    evaluate: Callable[[Any], dict[str, Any]] | None = None


class Learner(nn.Module):
    """Loss as a forward, so that DistributedDataParallel can wrap it."""

    def __init__(self, model: Network, objective: Objective, *, compiled: bool) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.score = torch.compile(self._score, dynamic=False) if compiled else self._score
        if compiled:
            for block in model.parts["blocks"]:
                block.compile(dynamic=False)
            if isinstance(model, DSL):  # its converter makes (B, L, V + 1) floats, which one kernel need not write
                model.mix = torch.compile(model.mix, dynamic=False)

    def _score(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        return cross_entropy(self.model.head(hidden), tokens, self.model.mask_id)

    def forward(self, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        hidden = self.objective.hidden(self.model, batch, noise)
        return self.objective.reduce(self.score(hidden, batch.tokens), batch, noise)


@dataclass
class World:
    """This process among those of torchrun; alone without it."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @staticmethod
    def join(device: str) -> World:
        """By the variables that torchrun sets, whose process group is begun; alone without them."""
        if "RANK" not in os.environ:
            return World()
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", 0)))

    def mean(self, value: Tensor) -> float:
        """The mean of a number over the processes, the same in all of them."""
        if self.size > 1:
            value = value.clone()
            torch.distributed.all_reduce(value)
        return float(value) / self.size

    def agree(self, answer: bool, device: torch.device) -> bool:
        """What process 0 says: clocks differ, and a process that stops alone leaves the others waiting."""
        if self.size == 1:
            return answer
        said = torch.tensor(int(answer), device=device)
        torch.distributed.broadcast(said, 0)
        return bool(said)


def build(config: Mapping[str, Any], device: torch.device, seed: int = 0) -> Network:
    """A new network, initialised as its family is; LLaDA: normal weights of 0.02, projections into the residual stream smaller by sqrt(2 N)."""
    torch.manual_seed(seed)
    model: Network = FAMILIES[config["architectures"][0]](config).to(device)
    if isinstance(model, LLaDA):
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                into_stream = name.endswith(("attn_out.weight", "ff_out.weight")) and ".blocks." in name
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config["n_layers"]) if into_stream else 0.02)
    model.config = dict(config)
    return model


def rate_at(step: int, recipe: Recipe) -> float:
    """The share of the peak rate; a run that starts from weights is warmed up again, since its steps count from 0."""
    warm = min(1.0, (step + 1) / max(1, recipe.warmup))
    cool = min(1.0, (recipe.steps - step) / max(1.0, recipe.cooldown * recipe.steps))
    return min(warm, max(0.0, cool))


class Run:
    """The state of a run in `folder`: state/ to continue from, checkpoint/ to load, metrics.jsonl to read."""

    def __init__(self, recipe: Recipe, folder: Path, *, init: Path | None, device: str, compiled: bool) -> None:
        self.recipe, self.folder, self.world = recipe, folder, World.join(device)
        self.device = torch.device(f"cuda:{self.world.local}" if device == "cuda" else device)
        self.stream = recipe.seed * GOLDEN % 2**31 + self.world.rank
        self.model = build(recipe.config, self.device, recipe.seed)
        self.step = 0
        self.dropped = torch.zeros((), dtype=torch.int64, device=self.device)
        if init is not None:
            start = load(init, device=self.device, dtype=torch.float32)
            self.model.adopt(start)
        self.optimizers = make_optimizers(self.model, matrix_rate=recipe.matrix_rate, other_rate=recipe.other_rate, weight_decay=recipe.weight_decay)
        self.average = Average(self.model, recipe.decay)
        if (folder / "state").exists() or (folder / "state.old").exists():
            self.restore()
        self.learner: nn.Module = Learner(self.model, recipe.objective, compiled=compiled)
        if self.world.size > 1:
            self.learner = nn.parallel.DistributedDataParallel(self.learner, device_ids=[self.world.local] if self.device.type == "cuda" else None)
        capture = compiled and self.device.type == "cuda" and self.world.size == 1
        self.update = CapturedUpdate(self.descend) if capture else self.descend
        self.source = recipe.source(self.device, self.stream, self.world.size)

    def restore(self) -> None:
        """Continue from the last whole state."""
        folder = self.folder / "state"
        if not folder.exists():
            folder = self.folder / "state.old"
        tensors, meta = read_shards(folder), json.loads((folder / "state.json").read_text())
        names = {name for name, _ in self.model.named_parameters()}
        stored = {name.removeprefix("model.") for name in tensors if name.startswith("model.")}
        if names != stored:
            raise RemaskError(f"{folder} was saved by another recipe; pass a new --out folder, or its checkpoint as --init")
        if meta.get("seed", 0) != self.recipe.seed:
            raise RemaskError(f"{folder} is of seed {meta.get('seed', 0)}, this run of {self.recipe.seed}; pass a new --out folder, or that seed")
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"model.{name}"])
        self.average.load({name: tensors[f"average.{name}"] for name in names}, meta["updates"])
        by_name = dict(self.model.named_parameters())
        for index, optimizer in enumerate(self.optimizers):
            for name, parameter in by_name.items():
                prefix = f"optimizer.{index}.{name}."
                state = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
                if state:
                    optimizer.state[parameter] = {key: tensor.to(self.device) for key, tensor in state.items()}
        self.step = meta["step"]

    def save(self) -> None:
        """The full state, then the averaged weights as a checkpoint."""
        if self.world.rank:
            return
        tensors = {f"model.{name}": parameter for name, parameter in self.model.named_parameters()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        for index, optimizer in enumerate(self.optimizers):
            for name, parameter in self.model.named_parameters():
                for key, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"optimizer.{index}.{name}.{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
        new = self.folder / "state.new"
        new.mkdir(parents=True, exist_ok=True)
        write_shards(new, tensors, metadata={"step": self.step, "updates": self.average.updates, "recipe": self.recipe.name, "seed": self.recipe.seed})
        replace_folder(new, self.folder / "state")
        self.export()

    def export(self) -> None:
        """The averaged weights in bfloat16, with config and tokenizer."""
        new = self.folder / "checkpoint.new"
        new.mkdir(parents=True, exist_ok=True)
        write_json(new / "config.json", dict(self.recipe.config))
        self.recipe.write_tokenizer(new)
        write_shards(new, {name: tensor.bfloat16() for name, tensor in self.average.tensors.items()})
        replace_folder(new, self.folder / "checkpoint")

    def averaged(self) -> Network:
        """The averaged weights as a network of their own, in the precision that is shipped."""
        model = build(self.recipe.config, self.device)
        self.average.copy_to(model)
        return model.to(torch.bfloat16).eval().requires_grad_(False)

    def batches(self, stop: int) -> Iterator[Batch]:
        """Batches from the current step, each made while the one before it is computed."""
        with ThreadPoolExecutor(1) as ahead:
            waiting = ahead.submit(self.source.batch, self.step)
            for step in range(self.step, stop):
                batch = waiting.result()
                if step + 1 < stop:
                    waiting = ahead.submit(self.source.batch, step + 1)
                yield batch

    @torch.no_grad()
    def clip(self) -> None:
        """Scale the gradients to at most the recipe's norm; one that is not finite is dropped, without waiting for the device."""
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = listwise.norm(gradients)
        finite = norm.isfinite()
        self.dropped += (~finite).long()
        listwise.mul_(gradients, (self.recipe.clip / (norm + 1e-6)).clamp(max=1.0))
        nothing = torch.zeros((), device=self.device)
        for gradient in gradients:
            torch.where(finite, gradient, nothing, out=gradient)

    def learn(self, batch: Batch) -> Tensor:
        """One step of every optimizer; returns the loss, still on the device."""
        generator = torch.Generator(self.device).manual_seed(self.step * self.world.size + self.stream)
        noise = self.recipe.corrupt(batch, generator)
        share = rate_at(self.step, self.recipe)
        for optimizer, peak in zip(self.optimizers, (self.recipe.matrix_rate, self.recipe.other_rate), strict=True):
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(peak * share)
                else:
                    group["lr"] = peak * share
        loss = self.update(batch, noise)
        self.average.update(self.model)
        self.step += 1
        return loss

    def descend(self, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        """Gradient and update: the part of a step that asks nothing of the host."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            loss = self.learner(batch, noise)
        loss.backward()
        self.clip()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def train(
    recipe: Recipe,
    folder: Path,
    *,
    init: Path | None = None,
    device: str = "cpu",
    minutes: float | None = None,
    compiled: bool = True,
    report: Callable[[dict[str, Any]], None] | None = None,
    every: int = 50,
) -> Path:
    """Run or continue until the recipe's steps or the minutes are over. Returns the checkpoint's folder."""
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    run = Run(recipe, folder, init=init, device=device, compiled=compiled)
    if run.world.rank == 0:
        forget_after(folder / "metrics.jsonl", run.step)
    seen, total, mark = 0, torch.zeros((), device=run.device), time.monotonic()
    first = run.step
    for batch in run.batches(recipe.steps):
        total += run.learn(batch)
        seen += batch.tokens.numel() * run.world.size
        over = minutes is not None and time.monotonic() - started > 60 * minutes
        if run.world.size > 1:
            over = run.step % every == 0 and run.world.agree(over, run.device)
        if run.step % every == 0 or over:
            loss = run.world.mean(total) / max(1, run.step - first)
            if not math.isfinite(loss) and int(run.dropped) > every // 2:
                raise RemaskError(f"the loss is {loss} at step {run.step} and {int(run.dropped)} updates were dropped; lower the rates and continue from {folder / 'state'}")
            now = time.monotonic()
            line = {
                "step": run.step,
                "loss": round(loss, 5),
                "tokens_per_second": round(seen / (now - mark)),
                "rate": round(rate_at(run.step, recipe), 4),
                "dropped": int(run.dropped),
                "seconds": round(now - started, 1),
            }
            log(run, line, report)
            seen, mark, first = 0, now, run.step
            total.zero_()
        if over:
            break
        if run.step % recipe.save_every == 0:
            run.save()
    run.save()
    if recipe.evaluate is not None and run.world.rank == 0:
        log(run, {"step": run.step, **recipe.evaluate(run.averaged())}, report)
    return folder / "checkpoint"


def forget_after(metrics: Path, step: int) -> None:
    """Drop the lines of steps that a kill has undone, and one that it left half written."""
    if metrics.exists():
        whole = metrics.read_text(encoding="utf-8").rpartition("\n")[0].splitlines(keepends=True)
        kept = [line for line in whole if json.loads(line)["step"] <= step]
        metrics.write_text("".join(line if line.endswith("\n") else line + "\n" for line in kept), encoding="utf-8")


def log(run: Run, line: dict[str, Any], report: Callable[[dict[str, Any]], None] | None) -> None:
    """Append to metrics.jsonl, and tell who watches."""
    if run.world.rank:
        return
    with open(run.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    if report is not None:
        report(line)

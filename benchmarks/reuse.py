"""Seconds of a reuse rule against the same decoder without reuse, by canvas length and batch, random weights allowed beyond the trained length.

    python benchmarks/reuse.py --device cpu --lengths 256 512 1024 --batches 1 8

Both sides of a pair run in turn, in one process, several rounds; the ratio is the median over rounds of seconds with the rule over seconds without, so that
below 1 the rule is faster. The network has the shape of the shipped `demo` (`--wide`: width 1024) and random weights, whose posteriors say nothing about
when a token settles. So the locks are scripted: a written token locks `--delay` passes after it was written, a prompt token at the second pass. The
rule's own work (divergence, gate, compaction) is done and timed all the same. Decoder: low_confidence, window whole (dual: blocks of 32), a quarter of the
canvas is prompt; `--passes` passes of equal size write the rest. On a CPU with one thread (OMP_NUM_THREADS=1) seconds are the process's own.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import remask
from remask.canvas import Canvas
from remask.models.llada import LLaDA
from remask.reuse.base import Pass, Reuse, Scene
from remask.reuse.surelock import Locks, SureLock


@dataclass(frozen=True)
class Scripted(SureLock):
    """SureLock with all its work, but the locks are by age."""

    delay: int = 1

    def observe(self, scene: Scene, made: Pass, state: Locks) -> Locks:
        super().observe(scene, made, state)
        age = torch.where(made.canvas.masked | made.edit.touched, 0, state.calm + 1)
        return Locks((age > self.delay) & scene.canvas.real, age)


def network(width: int, layers: int, length: int, device: str, dtype: torch.dtype) -> LLaDA:
    """Random weights; heads of 64, feed-forward 9/4 of the width, 4,096 tokens."""
    config: dict[str, Any] = {
        "architectures": ["LLaDAModelLM"], "d_model": width, "n_layers": layers, "n_heads": width // 64, "mlp_hidden_size": width * 9 // 4, "vocab_size": 4096,
        "max_sequence_length": length, "rope": True, "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "mask_token_id": 4095, "eos_token_id": 4094,
    }  # fmt: skip
    torch.manual_seed(0)
    model = LLaDA(config).to(device, dtype).eval()
    model.config = config
    return model


def seconds(model: LLaDA, canvas: Canvas, passes: int, reuse: Reuse, window: remask.Whole | remask.Blocks) -> tuple[float, Tensor]:
    """Of one decode, and the positions it computed: of the processor where one thread works, since others may use it as well, else by the wall."""
    alone = canvas.tokens.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    started = clock()
    step = None
    for step in remask.denoise(model, canvas, decoder=remask.LowConfidence(steps=passes), window=window, reuse=reuse):
        pass
    assert step is not None
    positions = step.positions.cpu()
    return clock() - started, positions


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--lengths", type=int, nargs="+", default=[64, 256, 512, 1024])
    arguments.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    arguments.add_argument("--rules", nargs="+", default=["surelock", "dual"])
    arguments.add_argument("--passes", type=int, default=32)
    arguments.add_argument("--delay", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--wide", action="store_true")
    chosen = arguments.parse_args()
    dtype = torch.bfloat16 if chosen.device != "cpu" else torch.float32
    where = torch.cuda.get_device_name() if chosen.device != "cpu" else f"{platform.machine()}, {torch.get_num_threads()} threads"
    print(f"{where}, torch {torch.__version__}, {dtype}, {chosen.passes} passes, {chosen.rounds} rounds")
    for length in chosen.lengths:
        model = network(1024 if chosen.wide else 512, 8, length, chosen.device, dtype)
        for batch in chosen.batches:
            prompts = torch.randint(0, 4000, (batch, length // 4), device=chosen.device)
            canvas = Canvas.from_prompts(prompts, max_new_tokens=length - length // 4, mask_id=4095)
            for name in chosen.rules:
                rule = replace(Scripted(), delay=chosen.delay) if name == "surelock" else remask.parse_reuse(name)
                window = remask.Whole() if name == "surelock" else remask.Blocks(min(32, length // 4))
                pairs: list[tuple[float, float]] = []
                shares: list[float] = []
                for turn in range(chosen.rounds + 1):
                    order = (remask.Fresh(), rule) if turn % 2 else (rule, remask.Fresh())
                    took = {type(part): seconds(model, canvas, chosen.passes, part, window) for part in order}
                    if turn:  # the first round warms up
                        pairs.append((took[type(rule)][0], took[remask.Fresh][0]))
                        shares.append(float(took[type(rule)][1].sum() / took[remask.Fresh][1].sum()))
                ratios = sorted(one / other for one, other in pairs)
                found = {"length": length, "batch": batch, "rule": name, "ratio": round(statistics.median(ratios), 3), "from": round(ratios[0], 3), "to": round(ratios[-1], 3),
                         "positions": round(statistics.mean(shares), 3), "seconds": round(statistics.median(one for one, _ in pairs), 3)}  # fmt: skip
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

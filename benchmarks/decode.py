"""End to end at LLaDA-8B's or Dream-7B's shape: random weights, scripted decoder and, for SureLock, scripted locks (see scripted.py).

    python benchmarks/decode.py                          # every table, each a line of JSON per setting
    python benchmarks/decode.py --only reuse locks       # some of: reuse, locks, batch, workload, uneven
    python benchmarks/decode.py --quick --only locks --lengths 64 --rows 1 --way joined
    python benchmarks/decode.py --tiny --device cpu      # the same code in seconds, for its errors, not its figures

reuse: prompt 256, 128 and 512 new tokens, blocks of 32, one row, one token a forward: milliseconds a forward.  locks: `surelock` over `fresh`, window whole, 3/4 of
the canvas new, one token a forward (beyond 128 positions so many that 96 forwards write all, 48 from 8,192 positions in all on), in turn.  batch: `dual`, 3 tokens a
forward, rows against tokens a second.  workload: 1,319 prompts of 900 tokens, 256 new, 3 tokens a forward, `dual`; a tenth is run, and the minutes of all are that
times ten.  uneven: 12 single rows and 6 batches of 16, of prompts of 850 to 999 tokens, the rest as in the workload: seconds of each batch as it comes, recording
included; with `--canvases 8` their lengths are those of `remask eval --captured`. Elsewhere runs that still record
a pass (the first three, mostly) are left out, in the workload the first.
"""

from __future__ import annotations

import argparse
import json
import statistics
from functools import partial
from random import Random
from typing import Any

import torch
from scripted import PerStep, Roofline, ScriptedLocks, canvas_of, ceilings, environment, marks, network

import remask
from remask.canvas import Canvas
from remask.captured import Captured
from remask.evaluation.replaying import replayed
from remask.models.fused import Fused
from remask.models.fused_model import FusedModel

TABLES = ("reuse", "locks", "batch", "workload", "uneven")


class Bench:
    """A network and the sizes of a run."""

    def __init__(self, model: Any, roofline: Roofline, chosen: argparse.Namespace, way: str) -> None:
        self.plain, self.roofline, self.chosen, self.way = model, roofline, chosen, way
        self.tiny, self.rounds = chosen.tiny, 1 if chosen.quick or chosen.tiny else chosen.rounds
        if way == "fused-loop":
            self.plain = FusedModel(model)
        body = None if way in ("loop", "fused-loop", "captured") else Fused(model)
        self.body = body if body is None or way == "fused" else getattr(body, way)()

    def model(self) -> Any:
        """A fresh one a setting: its stores and graphs go with it."""
        if self.way in ("loop", "fused-loop"):
            return self.plain
        return Captured(self.plain, body=self.body, sizes=self.chosen.sizes, lengths=self.chosen.canvases)

    def run(self, model: Any, rows: int, prompt: int, new: int, **parts: Any) -> tuple[float, Any]:
        """Seconds of one decode, and its last step."""
        times, last = marks(model, canvas_of(self.plain, rows, prompt, new), **parts)
        return times[-1] - times[0], last

    def replayed(self, model: Any, rows: int, prompt: int, new: int, **parts: Any) -> tuple[float, Any]:
        """The same of the first run, after one to warm up, that records nothing."""
        self.run(model, rows, prompt, new, **parts)
        return replayed(model, partial(self.run, model, rows, prompt, new, **parts))

    def runs(self, model: Any, rows: int, prompt: int, new: int, **parts: Any) -> list[tuple[float, Any]]:
        """As many as there are rounds."""
        return [self.replayed(model, rows, prompt, new, **parts), *(self.run(model, rows, prompt, new, **parts) for _ in range(self.rounds - 1))]

    def say(self, found: dict[str, Any]) -> None:
        """One line, with the memory it took."""
        if self.plain.device.type == "cuda":
            found["peak GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
            torch.cuda.reset_peak_memory_stats()
        print(json.dumps(found | {"way": self.way}), flush=True)

    def reuse(self) -> None:
        block = 8 if self.tiny else 32
        for new in (16,) if self.tiny else self.chosen.new:
            prompt = 16 if self.tiny else 256
            rules = {
                "fresh": remask.Fresh(),
                "prefix": remask.Prefix(),
                "dual": remask.Dual(),
                "surelock": ScriptedLocks(),
                "dual:inner=(surelock)": remask.Dual(inner=ScriptedLocks()),
            }
            for name, rule in rules.items():
                model = self.model()
                window = remask.Blocks(block)
                found = self.runs(model, 1, prompt, new, decoder=PerStep(1), window=window, reuse=rule)
                seconds, forwards = statistics.median(each for each, _ in found), int(found[-1][1].forwards[0])
                floor = self.roofline.seconds(1, prompt + new, prompt + new)
                self.say({"table": "reuse", "rule": name, "prompt": prompt, "new": new, "forwards": forwards,
                          "ms a forward": round(1e3 * seconds / forwards, 3), "positions a forward": round(int(found[-1][1].positions[0]) / forwards, 1),
                          "ms of a full pass at the roofline": round(1e3 * floor, 3)})  # fmt: skip

    def locks(self) -> None:
        for length in (24, 48) if self.tiny else self.chosen.lengths:
            for rows in (1, 2) if self.tiny else self.chosen.rows:
                prompt, count = length // 4, max(1, length // 128) * (2 if rows * length >= 8192 else 1)
                sides = {"fresh": remask.Fresh(), "surelock": ScriptedLocks(long=length > 64)}
                models = {name: self.model() for name in sides}
                sizes, decoder = (rows, prompt, length - prompt), PerStep(count)
                found = {name: [self.replayed(models[name], *sizes, decoder=decoder, reuse=rule)] for name, rule in sides.items()}
                for turn in range(1, self.rounds):
                    for name in sides if turn % 2 else reversed(sides):
                        found[name].append(self.run(models[name], *sizes, decoder=decoder, reuse=sides[name]))
                last, took = found["surelock"][-1][1], {name: [seconds for seconds, _ in runs] for name, runs in found.items()}
                ratios = sorted(one / other for one, other in zip(took["fresh"], took["surelock"], strict=True))
                share, forwards = float(last.positions.sum() / (last.forwards.sum() * length)), int(last.forwards[0])
                self.say({"table": "locks", "L": length, "rows": rows, "tokens a forward": count, "positions computed": round(share, 3),
                          **{f"{name}, ms a forward": round(1e3 * statistics.median(seconds) / forwards, 3) for name, seconds in took.items()},
                          "times faster": round(statistics.median(ratios), 3), "from": round(ratios[0], 3), "to": round(ratios[-1], 3)})  # fmt: skip

    def batch(self) -> None:
        prompt, new, block = (16, 16, 8) if self.tiny else (256, 128, 32)
        for rows in (1, 2) if self.tiny else (1, 4, 16, 64):
            model = self.model()
            try:
                found = self.runs(model, rows, prompt, new, decoder=PerStep(3), window=remask.Blocks(block), reuse=remask.Dual())
            except remask.RemaskError as error:
                self.say({"table": "batch", "rows": rows, "error": str(error)})
                continue
            seconds, forwards = statistics.median(each for each, _ in found), int(found[-1][1].forwards[0])
            blocks = new // block
            floor = blocks * self.roofline.seconds(rows, prompt + new, prompt + new) + (forwards - blocks) * self.roofline.seconds(rows, block, prompt + new)
            self.say(
                {"table": "batch", "rows": rows, "tokens a second": round(rows * new / seconds, 1), "forwards": forwards, "roofline tokens a second": round(rows * new / floor, 1)}
            )

    def workload(self) -> None:
        prompts, prompt, new, block = (4, 24, 16, 8) if self.tiny else (132, 900, 256, 32)
        for rows in (2,) if self.tiny else self.chosen.batches:
            model = self.model()
            parts: dict[str, Any] = {"decoder": PerStep(3), "window": remask.Blocks(block), "reuse": remask.Dual()}
            self.run(model, rows, prompt, new, **parts)
            seconds = sum(self.run(model, rows, prompt, new, **parts)[0] for _ in range(prompts // rows))
            done = prompts // rows * rows
            self.say({"table": "workload", "rows": rows, "prompts run": done, "seconds": round(seconds, 2), "minutes of 1,319, scaled": round(seconds * 1319 / done / 60, 2)})

    def uneven(self) -> None:
        shortest, longest, new, block = (5, 10, 16, 8) if self.tiny else (850, 999, 256, 32)
        for rows, batches in ((1, 2), (2, 2)) if self.tiny else ((1, 12), (16, 6)):
            model, random, seconds = self.model(), Random(1), []
            for _ in range(batches):
                prompts = [[random.randrange(self.most) for _ in range(random.randint(shortest, longest))] for _ in range(rows)]
                canvas = Canvas.from_prompts(prompts, max_new_tokens=new, mask_id=self.plain.mask_id, device=self.plain.device)
                times, _ = marks(model, canvas, decoder=PerStep(3), window=remask.Blocks(block), reuse=remask.Dual())
                seconds.append(round(times[-1] - times[0], 3))
            self.say({"table": "uneven", "rows": rows, "canvases": self.chosen.canvases, "seconds": seconds, "of all": round(sum(seconds), 2)})

    @property
    def most(self) -> int:
        """Ids below it are words."""
        return min(self.plain.mask_id, *self.plain.eos_ids)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--shape", default="llada-8b")
    arguments.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    arguments.add_argument("--way", choices=("loop", "fused-loop", "captured", "fused", "joined", "compiled"), default="fused")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--sizes", type=int, default=4, help="of passes, as of Captured")
    arguments.add_argument("--canvases", type=int, help="of lengths, as of Captured")
    arguments.add_argument("--new", nargs="+", type=int, default=[128, 512], help="new tokens of reuse")
    arguments.add_argument("--lengths", nargs="+", type=int, default=[64, 512, 1024], help="canvases of locks")
    arguments.add_argument("--rows", nargs="+", type=int, default=[1, 8], help="rows of locks")
    arguments.add_argument("--batches", nargs="+", type=int, default=[4, 12, 22], help="rows of the workload")
    arguments.add_argument("--quick", action="store_true", help="one round")
    arguments.add_argument("--tiny", action="store_true")
    chosen = arguments.parse_args()
    device = torch.device(chosen.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shape = "tiny-llada" if chosen.tiny else chosen.shape
    bandwidth, peak = ceilings(device, dtype, size=256 if chosen.tiny else 8192, gigabytes=0.02 if chosen.tiny else 4.0)
    print(f"{environment(device, dtype)}; copy {bandwidth / 1e12:.2f} TB/s, product {peak / 1e12:.1f} TFLOP/s; {shape}, random weights, scripted decoder and locks", flush=True)
    model = network(shape, chosen.device, dtype)
    way = "fused" if chosen.way in ("joined", "compiled") and device.type != "cuda" else chosen.way
    bench = Bench(model, Roofline.of(model, bandwidth, peak), chosen, way)
    for table in chosen.only:
        getattr(bench, table)()


if __name__ == "__main__":
    main()

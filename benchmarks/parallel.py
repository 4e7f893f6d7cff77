"""One network over several GPUs by tensor parallelism, beside one GPU, with random weights (see scripted.py).

    torchrun --nproc-per-node 4 benchmarks/parallel.py                                     # LLaDA-8B's shape in bfloat16: milliseconds a forward
    torchrun --nproc-per-node 2 benchmarks/parallel.py --shape tiny-llada --dtype float32  # whether the tokens are the same
    torchrun --nproc-per-node 2 benchmarks/parallel.py --tiny --device cpu                 # the same code over gloo, for its errors

Every process makes the whole network, decodes with it, splits it and decodes again, each by the plain loop and by recorded passes: `dual` on blocks of 32, two tokens a
forward. In float32 the tokens should be equal; in bfloat16 sums over processes are rounded in another order, and with random weights many tokens are near ties.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
from typing import Any

import torch
import torch.distributed as distributed
from scripted import canvas_of, environment, marks, network

import remask
from remask.models.parallel import tensor_parallel


def decoded(model: Any, rows: int, prompt: int, new: int, block: int, rounds: int) -> tuple[float, torch.Tensor]:
    """Seconds a forward, the median of the rounds after one to warm up, and the tokens."""
    found: list[float] = []
    tokens = torch.empty(0)
    for _ in range(rounds + 1):
        times, last = marks(model, canvas_of(model, rows, prompt, new), decoder=remask.LowConfidence(steps=new // 2), window=remask.Blocks(block), reuse=remask.Dual())
        found.append((times[-1] - times[0]) / (len(times) - 1))
        tokens = last.canvas.tokens
    return statistics.median(found[1:]), tokens


def say(way: str, seconds: float, found: torch.Tensor, expected: torch.Tensor) -> None:
    """One line of process 0: (B, L) tokens of this way, and (B, N) that one process has written."""
    gathered: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, found.tolist())
    if distributed.get_rank() == 0:
        same = float((found[:, -expected.shape[1] :] == expected).float().mean())
        line = {"way": way, "processes": len(gathered), "ms a forward": round(1e3 * seconds, 2), "tokens as one": same}
        print(json.dumps({**line, "processes agree": all(tokens == gathered[0] for tokens in gathered)}), flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--dtype", default="bfloat16")
    arguments.add_argument("--shape", default="llada-8b")
    arguments.add_argument("--rows", type=int, default=4)
    arguments.add_argument("--prompt", type=int, default=256)
    arguments.add_argument("--new", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--tiny", action="store_true")
    chosen = arguments.parse_args()
    on_gpu = chosen.device == "cuda"
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    prompt, new, block, rounds = (8, 16, 8, 1) if chosen.tiny else (chosen.prompt, chosen.new, 32, chosen.rounds)
    model = network("tiny-llada" if chosen.tiny else chosen.shape, chosen.device, getattr(torch, "float32" if chosen.tiny else chosen.dtype))
    if distributed.get_rank() == 0:
        print(f"{environment(model.device, model.dtype)}; {chosen.rows} rows of {prompt} + {new}")
    alone, expected = decoded(model, chosen.rows, prompt, new, block, rounds)
    say("one", alone, expected, expected[:, prompt:])
    say("one, captured", *decoded(remask.Captured(model), chosen.rows, prompt, new, block, rounds), expected[:, prompt:])
    gc.collect()
    split = tensor_parallel(model)
    for way, kind in {"split": None, "split, captured": remask.Captured}.items():
        together, found = decoded(split if kind is None else kind(split), chosen.rows, prompt, new, block, rounds)
        say(way, together, found, expected[:, prompt:])
    gc.collect()  # graphs hold the group's communicator, which waits for them when it is destroyed
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()

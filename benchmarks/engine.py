"""What continuous batching gives: the engine beside one row after another, and beside a batch without any padding; latency under Poisson arrivals; and
how many rows are written otherwise in a batch of another size.

    python benchmarks/engine.py mixed --model demo --rows 64 --repeats 3
    python benchmarks/engine.py arrivals --model llada-8b --device cuda --dtype bfloat16 --rows 96 --batch 16 --prompt 64 256 --new 32 128 --decoder low_confidence:steps=16
    python benchmarks/engine.py flips --model demo --task wordmath --device cuda --dtype bfloat16 --rows 1000 --batch 64 --alone 100 --early-stop --decoder threshold:tau=0.9

llada-8b is a network of LLaDA-8B's shape with random weights. --way loop fused: once by the network's own forward, and once with the same
weights on fused layers that leave out padding (remask.models.fused_model). mixed: contenders run in turn, in one process; the order changes with every repeat.
arrivals: at a share of the rate that a full queue is served at the second time, which is measured first.  flips: the same requests in batches of --batch, in batches of --other in
another order of arrival, and the first --alone of them one by one; how many rows and tokens differ.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from collections.abc import Callable
from typing import Any

import torch

import remask
from remask.denoise import Plan, denoise, start, step
from remask.engine import Engine, Request, Update
from remask.evaluation import tasks
from remask.evaluation.harness import environment
from remask.evaluation.intervals import wilson
from remask.models.fused_model import FusedModel
from remask.training.run import build

LLADA_8B = {
    "architectures": ["LLaDAModelLM"], "d_model": 4096, "n_layers": 32, "n_heads": 32, "mlp_hidden_size": 12288, "vocab_size": 126464, "max_sequence_length": 4096,
    "rope": True, "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "mask_token_id": 126336, "eos_token_id": 126081,
}  # fmt: skip


def network(name: str, device: str, dtype: str) -> Any:
    """A checkpoint, or random weights of a known shape."""
    torch.set_flush_denormal(True)  # as the command line does
    if name != "llada-8b":
        return remask.load(name, device=device, dtype=dtype)
    with torch.device(device):  # eight billion numbers are drawn there, and not on the host first
        made = build(LLADA_8B, torch.device(device))
    made = made.to(getattr(torch, dtype)).eval().requires_grad_(False)
    if made.device.type == "cuda":
        torch.cuda.empty_cache()  # the float32 weights: the engine takes what the device says is free
    return made


def requests(arguments: argparse.Namespace, model: Any) -> list[Request]:
    """Prompts of a task, or of random tokens and of every length in the ranges; the decoders in turn."""
    chance = random.Random(0)
    if arguments.task:
        task = tasks.get(arguments.task)
        prompts = [model.tokenizer.encode(item.prompt) for item in task.sample(arguments.rows, seed=0)]
        sizes = [task.max_new_tokens] * arguments.rows
    else:
        prompts, sizes = [], []
        for _ in range(arguments.rows):
            prompts.append([chance.randrange(1, min(1000, model.vocab_size - 2)) for _ in range(chance.randint(*arguments.prompt))])
            sizes.append(chance.randint(*arguments.new))
    return [
        Request(
            prompts[number],
            sizes[number],
            decoder=remask.parse_decoder(arguments.decoder[number % len(arguments.decoder)]),
            seed=number,
            early_stop=arguments.early_stop,
            updates=False,
        )
        for number in range(arguments.rows)
    ]


def through_engine(engine: Engine, asked: list[Request]) -> list[Update]:
    """All at once."""
    tickets = [engine.submit(request) for request in asked]
    while engine.step():
        pass
    return [ticket.result(0) for ticket in tickets]


def one_by_one(model: Any, asked: list[Request]) -> list[list[int]]:
    """A row after another."""
    found = []
    for request in asked:
        canvas = remask.Canvas.from_prompts([list(request.prompt_ids)], max_new_tokens=request.max_new_tokens, mask_id=model.mask_id, device=model.device)
        for last in denoise(model, canvas, decoder=request.decoder, seed=request.seed, early_stop=request.early_stop):
            pass
        found.append(last.canvas.tokens[0].tolist())
    return found


@torch.inference_mode()
def packed(model: Any, asked: list[Request], rows: int, positions: int) -> int:
    """The same positions computed by full batches of rows of the mean length, which none joins or leaves; returns how many they were."""
    length = round(sum(len(request.prompt_ids) + request.max_new_tokens for request in asked) / len(asked))
    plan = Plan(decoder=asked[0].decoder)
    state = start(remask.Canvas.from_prompts([[1]] * rows, max_new_tokens=length - 1, mask_id=model.mask_id, device=model.device), plan, torch.arange(rows, device=model.device))
    fresh, computed = state, 0
    while computed < positions:
        state, seen = step(model, state, plan)
        computed += int(seen.active.sum())
        if bool(state.done.any()):
            state = fresh
    return computed


def timed(action: Callable[[], Any], *, wall: bool = False) -> tuple[float, Any]:
    """Seconds and result: of the clock with a GPU or if `wall`, else of the processor, so that others on the machine do not count."""
    clock = time.perf_counter if wall or torch.cuda.is_available() else time.process_time
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begun = clock()
    result = action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - begun, result


def mixed(arguments: argparse.Namespace, model: Any) -> dict[str, Any]:
    """64 queued prompts of mixed lengths."""
    asked = requests(arguments, model)
    engine = Engine(model, max_rows=arguments.batch, queue=len(asked), forward_cost=arguments.forward_cost)
    counted = through_engine(engine, asked)  # warm as well
    positions, forwards = sum(update.positions for update in counted), sum(update.forwards for update in counted)
    contenders: dict[str, Callable[[], Any]] = {
        "engine": lambda: [update.tokens.tolist() for update in through_engine(engine, asked)],
        "one by one": lambda: one_by_one(model, asked),
        "packed": lambda: packed(model, asked, arguments.batch, positions),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    same = 0.0
    for repeat in range(arguments.repeats):
        found: dict[str, Any] = {}
        names = list(contenders)
        for name in names[repeat % 3 :] + names[: repeat % 3]:
            taken, found[name] = timed(contenders[name])
            seconds[name].append(taken * positions / found[name] if name == "packed" else taken)
            print(f"repeat {repeat} {name}: {seconds[name][-1]:.2f} s", flush=True)
        same = sum(a == b for a, b in zip(found["engine"], found["one by one"], strict=True)) / len(asked)
    ratios = {name: sorted(e / other for e, other in zip(seconds["engine"], seconds[name], strict=True)) for name in ("one by one", "packed")}
    cost = {"positions": positions, "forwards": forwards, "rows_alike": same}
    return {"rows": len(asked), "batch": arguments.batch, **cost, "seconds": seconds, "engine_over": ratios, "environment": environment(model)}


def arrivals(arguments: argparse.Namespace, model: Any) -> dict[str, Any]:
    """Latency at a share of the rate that a full queue is served at."""
    asked = requests(arguments, model)
    engine = Engine(model, max_rows=arguments.batch, queue=len(asked), forward_cost=arguments.forward_cost)
    cold, _ = timed(lambda: through_engine(engine, asked), wall=True)  # kernels are chosen, compiled and loaded for every new shape
    full, _ = timed(lambda: through_engine(engine, asked), wall=True)  # requests will arrive by the clock
    print(f"full queue: {cold:.1f} s the first time, then {full:.1f} s, {len(asked) / full:.2f} rows a second", flush=True)
    rate = arguments.load * len(asked) / full
    engine.start()
    chance, tickets = random.Random(1), []
    begun = time.monotonic()
    for request in asked:
        time.sleep(chance.expovariate(rate))
        tickets.append(engine.submit(request))
    results = [ticket.result() for ticket in tickets]
    taken = time.monotonic() - begun
    engine.close()
    new = sum(len(result.answer) for result in results)
    latencies = sorted(ticket.finished - ticket.submitted for ticket in tickets)
    waits = sorted(ticket.admitted - ticket.submitted for ticket in tickets)
    at = {name: int(share * (len(asked) - 1)) for name, share in (("p50", 0.5), ("p99", 0.99))}
    rates = {"full_queue": len(asked) / full, "offered": rate, "served": len(asked) / taken, "new_tokens": {"full_queue": new / full, "served": new / taken}}
    seconds: dict[str, Any] = {"latency": {name: latencies[index] for name, index in at.items()}, "wait": {name: waits[index] for name, index in at.items()}}
    seconds["full_queue"] = {"first": cold, "then": full}
    return {"rows": len(asked), "batch": arguments.batch, "a_second": rates, "seconds": seconds, "environment": environment(model)}


def flips(arguments: argparse.Namespace, model: Any) -> dict[str, Any]:
    """How many rows are written otherwise in batches of another size, in another order, and alone."""
    asked = requests(arguments, model)

    def written(batch: int, order: list[int]) -> dict[int, list[int]]:
        begun = time.monotonic()
        engine = Engine(model, max_rows=batch, queue=len(asked), forward_cost=arguments.forward_cost)
        found = through_engine(engine, [asked[number] for number in order])
        print(f"{len(order)} rows in batches of {batch}: {time.monotonic() - begun:.1f} s", flush=True)
        return {number: update.answer.tolist() for number, update in zip(order, found, strict=True)}

    numbers = list(range(len(asked)))
    shuffled = random.Random(1).sample(numbers, len(numbers))
    whole = written(arguments.batch, numbers)
    others = {f"batches of {arguments.other}, shuffled": written(arguments.other, shuffled), "one by one": written(1, numbers[: arguments.alone])}
    told = {name: differing(whole, other) for name, other in others.items()}
    return {"rows": len(asked), "batch": arguments.batch, "decoder": arguments.decoder, "against": told, "environment": environment(model)}


def differing(whole: dict[int, list[int]], other: dict[int, list[int]]) -> dict[str, Any]:
    """Rows of `other` and tokens of its rows that are not those of `whole`."""
    rows = sum(whole[number] != tokens for number, tokens in other.items())
    pairs = [(a, b) for number, tokens in other.items() for a, b in zip(whole[number], tokens, strict=True)]
    tokens = sum(a != b for a, b in pairs)
    return {"rows": rows, "of": len(other), "rate": rows / len(other), "interval": wilson(rows, len(other)), "tokens": tokens, "of_tokens": len(pairs)}


WAYS: dict[str, Callable[[Any], Any]] = {"loop": lambda model: model, "fused": FusedModel}
"""How the network computes, with the same weights."""


def emptied() -> None:
    """Give back what the last engine held: the next one takes what the device says is free."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["mixed", "arrivals", "flips"])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--prompt", type=int, nargs=2, default=(4, 40))
    parser.add_argument("--new", type=int, nargs=2, default=(8, 32))
    parser.add_argument("--decoder", nargs="+", default=["low_confidence"])
    parser.add_argument("--early-stop", action="store_true")
    parser.add_argument("--forward-cost", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--load", type=float, default=0.8)
    parser.add_argument("--task", default="", help="Prompts of this task, of test items.")
    parser.add_argument("--other", type=int, default=7)
    parser.add_argument("--alone", type=int, default=200)
    parser.add_argument("--way", nargs="+", choices=list(WAYS), default=["loop"])
    arguments = parser.parse_args()
    model = network(arguments.model, arguments.device, arguments.dtype)
    measure = {"mixed": mixed, "arrivals": arrivals, "flips": flips}[arguments.what]
    for way in arguments.way:
        if len(arguments.way) > 1:
            print(f"way {way}:", flush=True)
        print(json.dumps({"way": way, **measure(arguments, WAYS[way](model))}, indent=2), flush=True)
        emptied()


if __name__ == "__main__":
    main()

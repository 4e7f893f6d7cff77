"""Seconds of one step over the roofline, at LLaDA-8B's or Dream-7B's shape with random weights (see scripted.py).

    python benchmarks/step.py                            # on a GPU: the table, and where the time goes
    python benchmarks/step.py --products                 # every matrix product of a layer: ours and the library's, in bytes a second
    python benchmarks/step.py --tiles                    # the products and attention of few rows, by how they are cut into programs
    python benchmarks/step.py --profile                  # kernels of a recorded step by the time they take, and the gaps between them
    python benchmarks/step.py --ways fused --cases 1,384,384,32 22,1152,1152         # a last layer of 32 positions a row; --all-states: as if all were read
    python benchmarks/step.py --tiny --device cpu        # the same code in seconds, for its errors, not its figures

A step is a whole one: window, reuse, layers, head, tail, decoder, edit, flags to the host. The decoder writes nothing, so that all steps are equal. M below L: `dual`
with a block of M; M = L: `fresh`. Ways: `loop` is the ordinary loop; `captured` records its network's own layers; `fused` joins matrices and uses kernels around
the products; `joined` compiles what follows the network into few launches; `compiled` is that with torch.compile of layers beyond 256 positions. `layers` is the
network without head, tail, decoder and host, recorded alone: as in the step, and with the states of all M positions, which a step leaves out of its last layer where
nobody reads them. Medians of steps, and of three rounds in which the ways take turns, in ms. `--profile` takes cases as well; rows,M,L with M = L and 8 rows or more is
a pass of `dual` that opens a block of 32. Under the profiler gaps are wider than without it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from cuts import products, tiles
from scripted import SHAPES, PerStep, Roofline, canvas_of, ceilings, environment, fastest, marks, network

import remask
import remask.models.fused
from remask.captured import Captured
from remask.kernels.graphs import Recorder
from remask.models.fused import Fused

CASES = ((1, 32, 512), (1, 128, 512), (1, 256, 512), (1, 512, 512), (1, 1024, 1024), (8, 32, 512), (32, 32, 512))
TINY = ((1, 8, 24), (1, 24, 24), (2, 8, 24))
PROFILED = ((1, 32, 512), (1, 512, 512), (22, 1152, 1152))
WAYS = ("loop", "captured", "fused", "joined", "compiled")


@dataclass(frozen=True)
class Opening(remask.Fresh):
    """Every position and a store, as `dual` when a block opens, but at every step."""

    stores: ClassVar[bool] = True


def case_of(text: str) -> tuple[int, int, int, int | None]:
    """rows,M,L or rows,M,L,T, as an argument of the command."""
    try:
        rows, chosen, length, *more = map(int, text.split(","))
        (asked,) = more or (None,)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not rows,M,L or rows,M,L,T in whole numbers; write 1,32,512, say, or 1,384,384,32") from None
    for name, value, most in (("rows", rows, None), ("L", length, None), ("M", chosen, length), ("T", asked, length)):
        if value is not None and not 1 <= value <= (value if most is None else most):
            raise argparse.ArgumentTypeError(f"{text}: {name} is {value}; use {'1 or more' if most is None else f'1 to L, which is {most}'}")
    if asked is not None and chosen < length:
        raise argparse.ArgumentTypeError(f"{text}: T is {asked} and M, {chosen}, is less than L, {length}: all of the block are asked about; leave T out")
    return rows, chosen, length, asked


def asked_of(rows: int, chosen: int, length: int, asked: int | None) -> int:
    """How many positions of a row a case asks about: `asked` if M = L and it is given."""
    return chosen if chosen < length else asked or (length - length // 2 if rows < 8 else 32)


def parts_of(model: Any, rows: int, chosen: int, length: int, asked: int | None) -> tuple[Any, dict[str, Any]]:
    """The canvas of a case and what decodes it, for ever."""
    parts: dict[str, Any] = {"decoder": PerStep(0)}
    if chosen < length:
        return canvas_of(model, rows, length - chosen, chosen), parts | {"window": remask.Blocks(chosen), "reuse": remask.Dual()}
    asked = asked_of(rows, chosen, length, asked)
    return canvas_of(model, rows, length - asked, asked), parts if rows < 8 else parts | {"reuse": Opening()}


def model_of(way: str, model: Any, fused: dict[str, Any]) -> Any:
    """The network as a way takes it; the joined weights are made once, and what loads torch's compiler only for a way that compiles."""
    if way == "loop":
        return model
    if way == "captured":
        return Captured(model)
    if "fused" not in fused:
        fused["fused"] = Fused(model)
    if way not in fused:
        fused[way] = fused["fused"].joined() if way == "joined" else fused["fused"].compiled()
    return Captured(model, body=fused[way])


def measure(model: Any, rows: int, chosen: int, length: int, asked: int | None, steps: int) -> float:
    """Median seconds of a step, the first ones (which are not recorded, or being recorded) left out."""
    canvas, parts = parts_of(model, rows, chosen, length, asked)
    times, _ = marks(model, canvas, steps + 5, **parts)
    return statistics.median(later - earlier for earlier, later in pairwise(times[5:]))


def layers_alone(body: Fused, rows: int, chosen: int, length: int, asked: int | None = None) -> float:
    """Seconds of the network's own part of a step. asked: the last positions of a row whose states are made, None: all that are computed."""
    canvas = canvas_of(body.model, rows, length - chosen, chosen) if chosen < length else canvas_of(body.model, rows, length // 2, length - length // 2)
    device = canvas.tokens.device
    recorder = Recorder(device)
    place = torch.arange(length - chosen, length, device=device).expand(rows, chosen).contiguous()
    only = None if asked is None else torch.arange(chosen - asked, chosen, device=device).expand(rows, asked).contiguous()
    with torch.inference_mode():
        if chosen == length:
            return fastest(lambda: recorder(("alone", 0), lambda: body.whole(canvas, None, stores=False, padded=False, only=only)), device)
        _, store = body.whole(canvas, None, stores=True, padded=False)
        return fastest(lambda: recorder(("alone", 1), lambda: body.chosen(canvas, place, store, padded=False, only=only)), device)


KINDS = {
    "products": ("gemm", "nvjet", "cutlass", "_linear", "_added", "_mix", "splitk"),
    "attention": ("flash", "fmha", "sdpa", "_attend", "_merge"),
    "around products": ("_norm", "_gate", "_turn"),
    "tail": ("_blocks", "_rows", "_draws", "_spread"),
}


def profile(model: Any, rows: int, chosen: int, length: int, asked: int | None, steps: int = 4) -> None:
    """Microseconds a step: by kind, the kernels that take most, the gaps that last longest."""
    canvas, parts = parts_of(model, rows, chosen, length, asked)
    stream = remask.denoise(model, canvas, **parts)
    for _ in range(6):
        next(stream)
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        for _ in range(steps):
            next(stream)
        torch.cuda.synchronize()
    stream.close()
    events = sorted((each.time_range.start, each.time_range.end, each.name) for each in seen.events() or () if each.device_type == torch.autograd.DeviceType.CUDA)
    kinds, names = Counter(), Counter()
    gaps: list[tuple[float, str, str]] = []
    last = events[0][0]
    before = "start"
    for start, end, name in events:
        kind = next((kind for kind, marks in KINDS.items() if any(mark in name.lower() for mark in marks)), "all else")
        kinds[kind, "us"] += (end - start) / steps
        kinds[kind, "launches"] += 1 / steps
        names[name, "us"] += (end - start) / steps
        names[name, "launches"] += 1 / steps
        if start > last:
            gaps.append((start - last, before, name))
        last, before = max(last, end), name
    span, idle = (last - events[0][0]) / steps, sum(gap for gap, _, _ in gaps) / steps
    short = sum(gap for gap, _, _ in gaps if gap <= 20) / steps
    print(f"\nrows {rows}, M {chosen}, L {length}: {span:.0f} us a step, idle {idle:.0f} us in {len(gaps) / steps:.0f} gaps ({short:.0f} us in those of at most 20)")
    for kind in (*KINDS, "all else"):
        print(f"  {kinds[kind, 'us']:9.1f} us {kinds[kind, 'launches']:6.0f} launches  {kind}")
    for (name, _), took in [each for each in names.most_common() if each[0][1] == "us"][:22]:
        print(f"    {took:9.1f} us {names[name, 'launches']:6.0f}  {name[:110]}")
    for gap, one, other in sorted(gaps, reverse=True)[:6]:
        print(f"    gap of {gap:7.1f} us between {one[:45]} and {other[:45]}")


def compared(case: tuple[int, int, int, int | None], chosen: argparse.Namespace, model: Any, roofline: Roofline, fused: dict[str, Any]) -> dict[str, Any]:
    """The line of a case: every way in turn, and the layers alone."""
    (rows, count, length, some), quick, on_gpu = case, chosen.quick or chosen.tiny, model.device.type == "cuda"
    asked, floor = asked_of(rows, count, length, some), roofline.seconds(rows, count, length)
    found: dict[str, Any] = {"rows": rows, "M": count, "L": length, "T": asked, "roofline": round(1e3 * floor, 3)}
    if not {*chosen.ways} <= {"loop", "captured"}:
        model_of("fused", model, fused)  # before the others: it moves the weights, which they record where they lie
    models = {way: model_of(way, model, fused) for way in chosen.ways if way not in ("joined", "compiled") or on_gpu}
    took: dict[str, list[float]] = {way: [] for way in models}
    for time in range(1 if quick else 3):
        for way in models if time % 2 else reversed(models):
            try:
                took[way].append(measure(models[way], rows, count, length, some, 10 if quick else chosen.steps))
            except (torch.OutOfMemoryError, remask.RemaskError) as error:
                found[f"{way} failed"] = str(error).splitlines()[0]
    for way in models:
        if not took[way]:
            continue
        seconds = statistics.median(took[way])
        found |= {way: round(1e3 * seconds, 3), f"{way} / roofline": round(seconds / floor, 3)}
        if way in fused and way != "joined":  # whose layers are those of `fused`
            found[f"{way} layers"] = round(1e3 * layers_alone(fused[way], rows, count, length, asked), 3)
            if asked < count:
                found[f"{way} layers, all states"] = round(1e3 * layers_alone(fused[way], rows, count, length), 3)
    if on_gpu:
        found["peak GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        torch.cuda.reset_peak_memory_stats()
    return found


@torch.inference_mode()
def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--shape", default="llada-8b")
    arguments.add_argument("--ways", nargs="+", default=list(WAYS))
    arguments.add_argument(
        "--cases", nargs="+", type=case_of, help="rows,M,L each, or with M = L rows,M,L,T, of which T are asked about; half of them, or 32 of 8 rows or more, if that is not said"
    )
    arguments.add_argument("--steps", type=int, default=40)
    arguments.add_argument("--quick", action="store_true", help="10 steps, one round")
    arguments.add_argument("--tiny", action="store_true")
    arguments.add_argument("--products", action="store_true")
    arguments.add_argument("--tiles", nargs="?", const="0/1", help="i/n: every n-th from the i-th, to compile in several processes")
    arguments.add_argument("--profile", action="store_true")
    arguments.add_argument("--all-states", action="store_true", help="the last layer makes the states of all positions, to compare with")
    chosen = arguments.parse_args()
    if chosen.all_states:
        remask.models.fused.TRIMMED = 0.0
    device = torch.device(chosen.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shape = "tiny-llada" if chosen.tiny else chosen.shape
    cases = chosen.cases or [(*case, None) for case in (TINY if chosen.tiny else CASES)]
    if chosen.tiles:
        SHAPES[shape] = SHAPES[shape] | {"n_layers": 1}
        share, shares = map(int, chosen.tiles.split("/"))
        return tiles(network(shape, chosen.device, dtype), dtype, share, shares)
    bandwidth, peak = ceilings(device, dtype, size=256 if chosen.tiny else 8192, gigabytes=0.02 if chosen.tiny else 4.0)
    print(f"{environment(device, dtype)}; copy {bandwidth / 1e12:.2f} TB/s, product {peak / 1e12:.1f} TFLOP/s; {shape}, random weights, scripted decoder", flush=True)
    model = network(shape, chosen.device, dtype)
    roofline, fused = Roofline.of(model, bandwidth, peak), {}
    if chosen.products:
        return products(model, dtype, (1, 4) if chosen.tiny else (1, 16, 32, 64, 128))
    if chosen.profile:
        for case in cases if chosen.cases else [(*case, None) for case in PROFILED]:
            profile(model_of(chosen.ways[-1] if len(chosen.ways) == 1 else "fused", model, fused), *case)
        return None
    for case in cases:
        print(json.dumps(compared(case, chosen, model, roofline, fused)), flush=True)


if __name__ == "__main__":
    main()

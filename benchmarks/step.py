"""Seconds of one step over the roofline, at LLaDA-8B's or Dream-7B's shape with random weights (see scripted.py).

    python benchmarks/step.py                            # on a GPU: the table, and where the time goes
    python benchmarks/step.py --products                 # every matrix product of a layer: ours and the library's, in bytes a second
    python benchmarks/step.py --tiny --device cpu        # the same code in seconds, for its errors, not its figures

A step is a whole one: window, reuse, layers, head, tail, decoder, edit, flags to the host. The decoder writes nothing, so that all steps are equal. M below L: `dual`
with a block of M; M = L: `fresh`. Ways: `loop` is the ordinary loop; `captured` records its network's own layers; `fused` joins matrices and uses kernels around
the products; `compiled` is that with torch.compile beyond 256 positions. `layers` is the network without head, tail, decoder and host, recorded alone. Medians of steps, and of
three rounds in which the ways take turns, in ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
from itertools import pairwise
from typing import Any

import torch
from scripted import PerStep, Roofline, canvas_of, ceilings, environment, fastest, marks, network

import remask
from remask.captured import Captured
from remask.kernels.graphs import Recorder
from remask.kernels.layer import linear_kernel, linear_twin
from remask.models.fused import Fused

CASES = ((1, 32, 512), (1, 128, 512), (1, 256, 512), (1, 512, 512), (1, 1024, 1024), (8, 32, 512), (32, 32, 512))
TINY = ((1, 8, 24), (1, 24, 24), (2, 8, 24))
WAYS = ("loop", "captured", "fused", "compiled")


def model_of(way: str, model: Any, fused: dict[str, Any]) -> Any:
    """The network as a way takes it; the joined weights are made once."""
    if way == "loop":
        return model
    if way == "captured":
        return Captured(model)
    if "fused" not in fused:
        fused["fused"] = Fused(model)
        fused["compiled"] = fused["fused"].compiled()
    return Captured(model, body=fused[way])


def measure(model: Any, rows: int, chosen: int, length: int, steps: int) -> float:
    """Median seconds of a step, the first ones (which are not recorded, or being recorded) left out."""
    parts: dict[str, Any] = {"decoder": PerStep(0)}
    if chosen < length:
        parts |= {"window": remask.Blocks(chosen), "reuse": remask.Dual()}
    canvas = canvas_of(model, rows, length - chosen, chosen) if chosen < length else canvas_of(model, rows, length // 2, length - length // 2)
    times, _ = marks(model, canvas, steps + 5, **parts)
    return statistics.median(later - earlier for earlier, later in pairwise(times[5:]))


def layers_alone(body: Fused, rows: int, chosen: int, length: int) -> float:
    """Seconds of the network's own part of a step."""
    canvas = canvas_of(body.model, rows, length - chosen, chosen) if chosen < length else canvas_of(body.model, rows, length // 2, length - length // 2)
    recorder = Recorder(canvas.tokens.device)
    place = torch.arange(length - chosen, length, device=canvas.tokens.device).expand(rows, chosen).contiguous()
    with torch.inference_mode():
        if chosen == length:
            return fastest(lambda: recorder(("alone", 0), lambda: body.whole(canvas, None, stores=False, padded=False)), canvas.tokens.device)
        _, store = body.whole(canvas, None, stores=True, padded=False)
        return fastest(lambda: recorder(("alone", 1), lambda: body.chosen(canvas, place, store, padded=False)), canvas.tokens.device)


def products(model: Any, dtype: torch.dtype, counts: tuple[int, ...]) -> None:
    """Each matrix of a layer at each number of rows, several copies in turn so that no cache holds them: bytes of weights a second, ours over the library's."""
    layer = Fused(model).layers[0]
    kernels = model.device.type == "cuda"
    for name, weight, more in (
        ("mix", layer.mix, {"norm": layer.norm, "eps": 1e-5}),
        ("out", layer.out, {}),
        ("gate_up", layer.gate_up, {"norm": layer.norm2, "eps": 1e-5, "gated": True}),
        ("down", layer.down, {}),
    ):
        copies = [weight.clone() for _ in range(4)]
        for rows in counts:
            x = torch.randn(rows, weight.shape[1], device=model.device, dtype=dtype)
            found: dict[str, Any] = {"matrix": name, "rows": rows, "megabytes": round(weight.numel() * weight.element_size() / 1e6, 1)}
            for way, function in (("library", linear_twin), *((("kernel", linear_kernel),) if kernels else ())):
                recorder = Recorder(model.device)

                def work(function: Any = function, recorder: Any = recorder, copies: Any = copies, x: Any = x, more: Any = more) -> Any:
                    return recorder(("products", 0), lambda: tuple(function(x, each, **more) for each in copies * 4))

                found[way] = round(16 * weight.numel() * weight.element_size() / fastest(work, model.device) / 1e9, 1)
            print(json.dumps(found | {"unit": "GB/s"}), flush=True)


@torch.inference_mode()
def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--shape", default="llada-8b")
    arguments.add_argument("--ways", nargs="+", default=list(WAYS))
    arguments.add_argument("--cases", nargs="+", help="rows,M,L each")
    arguments.add_argument("--steps", type=int, default=40)
    arguments.add_argument("--quick", action="store_true", help="10 steps, one round")
    arguments.add_argument("--tiny", action="store_true")
    arguments.add_argument("--products", action="store_true")
    chosen = arguments.parse_args()
    device = torch.device(chosen.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shape = "tiny-llada" if chosen.tiny else chosen.shape
    cases = [tuple(map(int, case.split(","))) for case in chosen.cases or ()] or (TINY if chosen.tiny else CASES)
    bandwidth, peak = ceilings(device, dtype, size=256 if chosen.tiny else 8192, gigabytes=0.02 if chosen.tiny else 4.0)
    print(f"{environment(device, dtype)}; copy {bandwidth / 1e12:.2f} TB/s, product {peak / 1e12:.1f} TFLOP/s; {shape}, random weights, scripted decoder", flush=True)
    model = network(shape, chosen.device, dtype)
    roofline, fused = Roofline.of(model, bandwidth, peak), {}
    if chosen.products:
        return products(model, dtype, (1, 4) if chosen.tiny else (1, 16, 32, 64, 128))
    for rows, count, length in cases:
        floor = roofline.seconds(rows, count, length)
        found: dict[str, Any] = {"rows": rows, "M": count, "L": length, "roofline": round(1e3 * floor, 3)}
        models = {way: model_of(way, model, fused) for way in chosen.ways if way != "compiled" or device.type == "cuda"}
        took: dict[str, list[float]] = {way: [] for way in models}
        for turn in range(1 if chosen.quick or chosen.tiny else 3):
            for way in models if turn % 2 else reversed(models):
                try:
                    took[way].append(measure(models[way], rows, count, length, 10 if chosen.quick or chosen.tiny else chosen.steps))
                except (torch.OutOfMemoryError, remask.RemaskError) as error:
                    found[f"{way} failed"] = str(error).splitlines()[0]
        for way in models:
            if not took[way]:
                continue
            seconds = statistics.median(took[way])
            found |= {way: round(1e3 * seconds, 3), f"{way} / roofline": round(seconds / floor, 3)}
            if way in fused:
                found[f"{way} layers"] = round(1e3 * layers_alone(fused[way], rows, count, length), 3)
        if device.type == "cuda":
            found["peak GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
            torch.cuda.reset_peak_memory_stats()
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

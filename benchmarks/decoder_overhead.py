"""Seconds of `Decoder.step` of each registered decoder, as a share of the forward that it follows.

    python benchmarks/decoder_overhead.py                                   # CPU, the shape of `demo`: 16 rows, 160 positions
    python benchmarks/decoder_overhead.py --device cuda --batch 8 --length 512 --vocabulary 126464 --forward 0.060

The belief is drawn once, as peaked as a trained network's; canvas and memory are those of the second step on, half of the canvas written. Each timing is the median of `repeats`
calls, forward and decoders in turn. What a decoder alone asks of the belief (softmax, top two, entropy) is counted as its own. On the CPU the forward is that of the
shipped checkpoint; `--forward` gives its seconds where the network is not here.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

import remask
from remask.decoders.base import View
from remask.evaluation.harness import environment
from remask.evaluation.sweeps import SWEEPS
from remask.models.shadow import places
from remask.prediction import LeftOut, Prediction
from remask.randomness import keyed_uniforms

DEFAULTS = {"spaced": "spaced:inner=(threshold)", "joint_threshold": SWEEPS["joint_threshold"][0]}
"""Decoders that have no defaults."""


def timed(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def scene(batch: int, length: int, vocabulary: int, device: torch.device) -> tuple[remask.Canvas, Callable[[Any, Any], View], torch.Tensor]:
    """A canvas half written, and what makes a fresh view of it: nothing that an earlier decoder asked for is kept."""
    generator = torch.Generator(device=device).manual_seed(0)
    logits = torch.randn(batch, length, vocabulary, generator=generator, device=device)
    best = torch.randint(0, vocabulary - 1, (batch, length), generator=generator, device=device)
    logits.scatter_(-1, best[..., None], 8 + 8 * torch.rand(batch, length, 1, generator=generator, device=device))
    logits[..., -1] = float("-inf")
    empty = remask.Canvas.from_prompts(torch.full((batch, length), vocabulary - 1, device=device), mask_id=vocabulary - 1)
    written = torch.rand(batch, length, generator=generator, device=device) < 0.5
    canvas = replace(empty, tokens=torch.where(written, best, empty.tokens))
    seeds = torch.arange(batch, device=device)

    def view(decoder: Any, memory: Any) -> View:
        asked = decoder.shadows(canvas, ~canvas.given, memory)
        left_out = None if asked is None else LeftOut(asked, places(asked), logits[:, : int(asked.sum(1).max())])
        prediction = Prediction.of(logits, logits, best, left_out)
        read = prediction if decoder.everywhere else prediction.at(canvas.masked)  # as the loop does
        return View(canvas, read, canvas.masked, torch.full_like(seeds, 3), seeds, keyed_uniforms, ~canvas.given)

    return empty, view, logits


def forward_of(model: Any, empty: remask.Canvas) -> Any:
    """A pass from tokens to logits."""
    canvas = replace(empty, tokens=(torch.arange(empty.tokens.numel(), device=empty.tokens.device) % (model.vocab_size - 1)).view(empty.shape), mask_id=model.mask_id)
    return model.head(model.forward(canvas)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=160)
    parser.add_argument("--vocabulary", type=int, default=0, help="0: the checkpoint's")
    parser.add_argument("--forward", type=float, default=0.0, help="seconds of a forward; 0: measure the checkpoint's")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--decoders", nargs="*", default=[*remask.decoders(), "starr:signals=distribution"])
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    model = None if chosen.forward else remask.load(chosen.model, device=device, dtype="float32" if device.type == "cpu" else None)
    vocabulary = chosen.vocabulary or (model.vocab_size if model is not None else 126464)
    empty, view, logits = scene(chosen.batch, chosen.length, vocabulary, device)
    parts = {name: remask.parse_decoder(DEFAULTS.get(name, name)) for name in chosen.decoders}
    seconds: dict[str, list[float]] = {name: [] for name in ("forward", *parts)}
    with torch.inference_mode():
        memories = {name: part.step(view(part, part.init(empty)), part.init(empty))[1] for name, part in parts.items()}
        for number in range(chosen.repeats + 1):
            if model is not None:
                seconds["forward"].append(timed(partial(forward_of, model, empty), device))
            for name, part in parts.items():
                fresh, memory = view(part, memories[name]), memories[name]
                seconds[name].append(timed(partial(part.step, fresh, memory), device))
            if number == 0:  # the first round warms up
                seconds = {name: [] for name in seconds}
    forward = chosen.forward or statistics.median(seconds.pop("forward"))
    seconds.pop("forward", None)
    shape = f"{chosen.batch} rows, {chosen.length} positions, vocabulary {vocabulary}"
    print(f"{shape}, forward {1e3 * forward:.2f} ms, {environment(model or logits)}, {torch.get_num_threads()} threads")
    for name, values in sorted(seconds.items(), key=lambda item: -statistics.median(item[1])):
        median = statistics.median(values)
        print(f"  {name:28} {1e3 * median:9.3f} ms   {100 * median / forward:6.2f} %")


if __name__ == "__main__":
    main()

"""What the engine asks of the device, by the network's own forward and on fused layers, counted on a CPU: forwards, positions, and operations.

    python benchmarks/launches.py                        # the queue of docs/findings/engine.md: 96 requests, 16 rows at once
    python benchmarks/launches.py --batch 1 --rows 4

The network has LLaDA-8B's layers and tiny widths. Positions of all forwards: as they stand on the canvases, as they enter the products of the layers, and as they enter the head.
Operations: calls of torch that compute something in one step of the first rows together. What is one kernel on a GPU counts as one: the norms, and what fused layers do around
their products. What a library's product or attention launches beside itself is not seen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).resolve().parent))
from engine import LLADA_8B, WAYS, requests  # pyright: ignore[reportImplicitRelativeImport]

from remask.engine import Engine
from remask.models import attention, fused
from remask.models.fused_model import FusedModel
from remask.models.llada import LLaDA
from remask.training.run import build

TINY = {**LLADA_8B, "d_model": 16, "n_heads": 2, "mlp_hidden_size": 16, "vocab_size": 300, "mask_token_id": 299, "eos_token_id": 298}
FREE = (
    "view",
    "reshape",
    "transpose",
    "split",
    "chunk",
    "slice",
    "select.int",
    "unsqueeze",
    "expand",
    "alias",
    "detach",
    "aten.t.",
    "permute",
    "empty",
    "unbind",
    "squeeze",
    "_local_scalar",
)
KERNELS = ("normed", "attend_few", "attend_rows")


class Counter(TorchDispatchMode):
    """Calls that compute something; nothing inside a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.inside = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if not self.inside and not any(part in name for part in FREE):
            self.calls += 1
        return func(*args, **(kwargs or {}))

    def one(self, function: Callable[..., Any], launches: Callable[..., int] = lambda *_, **__: 1) -> Callable[..., Any]:
        """The function, counted as so many launches."""

        def called(*args: Any, **kwargs: Any) -> Any:
            self.calls += launches(*args, **kwargs) if not self.inside else 0
            self.inside += 1
            try:
                return function(*args, **kwargs)
            finally:
                self.inside -= 1

        return called


def as_on_a_gpu(engine: Engine, forward_cost: int) -> Engine:
    """Passes as they are there: on a CPU the ordinary loop leaves out padding by other means."""
    engine._passes, engine.forward_cost = engine.model, forward_cost
    return engine


def operations(model: Any, asked: list[Any], layers: bool) -> int:
    """Of the engine's second step, all rows in one forward; with layers=False of all that is not a layer."""
    engine = as_on_a_gpu(Engine(model, max_rows=len(asked), queue=len(asked), memory=1 << 50), 1 << 20)
    for request in asked:
        engine.submit(request)
    engine.step()
    counter = Counter()
    with ExitStack() as stack:
        normal = counter.one(functional.rms_norm)
        stack.enter_context(mock.patch.object(attention.RMSNorm, "forward", lambda self, x: self.weight * normal(x, x.shape[-1:], None, self.eps)))
        for name in KERNELS:
            stack.enter_context(mock.patch.object(fused, name, counter.one(getattr(fused, name))))
        stack.enter_context(mock.patch.object(fused, "mix", counter.one(fused.mix, lambda *_, slot=None, **__: 2 if slot is None else 3)))
        stack.enter_context(mock.patch.object(fused, "added", counter.one(fused.added, lambda *_, **__: 2)))
        stack.enter_context(mock.patch.object(fused, "linear", counter.one(fused.linear, lambda *_, gated=False, **__: 1 + gated)))
        if not layers:
            block = type(model.parts["blocks"][0])
            stack.enter_context(mock.patch.object(block, "forward", counter.one(block.forward, lambda *_, **__: 0)))
            stack.enter_context(mock.patch.object(fused, "run_layer", counter.one(fused.run_layer, lambda *_, **__: 0)))
        stack.enter_context(counter)
        engine.step()
    return counter.calls


def queue(model: Any, asked: list[Any], batch: int) -> dict[str, int]:
    """Forwards and positions of all requests, `batch` at once."""
    counts = {"forwards": 0, "on the canvases": 0, "in the products": 0, "in the head": 0}
    kind = type(model)
    engine = as_on_a_gpu(Engine(model, max_rows=batch, queue=len(asked), memory=1 << 50), FusedModel.forward_cost if kind is FusedModel else 256)
    forward, head, first = kind.forward, kind.head, fused.Fused.through

    def passed(self: Any, canvas: Any, *rest: Any) -> Any:
        counts["forwards"] += 1
        counts["on the canvases"] += canvas.tokens.numel()
        counts["in the products"] += canvas.tokens.numel() if kind is LLaDA else 0
        return forward(self, canvas, *rest)

    def through(self: Any, canvas: Any, place: Any, store: Any, *, padded: bool, dense: Any = None) -> Any:
        counts["in the products"] += canvas.tokens.numel() if dense is None else len(dense.at)
        return first(self, canvas, place, store, padded=padded, dense=dense)

    def headed(self: Any, hidden: Any) -> Any:
        counts["in the head"] += hidden.shape[:-1].numel()
        return head(self, hidden)

    engine_rows = [engine.submit(request) for request in asked]
    for name in counts:
        counts[name] = 0
    with mock.patch.object(kind, "forward", passed), mock.patch.object(kind, "head", headed), mock.patch.object(fused.Fused, "through", through):
        while engine.step():
            pass
    assert all(ticket.result(0).done for ticket in engine_rows)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--prompt", type=int, nargs=2, default=(64, 256))
    parser.add_argument("--new", type=int, nargs=2, default=(32, 128))
    parser.add_argument("--decoder", nargs="+", default=["low_confidence:steps=16"])
    arguments = parser.parse_args()
    arguments.task, arguments.early_stop = "", False
    torch.manual_seed(0)
    model = build(TINY, torch.device("cpu")).eval().requires_grad_(False)
    asked = requests(arguments, model)
    for way, made in WAYS.items():
        network = made(model)
        whole, rest = (operations(network, asked[: arguments.batch], layers) for layers in (True, False))
        counts = ", ".join(f"{name} {count:,}" for name, count in queue(network, asked, arguments.batch).items())
        print(f"{way}: operations a step {whole}, a layer {(whole - rest) / TINY['n_layers']:g}, beside layers {rest}; {counts}", flush=True)


if __name__ == "__main__":
    main()

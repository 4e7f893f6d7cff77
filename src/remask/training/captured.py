"""One training step as a CUDA graph: a small network's step is bound by the launches of its kernels, and a replay is one launch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from remask.training.data import Batch

Update = Callable[[Batch, tuple[Tensor, ...]], Tensor]
"""batch, what its corruption returned -> the loss; the weights have moved."""


class CapturedUpdate:
    """Calls `update`, and after `warm` calls with a shape records it and replays the recording; everything on one GPU."""

    def __init__(self, update: Update, *, warm: int = 3) -> None:
        self.update, self.warm = update, warm
        self.calls: Counter[torch.Size] = Counter()
        self.graphs: dict[torch.Size, tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}
        self.pool = torch.cuda.graph_pool_handle()
        self.beside = torch.cuda.Stream()

    def __call__(self, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        shape = batch.tokens.shape
        self.calls[shape] += 1
        if self.calls[shape] <= self.warm or batch.weights is None:
            return self.aside(batch, noise)
        if shape not in self.graphs:
            self.graphs[shape] = self.capture(batch, batch.weights, noise)
        graph, places, loss = self.graphs[shape]
        for place, value in zip(places, (batch.tokens, batch.eligible, batch.weights, *noise), strict=True):
            place.copy_(value)
        graph.replay()
        return loss

    def aside(self, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        """An ordinary call, on a stream that can be captured."""
        now = torch.cuda.current_stream()
        self.beside.wait_stream(now)
        with torch.cuda.stream(self.beside):
            loss = self.update(batch, noise)
        now.wait_stream(self.beside)
        return loss

    def capture(self, batch: Batch, weights: Tensor, noise: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        """The graph, where its inputs are read, and its loss. Recording changes nothing; the data thread may go on meanwhile."""
        tokens, eligible, weights, *held = places = [value.clone() for value in (batch.tokens, batch.eligible, weights, *noise)]
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.beside, capture_error_mode="thread_local"):
            loss = self.update(Batch(tokens, eligible, weights), tuple(held))
        return graph, places, loss

"""Functions of fixed tensors, recorded as CUDA graphs and replayed; on the CPU they are simply called."""

from __future__ import annotations

import dataclasses
import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from remask.errors import INSTEAD, RemaskError

Tree = Any
"""A tensor, None, a constant, or a tuple or dataclass of trees."""


def mapped(change: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """`change` of the tensors at the same places of trees of one form; constants are the first tree's."""
    if isinstance(tree, Tensor):
        return change(tree, *others)
    if isinstance(tree, tuple):
        return tuple(mapped(change, *parts) for parts in zip(tree, *others, strict=True))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        names = [field.name for field in dataclasses.fields(tree)]
        return dataclasses.replace(tree, **{name: mapped(change, *(getattr(each, name) for each in (tree, *others))) for name in names})
    return tree


def form(tree: Tree) -> Hashable:
    """What two trees share that can be copied into one another: shapes, types, and where there is nothing."""
    if isinstance(tree, Tensor):
        return (tuple(tree.shape), tree.dtype)
    if isinstance(tree, tuple):
        return tuple(form(part) for part in tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return (type(tree), *(form(getattr(tree, field.name)) for field in dataclasses.fields(tree)))
    return None if tree is None else type(tree)


def cloned(tree: Tree) -> Tree:
    """The same, sharing no memory with it; what stands in it twice is copied once, and tensors of one type by one launch."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    mapped(lambda tensor: found.setdefault(id(tensor), (tensor, torch.empty_like(tensor, memory_format=torch.contiguous_format))), tree)
    together([(new, old) for old, new in found.values()])
    return mapped(lambda tensor: found[id(tensor)][1], tree)


def together(pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Copy the second of each pair into the first, those of one type by one launch."""
    kinds: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}
    for new, old in pairs:
        kinds.setdefault(new.dtype, []).append((new, old))
    for some in kinds.values():
        torch._foreach_copy_([new for new, _ in some], [old for _, old in some])  # pyright: ignore[reportPrivateImportUsage]


def copied(place: Tree, value: Tree) -> None:
    """Write the tensors of `value` into those of `place`, which may be inputs of theirs: first what must be saved from being overwritten, then all."""
    if form(place) != form(value):
        raise RemaskError(f"the memory of a part changed its form between two passes; a captured run needs one form: {INSTEAD}")
    pairs: list[tuple[Tensor, Tensor]] = []
    mapped(lambda old, new: pairs.append((old, new)), place, value)
    memory = {old.untyped_storage().data_ptr() for old, _ in pairs}
    moved = [(old, new.clone() if new.untyped_storage().data_ptr() in memory else new) for old, new in pairs if old is not new]
    together(moved)


class Recorder:
    """Calls functions that read and write fixed tensors only; where it records, the second call with a key is captured and later ones replay it.

    most: graphs kept, the least recently used goes first. slow: calls so far that were more than a replay, also of what is forgotten since; 0 where nothing is recorded.
    All share one pool of memory, so what a call returns holds until the next call.
    """

    def __init__(self, device: torch.device, *, most: int = 32) -> None:
        self.device, self.records, self.most = device, device.type == "cuda", most
        self.met: set[tuple[Hashable, Hashable]] = set()
        self.slow = 0
        self.graphs: OrderedDict[tuple[Hashable, Hashable], tuple[torch.cuda.CUDAGraph, Tree]] = OrderedDict()
        if self.records:
            self.beside = torch.cuda.Stream(device)

    def __call__(self, key: tuple[Hashable, Hashable], function: Callable[[], Tree]) -> Tree:
        if not self.records:
            return function()
        if key not in self.met:
            self.met.add(key)
            self.slow += 1
            return self.aside(function)
        if key not in self.graphs:
            self.slow += 1
            self.graphs[key] = self.capture(function)
            while len(self.graphs) > self.most:
                self.graphs.popitem(last=False)
        self.graphs.move_to_end(key)
        graph, result = self.graphs[key]
        graph.replay()
        return result

    def passed_by(self) -> None:
        """Count a call that could have been recorded and was made without it."""
        self.slow += self.records

    def forget(self, owner: Hashable) -> None:
        """Drop what was recorded under keys (owner, ...)."""
        self.met = {key for key in self.met if key[0] != owner}
        for key in [key for key in self.graphs if key[0] == owner]:
            del self.graphs[key]

    def aside(self, function: Callable[[], Tree]) -> Tree:
        """An ordinary call on the stream that is captured later, so that lazily made handles exist there."""
        now = torch.cuda.current_stream()
        self.beside.wait_stream(now)
        with torch.cuda.stream(self.beside):
            result = function()
        now.wait_stream(self.beside)
        mapped(lambda tensor: tensor.record_stream(now), result)
        return result

    def capture(self, function: Callable[[], Tree]) -> tuple[torch.cuda.CUDAGraph, Tree]:
        """Recording runs nothing. The garbage collector rests meanwhile: freeing another graph would spoil this one."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        if not self.graphs:
            self.pool = torch.cuda.graph_pool_handle()  # one whose graphs are all gone takes no more
        collects = gc.isenabled()
        gc.disable()
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.beside, capture_error_mode="thread_local"):
                result = function()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            why = str(error).splitlines()[0]
            raise RemaskError(f"a part waits for the device in the middle of a step and cannot be captured ({why}); {INSTEAD}") from error
        finally:
            if collects:
                gc.enable()
        return graph, result


class Late:
    """A small tensor on its way to the host: `read` waits for it alone, not for work that was queued behind it."""

    def __init__(self, x: Tensor) -> None:
        self.event = None
        if not x.is_cuda:
            self.host = x
            return
        self.host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        self.host.copy_(x, non_blocking=True)
        self.event = torch.cuda.Event()
        self.event.record()

    def read(self) -> list[int]:
        """Its numbers."""
        if self.event is not None:
            self.event.synchronize()
        return self.host.tolist()

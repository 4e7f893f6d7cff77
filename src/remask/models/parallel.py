"""One network over several processes and GPUs: its matrices split by torch's tensor parallelism (`torchrun --nproc-per-node N`).

DTensor cuts the matrices and sends every process its share; from then on each keeps plain tensors and calls the collectives itself, two a layer, since an operation on a
DTensor costs the host some hundred microseconds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn import functional

from remask.errors import RemaskError
from remask.models.dream import Dream
from remask.models.llada import LLaDA

SPLIT = {
    LLaDA: {"q_proj": 0, "k_proj": 0, "v_proj": 0, "ff_proj": 0, "up_proj": 0, "attn_out": 1, "ff_out": 1},
    Dream: {"self_attn.q_proj": 0, "self_attn.k_proj": 0, "self_attn.v_proj": 0, "mlp.gate_proj": 0, "mlp.up_proj": 0, "self_attn.o_proj": 1, "mlp.down_proj": 1},
}
"""Of a layer: matrices split by their outputs (0: whole heads, parts of the feed-forward) and by their inputs (1: summed over the processes)."""


class Split(nn.Module):
    """A share of a linear layer's outputs: (..., inputs) -> (..., this process's outputs)."""

    def __init__(self, whole: nn.Linear, mesh: DeviceMesh) -> None:
        super().__init__()
        self.weight = share(whole.weight, mesh, 0)
        self.bias = None if whole.bias is None else share(whole.bias, mesh, 0)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


class Summed(nn.Module):
    """A share of a linear layer's inputs: (..., this process's inputs) -> (..., outputs), summed over the processes."""

    def __init__(self, whole: nn.Linear, mesh: DeviceMesh) -> None:
        super().__init__()
        self.weight, self.bias = share(whole.weight, mesh, 1), whole.bias
        self.group: ProcessGroup = mesh.get_group()

    def forward(self, x: Tensor) -> Tensor:
        made = functional.linear(x, self.weight)
        distributed.all_reduce(made, group=self.group)
        return made if self.bias is None else made + self.bias


class Gathered(Split):
    """A share of a linear layer's outputs, and those of all processes side by side: (..., inputs) -> (..., outputs)."""

    def __init__(self, whole: nn.Linear, mesh: DeviceMesh) -> None:
        super().__init__(whole, mesh)
        self.group: ProcessGroup = mesh.get_group()
        self.processes, self.outputs = mesh.size(), whole.out_features
        self.most = -(-self.outputs // self.processes)  # outputs of the first process: a last one may hold fewer, down to none

    def forward(self, x: Tensor) -> Tensor:
        own = super().forward(x)
        own = functional.pad(own, (0, self.most - own.shape[-1])).contiguous()
        parts = [torch.empty_like(own) for _ in range(self.processes)]
        distributed.all_gather(parts, own, group=self.group)
        return torch.cat(parts, -1)[..., : self.outputs]


def tensor_parallel(model: LLaDA | Dream, mesh: DeviceMesh | None = None) -> LLaDA | Dream:
    """The same network, this process holding its share of every layer and of the head; all processes then decode the same rows and get the same tokens.

    mesh: one-dimensional; None takes every process of the group that `torchrun` started, on the network's device. The network is moved to the mesh's kind of device, one
    whole matrix at a time, so that one on the CPU may be larger than a GPU. Over one process it stays whole. Embeddings, norms and what is added after a sum are held
    whole, as each process has them. No gradient passes the collectives. The fused layers do not take it. `Captured` does and records the collectives too: let go of it
    and call gc.collect() before the group is destroyed, which waits for its graphs.
    """
    if type(model) not in SPLIT:
        raise RemaskError(f"{type(model).__name__} cannot be split over processes; LLaDA and Dream can")
    if model.processes > 1:
        raise RemaskError(f"the network is split over {model.processes} processes already; load it anew")
    mesh = mesh or init_device_mesh(model.device.type, (_world(),))
    if mesh.ndim != 1:
        raise RemaskError(f"mesh has {mesh.ndim} dimensions; pass one of them, as mesh[name]")
    size = mesh.size()
    there = model.device.type == mesh.device_type  # and then of whatever index: this process's own
    if size == 1:
        return model if there else model.to(mesh.device_type)
    blocks: Any = model.parts["blocks"] if isinstance(model, LLaDA) else model.model["layers"]
    attentions = [block if isinstance(model, LLaDA) else block.self_attn for block in blocks]
    for attention in attentions:
        if attention.key_heads % size:
            raise RemaskError(f"{attention.key_heads} key heads do not divide over {size} processes; use a divisor")
    for weight in (block.get_submodule(name).weight for block in blocks for name in SPLIT[type(model)]):
        if type(weight) is not nn.Parameter:  # those of torchao are of classes of their own
            raise RemaskError(f"weights of {type(weight).__name__} cannot be cut; leave out float8, or the split")
    for block, attention in zip(blocks, attentions, strict=True):
        attention.heads, attention.key_heads = attention.heads // size, attention.key_heads // size
        for name, by in SPLIT[type(model)].items():
            replace(block, name, Summed if by else Split, mesh)
    if isinstance(model, LLaDA):
        if "ff_out" in model.parts:
            replace(model.parts, "ff_out", Gathered, mesh)
    elif model.lm_head is not None:
        replace(model, "lm_head", Gathered, mesh)
    model.processes = size
    return model if there else model.to(mesh.device_type)  # what is held whole


def replace(module: nn.Module, name: str, kind: type[Split | Summed], mesh: DeviceMesh) -> None:
    """Put this process's share of a linear layer, by its dotted name below `module`, in its place."""
    path, _, last = name.rpartition(".")
    whole = module.get_submodule(name)
    assert isinstance(whole, nn.Linear)
    module.get_submodule(path).add_module(last, kind(whole, mesh))


def share(tensor: Tensor, mesh: DeviceMesh, dimension: int) -> nn.Parameter:
    """This process's part of what process 0 holds, cut along a dimension, in memory of its own."""
    cut: DTensor = distribute_tensor(tensor.detach(), mesh, [Shard(dimension)])
    return nn.Parameter(cut.to_local().clone(), requires_grad=False)


def _world() -> int:
    if not distributed.is_initialized():
        raise RemaskError("no process group; start with torchrun --nproc-per-node N and call torch.distributed.init_process_group first")
    return distributed.get_world_size()

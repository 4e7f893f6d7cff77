"""One network over several processes and GPUs: its matrices split by torch's tensor parallelism (`torchrun --nproc-per-node N`)."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from remask.errors import RemaskError
from remask.models.dream import Dream
from remask.models.llada import LLaDA

SPLIT = {
    LLaDA: {"q_proj": 0, "k_proj": 0, "v_proj": 0, "ff_proj": 0, "up_proj": 0, "attn_out": 1, "ff_out": 1},
    Dream: {"self_attn.q_proj": 0, "self_attn.k_proj": 0, "self_attn.v_proj": 0, "mlp.gate_proj": 0, "mlp.up_proj": 0, "self_attn.o_proj": 1, "mlp.down_proj": 1},
}
"""Of a layer: matrices split by their outputs (0: whole heads, parts of the feed-forward) and by their inputs (1: summed over the processes)."""


def tensor_parallel(model: LLaDA | Dream, mesh: DeviceMesh | None = None) -> LLaDA | Dream:
    """The same network, this process holding its share of every layer and of the head; all processes then decode the same rows and get the same tokens.

    mesh: one-dimensional; None takes every process of the group that `torchrun` started. Embeddings are held whole. The fused layers do not take it.
    """
    if type(model) not in SPLIT:
        raise RemaskError(f"{type(model).__name__} cannot be split over processes; LLaDA and Dream can")
    mesh = mesh or init_device_mesh(model.device.type, (_world(),))
    size = mesh.size()
    blocks: Any = model.parts["blocks"] if isinstance(model, LLaDA) else model.model["layers"]
    for block in blocks:
        attention = block if isinstance(model, LLaDA) else block.self_attn
        if attention.key_heads % size:
            raise RemaskError(f"{attention.key_heads} key heads do not divide over {size} processes; use a divisor")
        attention.heads, attention.key_heads = attention.heads // size, attention.key_heads // size
        parallelize_module(block, mesh, {name: RowwiseParallel() if by else ColwiseParallel() for name, by in SPLIT[type(model)].items()})
    last: nn.Module | None = model.parts._modules.get("ff_out") if isinstance(model, LLaDA) else model.lm_head
    if last is not None:
        parallelize_module(last, mesh, ColwiseParallel(output_layouts=Replicate()))
    return model


def _world() -> int:
    import torch.distributed as distributed

    if not distributed.is_initialized():
        raise RemaskError("no process group; start with torchrun --nproc-per-node N and call torch.distributed.init_process_group first")
    return distributed.get_world_size()

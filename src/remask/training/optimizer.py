"""Muon for the matrices of the blocks, AdamW for the rest.

Muon (K. Jordan, 2024) replaces the momentum of a matrix by the nearest orthogonal one, found by five Newton-Schulz
steps. Matrices of one shape go through them as one batch, which makes it nearly free for small models.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from remask.training import listwise

QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """(K, rows, columns) -> singular values near 1, in bfloat16."""
    a, b, c = QUINTIC
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; the update's root mean square is that of a unit step for every shape.

    Without weight decay the spectral norm of a matrix has no bound, and attention without normalised queries and keys
    diverges; with it the norm stays below 1 / weight_decay. Whole lists go through one kernel: a small model's step is
    bound by launches.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float | Tensor, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for shape, parameters in shapes.items():
                gradients: list[Tensor] = [parameter.grad for parameter in parameters if parameter.grad is not None]
                momenta = [self._momentum(parameter) for parameter in parameters]
                listwise.lerp_(momenta, gradients, 1 - group["momentum"])
                ahead = torch.stack(gradients).lerp_(torch.stack(momenta), group["momentum"])
                updates = orthogonalise(ahead).float().mul_(group["lr"] * -(max(1.0, shape[0] / shape[1]) ** 0.5))
                listwise.mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                listwise.add_(parameters, list(updates.unbind()))

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        state: dict[str, Any] = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


def make_optimizers(model: nn.Module, *, matrix_rate: float, other_rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon over 2-dimensional weights inside `blocks`, AdamW over embeddings, heads, norms and biases.

    On a GPU the rates are tensors, which a captured step reads anew at every replay.
    """
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and ".blocks." in name]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    gpu = others[0].is_cuda

    def rate(value: float) -> Any:
        return torch.tensor(value, device=others[0].device) if gpu else value

    return [
        Muon(matrices, lr=rate(matrix_rate), weight_decay=weight_decay),
        torch.optim.AdamW(others, lr=rate(other_rate), betas=(0.9, 0.98), weight_decay=0.0, fused=gpu, capturable=gpu),
    ]

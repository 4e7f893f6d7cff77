"""An exponential moving average of weights; its early steps are shorter, so that it forgets the initialisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from remask.training import listwise


class Average:
    """tensors: name -> float32 average. After n updates the decay is min(decay, (n + 1) / (n + 10))."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.tensors = {name: parameter.detach().float().clone() for name, parameter in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the weights of the model, after one more step of its own."""
        self.updates += 1
        decay = min(self.decay, (self.updates + 1) / (self.updates + 10))
        listwise.lerp_(list(self.tensors.values()), list(model.parameters()), 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Overwrite the weights of a model of the same names."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.tensors[name])

    def load(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Continue from saved averages."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])
        self.updates = updates

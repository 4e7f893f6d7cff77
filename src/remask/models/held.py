"""Whether the weights of a network still lie where something that was made of them left them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from remask.errors import RemaskError


class Held:
    """The places of a network's weights, noted when it is made; `check` raises if they have others: after a split, float8, a move, or weights put in anew.

    What is written into weights where they lie, as training does, goes unnoticed, and needs no notice. what: was made of them, with its verb, for the error.
    model: a module, or a wrapped denoiser with one as its `model`; of any other nothing is known.
    """

    def __init__(self, model: Any, what: str) -> None:
        self.model, self.what = model, what
        self.places = places(model)

    def check(self) -> None:
        """Raise RemaskError unless the weights lie where they lay."""
        if places(self.model) != self.places:
            raise RemaskError(f"weights of the network were split, moved, turned into float8 or put in anew after {self.what} made of them; make that again")


def places(model: Any) -> list[int]:
    """Where the memory of each parameter begins."""
    while not isinstance(model, nn.Module) and hasattr(model, "model"):
        model = model.model
    return list(addresses(model.parameters())) if isinstance(model, nn.Module) else []


def addresses(tensors: Iterable[Tensor]) -> Iterable[int]:
    """Of plain tensors their own, of others (float8) those of what they are made of."""
    for tensor in tensors:
        if type(tensor) is not nn.Parameter and is_traceable_wrapper_subclass(tensor):
            yield from addresses(getattr(tensor, name) for name in tensor.__tensor_flatten__()[0])
        else:
            yield tensor.data_ptr()

"""A test double for a device that must not be waited for: what needs the host's answer, or its memory, is counted, on a CPU."""

from collections import Counter
from contextlib import ExitStack
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

READS = ("__bool__", "__int__", "__float__", "__index__", "item", "tolist", "numpy", "cpu")
SHAPES = ("nonzero", "masked_select", "_unique2", "unique_dim", "repeat_interleave")
MADE = ("tensor", "as_tensor", "asarray", "from_numpy")


def moves(_, *args, **kwargs):
    """Whether arguments of `to` name a device, or a tensor that is on one."""
    return any(isinstance(each, torch.device | str | torch.Tensor) for each in (*args, *kwargs.values()))


class Waits(TorchDispatchMode):
    """Counts, inside it, what a CUDA graph cannot hold: numbers that are read, shapes that depend on values, tensors made of Python lists, tensors that are
    brought to a device.

    Here all are on one, so a move is told by its being asked for: what is kept on the device asks for none.
    """

    def __enter__(self):
        self.met, self.patches = Counter(), ExitStack()
        for name in READS:
            self.patches.enter_context(mock.patch.object(torch.Tensor, name, self.counted(name, getattr(torch.Tensor, name))))
        for name in MADE:
            self.patches.enter_context(mock.patch.object(torch, name, self.counted(name, getattr(torch, name))))
        for name in ("to", "cuda"):
            self.patches.enter_context(mock.patch.object(torch.Tensor, name, self.counted(name, getattr(torch.Tensor, name), moves)))
        return super().__enter__()

    def __exit__(self, *error):
        self.patches.close()
        return super().__exit__(*error)

    def counted(self, name, function, when=lambda *args, **kwargs: True):
        def call(*args, **kwargs):
            if when(*args, **kwargs):
                self.met[name] += 1
            return function(*args, **kwargs)

        return call

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in SHAPES or (
            name.startswith("index") and len(args) > 1 and isinstance(args[1], list | tuple) and any(each is not None and each.dtype == torch.bool for each in args[1])
        ):
            self.met[name] += 1
        return function(*args, **(kwargs or {}))

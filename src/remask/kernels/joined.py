"""Many small operations as the few launches that torch's compiler makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from remask.kernels.graphs import mapped

Tree = Any


class Joined:
    """`function` of trees of tensors (remask.kernels.graphs), traced and compiled at its first call, for the shapes and constants of that call.

    Nothing in it may depend on values, as in a recording; compiling takes seconds.
    """

    def __init__(self, function: Callable[..., Tree]) -> None:
        self.function = function
        self.compiled: Callable[..., Any] | None = None
        self.made: Tree = None

    def __call__(self, *trees: Tree) -> Tree:
        leaves = flat(trees)
        if self.compiled is None:
            self.compiled = self.compile(trees, leaves)
        found = iter(self.compiled(*leaves))
        return mapped(lambda _: next(found), self.made)

    def compile(self, trees: Tree, leaves: list[Tensor]) -> Callable[..., Any]:
        """From tensors of the same form: what inference mode made cannot be traced."""
        from torch.fx.experimental.proxy_tensor import make_fx

        def work(*leaves: Tensor) -> list[Tensor]:
            given = iter(leaves)
            self.made = self.function(*mapped(lambda _: next(given), trees))
            return flat(self.made)

        with torch.inference_mode(False), torch.no_grad():
            examples = [torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=leaf.device).copy_(leaf.clone()) for leaf in leaves]
            graph = make_fx(work)(*examples).to(leaves[0].device)  # numbers that were written into tensors lie on the host
            made: Callable[..., Any] = torch._inductor.compile(graph, examples)  # pyright: ignore[reportAssignmentType, reportPrivateImportUsage, reportArgumentType]
        self.made = mapped(lambda _: examples[0], self.made)  # its form; what tracing made is dropped
        return made


def flat(tree: Tree) -> list[Tensor]:
    """The tensors of a tree, in order."""
    found: list[Tensor] = []
    mapped(found.append, tree)
    return found

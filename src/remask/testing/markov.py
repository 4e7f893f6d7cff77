"""The exact denoiser: the posterior of a Markov chain by forward-backward, in float64."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.models.shadow import places
from remask.models.store import Chosen, Store


class MarkovDenoiser:
    """p(x_i | the other visible tokens) of a Markov chain, exactly.

    initial: (V,) law of the first token.  transition: (V, V), rows sum to 1.  The mask id is V, the last column of the
    logits, which is -1e6.  Rows of different length are chains of their own length.  At visible positions the law is
    leave-one-out. `calls` and `computed` count network evaluations and rows times positions.
    """

    eos_ids: tuple[int, ...] = ()
    max_length: int | None = None
    evaluations = 1
    shift = 0

    def __init__(self, initial: Tensor, transition: Tensor) -> None:
        self.initial = initial.double() / initial.double().sum()
        self.transition = transition.double() / transition.double().sum(1, keepdim=True)
        self.mask_id = initial.shape[0]
        self.calls = 0
        self.computed = 0

    def forward(self, canvas: Canvas, chosen: Chosen | None = None, store: Any = None) -> tuple[Tensor, Any]:
        """(B, L, V) log posteriors, or (B, M, V) at the chosen positions; it has no keys and values, so the store is empty."""
        self.calls += 1
        found = whole = self.posterior(canvas.tokens).clamp(min=1e-300).log()
        if chosen is None or chosen.place is None:
            self.computed += int(canvas.real.sum())
        else:
            self.computed += chosen.place.numel()
            found = chosen.take(found)
        if canvas.shadows is not None:  # every row is leave-one-out already
            self.computed += int(canvas.shadows.sum())
            found = torch.cat([found, Chosen(places(canvas.shadows)).take(whole)], 1)
        return found, None if chosen is None else Store((), ())

    def head(self, hidden: Tensor) -> Tensor:
        """Logits with the mask's column."""
        return torch.cat([hidden, torch.full_like(hidden[..., :1], -1e6)], dim=-1)

    def logits(self, tokens: Tensor, attention_mask: Tensor | None = None, sigma: Tensor | None = None) -> Tensor:
        """(B, L, V + 1) float64."""
        return self.head(self.posterior(tokens).clamp(min=1e-300).log())

    def posterior(self, tokens: Tensor) -> Tensor:
        """(B, L, V) leave-one-out posteriors. Positions masked at the end sum out, so right padding changes nothing."""
        known = torch.nn.functional.one_hot(tokens.clamp(max=self.mask_id - 1), self.mask_id).double()
        return self.leave_one_out(torch.where((tokens == self.mask_id)[..., None], 1.0, known))

    def leave_one_out(self, evidence: Tensor) -> Tensor:
        """(B, L, V) posteriors given the evidence p(seen_i | x_i) of all other positions, (B, L, V), up to a factor a position."""
        length = evidence.shape[1]
        forward = [self.initial.expand(evidence.shape[0], -1)]
        for i in range(1, length):
            message = ((forward[-1] * evidence[:, i - 1])[:, :, None] * self.transition).sum(1)  # no matrix product, whose rounding may depend on the number of rows
            forward.append(message / message.sum(-1, keepdim=True))
        backward = [torch.ones_like(forward[0])]
        for i in range(length - 1, 0, -1):
            message = ((evidence[:, i] * backward[-1])[:, None] * self.transition).sum(2)
            backward.append(message / message.sum(-1, keepdim=True))
        joint = torch.stack(forward, 1) * torch.stack(backward[::-1], 1)
        return joint / joint.sum(-1, keepdim=True)

    def log_likelihood(self, tokens: Tensor) -> Tensor:
        """(B,) exact log-likelihood of complete rows."""
        steps = self.transition.log()[tokens[:, :-1], tokens[:, 1:]]
        return self.initial.log()[tokens[:, 0]] + steps.sum(1)

    def sample(self, rows: int, length: int, seed: int = 0) -> Tensor:
        """(rows, length) int64 draws from the chain."""
        generator = torch.Generator().manual_seed(seed)
        tokens = [torch.multinomial(self.initial.expand(rows, -1), 1, generator=generator)[:, 0]]
        for _ in range(length - 1):
            tokens.append(torch.multinomial(self.transition[tokens[-1]], 1, generator=generator)[:, 0])
        return torch.stack(tokens, 1)

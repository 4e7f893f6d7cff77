"""DSL (arXiv 2602.16169 and 2605.12836): an MDLM that reads the continuous states of the localisation channel.

Reconstruction from the abstracts and the public code; config.json is MDLM's with "architectures": ["DSL"], `code_dim` and, if not 100, `snr_max`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from remask.channel import endpoints, tilt, unit
from remask.citation import Paper
from remask.errors import RemaskError
from remask.models.attention import placed
from remask.models.base import Network
from remask.models.config import number, whole
from remask.models.mdlm import MDLM, zeroed

DSL_PAPERS = (
    Paper("Discrete Stochastic Localization for Non-autoregressive Generation", "2602.16169", 2026,
          "Yunshu Wu and Jiayi Cheng and Longxuan Yu and Partha Thakuria and Rob Brekelmans and Evangelos E. Papalexakis and Greg Ver Steeg"),
    Paper("Discrete Stochastic Localization for Non-autoregressive Generation", "2605.12836", 2026, "Yunshu Wu and Jiayi Cheng and Longxuan Yu and others"),
)  # fmt: skip

MASK_SHARE = 0.99
"""The weight of the mask where nothing is known."""


class Converter(nn.Module):
    """State -> weights of the V tokens and the mask, pi = softmax(beta [z E^T, 0] + b).

    Starts at the Bayes posterior of one position by itself: beta = 1, b_v = log prior(v), b_mask = log(0.99 / 0.01), so that a
    token outweighs the mask from t = 4.6 + log 1/prior(v) on. The published start, beta = 1 / sqrt(E) and b_mask = 15.4, hides
    a clean token below t = 123 at E = 64, even at its endpoint of 100.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.empty(vocabulary, width))
        nn.init.normal_(self.directions)
        self.beta = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(torch.empty(vocabulary + 1))
        self.expect(torch.full((vocabulary,), 1 / vocabulary, device="cpu"))  # a logarithm on the meta device would import torch's compiler

    @property
    def codes(self) -> Tensor:
        """(V, E) float32 of norm 1, made so at every use: no optimizer, average or rounding can leave others behind."""
        return unit(self.directions.float())

    @torch.no_grad()
    def expect(self, prior: Tensor) -> None:
        """Set beta and b to the Bayes posterior under these (V,) shares of the tokens."""
        self.beta.fill_(1.0)
        self.bias.copy_(torch.cat([prior.log(), prior.new_tensor([math.log(MASK_SHARE / (1 - MASK_SHARE))])]))

    def forward(self, z: Tensor) -> Tensor:
        """(B, L, E) -> (B, L, V + 1) float32, sums to 1; the mask is last. A clean state has entries up to 100, too large for bfloat16."""
        with torch.autocast(z.device.type, enabled=False):
            scores = functional.pad(tilt(z.float(), self.codes), (0, 1))
            return torch.softmax(self.beta.float() * scores + self.bias.float(), dim=-1)


class DSL(MDLM):
    """One network for discrete canvases and for states of any SNRs, which it is never told.

    `hidden` and `head` are those of an ordinary denoiser: a token is the state snr_max * code, a mask the state 0, and visible positions get logits
    of their own. `read` takes states.
    """

    papers: ClassVar[tuple[Paper, ...]] = (*MDLM.papers, *DSL_PAPERS)

    def __init__(self, config: Mapping[str, Any]) -> None:
        if config.get("time_conditioning"):
            raise RemaskError("time_conditioning is true; a DSL network is not told its noise level: set it to false")
        if not config.get("code_dim"):
            raise RemaskError("config.json has no code_dim; a DSL checkpoint needs it (64 for 50,000 tokens, 48 for 4,000, 16 for 27)")
        super().__init__(config)
        tokens, width = self.vocab_size - 1, config["hidden_dim"]
        self.snr_max = number({"snr_max": 100.0, **config}, "snr_max")
        self.parts["output_layer"].linear = zeroed(nn.Linear(width, tokens))
        self.backbone["converter"] = Converter(tokens, whole(config, "code_dim"))

    @property
    def codes(self) -> Tensor:
        """(V, E) float32, rows of norm 1."""
        return self.parts["converter"].codes

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, L, D): through the noiseless states."""
        return self.mix(endpoints(self.codes, tokens, tokens != self.mask_id, self.snr_max))

    def mix(self, z: Tensor) -> Tensor:
        """(B, L, E) -> (B, L, D): the embeddings of the tokens and of the mask, weighted."""
        table = self.parts["vocab_embed"].embedding
        return self.parts["converter"](z).to(table.dtype) @ table

    def hidden_of(self, z: Tensor, real: Tensor | None = None) -> Tensor:
        """(B, L, E) states -> (B, L, D)."""
        place, seen = placed(z[..., 0], real)
        return self.through(self.mix(z), place, seen, self._conditions(z[..., 0], real, None))

    def head(self, hidden: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, V + 1) float32; the mask has no row and gets -1e6."""
        last = self.parts["output_layer"].linear
        return functional.linear(hidden, functional.pad(last.weight, (0, 0, 0, 1)), functional.pad(last.bias, (0, 1), value=-1e6)).float()

    @torch.inference_mode()
    def read(self, z: Tensor, real: Tensor | None = None) -> Tensor:
        """(B, L, E) -> (B, L, V) float32 logits over the tokens."""
        return self.head(self.hidden_of(z.to(self.device), real))[..., :-1]

    @torch.no_grad()
    def adopt(self, start: Network) -> None:
        """Take over a DSL network, or an MDLM one: every tensor of the same name and shape, the head without the mask's row.

        The converter then starts from the shares that the MDLM itself expects of an empty canvas; the codes stay as they are.
        """
        if isinstance(start, DSL) or not isinstance(start, MDLM):
            super().adopt(start)
            return
        if start.time_conditioning:
            raise RemaskError("the MDLM checkpoint is time-conditioned; a DSL network is not told its noise level: start from one with time_conditioning=false")
        own = self.state_dict()
        for name, tensor in start.state_dict().items():
            tensor = tensor[:-1] if name.startswith("backbone.output_layer.linear.") else tensor
            if name not in own or own[name].shape != tensor.shape:
                raise RemaskError(
                    f"{name} is {tuple(tensor.shape)} in the MDLM checkpoint and {tuple(own[name].shape) if name in own else 'absent'} here; use a config of the same sizes"
                )
            own[name].copy_(tensor)
        self._folded = None
        assert start.max_length is not None
        empty = torch.full((1, start.max_length), start.mask_id, device=start.device)
        prior = torch.softmax(start.logits(empty)[0, :, :-1], dim=-1).mean(0)
        self.parts["converter"].expect(prior.clamp(min=1e-6).to(self.device))

"""`fiction_control`: what `fiction_dsl` is compared with, each as long and at the same rates, from the same checkpoint. Name one with --variant.

- continued: masks alone. Is it the longer training?
- mixed: DSL; this is `fiction_dsl` itself, half of the rows at endpoints and an SNR for every position of the others, which hold known and unknown tokens side by side.
- by_row: a quarter of the rows at endpoints and one SNR for a whole row of the others. Is it the layout?
- log_normal: by rows and without endpoints. Does a discrete decoder need them?
- roar: nothing but endpoints. Is it the converter?
- substitution: an MDLM shown wrong tokens too. Is it only that visible tokens may be doubted?
- wrong_ends: DSL, and up to a tenth of the tokens that are known at endpoints are wrong. Is it that what is shown there is always right?
- own_drafts: the same with up to 30 % of them drawn by the network itself from the rest. Can it learn to see its own mistakes?
- scratch: by rows, from random weights, at the rates of `fiction`: without --init, and with as many steps as `fiction` and a fine-tune together. Is it the fine-tune?
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remask.channel import localise
from remask.cli.train import load_recipe
from remask.errors import RemaskError
from remask.training.corruption import substitute
from remask.training.data import Batch
from remask.training.localisation import Localisation
from remask.training.objectives import Localising, Restoring
from remask.training.run import Recipe

dsl: Any = load_recipe(Path(__file__).with_name("fiction_dsl.py"))
fiction: Any = dsl.fiction
prepare = fiction.prepare
VARIANTS = ("continued", "mixed", "by_row", "log_normal", "roar", "scratch", "substitution", "wrong_ends", "own_drafts")
WRONG = 0.5
"""The largest share of the visible tokens that `substitution` replaces."""
WRONG_ENDS, DRAFTED = 0.1, 0.3
"""The largest share of the known tokens of a row at endpoints that `wrong_ends` and `own_drafts` replace."""


def mask_and_substitute(batch: Batch, generator: torch.Generator) -> tuple[Tensor]:
    """(B, L) rows as shown: uniform masks, and of what is left a share that is wrong, uniform from 0 to WRONG."""
    masked, _ = fiction.corrupt(batch, generator)
    share = WRONG * torch.rand(len(batch.tokens), 1, device=batch.tokens.device, generator=generator)
    wrong = batch.eligible & (torch.rand(batch.tokens.shape, device=batch.tokens.device, generator=generator) < share)
    return (substitute(batch.tokens, wrong, fiction.EOS, generator).masked_fill(masked, fiction.MASK),)


@dataclass(frozen=True)
class Mistakes:
    """DSL's corruption, and which of the tokens known at endpoints are to be wrong: (B, L) bool, a share of each row uniform from 0 to `most`; with a uniform number for each."""

    channel: Localisation
    most: float

    def __call__(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, ...]:
        snr, normal = self.channel(batch, generator)
        device, rows = snr.device, torch.arange(len(snr), device=snr.device)[:, None]
        share = self.most * torch.rand(len(snr), 1, device=device, generator=generator) * (rows < round(self.channel.roar * len(snr)))
        where = batch.eligible & (snr > 0) & (torch.rand(snr.shape, device=device, generator=generator) < share)
        return snr, normal, where, torch.rand(snr.shape, device=device, generator=generator)


class Mistaken(Localising):
    """DSL's loss of rows that are shown with wrong tokens: any other, all alike."""

    def hidden(self, model: Any, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        snr, normal, where, _ = noise
        return model.hidden_of(localise(model.codes, torch.where(where, self.wrong(model, batch, noise), batch.tokens), snr, normal))

    def wrong(self, model: Any, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        """(B, L), of which those at the chosen places count."""
        return (batch.tokens + 1 + (noise[3] * (fiction.EOS - 1)).long()) % fiction.EOS


class Drafted(Mistaken):
    """The same with tokens that the network draws at these places from what is known of the rest: right ones among them. One more forward a step."""

    @torch.no_grad()
    def wrong(self, model: Any, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        snr, normal, where, uniform = noise
        logits = model.head(model.hidden_of(localise(model.codes, batch.tokens, snr.masked_fill(where, 0.0), normal)))[..., :-1]
        return (logits.softmax(-1).cumsum(-1) < uniform[..., None]).sum(-1).clamp(max=logits.shape[-1] - 1)


def recipe(folder: Path, steps: int = 312, *, variant: str = "continued") -> Recipe:
    """Start it with --init from the checkpoint of `fiction`."""
    masks = replace(fiction.recipe(folder, steps), matrix_rate=dsl.MATRIX_RATE, other_rate=dsl.OTHER_RATE)
    mixed = dsl.recipe(folder, steps)
    by_row = partial(dsl.recipe, folder, steps, per_token=False, sigma=1.0)
    plans = {
        "continued": lambda: masks,
        "mixed": lambda: mixed,
        "by_row": lambda: by_row(roar=0.25),
        "log_normal": lambda: by_row(roar=0.0),
        "roar": lambda: dsl.recipe(folder, steps, roar=1.0),
        "scratch": lambda: replace(by_row(roar=0.25), matrix_rate=fiction.MATRIX_RATE, other_rate=fiction.OTHER_RATE),
        "substitution": lambda: replace(masks, corrupt=mask_and_substitute, objective=Restoring()),
        "wrong_ends": lambda: replace(mixed, corrupt=Mistakes(mixed.corrupt, WRONG_ENDS), objective=Mistaken()),
        "own_drafts": lambda: replace(mixed, corrupt=Mistakes(mixed.corrupt, DRAFTED), objective=Drafted()),
    }
    if variant not in plans:
        raise RemaskError(f"unknown variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    return replace(plans[variant](), name=f"fiction_control {variant}")

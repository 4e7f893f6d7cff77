"""Scores: how sure the model is about each position, by the names that decoders take as `score`."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from remask.decoders.base import View
from remask.errors import RemaskError
from remask.prediction import Belief, Summary

ConfidenceName = Literal["max", "sampled"]


def confidence(belief: Belief | Summary, name: ConfidenceName) -> Tensor:
    """(B, L): `max` is the largest probability, a correct sampling order; `sampled` is the drawn token's.

    Ranking by the sampled token's probability re-draws every waiting position and writes the luckiest draw: a hidden
    sharpening that published loops have. At temperature 0 both are equal.
    """
    return belief.confidence if name == "max" else belief.sampled_confidence


def support(view: View) -> Tensor:
    """(B, L): the probability that the belief before the shapers gives to what stands at each position.

    A network sees its own token there and is partial to it; leave-one-out rows (`Decoder.shadows`) are not.
    """
    return view.prediction.raw.probabilities.gather(-1, view.canvas.tokens[..., None])[..., 0]


def check_score(name: str) -> None:
    """Raise on an unknown confidence."""
    if name not in ("max", "sampled"):
        raise RemaskError(f"score is {name!r}; it must be max or sampled")

"""The registered decoders: name -> class."""

from remask.decoders.ancestral import Ancestral
from remask.decoders.base import Decoder, View
from remask.decoders.dream import Entropy, MaskgitPlus, Origin, TopKMargin
from remask.decoders.low_confidence import LowConfidence, Random
from remask.decoders.threshold import Factor, Threshold

DECODERS: dict[str, type[Decoder]] = {
    "low_confidence": LowConfidence,
    "random": Random,
    "origin": Origin,
    "maskgit_plus": MaskgitPlus,
    "topk_margin": TopKMargin,
    "entropy": Entropy,
    "threshold": Threshold,
    "factor": Factor,
    "ancestral": Ancestral,
}

__all__ = [
    "DECODERS", "Ancestral", "Decoder", "Entropy", "Factor", "LowConfidence", "MaskgitPlus", "Origin", "Random",
    "Threshold", "TopKMargin", "View",
]  # fmt: skip

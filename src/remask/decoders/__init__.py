"""The registered decoders: name -> class."""

from remask.decoders.ancestral import Ancestral
from remask.decoders.base import Decoder, View
from remask.decoders.core import CoRe
from remask.decoders.credit import Credit
from remask.decoders.dream import Entropy, MaskgitPlus, Origin, TopKMargin
from remask.decoders.dus import DUS, Spaced
from remask.decoders.entropy_bound import EntropyBound
from remask.decoders.first_hitting import FirstHitting
from remask.decoders.fixed_orders import PC, Halton
from remask.decoders.hierarchy import Hierarchy
from remask.decoders.joint_threshold import JointThreshold
from remask.decoders.klass import Klass
from remask.decoders.local_leap import LocalLeap
from remask.decoders.low_confidence import LowConfidence, Random
from remask.decoders.p2 import P2
from remask.decoders.prophet import Prophet
from remask.decoders.remdm import ReMDM
from remask.decoders.remdm_llada import ReMDMLLaDA
from remask.decoders.risk import Risk
from remask.decoders.saber import Saber
from remask.decoders.slow_fast import SlowFast
from remask.decoders.starr import STaRR
from remask.decoders.threshold import Factor, Threshold
from remask.decoders.wino import WINO

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
    "starr": STaRR,
    "first_hitting": FirstHitting,
    "dus": DUS,
    "spaced": Spaced,
    "entropy_bound": EntropyBound,
    "klass": Klass,
    "local_leap": LocalLeap,
    "hierarchy": Hierarchy,
    "saber": Saber,
    "slow_fast": SlowFast,
    "credit": Credit,
    "pc": PC,
    "halton": Halton,
    "prophet": Prophet,
    "joint_threshold": JointThreshold,
    "core": CoRe,
    "p2": P2,
    "remdm": ReMDM,
    "remdm_llada": ReMDMLLaDA,
    "risk": Risk,
    "wino": WINO,
}

__all__ = [
    "DUS", "P2", "PC", "WINO", "Ancestral", "CoRe", "Credit", "Decoder", "Entropy", "EntropyBound", "Factor", "FirstHitting", "Halton", "Hierarchy", "JointThreshold",
    "Klass", "LocalLeap", "LowConfidence", "MaskgitPlus", "Origin", "Prophet", "Random", "ReMDM", "ReMDMLLaDA", "Risk", "STaRR", "Saber", "SlowFast", "Spaced", "Threshold",
    "TopKMargin", "View",
]  # fmt: skip

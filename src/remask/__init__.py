"""remask decodes masked diffusion language models."""

from remask import evaluation as evaluation
from remask import testing as testing
from remask.canvas import Canvas, Edit
from remask.captured import Captured
from remask.citation import citation
from remask.daedal import DAEDAL
from remask.decoders import (
    DUS,
    P2,
    PC,
    WINO,
    Ancestral,
    CoRe,
    Credit,
    Entropy,
    EntropyBound,
    Factor,
    FirstHitting,
    Halton,
    Hierarchy,
    JointThreshold,
    Klass,
    LocalLeap,
    LowConfidence,
    MaskgitPlus,
    Origin,
    Prophet,
    Random,
    ReMDM,
    ReMDMLLaDA,
    Risk,
    Saber,
    SlowFast,
    Spaced,
    STaRR,
    Threshold,
    TopKMargin,
)  # fmt: skip
from remask.denoise import Decoded, Step, decode, denoise
from remask.errors import RemaskError
from remask.generate import Completion, generate
from remask.likelihood import LogLikelihood, log_likelihood
from remask.models import Guided, load
from remask.reuse import Delayed, Dual, Fresh, Prefix, SureLock, Unchanged, Vicinity
from remask.shapers import Suppress, Temperature, TopK, TopP
from remask.spec import decoders, parse_decoder, parse_reuse, parse_window, reuses, spec, windows
from remask.windows import Blocks, Whole

__version__ = "0.1.0.dev0"

__all__ = [
    "DAEDAL",
    "DUS",
    "P2",
    "PC",
    "WINO",
    "Ancestral",
    "Blocks",
    "Canvas",
    "Captured",
    "CoRe",
    "Completion",
    "Credit",
    "Decoded",
    "Delayed",
    "Dual",
    "Edit",
    "Entropy",
    "EntropyBound",
    "Factor",
    "FirstHitting",
    "Fresh",
    "Guided",
    "Halton",
    "Hierarchy",
    "JointThreshold",
    "Klass",
    "LocalLeap",
    "LogLikelihood",
    "LowConfidence",
    "MaskgitPlus",
    "Origin",
    "Prefix",
    "Prophet",
    "Random",
    "ReMDM",
    "ReMDMLLaDA",
    "RemaskError",
    "Risk",
    "STaRR",
    "Saber",
    "SlowFast",
    "Spaced",
    "Step",
    "Suppress",
    "SureLock",
    "Temperature",
    "Threshold",
    "TopK",
    "TopKMargin",
    "TopP",
    "Unchanged",
    "Vicinity",
    "Whole",
    "citation",
    "decode",
    "decoders",
    "denoise",
    "evaluation",
    "generate",
    "load",
    "log_likelihood",
    "parse_decoder",
    "parse_reuse",
    "parse_window",
    "reuses",
    "spec",
    "testing",
    "windows",
]  # fmt: skip

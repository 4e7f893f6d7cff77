"""The public names that are no parts; `import remask` brings them, and the parts, when the first of them is asked for."""

import remask.evaluation as evaluation
import remask.testing as testing
from remask.canvas import Canvas, Edit
from remask.captured import Captured
from remask.citation import citation
from remask.denoise import Decoded, Step, decode, denoise
from remask.errors import RemaskError
from remask.generate import Completion, generate
from remask.likelihood import LogLikelihood, log_likelihood
from remask.models import Guided, load
from remask.shapers import Suppress, Temperature, TopK, TopP
from remask.spec import decoders, parse_decoder, parse_reuse, parse_window, reuses, spec, windows

__all__ = [
    "Canvas",
    "Captured",
    "Completion",
    "Decoded",
    "Edit",
    "Guided",
    "LogLikelihood",
    "RemaskError",
    "Step",
    "Suppress",
    "Temperature",
    "TopK",
    "TopP",
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
]

"""From what options name to what a verb works with: parts, a network and how results note it, the file of a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remask.trace.file import TraceFile

LENGTHS = 8
"""Of canvases between a power of two and the next, where many batches are decoded in recorded passes: few are met, and each is an eighth and seven more too long at most."""


@dataclass(frozen=True)
class Way:
    """How a network is computed. fused: on fused layers.  captured: in recorded passes."""

    fused: bool = False
    captured: bool = False

    def __str__(self) -> str:
        return " ".join(name for name in ("fused", "captured") if getattr(self, name)) or "plain"

    def told(self, model: str) -> dict[str, str]:
        """A network and how it is computed, as summaries and traces tell it."""
        return {"model": model, "computed": str(self)}


PLAIN = Way()


def parts(decoder: str, window: str, reuse: str) -> dict[str, Any]:
    """Spec strings as the keyword arguments of generate."""
    import remask

    return {"decoder": remask.parse_decoder(decoder), "window": remask.parse_window(window), "reuse": remask.parse_reuse(reuse)}


def open_model(model: str, device: str, dtype: str, revision: str | None = None, *, way: Way = PLAIN, lengths: int | None = None, sessions: int = 4) -> Any:
    """The loaded network, to be computed that way. lengths, sessions: see Captured."""
    import torch

    import remask

    with naming(device):
        torch.empty(0, device=device)
    if torch.device(device).type == "cpu":  # numbers below 1e-38 are worth nothing and slow some networks down tenfold
        torch.set_flush_denormal(True)
    network = remask.load(model, device=device, dtype=dtype or None, revision=revision, fused=way.fused)
    return remask.Captured(network, lengths=lengths, sessions=sessions) if way.captured else network


def check_traced(way: Way, trace: Path | None) -> None:
    """Raise if what is recorded was to be traced: it would be found out after the first pass."""
    from remask.errors import RemaskError

    if way.captured and trace is not None:
        raise RemaskError(f"--trace {trace}: a trace reads the logits of every pass, and --captured keeps none; leave out one of the two")


@contextmanager
def naming(device: str) -> Iterator[None]:
    """An error of torch about a device, as one line that names it."""
    from remask.errors import RemaskError

    try:
        yield
    except (RuntimeError, AssertionError) as error:
        raise RemaskError(f"cannot use device {device!r} ({str(error).splitlines()[0]}); try --device cpu") from None


def network_settings(model: str, device: str, dtype: str, way: Way = PLAIN) -> dict[str, str]:
    """What results depend on of a network, as a file of results notes it; what it is computed on by its kind, so that a run may go on on another card.

    Its name stands there for people, as it was written: networks are told apart by their weights, and where these are elsewhere by the name under which they are asked for.
    """
    import torch

    from remask.models.loading import ElsewhereError, as_dtype, locate, precision
    from remask.models.weights import fingerprint, shards

    wanted = as_dtype(dtype or None)
    with naming(device):
        kind = torch.device(device)
    try:
        folder = locate(model, fetch=False)
    except ElsewhereError:  # a checkpoint that only workers have
        weights, computed = f"of {model}, elsewhere", str(wanted or "as stored")
    else:
        weights, computed = fingerprint(folder), str(wanted or precision(kind, shards(folder)))
    return {**way.told(model), "weights": weights, "device": kind.type, "dtype": computed.removeprefix("torch.")}


def open_trace(path: Path | None, tokenizer: Any, *, resume: bool = False) -> AbstractContextManager[TraceFile | None]:
    """The file of --trace, or None without one; resume: go on with one that is there."""
    from remask.trace.file import TraceFile

    return nullcontext() if path is None else TraceFile(path, tokenizer, resume=resume)

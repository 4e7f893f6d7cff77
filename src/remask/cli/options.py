"""What several verbs take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from remask.trace.file import TraceFile

TASKS = "wordmath, gsm_aug, fiction, fiction_infill, addition, sudoku or sudoku4; options behind a colon: wordmath:operations=2+4,max_new_tokens=120"
TaskSpec = Annotated[str, typer.Argument(help=TASKS + ".")]
Model = Annotated[str, typer.Option(help="A shipped checkpoint's name, a folder, or a Hub id.")]
TaskModel = Annotated[str, typer.Option(help="Empty: the shipped checkpoint for the task.")]
Revision = Annotated[str | None, typer.Option(help="Of a Hub id.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16; empty: the checkpoint's own.")]
Fused = Annotated[bool, typer.Option("--fused/--no-fused", help="Join the network's matrix products, and leave out padding: LLaDA with rotary positions and Dream.")]
DecoderSpec = Annotated[str, typer.Option("--decoder", help="e.g. low_confidence, threshold:tau=0.9, factor:f=1; `remask models` lists them.")]
WindowSpec = Annotated[str, typer.Option("--window", help="e.g. whole, blocks:32; `remask models` lists them.")]
ReuseSpec = Annotated[str, typer.Option("--reuse", help="e.g. fresh, dual, surelock:eps=5e-4; `remask models` lists them.")]
Temperature = Annotated[float, typer.Option(help="0 is greedy.")]
TopP = Annotated[float, typer.Option(help="Keep the likeliest tokens up to this share; 1 keeps all.")]
TopK = Annotated[int, typer.Option(help="Keep this many tokens; 0 keeps all.")]
Items = Annotated[int, typer.Option("-n", help="Items.")]
Split = Annotated[str, typer.Option(help="train, valid or test.")]
Batch = Annotated[int, typer.Option(help="Rows decoded together.")]
Rows = Annotated[int, typer.Option(help="Most rows decoded at once.")]
Trace = Annotated[Path | None, typer.Option("--trace", help="Write what every step did, as JSON lines; `remask trace` shows it.")]
Seed = Annotated[int, typer.Option(help="Item or row i uses seed + i.")]


def parts(decoder: str, window: str, reuse: str) -> dict[str, Any]:
    """Spec strings as the keyword arguments of generate."""
    import remask

    return {"decoder": remask.parse_decoder(decoder), "window": remask.parse_window(window), "reuse": remask.parse_reuse(reuse)}


def open_model(model: str, device: str, dtype: str, revision: str | None = None, *, fused: bool = False) -> Any:
    """The loaded network, on fused layers if wanted."""
    import torch

    import remask

    with naming(device):
        torch.empty(0, device=device)
    if torch.device(device).type == "cpu":  # numbers below 1e-38 are worth nothing and slow some networks down tenfold
        torch.set_flush_denormal(True)
    return remask.load(model, device=device, dtype=dtype or None, revision=revision, fused=fused)


@contextmanager
def naming(device: str) -> Iterator[None]:
    """An error of torch about a device, as one line that names it."""
    from remask.errors import RemaskError

    try:
        yield
    except (RuntimeError, AssertionError) as error:
        raise RemaskError(f"cannot use device {device!r} ({str(error).splitlines()[0]}); try --device cpu") from None


def network_settings(model: str, device: str, dtype: str, *, fused: bool = False) -> dict[str, str]:
    """What results depend on of a network, as a file of results notes it; what it is computed on by its kind, so that a run may go on on another card."""
    import torch

    from remask.errors import RemaskError
    from remask.models.loading import as_dtype, locate, precision
    from remask.models.weights import fingerprint, shards

    wanted = as_dtype(dtype or None)
    with naming(device):
        kind = torch.device(device)
    try:
        folder = locate(model, fetch=False)
        weights, computed = fingerprint(folder), str(wanted or precision(kind, shards(folder)))
    except RemaskError:  # a checkpoint that only workers have
        weights, computed = "elsewhere", str(wanted or "as stored")
    return {"model": model + " fused" * fused, "weights": weights, "device": kind.type, "dtype": computed.removeprefix("torch.")}


def open_trace(path: Path | None, tokenizer: Any, *, resume: bool = False) -> AbstractContextManager[TraceFile | None]:
    """The file of --trace, or None without one; resume: go on with one that is there."""
    from remask.trace.file import TraceFile

    return nullcontext() if path is None else TraceFile(path, tokenizer, resume=resume)


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar in the terminal while something goes on, and what takes how many are done."""
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda done: progress.update(bar, completed=done)

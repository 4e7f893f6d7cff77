"""`remask generate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remask.cli.opening import Way, check_traced, open_model, open_trace, parts
from remask.cli.options import Captured, DecoderSpec, Device, Dtype, Fused, Model, ReuseSpec, Revision, Seed, Temperature, TopK, TopP, Trace, WindowSpec

if TYPE_CHECKING:
    from remask.denoise import Step
    from remask.trace.file import TraceFile


def run(
    text: Annotated[str | None, typer.Argument(help="The prompt; absent: --file, or standard input.")] = None,
    file: Annotated[Path | None, typer.Option(help="Read the prompt from a UTF-8 file.")] = None,
    model: Model = "demo",
    revision: Revision = None,
    device: Device = "cpu",
    dtype: Dtype = "",
    fused: Fused = False,
    captured: Captured = False,
    chat: Annotated[bool, typer.Option(help="Put the prompt through the checkpoint's chat template.")] = False,
    decoder: DecoderSpec = "low_confidence",
    window: WindowSpec = "whole",
    reuse: ReuseSpec = "fresh",
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    max_new_tokens: Annotated[int, typer.Option(help="Room on the canvas.")] = 128,
    seed: Seed = 0,
    after: Annotated[str, typer.Option(help="Text that stands behind the gap and is given as well: fill in between.")] = "",
    unconditional: Annotated[bool, typer.Option(help="Allow an empty prompt.")] = False,
    watch: Annotated[bool, typer.Option(help="Show the canvas fill in.")] = False,
    trace: Trace = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print text, ids and costs as JSON.")] = False,
) -> None:
    """Complete a prompt: masks are put behind it and written over a few passes of the network.

    \b
    Examples, with the shipped checkpoint for word problems:
      remask generate "Ann has 18 pencils. Sam has 7 more pencils than Ann.
        How many pencils does Sam have?" --max-new-tokens 40 --watch
      remask generate --file problem.txt --decoder threshold:tau=0.9
      remask generate --json < problem.txt
    \b
    With a folder or a Hub id of a LLaDA, Dream or MDLM checkpoint:
      remask generate "Why is the sky blue?" --chat --device cuda
        --model GSAI-ML/LLaDA-8B-Instruct --window blocks:32 --reuse dual
      remask generate "He opened the" --after " and went in." --model ./mine
        --max-new-tokens 4 --temperature 0.7 --top-p 0.9 --top-k 50 --seed 3
      remask generate --unconditional --model ./mine --decoder ancestral:steps=64
    """
    import remask
    from remask.shapers import sampling

    way = Way(fused, captured)
    check_traced(way, trace)
    prompt, shapers, chosen = read(text, file, unconditional), sampling(temperature, top_p, top_k), parts(decoder, window, reuse)
    network = open_model(model, device, dtype, revision, way=way)
    told = {**way.told(model), "decoder": decoder, "window": window, "reuse": reuse, "shapers": ", ".join(map(str, shapers))}
    with open_trace(trace, network.tokenizer) as opened:
        through, behind = partial(seen, tokenizer=network.tokenizer, watch=watch, trace=opened, seed=seed, told=told), [after] if after else ()
        asked: dict[str, Any] = {**chosen, "max_new_tokens": max_new_tokens, "shapers": shapers, "seed": seed, "chat": chat, "unconditional": unconditional}
        completion = remask.generate(network, [prompt], after=behind, through=through, observed=trace is not None, **asked)[0]
    typer.echo(json.dumps({"text": completion.text, "tokens": completion.tokens, **asdict(completion.stats)}, ensure_ascii=False) if as_json else completion.text)


def seen(steps: Iterator[Step], *, tokenizer: Any, watch: bool, trace: TraceFile | None, seed: int, told: dict[str, str]) -> Iterator[Step]:
    """The steps, written into the trace and shown as they come, if asked for."""
    from remask.trace.record import record
    from remask.trace.terminal import watch as show

    kept = steps if trace is None else record(steps, trace, seeds=[seed], settings=told)
    return show(kept, tokenizer) if watch else kept


def read(text: str | None, file: Path | None, unconditional: bool) -> str:
    """The prompt, from the one place that gives it."""
    from remask.errors import RemaskError

    if text is not None and file is not None:
        raise RemaskError(f"both a prompt and --file {file} are given; give one")
    if text is not None:
        return text
    try:
        if file is not None:
            return file.read_text(encoding="utf-8").rstrip("\n")
        return "" if unconditional or sys.stdin.isatty() else sys.stdin.buffer.read().decode("utf-8").rstrip("\n")
    except OSError as error:
        raise RemaskError(f"cannot read {file}: {error.strerror}; name a readable file") from None
    except UnicodeDecodeError as error:
        raise RemaskError(f"{file or 'standard input'} is not UTF-8 ({error.reason} at byte {error.start}); convert it first") from None

"""`remask eval text`."""

from __future__ import annotations

import json
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remask.cli.opening import network_settings, open_model
from remask.cli.options import Device, Dtype, Seed, TopP

if TYPE_CHECKING:
    from torch import Tensor

    from remask.evaluation.text.measure import Rows


def run(
    model: Annotated[str, typer.Option(help="A masked diffusion checkpoint.")],
    judge: Annotated[str, typer.Option(help="A CausalJudge checkpoint with the same tokenizer: recipes/fiction_judge.py makes one.")],
    real: Annotated[Path, typer.Option(help="Real text as token ids: a .xz that a recipe's --prepare left.")],
    out: Annotated[Path, typer.Option(help="A folder for every row; an unfinished one is continued.")],
    sampler: Annotated[list[str] | None, typer.Option(help="A decoder, or sde, commit, native of a DSL checkpoint; may be given many times.")] = None,
    n: Annotated[int, typer.Option("-n", help="Rows of each, 20 or more.")] = 256,
    length: Annotated[int, typer.Option(help="Tokens of a row.")] = 256,
    temperature: Annotated[float, typer.Option(help="Divide the logits by this.")] = 1.0,
    top_p: TopP = 1.0,
    device: Device = "cpu",
    dtype: Dtype = "",
    batch: Annotated[int, typer.Option(help="Rows written together.")] = 32,
    seed: Seed = 0,
) -> None:
    """Text without prompts under a judge: likelihood, entropy, diversity and a MAUVE-like score, beside real text and the judge's own; and what the network makes of real text.

    Likelihoods of different entropy are not comparable: sweep --top-p and compare where the entropies meet.
    """
    from rich.console import Console

    import remask
    from remask.cli import tables
    from remask.evaluation.text.measure import cut, drawn, of_judge, summarise
    from remask.evaluation.text.network import of_network
    from remask.shapers import sampling
    from remask.spec import content_settings, parse_sampler
    from remask.training.data import read_stream

    parts = {spec: parse_sampler(spec) for spec in dict.fromkeys(sampler or ["ancestral:steps=32", "remdm:steps=32"])}
    network, reader = open_model(model, device, dtype), open_judge(judge, device, dtype)
    if reader.vocab_size != network.vocab_size:
        raise remask.RemaskError(f"the judge {judge!r} has {reader.vocab_size} ids and the model {network.vocab_size}; use a judge of the model's tokenizer")
    writer, critic = (content(name, device, dtype) for name in (model, judge))
    shapers = sampling(temperature, top_p)
    stream = read_stream(real)
    text = cut(stream, length)
    against = text(list(range(n, 2 * n)))[0]
    read = {spec: "".join(f" {content}" for content in content_settings({"sampler": getattr(part, "decoder", part)}).values()) for spec, part in parts.items()}
    made = {"real text": (text, f"text {digest(stream)}"), "the judge's own": (of_judge(reader, length, seed=seed), critic)}
    made |= {spec: (drawn(network, part, length, shapers=shapers, seed=seed), f"{writer} temperature {temperature} top-p {top_p}{read[spec]}") for spec, part in parts.items()}
    named = {name: (rows, f"{name}, {source}, {length} tokens, seed {seed}, judge {critic}") for name, (rows, source) in made.items()}
    records = measured(named, n, judge=reader, out=out, batch=batch)
    found = [{"name": name, **summarise(rows, reader, against)} for name, rows in records.items()]
    about = {"name": "network", "model": model, **of_network(network, text(list(range(n)))[0], seed=seed, batch=batch)}
    (out / "summary.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*found, about]), encoding="utf-8")
    Console().print(tables.texts(found))
    Console().print(tables.network(about))


def content(model: str, device: str, dtype: str) -> str:
    """What results depend on of a network, in words; not what it is called, which may be another name the next time."""
    noted = network_settings(model, device, dtype)
    return f"weights {noted['weights']} {noted['device']} {noted['dtype']}"


def digest(ids: Tensor) -> str:
    """Twelve digits that tell a text from another, in whatever file it lies."""
    return sha256(ids.numpy().data).hexdigest()[:12]


def measured(made: dict[str, tuple[Rows, str]], n: int, *, judge: Any, out: Path, batch: int) -> dict[str, list[dict[str, Any]]]:
    """The records of each source of rows, from its rows and what made them; kept in a file of `out` each."""
    from rich.progress import Progress

    from remask.evaluation.text.measure import measure
    from remask.files import file_name

    found: dict[str, list[dict[str, Any]]] = {}
    with Progress(transient=True) as progress:
        for name, (rows, setting) in made.items():
            told = partial(progress.update, progress.add_task(name, total=n))
            found[name] = measure(rows, n, judge, setting=setting, out=out / f"{file_name(name)}.jsonl", batch=batch, report=lambda done, told=told: told(completed=done))
    return found


def open_judge(judge: str, device: str, dtype: str) -> Any:
    """A loaded causal judge."""
    import remask
    from remask.models.causal import Causal

    reader = open_model(judge, device, dtype)
    if not isinstance(reader, Causal):
        raise remask.RemaskError(f"{judge!r} is a {type(reader).__name__}, which cannot judge text from left to right; pass a CausalJudge checkpoint")
    return reader

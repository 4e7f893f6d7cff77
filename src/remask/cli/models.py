"""`remask models`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer


def run(
    cite: Annotated[bool, typer.Option("--cite", help="Print BibTeX instead: of the parts that are named, or of all.")] = False,
    decoder: Annotated[list[str] | None, typer.Option(help="With --cite: a spec string; may be given many times.")] = None,
    window: Annotated[list[str] | None, typer.Option(help="With --cite: likewise.")] = None,
    reuse: Annotated[list[str] | None, typer.Option(help="With --cite: likewise.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="With --cite: a shipped checkpoint's name, a folder, or a Hub id.")] = None,
) -> None:
    """List the shipped checkpoints, and the decoders, windows and reuse rules with their parameters.

    \b
    A line such as `threshold:tau=0.9,strict=false` is what --decoder takes; leave out what stays as it is:
      remask generate --decoder threshold:tau=0.8 < problem.txt
    The papers behind what you use, as BibTeX:
      remask models --cite --decoder threshold --reuse surelock
    """
    import remask
    from remask.models.loading import FAMILIES, family_of, locate, read_config, shipped

    registries: dict[str, dict[str, Any]] = {"decoders": remask.decoders(), "windows": remask.windows(), "reuse": remask.reuses()}
    named = [decoder, window, reuse, model]
    if any(named) and not cite:
        raise remask.RemaskError("parts are named and --cite is not; add --cite")
    if cite:
        parsers = (remask.parse_decoder, remask.parse_window, remask.parse_reuse, lambda name: family_of(read_config(locate(name)), name))
        parts = [parse(text) for parse, texts in zip(parsers, named, strict=True) for text in texts or ()]
        typer.echo(remask.citation(*(parts or [part for registry in registries.values() for part in registry.values()] + list(FAMILIES.values()))))
        return
    typer.echo("checkpoints: " + (", ".join(shipped()) or "none here; pass a folder or a Hub id"))
    for kind, registry in registries.items():
        typer.echo(f"{kind}:")
        for name, part in registry.items():
            shown = ",".join(f"{field.name}={default(field)}" for field in dataclasses.fields(part))
            typer.echo(f"  {name}" + (f":{shown}" if shown else ""))


def default(field: dataclasses.Field[Any]) -> str:
    """A parameter's default as a spec string writes it."""
    from remask.spec import written

    if field.default is dataclasses.MISSING:
        return "..."
    return written(field.default)

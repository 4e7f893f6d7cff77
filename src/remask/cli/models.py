"""`remask models`."""

from __future__ import annotations

import dataclasses
from typing import Any

import typer


def run() -> None:
    """List the shipped checkpoints, and the decoders, windows and reuse rules with their parameters.

    \b
    A line such as `threshold:tau=0.9,strict=false` is what --decoder takes; leave out what stays as it is:
      remask generate --decoder threshold:tau=0.8 < problem.txt
    """
    import remask
    from remask.models.loading import shipped

    typer.echo("checkpoints: " + (", ".join(shipped()) or "none here; pass a folder or a Hub id"))
    registries: dict[str, dict[str, Any]] = {"decoders": remask.decoders(), "windows": remask.windows(), "reuse": remask.reuses()}
    for kind, registry in registries.items():
        typer.echo(f"{kind}:")
        for name, part in registry.items():
            shown = ",".join(f"{field.name}={default(field)}" for field in dataclasses.fields(part))
            typer.echo(f"  {name}" + (f":{shown}" if shown else ""))


def default(field: dataclasses.Field[Any]) -> str:
    """A parameter's default as a spec string writes it."""
    if field.default is dataclasses.MISSING:
        return "..."
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)

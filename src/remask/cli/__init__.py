"""`remask`: one file a verb. Bad input ends in one line on standard error and exit status 2."""

from __future__ import annotations

import sys

import typer

from remask.cli import batch, bench, demo, evaluate, generate, models, trace, train

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Decode masked diffusion language models.")
app.command("generate")(generate.run)
app.command("models")(models.run)
app.command("eval")(evaluate.run)
app.command("batch")(batch.run)
app.command("train")(train.run)
app.command("trace")(trace.run)
app.command("demo")(demo.run)
app.add_typer(bench.app, name="bench")


def version(asked: bool) -> None:
    """--version."""
    if asked:
        import remask

        typer.echo(f"remask {remask.__version__}")
        raise typer.Exit


@app.callback()
def options(_: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version and exit.")) -> None:
    """Decode masked diffusion language models."""


def main() -> None:
    """The console script."""
    from remask.errors import RemaskError

    try:
        app()
    except RemaskError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)

"""`remask`: one file a verb. Bad input ends in one line on standard error and exit status 2."""

from __future__ import annotations

import sys
from typing import Any

import typer

from remask.cli import batch, bench, demo, evaluate, generate, models, serve, trace, train

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Decode masked diffusion language models.")
app.command("generate")(generate.run)
app.command("models")(models.run)
app.add_typer(evaluate.app, name="eval")
app.command("batch")(batch.run)
app.command("train")(train.run)
app.command("serve")(serve.run)
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

    usage: Any = typer.BadParameter.__base__
    try:
        status = app(standalone_mode=False)
    except RemaskError as error:
        status = complain(str(error))
    except usage as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            status = error.exit_code
        else:
            status = complain(f"{error.format_message().rstrip('.')}; --help lists what there is")
    except OSError as error:
        if error.filename is None:
            raise
        status = complain(f"cannot use {error.filename}: {error.strerror}; name a path that is there and may be used")
    except typer.Abort:
        status = 130
    sys.exit(status)


def complain(message: str) -> int:
    """One line on standard error; the exit status of bad input."""
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return 2

"""`remask demo`: the main job on a shipped checkpoint, shown as it happens."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from remask.cli.options import Device, Seed

DECODERS = ("low_confidence", "threshold:tau=0.9", "factor:f=1")


def run(device: Device = "cpu", seed: Seed = 0, model: Annotated[str, typer.Option(help="A checkpoint for Sudoku.")] = "sudoku") -> None:
    """Solve a held-out Sudoku with three decoders and compare their costs."""
    from rich.console import Console
    from rich.table import Table

    import remask
    from remask.cli.options import open_model
    from remask.evaluation import tasks
    from remask.trace.terminal import watch

    task, network = tasks.get("sudoku"), open_model(model, device, "float32")
    item = task.sample(1, seed=seed, split="test")[0]
    console = Console()
    console.print("a Sudoku on a grid never trained on:\n" + grid(item.prompt))
    table = Table("decoder", "solved", "forwards", "tokens per forward", "seconds", "fewer forwards than one token each")
    for decoder in DECODERS:
        show = partial(watch, tokenizer=network.tokenizer, title=decoder, columns=9, console=console)
        made = remask.generate(network, [item.prompt], max_new_tokens=task.max_new_tokens, decoder=remask.parse_decoder(decoder), seed=seed, through=show)[0]
        table.add_row(*row(decoder, made, item.check(made.text)))
    console.print(table)


def grid(text: str) -> str:
    """81 characters as nine lines."""
    return "\n".join(" ".join(text[start : start + 9].replace("0", "·")) for start in range(0, 81, 9))


def row(decoder: str, completion: Any, solved: bool) -> list[str]:
    """One line of the table."""
    stats = completion.stats
    ratio = stats.generated / max(1, stats.forwards)
    return [decoder, "yes" if solved else "no", str(stats.forwards), f"{stats.tokens_per_forward:.2f}", f"{stats.seconds:.2f}", f"{ratio:.1f}x"]

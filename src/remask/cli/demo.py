"""`remask demo`: the main job on a shipped checkpoint, shown as it happens."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from remask.cli.options import Device, Seed

WORDS_ROOM = 72
"""Tokens that the worked answer to two operations fits into."""
DECODERS = ("low_confidence", "threshold:tau=0.9", "factor:f=1")


def run(
    device: Device = "cpu",
    seed: Seed = 0,
    model: Annotated[str, typer.Option(help="A checkpoint for Sudoku; empty: leave the Sudoku out.")] = "sudoku",
    words: Annotated[str, typer.Option(help="A checkpoint for word problems; empty: leave them out.")] = "demo",
) -> None:
    """Solve a held-out Sudoku and three held-out word problems with three decoders, and compare their costs."""
    from rich.console import Console

    from remask.cli.opening import open_model
    from remask.evaluation import tasks

    console = Console()
    if model:
        item = tasks.get("sudoku").sample(1, seed=seed, split="test")[0]
        console.print("a Sudoku on a grid never trained on:\n" + grid(item.prompt))
        contest(console, open_model(model, device, "float32"), [item], room=81, columns=9, seed=seed)
    if words:
        items = tasks.get("wordmath").sample(3, seed=seed, split="test", operations=(2, 2))
        console.print("\nthree word problems never trained on:")
        for item in items:
            console.print(f"- {item.prompt}", markup=False, highlight=False)
        contest(console, open_model(words, device, "float32"), items, room=WORDS_ROOM, seed=seed)


def contest(console: Any, network: Any, items: list[Any], *, room: int, seed: int, columns: int | None = None) -> None:
    """Every decoder on every item, shown as it happens; then what it cost."""
    import remask
    from remask.cli import tables
    from remask.trace.terminal import watch

    table = tables.figures("decoder", "solved", "forwards", "tokens per\nforward", "seconds", "fewer forwards than\none token each")
    for decoder in DECODERS:
        done: list[Any] = []
        for item in items:
            first = 0 if columns else len(network.tokenizer.encode(item.prompt))
            show = partial(watch, tokenizer=network.tokenizer, title=decoder, columns=columns, first=first, console=console)
            done += remask.generate(network, [item.prompt], max_new_tokens=room, decoder=remask.parse_decoder(decoder), seed=seed, through=show)
        table.add_row(*row(decoder, done, [item.check(made.text) for item, made in zip(items, done, strict=True)], room))
    console.print(table)


def grid(text: str) -> str:
    """81 characters as nine lines."""
    return "\n".join(" ".join(text[start : start + 9].replace("0", "·")) for start in range(0, 81, 9))


def row(decoder: str, done: list[Any], solved: list[bool], room: int) -> list[str]:
    """One line of the table: sums over the items. One token each: the room on the canvas, which that decoder needs."""
    forwards, generated = sum(made.stats.forwards for made in done), sum(made.stats.generated for made in done)
    seconds = sum(made.stats.seconds for made in done)
    share = f"{sum(solved)} of {len(solved)}"
    return [decoder, share, str(forwards), f"{generated / max(1, forwards):.2f}", f"{seconds:.2f}", f"{room * len(done) / max(1, forwards):.1f}x"]

"""Writes docs/choosing_a_decoder.md from the registries and from the frontiers that were measured.

    python docs/make_choosing_a_decoder.py

A frontier is a file docs/findings/*.jsonl with the lines of a `frontier.jsonl` that `remask bench frontier` wrote.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import Any

import remask
from remask.citation import papers_of
from remask.cli.models import default
from remask.evaluation.frontier import LOSS, Point, area, at_loss

DOCS = Path(__file__).resolve().parent
INTRODUCTION = """# Choosing a decoder

This page is made by `python docs/make_choosing_a_decoder.py` from the registered parts and from the frontiers in `docs/findings/`; a test keeps it up to date.

- A decoder says which positions are written after a forward, a window which may be written at all, a reuse rule which are worth computing. Any decoder goes with any
  window and any reuse rule: `remask generate --decoder threshold:tau=0.9 --window blocks:32 --reuse dual`.
- Every adaptive decoder has one setting that trades forwards for accuracy. Which decoder is best at a budget depends on task and network: run
  `remask bench frontier TASK --out FOLDER --decoders "threshold factor risk starr" --sweep` on yours, and compare at equal forwards, never at default settings.
- `low_confidence` without `steps` is one token per forward: the reference that losses are counted from.
- Sampling from the model's own law asks for one token per forward in an order that does not look at the draw (`random`, `first_hitting`, `low_confidence`, `topk_margin`,
  `entropy` with a temperature); every parallel rule is biased where the tokens that it writes together depend on each other.
- `starr` is our reconstruction after STaRR, whose formulas are not public to us.
"""


def meaning(part: Any) -> str:
    """The first sentence of a part's docstring, or the first two where it is short."""
    text = " ".join((inspect.getdoc(part) or "").split("\n\n")[0].split())
    sentences = re.split(r"(?<=[a-z0-9)])\. (?=[A-Z])", text)
    kept = sentences[: 2 if len(sentences[0]) < 40 else 1]
    return ". ".join(kept).removesuffix(".").replace("|", "\\|") + "."


def catalogue(title: str, registry: dict[str, Any]) -> list[str]:
    """A table of parts."""
    lines = [f"## {title}", "", "| name | what it does | parameters and defaults | paper |", "|---|---|---|---|"]
    for name, part in registry.items():
        shown = ", ".join(f"`{field.name}={default(field)}`" for field in dataclasses.fields(part))
        papers = ", ".join(f"[{paper.arxiv}]({paper.url})" for paper in papers_of(part))
        lines.append(f"| `{name}` | {meaning(part)} | {shown} | {papers} |")
    return [*lines, ""]


def frontier(path: Path) -> list[str]:
    """A table of one measured frontier: what each decoder costs within a point of one token per forward, and what it reaches."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    names = [field.name for field in dataclasses.fields(Point)]
    points = [Point(**{name: record[name] for name in names if name in record}) for record in records]
    about, most, where = records[0], max([2.0, *(point.forwards for point in points)]), records[0]["environment"]
    with_losses = "kept" in about
    lines = [
        f"### {about.get('task', path.stem)}",
        "",
        f"{about['items']} test items, window `{about.get('window', 'whole')}`; {where['device']}, {where['dtype']} (`docs/findings/{path.name}`).",
    ]
    head = ["decoder", "most accurate setting", "forwards", "tokens per forward", "accuracy, 95 %", "area"]
    if with_losses:
        lines[-1] += (
            f' One token per forward: {points[0].accuracy:.3f} at {points[0].forwards:.1f} forwards. "Within a point" is the setting with the fewest forwards that lost at most '
            f"{100 * LOSS:g} point of accuracy on {about['chosen_on']} validation items; the difference is that on the test items."
        )
        head += ["within a point", "forwards", "tokens per forward", "difference, 95 %"]
    lines += ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, cheap in at_loss(points).items():
        own = [point for point in points if point.decoder == name]
        best = max(own, key=lambda point: (point.accuracy, -point.forwards))
        low, high = best.interval
        cells = [f"`{name}`", f"`{best.spec}`", f"{best.forwards:.2f}", f"{best.tokens_per_forward:.1f}", f"{best.accuracy:.3f} ({low:.3f}-{high:.3f})", f"{area(own, most):.3f}"]
        if with_losses and cheap is None:
            cells += ["none", "", "", ""]
        elif with_losses and cheap is not None:
            gap, least, largest = cheap.lost
            cells += [f"`{cheap.spec}`", f"{cheap.forwards:.2f}", f"{cheap.tokens_per_forward:.1f}", f"{gap:+.3f} ({least:+.3f} to {largest:+.3f})"]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def page() -> str:
    """The whole page."""
    lines = [INTRODUCTION]
    measured = [path for path in sorted((DOCS / "findings").glob("*.jsonl")) if "forwards" in path.read_text(encoding="utf-8").partition("\n")[0]]
    if measured:
        lines += ["## Measured frontiers", "", "The area is the mean over budgets, on a logarithmic scale, of the best accuracy within them.", ""]
    for path in measured:
        lines += frontier(path)
    lines += catalogue("Decoders", remask.decoders()) + catalogue("Windows", remask.windows()) + catalogue("Reuse rules", remask.reuses())
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    (DOCS / "choosing_a_decoder.md").write_text(page(), encoding="utf-8")

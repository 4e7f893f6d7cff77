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
from remask.evaluation.frontier import REFERENCE
from remask.evaluation.frontier_points import LOSS, Point, area, at_loss

DOCS = Path(__file__).resolve().parent
INTRODUCTION = """# Choosing a decoder

This page is made by `python docs/make_choosing_a_decoder.py` from the registered parts and from the frontiers in `docs/findings/`; a test keeps it up to date.

- A decoder says which positions are written after a forward, a window which may be written at all, a reuse rule which are worth computing. Any decoder goes with any
  window and any reuse rule: `remask generate --decoder threshold:tau=0.9 --window blocks:32 --reuse dual`.
- Every adaptive decoder has one setting that trades forwards for accuracy. Which decoder is best at a budget depends on task and network: run
  `remask bench frontier TASK --out FOLDER --decoders "threshold factor risk starr" --sweep` on yours, and compare at equal forwards, never at default settings.
- Where to begin, by what was measured here ([findings](findings/decoders.md)). Texts whose statements build on each other: `risk:budget=0.02,left=1`, on word problems as
  accurate as one token per forward or more so with about a tenth of its forwards or fewer (`budget=0.1` takes fewer still and loses 3 points on short ones); `pc:steps=16`, which
  prefers early positions too, where accuracy counts more. Grids: `risk` as it is, a smaller `budget` for more accuracy. Sums: either. At equal forwards `risk` is above the
  static threshold on all four tasks.
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


def read(path: Path) -> tuple[list[dict[str, Any]], list[Point]]:
    """A frontier's lines and its points."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    names = [field.name for field in dataclasses.fields(Point)]
    return records, [Point(**{name: record[name] for name in names if name in record}) for record in records]


def most_accurate(points: list[Point]) -> Point:
    """The fewest forwards among equals."""
    return max(points, key=lambda point: (point.accuracy, -point.forwards))


def difference(point: Point) -> str:
    """Against one token per forward."""
    gap, least, largest = point.lost
    return f"{gap:+.3f} ({least:+.3f} to {largest:+.3f})"


def together(paths: list[Path]) -> list[str]:
    """One table of every decoder that was measured on a task, each by the run with the most test items that has it."""
    runs = sorted((read(path) for path in paths), key=lambda run: -run[0][0]["items"])
    found: dict[str, tuple[dict[str, Any], list[Point]]] = {}
    for records, points in runs:
        for name in dict.fromkeys(point.decoder for point in points):
            own = [point for point in points if point.decoder == name]
            # the reference alone is no sweep of its decoder: another run may have swept it
            if name not in found or (name == REFERENCE and len(found[name][1]) == 1 < len(own)):
                found[name] = records[0], own
    rows = [(name, about, own, at_loss(own)[name]) for name, (about, own) in found.items()]
    lines = [
        f"### Every decoder, {runs[0][0][0]['task']}",
        "",
        f"The setting with the fewest forwards that lost at most {100 * LOSS:g} point of accuracy against one token per forward on validation items, and how it did on test items. "
        "Where none is within a point: the most accurate one that was measured, below the line. Every decoder is listed by the run with the most test items that has it "
        f"({', '.join(f'`docs/findings/{path.name}`' for path in paths)}).",
        "",
        "| decoder | setting | forwards | tokens per forward | accuracy | difference, 95 % | items: validation, test | card |",
        "|---|---|---|---|---|---|---|---|",
    ]
    cells = []
    for name, about, own, cheap in rows:
        shown = cheap or most_accurate(own)
        numbers = f"| `{name}` | `{shown.spec}` | {shown.forwards:.2f} | {shown.tokens_per_forward:.1f} | {shown.accuracy:.3f} | {difference(shown)} "
        cells.append((cheap is None, shown.forwards if cheap else -shown.accuracy, f"{numbers}| {about['chosen_on']}, {about['items']} | {about['environment']['device']} |"))
    near, far = ([line for lost, _, line in sorted(cells) if lost == wanted] for wanted in (False, True))
    return [*lines, *near, *(["| *none within a point* | | | | | | | |", *far] if far else []), ""]


def frontier(path: Path) -> list[str]:
    """A table of one measured frontier: what each decoder costs within a point of one token per forward, and what it reaches."""
    records, points = read(path)
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
        best = most_accurate(own)
        low, high = best.interval
        cells = [f"`{name}`", f"`{best.spec}`", f"{best.forwards:.2f}", f"{best.tokens_per_forward:.1f}", f"{best.accuracy:.3f} ({low:.3f}-{high:.3f})", f"{area(own, most):.3f}"]
        if with_losses and cheap is None:
            cells += ["none", "", "", ""]
        elif with_losses and cheap is not None:
            cells += [f"`{cheap.spec}`", f"{cheap.forwards:.2f}", f"{cheap.tokens_per_forward:.1f}", difference(cheap)]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def page() -> str:
    """The whole page."""
    lines = [INTRODUCTION]
    measured: dict[str, list[Path]] = {}
    for path in sorted((DOCS / "findings").glob("*.jsonl")):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        if "forwards" in first:
            measured.setdefault(json.loads(first)["task"], []).append(path)
    if measured:
        lines += ["## Measured frontiers", ""]
    for paths in measured.values():  # a task of several runs has them in one table
        lines += together(paths) if len(paths) > 1 else []
    if measured:
        lines += ["The area in what follows is the mean over budgets, on a logarithmic scale, of the best accuracy within them.", ""]
    for paths in measured.values():
        lines += frontier(max(paths, key=lambda path: json.loads(path.read_text(encoding="utf-8").partition("\n")[0])["items"]))
    lines += catalogue("Decoders", remask.decoders()) + catalogue("Windows", remask.windows()) + catalogue("Reuse rules", remask.reuses())
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    (DOCS / "choosing_a_decoder.md").write_text(page(), encoding="utf-8")

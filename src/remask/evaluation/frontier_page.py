"""The frontier as one self-contained HTML page: an SVG, and at every point its setting and an example."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from remask.evaluation.frontier import Point

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933", "#882255", "#44aa99", "#661100", "#6699cc")
WIDTH, HEIGHT, EDGE = 860, 480, 60


def page(points: Sequence[Point], title: str) -> str:
    """Accuracy against mean forwards per row, a line a decoder; bars are 95 % intervals."""
    most = max([2.0, *(point.forwards for point in points)])
    names = list(dict.fromkeys(point.decoder for point in points))

    def x(forwards: float) -> float:
        return EDGE + (WIDTH - 2 * EDGE) * math.log(max(1.0, forwards)) / math.log(most)

    def y(accuracy: float) -> float:
        return HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * accuracy

    drawn: list[str] = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        drawn.append(f'<line x1="{EDGE}" x2="{WIDTH - EDGE}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>')
        drawn.append(f'<text x="{EDGE - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.1f}</text>')
    for tick in (2**power for power in range(0, int(math.log2(most)) + 1)):
        drawn.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - EDGE + 18}" text-anchor="middle">{tick}</text>')
    drawn.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">forwards per row</text>')
    for name, colour in zip(names, (COLOURS[k % len(COLOURS)] for k in range(len(names))), strict=True):
        own = sorted((point for point in points if point.decoder == name), key=lambda point: point.forwards)
        line = " ".join(f"{x(point.forwards):.1f},{y(point.accuracy):.1f}" for point in own)
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        for point in own:
            low, high = point.interval
            cost = f"forwards {point.forwards:.2f}, tokens per forward {point.tokens_per_forward:.2f}"
            told = f"{point.spec}\naccuracy {point.accuracy:.3f} ({low:.3f}-{high:.3f}), {cost}\n{point.example}"
            here = x(point.forwards)
            drawn.append(f'<line x1="{here:.1f}" x2="{here:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="{colour}" opacity="0.4"/>')
            drawn.append(f'<circle cx="{here:.1f}" cy="{y(point.accuracy):.1f}" r="4" fill="{colour}"><title>{escape(told)}</title></circle>')
    legend = " ".join(f'<span style="color:{COLOURS[k % len(COLOURS)]}">&#9679; {escape(name)}</span>' for k, name in enumerate(names))
    style = "body{font:14px sans-serif;margin:2em;max-width:60em}svg text{font:12px sans-serif}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{style}</style><h1>{escape(title)}</h1><p>{legend}</p>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg></html>\n'
    )

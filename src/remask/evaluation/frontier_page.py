"""The frontier as one self-contained HTML page: an SVG, and at every point its setting and an example."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from remask.evaluation.frontier_points import Point, areas_of

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933", "#882255", "#44aa99", "#661100", "#6699cc")
WIDTH, HEIGHT, EDGE = 860, 480, 60
STYLE = """body{font:14px sans-serif;margin:2em;max-width:60em}svg text{font:12px sans-serif}circle:hover,circle:focus,circle.shown{stroke:#000;stroke-width:2;outline:none}
span{white-space:nowrap}pre{position:sticky;bottom:0;margin:0;min-height:12em;max-height:45vh;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;background:#f4f4f4;padding:1em}"""
SCRIPT = """for (const point of document.querySelectorAll('circle')) for (const kind of ['pointerenter', 'focus', 'click']) point.addEventListener(kind, () => {
  document.querySelector('.shown')?.classList.remove('shown');
  point.classList.add('shown');
  document.querySelector('pre').textContent = point.dataset.told;
});"""


def page(points: Sequence[Point], title: str) -> str:
    """Accuracy against mean forwards per row, a line a decoder; bars are 95 % intervals. A point that is pointed at shows its setting and its example below."""
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
            figures = f"{point.spec}\naccuracy {point.accuracy:.3f} ({low:.3f}-{high:.3f}), {cost}, positions {point.positions:.0f}"
            told = escape(f"{figures}\n\nforwards: text, _ is masked\n{point.example}").replace("\n", "&#10;")
            here = x(point.forwards)
            drawn.append(f'<line x1="{here:.1f}" x2="{here:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="{colour}" opacity="0.4"/>')
            drawn.append(f'<circle cx="{here:.1f}" cy="{y(point.accuracy):.1f}" r="4" fill="{colour}" tabindex="0" data-told="{told}"><title>{escape(figures)}</title></circle>')
    areas = areas_of(points)
    legend = " ".join(f'<span style="color:{COLOURS[k % len(COLOURS)]}">&#9679; {escape(name)} ({areas[name]:.3f})</span>' for k, name in enumerate(names))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>"
        f"<p>In brackets: the best accuracy within a budget, averaged over budgets from 1 to {most:.0f} forwards on a logarithmic scale.</p><p>{legend}</p>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="{escape(title)}">{"".join(drawn)}</svg>'
        f"<pre>Point at a setting, or step through them with the Tab key: what it is, what it costs, and how it writes the first test item.</pre><script>{SCRIPT}</script></html>\n"
    )

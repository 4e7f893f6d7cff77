"""The frontier as a picture, with matplotlib (the extra `plot`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from remask.errors import RemaskError
from remask.evaluation.frontier_page import COLOURS
from remask.evaluation.frontier_points import Point


def picture(points: Sequence[Point], title: str, path: Path) -> None:
    """Write a PNG: accuracy against mean forwards per row on a logarithmic axis, a line a decoder, bars are 95 % intervals."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise RemaskError("matplotlib is not installed, so there is no PNG; pip install 'remask[plot]'") from None
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(title=title, xlabel="forwards per row", ylabel="accuracy", ylim=(0, 1))
    names = list(dict.fromkeys(point.decoder for point in points))
    for number, name in enumerate(names):
        own = sorted((point for point in points if point.decoder == name), key=lambda point: point.forwards)
        # at an accuracy of 0 or 1 rounding puts the interval's end on the wrong side
        bars = [[max(0.0, point.accuracy - point.interval[0]) for point in own], [max(0.0, point.interval[1] - point.accuracy) for point in own]]
        colour = COLOURS[number % len(COLOURS)]
        axes.errorbar([point.forwards for point in own], [point.accuracy for point in own], yerr=bars, label=name, color=colour, marker="o", markersize=3, linewidth=1, capsize=2)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=150)

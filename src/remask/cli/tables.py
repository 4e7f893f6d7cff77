"""The tables of `remask bench`, `eval text` and `demo`: every figure whole in 80 columns; the first column folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Column, Table

if TYPE_CHECKING:
    from remask.evaluation.frontier_points import Point


def figures(first: str, *heads: str, title: str | None = None, caption: str | None = None) -> Table:
    """An empty table."""
    return Table(Column(first, overflow="fold"), *(Column(head, no_wrap=True) for head in heads), title=title, caption=caption, box=box.SIMPLE, padding=(0, 1, 0, 0))


def with_interval(mean: float, low: float, high: float, *, sign: str = "") -> str:
    """A share and below it its 95 % interval; sign: "+" for differences."""
    between = " to " if sign else "-"
    return f"{mean:{sign}.3f}\n({low:{sign}.3f}{between}{high:{sign}.3f})"


def decoders(found: dict[str, dict[str, Any]], reference: str) -> Table:
    """The summaries, a decoder a line."""
    shown = figures("decoder", "accuracy,\n95 %", "forwards\nper row", "tokens per\nforward", "tok/s", "fewer\nforwards")
    base = found[reference]["forwards_per_row"]
    for spec, summary in found.items():
        forwards = summary["forwards_per_row"]
        accuracy, speed = with_interval(summary["accuracy"], *summary["interval"]), f"{summary['tokens_per_second']:.0f}"
        shown.add_row(spec, accuracy, f"{forwards:.1f}", f"{summary['tokens_per_forward']:.2f}", speed, f"{base / max(forwards, 1e-9):.1f}x")
    return shown


def frontier(points: Sequence[Point], title: str) -> Table:
    """A line a setting; the area stands at a decoder's first."""
    from remask.evaluation.frontier_points import areas_of

    areas = areas_of(points)
    shown = figures("setting", "accuracy,\n95 %", "forwards\nper row", "tokens per\nforward", "above the static\nfrontier, 95 %", "area", title=title)
    seen: set[str] = set()
    for point in points:
        total = "" if point.decoder in seen else f"{areas[point.decoder]:.3f}"
        seen.add(point.decoder)
        above = "" if point.gained is None else with_interval(*point.gained, sign="+")
        shown.add_row(point.spec, with_interval(point.accuracy, *point.interval), f"{point.forwards:.2f}", f"{point.tokens_per_forward:.2f}", above, total)
    return shown


def losses(points: Sequence[Point], title: str) -> Table:
    """A line a decoder: what it costs to lose next to nothing."""
    from remask.evaluation.frontier_points import at_loss

    shown = figures("setting", "accuracy", "difference,\n95 %", "forwards\nper row", "fewer\nforwards", "tokens per\nforward", title=title)
    for name, point in at_loss(points).items():
        if point is None:
            shown.add_row(f"none of {name}", "", "", "", "", "")
            continue
        fewer = f"{points[0].forwards / point.forwards:.1f}x"
        shown.add_row(point.spec, f"{point.accuracy:.3f}", with_interval(*point.lost, sign="+"), f"{point.forwards:.2f}", fewer, f"{point.tokens_per_forward:.2f}")
    return shown


def reuse(found: dict[str, dict[str, Any]], title: str) -> Table:
    """The summaries, a rule a line."""
    shown = figures("reuse", "accuracy", "difference,\n95 %", "flipped", "forwards\nper row", "FLOPs", "seconds", title=title)
    for spec, made in found.items():
        ratios = (f"{made['flops_ratio']:.3f}", f"{made['seconds_ratio']:.3f}")
        shown.add_row(spec, f"{made['accuracy']:.3f}", with_interval(*made["difference"], sign="+"), f"{made['flip_rate']:.4f}", f"{made['forwards_per_row']:.1f}", *ratios)
    return shown


def texts(found: list[dict[str, Any]]) -> Table:
    """A source of rows a line; the file has the other n-grams and intervals."""
    shown = figures("rows of", "passes", "judge, nats (95 %)", "entropy", "distinct-2", "repeated", "p-MAUVE", caption="p-MAUVE: pseudo-MAUVE")
    for line in found:
        mean, low, high = line["nll"]
        plain = (f"{line[name][0]:.3f}" for name in ("entropy", "distinct_2", "repetition", "pseudo_mauve"))
        shown.add_row(line["name"], f"{line['forwards'][0]:.1f}", f"{mean:.3f} ({low:.3f}-{high:.3f})", *plain)
    return shown


def network(about: dict[str, Any]) -> Table:
    """Self-correction at each share of wrong tokens, then calibration and bounds."""
    bounds = "".join(
        f"; {name.replace('_', ' ')} {about[name][0]:.3f} ({about[name][1]:.3f}-{about[name][2]:.3f})" for name in ("random_order_bound", "diffusion_bound") if name in about
    )
    caption = f"calibration error at masks {about['calibration_masked']:.4f}{bounds}"
    shown = figures("wrong tokens", "fixed, 95 %", "kept, 95 %", "calibration error", caption=caption)
    for line in about["revision"]:
        fixed, kept = (f"{mean:.3f} ({low:.3f}-{high:.3f})" for mean, low, high in (line["fixed"], line["kept"]))
        shown.add_row(f"{line['share']:.0%}", fixed, kept, f"{line['calibration']:.4f}")
    return shown

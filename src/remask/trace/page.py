"""The page that shows a canvas being written: with traces inside it, or live in front of a server. One file, no network but its own server."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from remask.trace.file import as_object, spelled
from remask.trace.record import Trace

EMPTY = '<script type="application/json" id="data">null</script>'


@cache
def live_page() -> str:
    """The page without a trace: it asks the server that it came from."""
    text = resources.files("remask.trace").joinpath("page.html").read_text(encoding="utf-8")
    for kind, mark in (("<style>(.*?)</style>", "STYLE_HASH"), ("<script>(.*?)</script>", "SCRIPT_HASH")):
        found = re.search(kind, text, re.DOTALL)
        assert found is not None
        digest = hashlib.sha256(found[1].encode()).digest()
        text = text.replace(mark, base64.b64encode(digest).decode())
    return text


def page(traces: Mapping[str, Trace]) -> str:
    """The page with these traces inside it, by name. Nothing in them can become markup: the JSON has no < of its own."""
    carried = [{"name": name, "pieces": spelled(trace.pieces), "runs": runs(trace)} for name, trace in traces.items()]
    return live_page().replace(EMPTY, EMPTY.replace("null", inert(carried)))


def runs(trace: Trace) -> list[dict[str, Any]]:
    """The rows of a trace as JSON objects."""
    return [{"opening": as_object(opening), "events": [*map(as_object, trace.events[run])]} for run, opening in trace.openings.items()]


def inert(value: Any) -> str:
    """JSON that stays text wherever it stands in a page."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

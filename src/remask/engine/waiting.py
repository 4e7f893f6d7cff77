"""The rows that wait: in turn by client, of one client in the order of arrival."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from remask.engine.row import Row


class Waiting:
    """Whose turn it is next. A client has one row taken, then every other one that waits has one taken before it has another. Not safe between threads, but for `len`."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Row]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        return (row for line in self._lines.values() for row in line)

    def of(self, client: str) -> int:
        """How many of this client's wait."""
        return len(self._lines.get(client, ()))

    def add(self, row: Row) -> None:
        """At the end of its client's line."""
        self._lines.setdefault(row.ticket.request.client, deque()).append(row)
        self._count += 1

    def first(self) -> Row:
        """The row whose turn it is."""
        return next(iter(self._lines.values()))[0]

    def take(self) -> Row:
        """Take that row out; its client comes last now."""
        client, line = next(iter(self._lines.items()))
        del self._lines[client]
        row = line.popleft()
        if line:
            self._lines[client] = line
        self._count -= 1
        return row

    def remove(self, row: Row) -> None:
        """Take one out that waits no longer; its client's turn stays."""
        line = self._lines[row.ticket.request.client]
        line.remove(row)
        if not line:
            del self._lines[row.ticket.request.client]
        self._count -= 1

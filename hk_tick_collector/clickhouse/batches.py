"""Rows of ClickHouse as Arrow, while they come."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from hk_tick_collector.clickhouse.connection import ClickHouse


def batches_of(engine: ClickHouse, sql: str, **settings: str | int) -> Iterator[pa.RecordBatch]:
    """The record batches of a query, without its FORMAT. EngineAway, EngineRefused."""
    with engine.stream(f"{sql} FORMAT ArrowStream", **settings) as parts:
        head = next(parts, b"")
        if not head:
            return
        with pa.ipc.open_stream(pa.PythonFile(_Parts(head, parts), "r")) as rows:
            yield from rows


class _Parts:
    """What comes, as a file that Arrow reads."""

    def __init__(self, head: bytes, parts: Iterator[bytes]) -> None:
        self._held, self._parts = head, parts
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """At most that many bytes, fewer only at the end; all when negative."""
        held = [self._held]
        have = len(self._held)
        while size < 0 or have < size:
            part = next(self._parts, None)
            if part is None:
                break
            held.append(part)
            have += len(part)
        joined = b"".join(held)
        end = len(joined) if size < 0 else size
        self._held = joined[end:]
        return joined[:end]

    def close(self) -> None:
        """Read no more."""
        self.closed = True

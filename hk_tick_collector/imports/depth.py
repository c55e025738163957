"""Sierra Chart's depth files into the data root: kept as they are, beside the trading day that their noon is of.

A file is of a UTC day, and a trading day of the CME begins at 17:00 Chicago time of the day before: the file's last
hours are of the next trading day. It is not cut for that; the day that has most of it has it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.market.cme import CME
from hk_tick_collector.market.dates import DAY_MS, epoch_day
from hk_tick_collector.sources.sierra.depth import DepthError, DepthName, parse_depth_name, read_layout
from hk_tick_collector.store.kept import KeptFile, keep, list_entry


@dataclass(slots=True)
class DepthImport:
    """What became of a file."""

    file: Path
    symbol: str
    trading_day: str
    kept: KeptFile | None = None
    already_there: bool = False
    error: str | None = None  # why it is not kept

    @property
    def clean(self) -> bool:
        """Is it kept?"""
        return self.kept is not None


def trading_day_of(name: DepthName) -> str:
    """The trading day that a file stands beside."""
    return CME.trading_day(epoch_day(name.utc_day) * DAY_MS + DAY_MS // 2)


class DepthKeeper:
    """Keeps depth files under a data root, each once as long as it does not change. A ``sources.sierra`` keeper."""

    def __init__(self, data_root: Path) -> None:
        self._data_root = data_root

    def is_kept(self, path: Path) -> bool:
        """Is the file as it is now listed already? OSError, RecorderError."""
        entry = list_entry(self._data_root, trading_day_of(parse_depth_name(path.name)), path.name)
        stat = path.stat()
        return entry is not None and (entry.size_bytes, entry.source_changed_ns) == (stat.st_size, stat.st_mtime_ns)

    def keep(self, path: Path, now_ms: int) -> KeptFile:
        """Keep it. InputError for a name that is none, DepthError for a file that is none, OSError, StoreError."""
        name = parse_depth_name(path.name)
        with open_regular(path) as source:
            before = os.fstat(source.fileno())
            layout = read_layout(source, before.st_size)

            def describe(size_bytes: int, sha256: str, packed_bytes: int, packed_sha256: str) -> KeptFile:
                after = os.fstat(source.fileno())
                if (after.st_size, after.st_mtime_ns, size_bytes) != (
                    before.st_size,
                    before.st_mtime_ns,
                    after.st_size,
                ):
                    raise DepthError("it was changed while it was read: import it again")
                return KeptFile(
                    path.name, name.symbol, layout.records, layout.torn_bytes, size_bytes, sha256,
                    packed_bytes, packed_sha256, before.st_mtime_ns, now_ms,
                )  # fmt: skip

            return keep(source, self._data_root, trading_day_of(name), describe)


def import_depth(path: Path, data_root: Path, now_ms: int) -> DepthImport:
    """For a command: what is wrong with the file is in the result. The caller holds the data root's lock."""
    name = parse_depth_name(path.name)
    result = DepthImport(path, name.symbol, trading_day_of(name))
    keeper = DepthKeeper(data_root)
    try:
        result.already_there = keeper.is_kept(path)
        if result.already_there:
            result.kept = list_entry(data_root, result.trading_day, path.name)
        else:
            result.kept = keeper.keep(path, now_ms)
    except (RecorderError, OSError) as exc:
        result.error = str(exc) if isinstance(exc, RecorderError) else exc.strerror or str(exc)
    return result

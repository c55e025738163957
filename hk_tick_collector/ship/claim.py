"""Which machine ships as which recorder: two under one name would take turns in undoing each other's days."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.clickhouse.connection import ClickHouse, EngineAway, EngineRefused
from hk_tick_collector.clickhouse.tables import about, write_about
from hk_tick_collector.core.text import printable
from hk_tick_collector.ship.counts import ShipCounts
from hk_tick_collector.store.layout import market_file

LOOK_SEC = 60.0
_MACHINE_ID = Path("/etc/machine-id")
_MADE_BY_CONTAINERS = (Path("/.dockerenv"), Path("/run/.containerenv"))


class Owner(NamedTuple):
    """Who ships a recording. ``formerly``: how an earlier version named the same one."""

    name: str
    formerly: str


def owner_of(data_root: Path) -> Owner:
    """What tells one recording from another: machine and data root. The same after its state was lost.

    Containers of one compose file have one host name and path on every machine, and an image may hold a machine's
    number: there the directory itself tells, by its file system and by when it was claimed for its market.
    """
    machine = ""
    with contextlib.suppress(OSError):
        machine = _MACHINE_ID.read_text(encoding="ascii").strip()
    place = f"{machine or socket.gethostname()}\n{data_root.resolve()}"
    in_container = any(path.exists() for path in _MADE_BY_CONTAINERS)
    disk = _disk_of(data_root) if in_container or not machine else ""
    return Owner(_named(f"{place}\n{disk}" if disk else place), _named(place))


def _named(place: str) -> str:
    digest = blake2b(place.encode("utf-8", "surrogateescape"), digest_size=8)
    return f"{socket.gethostname()}:{digest.hexdigest()}"


def _disk_of(data_root: Path) -> str:
    """What a directory has to itself, wherever it is mounted; empty where it cannot be looked at."""
    with contextlib.suppress(OSError):
        return f"{os.statvfs(data_root).f_fsid} {data_root.stat().st_ino} {market_file(data_root).stat().st_mtime_ns}"
    return ""


def claim(engine: ClickHouse, recorder: str, made_by: Owner, now_ms: int, *, take_over: bool = False) -> str:
    """Ship as ``recorder`` from now on; the number of the sink. EngineRefused when somebody else does."""
    known = about(engine)
    key, owner = f"owner:{recorder}", made_by.name
    if not take_over and not _is_same(known.get(key, owner), made_by.formerly):
        _check_holder(engine, recorder, known.get(key, owner), owner)
    if known.get(key) != owner:
        write_about(engine, key, owner, now_ms)
        known = about(engine)  # another one may have written in the same moment
        _check_holder(engine, recorder, known.get(key, ""), owner)
    sink = known.get("sink_id")
    if sink is None:
        raise EngineRefused(f"{engine.address.shown} was not made ready: hk-tickctl ship init")
    return sink


class Claimed:
    """Is the sink still the one that was claimed, and still this machine's? All calls come from one thread."""

    def __init__(self, engine: ClickHouse, recorder: str, owner: str, sink: str, counts: ShipCounts) -> None:
        self._engine, self._key, self._owner, self._sink = engine, f"owner:{recorder}", owner, sink
        self._counts = counts
        self._seen_waits = self._waits()
        self._look_at_sec = time.monotonic() + LOOK_SEC

    def is_ours(self) -> bool:
        """False when its tables were made anew, or another machine took the name over. Asks there once a minute, and
        after each trouble; while it does not answer, True."""
        waits, now_sec = self._waits(), time.monotonic()
        if waits == self._seen_waits and now_sec < self._look_at_sec:
            return True
        try:
            known = about(self._engine)
        except (EngineAway, EngineRefused):
            return True  # the next call asks again
        self._seen_waits, self._look_at_sec = waits, now_sec + LOOK_SEC
        return known.get("sink_id") == self._sink and _is_same(known.get(self._key, ""), self._owner)

    def _waits(self) -> int:
        return self._counts.live.times + self._counts.keeper.times


def _is_same(holder: str, owner: str) -> bool:
    return holder.rpartition(":")[2] == owner.rpartition(":")[2]


def _check_holder(engine: ClickHouse, recorder: str, holder: str, owner: str) -> None:
    if not _is_same(holder, owner):
        raise EngineRefused(
            f"{engine.address.shown}: the name {recorder} is taken by another data root, on the machine "
            f"{printable(holder.rpartition(':')[0])}; set another name in SHIP_RECORDER, or, if that one is gone: "
            "hk-tickctl ship init --take-over"
        )

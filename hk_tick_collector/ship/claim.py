"""Which machine ships as which recorder: two under one name would take turns in undoing each other's days."""

from __future__ import annotations

import contextlib
import socket
from hashlib import blake2b
from pathlib import Path

from hk_tick_collector.clickhouse.connection import ClickHouse, EngineRefused
from hk_tick_collector.clickhouse.tables import about, write_about

_MACHINE_ID = Path("/etc/machine-id")


def owner_of(data_root: Path) -> str:
    """What tells one recording from another: machine and data root. The same after its state was lost."""
    machine = socket.gethostname()
    with contextlib.suppress(OSError):
        machine = _MACHINE_ID.read_text(encoding="ascii").strip() or machine
    digest = blake2b(f"{machine}\n{data_root.resolve()}".encode("utf-8", "surrogateescape"), digest_size=8)
    return f"{socket.gethostname()}:{digest.hexdigest()}"


def claim(engine: ClickHouse, recorder: str, owner: str, now_ms: int, *, take_over: bool = False) -> str:
    """Ship as ``recorder`` from now on; the number of the sink. EngineRefused when somebody else does."""
    known = about(engine)
    key = f"owner:{recorder}"
    holder = known.get(key, owner)
    if holder.rpartition(":")[2] != owner.rpartition(":")[2] and not take_over:
        raise EngineRefused(
            f"{engine.address.shown}: as {recorder} ships {holder.rpartition(':')[0]}, from another machine or "
            "directory; set another name in SHIP_RECORDER, or, if that one is no more, hk-tickctl ship init --take-over"
        )
    if known.get(key) != owner:
        write_about(engine, key, owner, now_ms)
    sink = known.get("sink_id")
    if sink is None:
        raise EngineRefused(f"{engine.address.shown} was not made ready: hk-tickctl ship init")
    return sink

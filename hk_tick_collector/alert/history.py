"""What hk-tick-alert told, for others who look: its outbox read, and never written to.

Another program may look while it works: the file is opened read-only, for one look at a time.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from hk_tick_collector.alert.outbox import OUTBOX_FILE
from hk_tick_collector.store.connect import as_store_error

BUSY_SEC = 1.0
_LETTERS = (
    "SELECT number, target, kind, level, lines, created_ms, tries, reason, sent_ms, given_up_ms FROM letters"
    " ORDER BY number DESC LIMIT ?"
)


def read_history(directory: Path, limit: int, now_ms: int) -> dict[str, Any] | None:
    """``letters`` (the newest ``limit``), ``events`` that are not over, ``mutes`` by code; None where there is no
    outbox yet. Times are UTC epoch milliseconds. StoreError when the disk does not let us."""
    path = directory / OUTBOX_FILE
    try:
        if not path.is_file():
            return None
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SEC)) as conn:
            conn.row_factory = sqlite3.Row
            letters = [dict(row) for row in conn.execute(_LETTERS, (limit,))]
            events = [json.loads(text) for (text,) in conn.execute("SELECT event FROM events LIMIT ?", (limit,))]
            mutes = dict(conn.execute("SELECT code, until_ms FROM mutes WHERE until_ms > ?", (now_ms,)).fetchall())
    except (sqlite3.Error, OSError) as exc:
        raise as_store_error(exc, path) from exc
    told = ("code", "subject", "level", "sentence", "began_ms", "fired_ms", "is_flapping")
    return {
        "letters": [{**letter, "lines": json.loads(letter["lines"])} for letter in letters],
        "events": [{name: event[name] for name in told} for event in events if not event["is_over"]],
        "mutes": mutes,
    }

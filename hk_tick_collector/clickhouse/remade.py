"""A day's file made anew of what ClickHouse has of it: whoever reads such files reads this one in the same way."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.clickhouse.connection import EngineAway
from hk_tick_collector.clickhouse.copy import Copy
from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.core.scratch import Scratch
from hk_tick_collector.store.connect import SqliteOptions, translate
from hk_tick_collector.store.kept import check_room

EXTERNAL_SORT_BYTES = 1 << 30  # what ClickHouse sorts beyond that, it sorts on its disk


class Remade(NamedTuple):
    """A file, which goes with its directory, and that with this."""

    directory: Scratch
    path: Path


def remade(
    copy: Copy,
    of_day: str,
    path_in: Callable[[Path], Path],
    size_bytes: Callable[[], int],
    open_for_writing: Callable[[Path, SqliteOptions], sqlite3.Connection],
    fill: Callable[[sqlite3.Connection], None],
) -> Remade:
    """Make a file in a temporary directory. ``of_day``: ``the snapshots of 20261127``; ``size_bytes``: about so large
    it will be; ``fill`` writes all of it, in one transaction.

    EngineAway, also when one number has two rows; EngineRefused; TooMuchAtOnce beyond what may be made at once;
    StoreUnavailable without room on the disk; StoreCorrupt for rows that do not fit."""
    estimate_bytes = size_bytes()
    directory = Scratch("remade")
    try:
        copy.making.begin(directory, of_day, estimate_bytes)
        path = path_in(directory.path)
        path.parent.mkdir()
        check_room(path.parent, estimate_bytes)
    except OSError as exc:
        raise unavailable(directory.path, exc) from exc
    conn = open_for_writing(path, SqliteOptions())
    try:
        conn.execute("PRAGMA synchronous = OFF")
        conn.execute("BEGIN")
        fill(conn)
        conn.execute("COMMIT")
    except sqlite3.IntegrityError as exc:
        raise EngineAway(
            f"{copy.place} has rows of {of_day} twice: is hk-tick-ship at work? It mends what a killed server has "
            f"again ({exc})"
        ) from exc
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    except (KeyError, ValueError, TypeError) as exc:
        raise StoreCorrupt(f"{of_day} in {copy.place} cannot be read: {exc}") from exc
    finally:
        conn.close()
    return Remade(directory, path)

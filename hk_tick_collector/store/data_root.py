"""Which market a data root belongs to: one data root holds the days of one market, whichever source they come from.

``DATA_ROOT/.market`` holds the market's code and a line feed. Who is about to write days into a data root claims it
(``claim``): the first claim makes the file, in one step and synced, and every later one must name the same market.
Without the file, or with one that holds no code, the newest day file that has a row tells; a data root that has
neither belongs to nobody yet.

Day files that cannot be read are passed over: to answer must not need a sound file, for recording must begin with a
damaged one too.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from hk_tick_collector.core.errors import ConfigError, StoreError
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.market.registry import DEFAULT_MARKET
from hk_tick_collector.store.atomic import new_temporary, sync_file
from hk_tick_collector.store.layout import FILE_MODE, day_files, market_file, sync_dir
from hk_tick_collector.store.read_only import open_read_only

LOOKED_AT_FILES = 5  # of the newest day files: the first one of a day has a row within minutes

CODE = re.compile(r"[A-Z][A-Z0-9_]{0,15}", re.ASCII)
_READ_BYTES = 64


def market_of(data_root: Path) -> str | None:
    """The code of the market whose days these are ("HK"); None when there is nothing to tell by."""
    return noted(data_root) or _recorded(data_root)


def by_market(data_roots: Sequence[Path]) -> list[list[int]]:
    """The places in the list of those that belong to one market, in the order listed; one that belongs to nobody yet
    counts as DEFAULT_MARKET's."""
    places: dict[str, list[int]] = {}
    for at, data_root in enumerate(data_roots):
        places.setdefault(market_of(data_root) or DEFAULT_MARKET.code, []).append(at)
    return list(places.values())


def claim(data_root: Path, market: str) -> None:
    """Let the data root belong to ``market``, unless it belongs to another one: ConfigError then.

    A disk that takes no file now leaves the claim for the next start: recording must not wait for that.
    """
    claimed = noted(data_root)
    owner = claimed or _recorded(data_root)
    if owner is None or (owner == market and claimed is None):
        with contextlib.suppress(OSError):
            _note(data_root, market)
        owner = noted(data_root) or owner  # somebody else may have been first
        _check_file(market_file(data_root))
    if owner is not None and owner != market:
        raise ConfigError(f"DATA_ROOT: {_of_another(data_root, owner, market)}")


def _check_file(path: Path) -> None:
    """ConfigError for what can never hold a claim: without it another market's recorder would not be refused."""
    if os.path.lexists(path) and not path.is_file():
        raise ConfigError(
            f"DATA_ROOT: {path} is not a file, so the data root cannot say whose days it holds: move it away, and the "
            "recorder makes the file"
        )


def foreign(data_root: Path, market: str) -> str | None:
    """What ``claim`` would refuse, in a sentence; None when it would not. Writes nothing."""
    owner = market_of(data_root)
    return None if owner in (None, market) else _of_another(data_root, owner, market)


def _of_another(data_root: Path, owner: str, market: str) -> str:
    told_by = f" (its file {market_file(data_root).name} says so)" if noted(data_root) else ""
    return (
        f"{data_root} holds days of market {owner}{told_by}, and this is market {market}; "
        f"give each market a DATA_ROOT of its own"
    )


def noted(data_root: Path) -> str | None:
    """The code that was claimed; None while nobody did."""
    try:
        with open_regular(market_file(data_root)) as file:
            text = file.read(_READ_BYTES).decode("ascii", "replace").strip()
    except (OSError, StoreError):
        return None
    return text if CODE.fullmatch(text) else None


def _recorded(data_root: Path) -> str | None:
    for path in day_files(data_root)[: -LOOKED_AT_FILES - 1 : -1]:
        with contextlib.suppress(StoreError, sqlite3.Error, OSError), closing(open_read_only(path)) as conn:
            row = conn.execute("SELECT market FROM ticks LIMIT 1").fetchone()
            if row is not None and isinstance(row[0], str) and CODE.fullmatch(row[0]):
                return row[0]
    return None


def _note(data_root: Path, market: str) -> None:
    """OSError when the disk refuses. A file that holds a code stays as it is, one that holds none is replaced."""
    path = market_file(data_root)
    with new_temporary(path, FILE_MODE) as new:
        new.write_text(f"{market}\n", encoding="ascii")
        sync_file(new)
        try:
            os.link(new, path)
        except FileExistsError:
            if noted(data_root) is None:
                new.replace(path)
    sync_dir(data_root)

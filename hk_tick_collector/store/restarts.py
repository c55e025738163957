"""Requests to restart a feed, as files: who may ask leaves one, and the recorder of that data root finds it.

The recorder has no door for it, no socket and no right that it gives away: it looks into a directory of who asks
and writes nothing there. A request is one small file a data root, named by that root's path, which both sides have to
know by the same name; the next request replaces it, so nothing piles up. It is old after ``FRESH_MS``, so that one that
was left while no recorder ran restarts nothing later.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.store.atomic import write_whole

EVERY_MS = 60_000  # a feed is restarted no more often
FRESH_MS = 60_000
MAX_BY_CHARS = 100
_MAX_FILE_BYTES = 4096
_SERVING = "hk-tick-serve"  # the state directory of what serves, beside the recorder's own


@dataclass(frozen=True, slots=True)
class Restart:
    """One request: who asked, and when (UTC epoch milliseconds)."""

    by: str
    at_ms: int


def restarts_dir_of(environ: Mapping[str, str]) -> Path | None:
    """Where requests are when RESTARTS_DIR does not say: under systemd in the state directory of what serves, for the
    recorder as well as for those who serve. None elsewhere."""
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(state).parent / _SERVING / "restarts" if state else None


def request_file(directory: Path, data_root: Path) -> Path:
    """The file of a data root's requests."""
    return directory / f"{hashlib.sha256(os.path.abspath(data_root).encode()).hexdigest()[:16]}.json"  # noqa: PTH100


def leave(directory: Path, data_root: Path, by: str, now_ms: int) -> Restart:
    """Ask. OSError when the disk refuses."""
    asked = Restart(by[:MAX_BY_CHARS], now_ms)
    write_whole(request_file(directory, data_root), json.dumps({"by": asked.by, "at_ms": asked.at_ms}))
    return asked


def newest(directory: Path, data_root: Path) -> Restart | None:
    """The last request; None when there is none, or none that is one. OSError when it cannot be looked at."""
    try:
        with open_regular(request_file(directory, data_root)) as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        request = json.loads(content[:_MAX_FILE_BYTES])
    except (FileNotFoundError, StoreCorrupt, ValueError, RecursionError):
        return None
    by, at_ms = (request.get("by"), request.get("at_ms")) if isinstance(request, dict) else (None, None)
    if not isinstance(by, str) or not isinstance(at_ms, int) or isinstance(at_ms, bool):
        return None
    return Restart(by[:MAX_BY_CHARS], at_ms)

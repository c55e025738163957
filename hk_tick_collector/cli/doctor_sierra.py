"""The checks of ``hk-tickctl doctor`` where the source is Sierra Chart: its directory, and the file of each symbol."""

from __future__ import annotations

import time
from pathlib import Path

from hk_tick_collector.cli.checkup import Checkup, Outcome, fail, ok, warn
from hk_tick_collector.cli.common import App
from hk_tick_collector.core.errors import InputError, RecorderError
from hk_tick_collector.core.text import counted
from hk_tick_collector.sources.sierra.growing import START, look
from hk_tick_collector.sources.sierra.naming import parse_name
from hk_tick_collector.sources.sierra.scid import Kind, kind_of

LOOKED_AT_RECORDS = 1000
STALE_SEC = 3600.0


def check(checkup: Checkup, app: App, *, offline: bool) -> None:
    """All of them, in order; none leaves the machine."""
    checkup.run("sierra_dir", lambda: _directory(app), ["configuration"])
    checkup.run("sierra_files", lambda: _files(app), ["sierra_dir"])


def _files_of(directory: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for path in sorted(directory.iterdir()):
        try:
            paths.setdefault(parse_name(path.name).symbol, path)
        except InputError:
            continue
    return paths


def _directory(app: App) -> Outcome:
    directory = app.settings.sierra_dir
    assert directory is not None  # the settings ask for it
    try:
        files = _files_of(directory)
    except OSError as exc:
        return fail(f"{directory} cannot be read: {exc.strerror or exc}", "mount it, and let this user read it")
    return ok(f"{directory}: {counted(len(files), 'file')} of CME Group's futures")


def _files(app: App) -> Outcome:
    directory = app.settings.sierra_dir
    assert directory is not None
    files, problems, newest_sec = _files_of(directory), [], 0.0
    for symbol in app.settings.symbols:
        path = files.get(symbol)
        if path is None:
            problems.append(f"{symbol} has no file")
            continue
        problem = _problem(path)
        if problem is not None:
            problems.append(f"{path.name}: {problem}")
        newest_sec = max(newest_sec, path.stat().st_mtime)
    if problems:
        return fail("; ".join(problems), "see docs/sierra.md: names of files, and 1 Tick as the storage time unit")
    age_sec = time.time() - newest_sec
    finding = f"{len(app.settings.symbols)} wanted, written {age_sec:,.0f} s ago"
    if age_sec > STALE_SEC:
        return warn(finding, "is Sierra Chart running and connected? In a pause of the market this is as it should be")
    return ok(finding)


def _problem(path: Path) -> str | None:
    """Why the file cannot be recorded, by its first records."""
    try:
        part = look(path, START, LOOKED_AT_RECORDS)
    except RecorderError as exc:
        return str(exc)
    except OSError as exc:
        return f"cannot be read ({exc.strerror or exc})"
    if part.layout is None:
        return "its header is not written yet"
    kinds = {kind_of(record) for record in part.layout.records.iter_unpack(part.data)}
    return "it holds bars, not trades" if Kind.BAR in kinds else None

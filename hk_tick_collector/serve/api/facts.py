"""Short answers that the server gives by itself, from memory or by one look at files."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from hk_tick_collector.alert.history import read_history
from hk_tick_collector.alert.outbox import OUTBOX_FILE, Outbox
from hk_tick_collector.alert.rules import RULES, no_such_rule
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.logline import event
from hk_tick_collector.market.dates import add_days
from hk_tick_collector.serve.api.roots import Root, Roots, bad, packed
from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.problems import Problem, shown
from hk_tick_collector.store import restarts
from hk_tick_collector.store.layout import check_day, holds_snapshots
from hk_tick_collector.watch import condition as watch

_log = logging.getLogger(__name__)
_STATES = ("proven", "unproven", "missing")  # from the best to the worst


def worse(first: dict[str, Any] | None, second: dict[str, Any]) -> dict[str, Any]:
    """The completeness of two parts of an answer."""
    if first is None:
        return second
    summed = {name: first[name] + second[name] for name in (*_STATES, "not_recorded", "missing_ticks", "not_proven")}
    return {"state": max(first["state"], second["state"], key=_STATES.index), **summed}


def in_format(
    ticks: Sequence[dict[str, Any]], answer: dict[str, Any], format_name: str
) -> tuple[bytes, dict[str, str]]:
    """Ticks as JSON has them in another format, and the headers of it."""
    import pyarrow as pa  # noqa: PLC0415 - few ask for it, and it takes 50 MB

    from hk_tick_collector.client.coverage import Coverage  # noqa: PLC0415
    from hk_tick_collector.days.schema import COLUMNS, TICKS  # noqa: PLC0415
    from hk_tick_collector.market.registry import DEFAULT_MARKET  # noqa: PLC0415
    from hk_tick_collector.serve.api.answer import TEXT_IN_JSON, Facts, Look, media_type, write_answer  # noqa: PLC0415

    arrays = []
    for name in COLUMNS:
        kind = TICKS.field(name).type
        values = [tick[name] for tick in ticks]
        if name == TEXT_IN_JSON:
            values = [None if value is None else int(value) for value in values]
        if pa.types.is_timestamp(kind):
            arrays.append(pa.array(values, pa.int64()).cast(kind))
        else:
            arrays.append(
                pa.array(values, pa.string()).dictionary_encode()
                if pa.types.is_dictionary(kind)
                else pa.array(values, kind)
            )
    table = pa.Table.from_arrays(arrays, schema=TICKS)
    told = Facts(answer["as_of"], answer["coverage"], answer["warnings"])
    stream = io.BytesIO()
    write_answer(stream, TICKS, [table], Coverage(), told, Look(format_name), DEFAULT_MARKET.zone)
    return stream.getvalue(), {"Content-Type": media_type(format_name), **told.headers()}


def newest_of(tails: list[bytes], count: int) -> bytes:
    """The newest ticks of a symbol out of what each of several data roots has, each once."""
    if len(tails) == 1:
        return tails[0]
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for tail in tails:
        for row in orjson.loads(b"[" + tail + b"]"):
            rows.setdefault(_identity(row), row)
    newest = sorted(rows.values(), key=lambda row: (row["ts_ms"], row["seq"] is None, int(row["seq"] or 0)))[-count:]
    return b",".join(map(orjson.dumps, newest))


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    names = ("ts_ms", "price", "volume", "turnover", "direction", "tick_type", "occurrence")
    return (row["seq"],) if row["seq"] is not None else tuple(row[name] for name in names)


def archived_file(roots: Roots, day: str, market: str | None) -> tuple[Path, str]:
    """A day's archived Parquet file and the hash of its content. A Problem when there is none."""
    _, stored_day = roots.day(day, market)
    if len(stored_day.parts) > 1:
        raise NoData(
            f"{day} is in {len(stored_day.parts)} data roots, and no file holds all of it; GET /v1/ticks reads it"
        )
    if stored_day.manifest is None:
        raise NoData(f"{day} is not archived; GET /v1/ticks reads it")
    if stored_day.archived_file.suffix != ".parquet":
        raise packed(stored_day.trading_day)
    return stored_day.archived_file, stored_day.manifest.content_hash


def calendar(root: Root, first: str | None, count: int) -> dict[str, Any]:
    """Days from ``first`` on. ValueError when it is none."""
    market = root.market
    day = check_day(first) if first is not None else market.trading_day(root.now_ms)
    lines = []
    for _ in range(count):
        kind = root.calendar.day_kind(day)
        sessions = [
            {"name": session.name, "start_ms": session.start_ms, "end_ms": session.end_ms}
            for session in market.sessions(day, kind)
        ]
        lines.append({"day": day, "kind": str(kind), "sessions": sessions})
        day = add_days(day, 1)
    return {"market": market.code, "zone": market.zone.name, "data": lines}


def condition(root: Root) -> dict[str, Any]:
    """How a recorder is, without its paths."""
    condition_json = watch.look(root.data_root, root.calendar, root.now_ms).as_json()
    condition_json["data_root"] = root.name
    condition_json["market"] = root.market.code
    cleaned: dict[str, Any] = _without_paths(condition_json)
    return cleaned


def series(root: Root) -> list[dict[str, Any]]:
    """How each series of the newest day of snapshots goes; none where there are ticks. StoreError."""
    if not holds_snapshots(root.data_root):
        return []
    now_ms = root.now_ms
    return [{"root": root.number, **snapshot.as_json(now_ms)} for snapshot in root.snapshot_series.newest(now_ms)]


def alerts(directory: Path | None, limit: int, now_ms: int) -> dict[str, Any]:
    """What was told of recorders, without paths."""
    history = read_history(directory, limit, now_ms) if directory is not None else None
    if history is None:
        return {"is_on": False, "letters": [], "events": [], "mutes": {}}
    cleaned: dict[str, Any] = _without_paths({"is_on": True, **history})
    return cleaned


def mute(directory: Path | None, code: str, for_sec: int, now_ms: int) -> dict[str, Any]:
    """Nobody is told about a code for a while. A Problem when there is no such rule, NoData when there is no outbox."""
    if code not in RULES:
        raise bad("code", f"{code}: {no_such_rule(code)}")
    if directory is None or not (directory / OUTBOX_FILE).is_file():
        raise NoData("no outbox of hk-tick-alert is known to this server: set ALERT_DIR, and start hk-tick-alert")
    outbox, until_ms = Outbox(directory), now_ms + for_sec * 1000
    try:
        outbox.mute(code, until_ms)
    finally:
        outbox.close()
    return {"code": code, "until_ms": until_ms}


def restart(directory: Path | None, roots: Roots, name: str, key: Key) -> dict[str, Any]:
    """The recorder of a data root is asked to restart its feed. A Problem when there is no such root, when it is not
    listening, or when it was asked a moment ago."""
    root = next((root for root in roots.all if root.name == name), None)
    if root is None:
        there_are = ", ".join(root.name for root in roots.all)
        raise bad("source", f"no data root is called {name!r:.60}; there are {there_are}")
    known = watch.look(root.data_root, root.calendar, root.now_ms)
    status = known.status
    if not known.is_fresh or status is None:
        raise Problem("not-listening", f"the recorder of {name} does not run, or says nothing")
    if directory is None or not status.takes_restarts:
        raise Problem("not-listening", f"the recorder of {name} and this server share no RESTARTS_DIR")
    before = restarts.newest(directory, root.data_root)
    last_ms = (status.restarted_at_ms, None if before is None else before.at_ms)  # done later than it was asked for
    waits_ms = [one_ms + restarts.EVERY_MS - root.now_ms for one_ms in last_ms if one_ms is not None]
    wait_ms = max((one_ms for one_ms in waits_ms if 0 < one_ms <= restarts.EVERY_MS), default=0)
    if wait_ms:
        after = {"Retry-After": str(-(-wait_ms // 1000))}
        raise Problem("rate-limited", f"a restart of {name} was asked for less than a minute ago", headers=after)
    asked = restarts.leave(directory, root.data_root, f"{key.name} ({key.id})", root.now_ms)
    _log.warning(event("feed_restart_asked", source=name, key=key.id, name=key.name))
    return {"source": name, "asked_at_ms": asked.at_ms}


def _without_paths(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {str(name): _without_paths(part) for name, part in value.items()}
    return [_without_paths(part) for part in value] if isinstance(value, (list, tuple)) else value


def worst_verdict(roots: Sequence[dict[str, Any]]) -> str:
    """``problem`` when one has a problem, else ``no_data`` when none has data, else ``fine``."""
    verdicts = {root["verdict"] for root in roots}
    if watch.PROBLEM in verdicts:
        return watch.PROBLEM
    return watch.FINE if watch.FINE in verdicts else watch.NO_DATA


def alias_tick(row: dict[str, Any]) -> dict[str, Any]:
    """A tick under the names of an earlier server."""
    return {
        "symbol": row["symbol"],
        "timestamp": _iso(row["ts_ms"]),
        "ts_ms": row["ts_ms"],
        "price": row["price"],
        "volume": row["volume"],
        "turnover": row["turnover"],
        "direction": row["direction"],
        "tick_type": row["tick_type"],
        "seq": row["seq"],
    }


def alias_bar(row: dict[str, Any]) -> dict[str, Any]:
    """A bar under the names of an earlier server."""
    names = ("open", "high", "low", "close", "vwap", "volume", "tick_count", "is_final")
    start = {"symbol": row["symbol"], "timestamp": _iso(row["start_ms"]), "ts_ms": row["start_ms"]}
    return {**start, **{name: row[name] for name in names}}


def _iso(ts_ms: int) -> str:
    return (
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ts_ms))
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )

"""Whose days are in a ClickHouse, and which: what reading ticks and reading order books there have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hk_tick_collector.clickhouse.connection import ClickHouse, EngineAway
from hk_tick_collector.clickhouse.making import Making
from hk_tick_collector.clickhouse.tables import DAY, RECORDER, STATES, TICKS_TABLE, columns_there, quoted

_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Copy:
    """One recorder's copies in one ClickHouse."""

    engine: ClickHouse
    recorder: str
    making: Making = field(default_factory=Making, compare=False)  # of files that are made anew of it

    @property
    def place(self) -> Path:
        """Where that is, as messages name a directory."""
        return Path(self.engine.address.shown.partition("://")[2]) / self.recorder

    def where(self, day: str) -> str:
        """The condition that means one day of it."""
        return f"{DAY} = {quoted(day)} AND {RECORDER} = {quoted(self.recorder)}"


def recorders(engine: ClickHouse) -> dict[str, str]:
    """Whose days are there, with the market of each. EngineRefused when it has no such tables."""
    tables = [TICKS_TABLE, *(states.rows for states in STATES if states.rows in columns_there(engine))]
    return {
        name: market_there(engine, name, days[-1], table)
        for table in reversed(tables)
        for name, days in days_there_of(engine, table=table).items()
    }


def days_there_of(engine: ClickHouse, recorder: str | None = None, table: str = TICKS_TABLE) -> dict[str, list[str]]:
    """Which days each recorder has in a table there, oldest first: known from its parts, without reading a row."""
    where = "" if recorder is None else f"WHERE {RECORDER} = {quoted(recorder)} "
    days_of: dict[str, list[str]] = {}
    for name, day, _ in engine.rows(
        f"SELECT {RECORDER}, {DAY}, count() FROM {engine.database}.{table} {where}"
        f"GROUP BY {RECORDER}, {DAY} ORDER BY {RECORDER}, {DAY}"
    ):
        days_of.setdefault(name, []).append(day)
    return days_of


def rows_there_of(engine: ClickHouse, recorder: str, table: str) -> dict[str, int]:
    """How many rows each of a recorder's days has in a table there: known from its parts, without reading a row."""
    sql = f"SELECT {DAY}, count() FROM {engine.database}.{table} WHERE {RECORDER} = {quoted(recorder)} GROUP BY {DAY}"
    return dict(engine.rows(sql))


def market_there(engine: ClickHouse, recorder: str, day: str, table: str = TICKS_TABLE) -> str:
    """The market of a recorder's day. EngineAway when it is not there now, as while it is replaced."""
    where = f"{RECORDER} = {quoted(recorder)} AND {DAY} = {quoted(day)}"
    markets = engine.rows(f"SELECT market FROM {engine.database}.{table} WHERE {where} LIMIT 1")
    if not markets:
        raise not_there_now(engine, f"{day} of {recorder} in the table {table}")
    return str(markets[0][0])


def not_there_now(engine: ClickHouse, named: str) -> EngineAway:
    """What to say of what was there a moment ago; ``named``: in words."""
    return EngineAway(f"{engine.address.shown}: {named} is being replaced: ask again in a moment")


class Noted(dict[_Key, int]):
    """The numbers of a day's symbols, or of its series, as its notes tell them; of the others EngineAway. Rows are sent
    as they are stored, and notes with the proof of their day."""

    def __init__(self, copy: Copy, of_day: str) -> None:
        """``of_day``: ``the snapshots of 20261127``."""
        super().__init__()
        self._place, self._of_day = copy.place, of_day

    def __missing__(self, name: _Key) -> int:
        raise EngineAway(f"{self._place} has no notes of {name!r} in {self._of_day} yet: hk-tick-ship sends them later")

    def check(self) -> None:
        """EngineAway without any."""
        if not self:
            raise EngineAway(f"{self._place} has no notes of {self._of_day} yet")

"""Recordings in ClickHouse, as ``hk-tick-ship`` brought them: the calls of files, over days that lie there."""

from __future__ import annotations

import os
from typing import Any

from hk_tick_collector.client.answer import Answer
from hk_tick_collector.client.errors import BadQuestion, NoData
from hk_tick_collector.client.local import LocalFiles
from hk_tick_collector.client.plan import MarketRoots
from hk_tick_collector.client.question import BROKERS, BookQuestion, SnapshotQuestion, Texts
from hk_tick_collector.client.told import translated
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.days.union import UnionCatalog

PASSWORD = "HK_CLICKHOUSE_PASSWORD"  # noqa: S105 - the name of a variable of the environment


class Copied(LocalFiles):
    """The days of ``recorder`` in the database at ``url``; of all recorders there when it is None: their days
    are then joined, each tick once.

    ``password``: else that of the environment's HK_CLICKHOUSE_PASSWORD, else none. Live ticks are not there.
    """

    def __init__(
        self, url: str, recorder: str | None = None, password: str | None = None, clock: Clock | None = None
    ) -> None:
        from hk_tick_collector.clickhouse.address import parse_address  # noqa: PLC0415 - with its HTTP library
        from hk_tick_collector.clickhouse.connection import REST_SEC, ClickHouse  # noqa: PLC0415

        super().__init__([], clock)
        self._recorder = recorder
        with translated():
            known = os.environ.get(PASSWORD, "") if password is None else password
            self._engine = ClickHouse(parse_address(url), known, rest_sec=REST_SEC)

    def close(self) -> None:
        """Close the connections."""
        self._engine.close()

    def books(self, question: BookQuestion) -> Answer:
        """As ``Backend.books``; tables of an earlier version are said to be such."""
        from hk_tick_collector.clickhouse import tables  # noqa: PLC0415

        states = tables.BROKERS if question.form == BROKERS else tables.BOOKS
        with translated():
            tables.check_there(self._engine, states.rows, tables.columns_there(self._engine))
        return super().books(question)

    def snapshots(self, question: SnapshotQuestion) -> Answer:
        """As ``Backend.snapshots``; tables of an earlier version are said to be such."""
        from hk_tick_collector.clickhouse import tables  # noqa: PLC0415

        with translated():
            tables.check_there(self._engine, tables.SNAPSHOTS.rows, tables.columns_there(self._engine))
        return super().snapshots(question)

    def live(self, symbols: Texts, **options: Any) -> Any:
        """Refused."""
        raise BadQuestion("ClickHouse tells nothing live", "ask hk-tick-api, or hk.live on the recorder's machine")

    def markets(self) -> list[MarketRoots]:
        """Those of the recorders there."""
        from hk_tick_collector.clickhouse.copy import Copy, recorders  # noqa: PLC0415
        from hk_tick_collector.clickhouse.recorded import CopiedDays  # noqa: PLC0415

        market_of = recorders(self._engine)
        wanted = [name for name in market_of if self._recorder in (None, name)]
        if not wanted:
            known = ", ".join(market_of) or "nobody"
            told = f"{self._engine.address.shown} has no ticks of {self._recorder or 'any recorder'}"
            raise NoData(told, f"there ships {known}")
        by_market: dict[str, list[CopiedDays]] = {}
        for name in wanted:
            by_market.setdefault(market_of[name], []).append(CopiedDays(Copy(self._engine, name), market_of[name]))
        return [MarketRoots(days[0].market, UnionCatalog(days), self.clock) for days in by_market.values()]

"""One engine for all tests here of a process, with a database of its own for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from hk_tick_collector.clickhouse import tables
from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.tables import BOOKS, BROKERS, StateTables
from hk_tick_collector.ship.state import State
from hk_tick_collector.store.writer import DayFileWriter
from tests.clickhouse import ClickHouseServer, clickhouse_server
from tests.ticks import BASE_MS

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """No longer than these tests take: with a few databases it uses a fortieth of a core for nothing."""
    with clickhouse_server(tmp_path_factory.mktemp("clickhouse") / "data") as server:
        yield server


@pytest.fixture
def engine(server: ClickHouseServer) -> Iterator[ClickHouse]:
    """A database that is ready."""
    with server.engine(f"hk{next(_NUMBERS)}") as engine:
        tables.init(engine, tables.Shape(), BASE_MS)
        yield engine
        engine.run(f"DROP DATABASE {engine.database}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "HK").mkdir()
    return tmp_path / "HK"


@pytest.fixture
def writer(root: Path) -> Iterator[DayFileWriter]:
    writer = DayFileWriter(root)
    yield writer
    writer.close()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path / "ship")
    yield state
    state.close()


@pytest.fixture(params=(BOOKS, BROKERS), ids=lambda of: of.word)
def of(request: pytest.FixtureRequest) -> StateTables:
    """Which kind of record."""
    found: StateTables = request.param
    return found

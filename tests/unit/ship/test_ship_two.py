"""Two shippers at once for one recording and one sink, each with a SHIP_DIR of its own: the second one waits."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from hk_tick_collector.clickhouse.connection import EngineRefused
from hk_tick_collector.ship.alone import Alone
from hk_tick_collector.store.writer import DayFileWriter
from tests.clickhouse import ClickHouseServer
from tests.unit.ship.test_ship import equal, raw_rows
from tests.unit.ship.test_ship_process import (
    DEADLINE_SEC,
    PASSWORD,
    own_server,
    rows_there,
    settings,
    shipper,
    tickctl,
    until,
)
from tests.unit.store_ticks import DAY, ticks

__all__ = ["own_server", "settings"]
WORDS = "with another SHIP_DIR: stop one of them"


def test_a_second_one_sends_nothing_until_the_first_has_ended(
    tmp_path: Path, root: Path, writer: DayFileWriter, own_server: ClickHouseServer, settings: dict[str, str]
) -> None:
    assert tickctl(settings, "ship", "init").returncode == 0
    engine = own_server.engine("hk", PASSWORD)
    writer.write(ticks(50))
    other, second_log = {**settings, "SHIP_DIR": str(tmp_path / "another")}, tmp_path / "second log"
    with shipper(settings, tmp_path / "log") as first:
        until(lambda: rows_there(engine) == 50, "rows of the first one")
        with shipper(other, second_log) as second:
            until(lambda: WORDS in second_log.read_text(), "it says why it waits")
            done = tickctl({**settings, "SHIP_DIR": str(tmp_path / "third")}, "ship", "verify", DAY)
            assert (done.returncode, WORDS in done.stderr) == (1, True), done
            writer.write(ticks(50, first=51))
            until(lambda: rows_there(engine) >= 100, "the next rows")
            assert raw_rows(engine) == 100
            first.send_signal(signal.SIGKILL)
            first.wait()
            until(lambda: "ship_goes_on" in second_log.read_text(), "it takes over")
            writer.write(ticks(50, first=101))
            until(
                lambda: rows_there(engine) >= 150 and equal(root, engine),
                "rows of the second one",
            )
            second.send_signal(signal.SIGTERM)
            assert second.wait(DEADLINE_SEC) == 0
    engine.close()


def test_a_recording_may_go_to_several_sinks_and_under_several_names(tmp_path: Path) -> None:
    with Alone(tmp_path) as first, Alone(tmp_path) as second, Alone(tmp_path / "away") as nowhere:
        first.hold("one", "A")
        second.hold("two", "A")
        second.hold("one", "B")
        with pytest.raises(EngineRefused, match=WORDS):
            second.hold("one", "A")
        first.hold("one", "A")
        first.let_go()
        second.hold("one", "A")
        nowhere.hold("one", "A")

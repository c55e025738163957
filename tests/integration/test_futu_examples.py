"""The quote examples that futu-api ships run to their end against the simulator, as they are but for port and codes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Process, Simulator, clean_env, ended, wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    codes = "HK.00700,HK.00005,HK.02800,HK.12345,HK.800000,HK.999010,HK.HSImain"
    simulator = Simulator(tmp_path_factory.mktemp("sim"), "--always-open", "--rate", "60", "--symbols", codes)
    with ended(simulator):
        yield simulator


def example(name: str, simulator: Simulator, home: Path, *changes: str) -> Process:
    command = [sys.executable, "-u", "-m", "tests.futu_examples", name, str(simulator.port), *changes]
    return Process(command, clean_env(home, PYTHONPATH=ROOT))


def seen(home: Path, proto_id: int) -> bool:
    logs = home.rglob("py_*.log")
    return any(re.search(f"Push callback: .*proto={proto_id} ", log.read_text(encoding="utf-8")) for log in logs)


def test_quote_push(simulator: Simulator, tmp_path: Path) -> None:
    """It subscribes and then lives on pushes, of which it prints the errors alone."""
    process = example("quote_push.py", simulator, tmp_path)
    with ended(process):
        process.wait_for(r"\* subscribe : \(0, None\)")
        # Each push that reached a handler stands in the SDK's own log.
        for proto_id in (3005, 3011, 3013, 3015):
            wait_until(lambda number=proto_id: seen(tmp_path, number), f"pushes {proto_id}")  # type: ignore[misc]
        assert "error" not in process.output


def test_quote_and_trade_demo(simulator: Simulator, tmp_path: Path) -> None:
    process = example("quote_and_trade_demo.py", simulator, tmp_path, "sleep(15)=sleep(2)")
    with ended(process):
        assert process.wait() == 0, process.output
        assert "* subscribe : (0, None)" in process.output
        for printed in ("StockQuoteTest :", "RTDataTest :", "TickerTest", "OrderBookTest", "BrokerTest code"):
            assert f"* {printed}" in process.output
        assert "error, msg" not in process.output


def test_get_mkt_snapshot_demo(simulator: Simulator, tmp_path: Path) -> None:
    process = example("get_mkt_snapshot_demo.py", simulator, tmp_path, "sleep(3)=sleep(0)")
    with ended(process):
        assert process.wait() == 0, process.output
        for kind, count in (("STOCK", 2), ("ETF", 1), ("WARRANT", 1), ("IDX", 2)):
            assert f"get_stock_basicinfo: market=HK, sub_type={kind}, count={count}" in process.output
        assert "HK.12345" in process.output
        assert "Error market:'US' can not get stock info" in process.output  # one market trades here

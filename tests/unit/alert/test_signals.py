"""Signals of hooks that go to people: each once, from the first look on, as the sender sent it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.alert.outbox import GROUP_MS, Outbox
from hk_tick_collector.alert.signals import SignalDesk
from hk_tick_collector.alert.targets import TargetSettings
from hk_tick_collector.market.hk import HK
from hk_tick_collector.store.signals import SignalStore

NOW_MS = 1_795_914_000_000
TRADE = {
    "symbol": "MNQ", "action": "entry", "direction": "long", "price": 165.25, "confidence": 0.785,
    "position_before": 0, "position_after": 1, "pnl": 0.0, "total_trades": 1,
    "timestamp": "2025-11-19T14:30:22.123456+00:00", "simulated": True,
}  # fmt: skip
TARGETS = (
    TargetSettings(name="trader", signals=("ml-trade",)),
    TargetSettings(name="asleep", signals=("ml-trade", "other"), quiet="00:00-23:59"),
    TargetSettings(name="pager"),
)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "alert")
    yield outbox
    outbox.close()


def send(store: SignalStore, name: str = "ml-trade", **more: Any) -> None:
    store.add(name, "MNQ", TRADE | more, recv_ts_ms=NOW_MS, cursor=None, sender="model")


def lines(outbox: Outbox, target: str) -> list[str]:
    all_lines: list[str] = []
    while (letter := outbox.due(target, NOW_MS + GROUP_MS)) is not None:
        all_lines += letter.lines
        outbox.sent(letter, NOW_MS)
    return all_lines


def test_each_goes_once_to_those_who_ask_for_its_hook(tmp_path: Path, outbox: Outbox) -> None:
    hooks = tmp_path / "hooks"
    store = SignalStore(hooks)
    send(store)
    desk = SignalDesk(hooks, TARGETS, outbox, HK)
    desk.step(NOW_MS)  # what was there before is history
    send(store, action="exit", simulated=False)
    send(store, name="other")
    desk.step(NOW_MS)
    SignalDesk(hooks, TARGETS, outbox, HK).step(NOW_MS)  # a restart
    assert lines(outbox, "pager") == []
    (line,) = lines(outbox, "trader")
    assert line.startswith("MNQ: exit long at 165.25; confidence 0.785, pnl 0.0, position_after 1, position_before 0")
    assert line.endswith("[ml-trade 2; 09:00:00 HKT]")
    assert len(outbox.take_held("asleep")) == 2
    store.close()


def test_a_simulated_one_says_so_and_hostile_text_stays_text(tmp_path: Path, outbox: Outbox) -> None:
    store = SignalStore(tmp_path)
    desk = SignalDesk(tmp_path, TARGETS, outbox, HK)
    desk.step(NOW_MS)
    send(store, note="\x1b[2J@everyone\n" + "x" * 5000)
    desk.step(NOW_MS)
    (line,) = lines(outbox, "trader")
    assert line.startswith("MNQ SIMULATED: entry long at 165.25")
    assert "\x1b" not in line
    assert "\n" not in line
    assert len(line) < 550
    store.close()


def test_a_flood_is_many_letters_and_none_is_lost(tmp_path: Path, outbox: Outbox) -> None:
    store = SignalStore(tmp_path)
    desk = SignalDesk(tmp_path, TARGETS, outbox, HK)
    desk.step(NOW_MS)
    for number in range(250):
        send(store, total_trades=number)
    for _ in range(3):
        desk.step(NOW_MS)
    assert len(lines(outbox, "trader")) == 250
    store.close()


def test_a_file_that_begins_anew_is_read_from_its_beginning(tmp_path: Path, outbox: Outbox) -> None:
    store = SignalStore(tmp_path)
    for _ in range(3):
        send(store)
    desk = SignalDesk(tmp_path, TARGETS, outbox, HK)
    desk.step(NOW_MS)
    store.close()
    (tmp_path / "signals.db").unlink()
    store = SignalStore(tmp_path)
    send(store)
    desk.step(NOW_MS)
    desk.step(NOW_MS)
    assert len(lines(outbox, "trader")) == 1
    store.close()

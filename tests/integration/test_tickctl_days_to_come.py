"""A file of a day to come, made by a tick with a wrong date, takes the place of no other day."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hk_tick_collector.market.dates import add_days
from hk_tick_collector.market.hk.sessions import hk_date
from tests.tickctl import record_day, tickctl, tickctl_json
from tests.ticks import DAY

FAR = "20371231"


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    root = tmp_path / "HK"
    record_day(root, DAY, count=50)
    for day in (add_days(hk_date(time.time_ns() // 1_000_000), 2), FAR):
        record_day(root, day, symbols=("HK.00700",), count=1)
    return root


@pytest.mark.parametrize("arguments", [("day", "--no-write"), ("ticks", "700"), ("top",), ("gaps",), ("bars", "700")])
def test_the_newest_day_is_none_that_has_not_come(data_root: Path, arguments: tuple[str, ...]) -> None:
    done = tickctl(*arguments, data_root=data_root)
    assert done.returncode in (0, 1), done.stderr
    assert FAR not in done.stdout + done.stderr
    assert tickctl("ticks", "700", "--day", "last", data_root=data_root).returncode == 0


def test_status_says_what_is_wrong_and_what_to_do(data_root: Path) -> None:
    picture = tickctl_json("status", data_root=data_root, code=1)
    assert picture["day"]["trading_day"] == DAY
    assert picture["days_to_come"][0] == FAR
    (problem,) = [text for text in picture["problems"] if "days to come" in text]
    assert f"{FAR}.db" in problem
    assert "repair_future_ts_ms.py" in problem


def test_with_days_to_come_alone_it_says_so(tmp_path: Path) -> None:
    root = tmp_path / "HK"
    record_day(root, FAR, symbols=("HK.00700",), count=1)
    done = tickctl("ticks", "700", data_root=root)
    assert done.returncode == 3
    assert "only days after today" in done.stderr

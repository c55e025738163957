"""``hk-tickctl sources``: each settings file is a recorder, and one that is wrong hides no other."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.health.statusfile import RecorderStatus, process_space
from hk_tick_collector.store import layout
from tests.tickctl import record_day, tickctl, tickctl_json
from tests.ticks import DAY


@contextmanager
def recorder(root: Path, **status: Any) -> Iterator[None]:
    """As a recorder that works looks from outside: it holds the lock, and its word is new."""
    root.mkdir(exist_ok=True)
    now_ms = time.time_ns() // 1_000_000
    told = RecorderStatus(os.getpid(), "1.0", process_space(), now_ms - 60_000, now_ms, "ok", **status)
    with layout.lock_file(root).open("w") as lock:
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        layout.status_file(root).write_text(json.dumps(asdict(told)))
        yield


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Three recorders' settings, one of them wrong, and what is no recorder's."""
    for name, text in {
        ".env": f"DATA_ROOT={tmp_path}/HK\nFUTU_SYMBOLS=HK.00700\nDATA_ROOTS={tmp_path}/HK,{tmp_path}/copied\n",
        "us-1.env": f"DATA_ROOT={tmp_path}/US\nMARKET=US\nFUTU_SYMBOLS=US.AAPL\n",
        "wrong.env": "FUTU_SYMBOLS=\nMARKET=nowhere\n",
        "no name.env": "FUTU_SYMBOLS=HK.00700\n",
        "-x.env": "FUTU_SYMBOLS=HK.00700\n",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "copied").mkdir()
    record_day(tmp_path / "copied", DAY, count=20)
    return tmp_path


def test_each_recorder_is_a_line_and_a_wrong_one_hides_none(machine: Path) -> None:
    newest_ms = time.time_ns() // 1_000_000 - 400
    feed = {"source": "OpenD", "opend_state": "ready", "symbols_wanted": 2, "symbols_subscribed": 2}
    with recorder(machine / "HK", rows_per_sec=12.5, newest_ts_ms=newest_ms, lag_sec=0.4, **feed):
        told = tickctl_json("sources", "--env-file", machine / ".env", code=1)
        shown = tickctl("sources", "--env-file", machine / ".env").stdout
    assert told["verdict"] == "problem"
    by_name = {source["name"]: source for source in told["sources"]}
    assert list(by_name) == ["plain", "us-1", "wrong", "copied"]
    plain, us, wrong, copied = by_name.values()
    assert (plain["unit"], plain["market"], plain["source"]) == ("hk-tick-collector", "HK", "OpenD")
    assert (plain["running"], plain["link_state"], plain["symbols_subscribed"]) == (True, "ready", 2)
    assert (plain["rows_per_sec"], plain["lag_sec"], plain["newest_ts_ms"]) == (12.5, 0.4, newest_ms)
    assert (us["unit"], us["verdict"], us["market"]) == ("hk-tick-collector@us-1", "problem", "US")
    assert "it was never made, or its disk is not mounted" in us["error"]
    assert wrong["error"].startswith("FUTU_SYMBOLS") or wrong["error"].startswith("MARKET=nowhere")
    assert f"hk-tickctl config --env-file {machine}/wrong.env" in wrong["error"]
    assert (copied["unit"], copied["running"], copied["market"]) == (None, False, "HK")
    assert copied["problems"] == ["no recorder runs on this data root; start it: hk-tick-collector"]
    assert [line.split()[0] for line in shown.splitlines()] == ["recorder", *by_name]


def test_all_that_is_well_ends_with_0_and_nothing_at_all_with_3(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"DATA_ROOT={tmp_path}/HK\nFUTU_SYMBOLS=HK.00700\n")
    (tmp_path / "HK").mkdir()
    assert tickctl_json("sources", "--env-file", tmp_path / ".env", code=3)["verdict"] == "no_data"
    with recorder(tmp_path / "HK", opend_state="ready"):
        assert tickctl_json("sources", "--env-file", tmp_path / ".env")["verdict"] == "fine"
    given = tickctl_json("sources", data_root=tmp_path / "HK", code=1)["sources"]
    assert [(source["name"], source["unit"]) for source in given] == [("HK", None)]

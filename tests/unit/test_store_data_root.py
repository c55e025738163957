"""Whose days a data root holds: told by .market, else by the files, claimed once and for good."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import sqlite3
import stat

import pytest

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.store import data_root
from hk_tick_collector.store.layout import market_file
from hk_tick_collector.store.writer import DayFileWriter
from tests.unit.store_ticks import DAY, tick


def record(root, day=DAY, rows=1):
    writer = DayFileWriter(root)
    writer.write([tick(n, day=day) for n in range(1, rows + 1)])
    writer.close()
    return root / f"{day}.db"


def recorded_as(path, market):
    with contextlib.closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("UPDATE ticks SET market = ?", (market,))


def test_an_empty_data_root_belongs_to_who_claims_it_first(tmp_path):
    assert data_root.market_of(tmp_path) is None
    data_root.claim(tmp_path, "CME")
    data_root.claim(tmp_path, "CME")
    assert data_root.market_of(tmp_path) == "CME"
    assert market_file(tmp_path).read_text() == "CME\n"
    assert stat.S_IMODE(market_file(tmp_path).stat().st_mode) & ~0o640 == 0
    assert [path.name for path in tmp_path.iterdir()] == [".market"]


def test_another_market_is_refused_and_nothing_changes(tmp_path):
    data_root.claim(tmp_path, "CME")
    with pytest.raises(ConfigError, match=r"market CME \(its file \.market .*, and .* HK; give each .* DATA_ROOT"):
        data_root.claim(tmp_path, "HK")
    assert "market CME" in (data_root.foreign(tmp_path, "HK") or "")
    assert data_root.foreign(tmp_path, "CME") is None
    assert data_root.market_of(tmp_path) == "CME"


def test_a_data_root_of_before_is_known_by_its_days_and_marked(tmp_path):
    record(tmp_path)
    assert data_root.market_of(tmp_path) == "HK"
    with pytest.raises(ConfigError, match="holds days of market HK, and this is market US"):
        data_root.claim(tmp_path, "US")
    assert not market_file(tmp_path).exists()
    data_root.claim(tmp_path, "HK")
    assert market_file(tmp_path).read_text() == "HK\n"


def test_the_newest_day_with_a_row_tells(tmp_path):
    record(tmp_path, "20261118")
    recorded_as(record(tmp_path, "20261119"), "US")
    empty = record(tmp_path, DAY)
    with contextlib.closing(sqlite3.connect(empty)) as conn, conn:
        conn.execute("DELETE FROM ticks")
    assert data_root.market_of(tmp_path) == "US"


def test_a_damaged_newest_day_hides_nothing(tmp_path):
    record(tmp_path, "20261119")
    (tmp_path / f"{DAY}.db").write_bytes(b"no database, yet long enough to look like a page of one" * 100)
    assert data_root.market_of(tmp_path) == "HK"


@pytest.mark.parametrize("content", [b"", b"\0\0\0", b"hk\n", b"H" * 5000, "香港".encode(), b"../HK"])
def test_a_file_that_holds_no_code_is_as_none_and_replaced(tmp_path, content):
    market_file(tmp_path).write_bytes(content)
    assert data_root.market_of(tmp_path) is None
    data_root.claim(tmp_path, "HK")
    assert market_file(tmp_path).read_text() == "HK\n"


def test_a_pipe_under_the_name_is_not_waited_for(tmp_path):
    os.mkfifo(market_file(tmp_path))
    data_root.claim(tmp_path, "HK")
    assert data_root.market_of(tmp_path) == "HK"


def test_what_a_link_leads_to_is_never_written(tmp_path):
    secret = tmp_path / "elsewhere"
    secret.write_text("not yours")
    root = tmp_path / "root"
    root.mkdir()
    market_file(root).symlink_to(secret)
    data_root.claim(root, "HK")
    assert secret.read_text() == "not yours"
    assert not market_file(root).is_symlink()


def test_a_disk_that_takes_no_file_holds_up_nobody(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    record(tmp_path)
    monkeypatch.setattr(os, "link", full)
    data_root.claim(tmp_path, "HK")
    with pytest.raises(ConfigError, match="market HK"):
        data_root.claim(tmp_path, "US")
    assert not market_file(tmp_path).exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    data_root.claim(empty, "US")
    assert list(empty.iterdir()) == []


def claims(root, market, start, refused):
    start.wait()
    try:
        data_root.claim(root, market)
    except ConfigError:
        refused.put(market)


def test_of_two_processes_that_claim_at_once_one_gets_it(tmp_path):
    context = multiprocessing.get_context("fork")
    for attempt in range(10):
        root = tmp_path / str(attempt)
        root.mkdir()
        start, refused = context.Barrier(2), context.Queue()
        both = [context.Process(target=claims, args=(root, market, start, refused)) for market in ("HK", "US")]
        for process in both:
            process.start()
        loser = refused.get(timeout=30)
        for process in both:
            process.join(30)
        assert {loser, data_root.market_of(root)} == {"HK", "US"}
        assert refused.empty()


def test_a_directory_under_the_name_is_no_claim_that_is_left_out_in_silence(tmp_path):
    market_file(tmp_path).mkdir()
    with pytest.raises(ConfigError, match=r"\.market is not a file.*move it away"):
        data_root.claim(tmp_path, "CME")

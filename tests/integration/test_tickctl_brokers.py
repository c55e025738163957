"""Broker queues of a day: beside the book of a moment, in the day's report, as a table, and with the day's archive."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import hk_tick_collector as hk
from hk_tick_collector.client.errors import IncompleteData
from hk_tick_collector.records.book import BrokerPush, BrokerQueue, PushEntry, WatchBegan
from hk_tick_collector.store.layout import broker_file
from tests.books import DAY, OPEN_US, record_books
from tests.brokers import NAMES, broker_writer, record_brokers
from tests.tickctl import record_day, tickctl, tickctl_json


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    record_day(root, DAY, count=100)
    record_books(root, symbols=("HK.00700",))
    return root


def test_brokers_stand_beside_the_book_of_a_moment(root: Path) -> None:
    without = tickctl_json("book", "700", "--at", "09:30:00.200", data_root=root)
    assert "brokers" not in without
    pushed = record_brokers(root)
    newest = [push for push in pushed if push.recv_ts_us // 1000 <= without["recv_ts_us"] // 1000][-1]
    shown = tickctl_json("book", "700", "--at", "09:30:00.200", data_root=root)["brokers"]
    assert [(row["level"], row["broker_id"], row["broker"]) for row in shown["bids"]] == [
        (level, broker_id, NAMES[broker_id]) for level, broker_id in newest.queue.bids
    ]
    assert shown["watched"]
    text = tickctl("book", "700", "--at", "09:30:00.200", data_root=root).stdout
    assert "broker queue, received 09:30:00.200 HKT on 20261120, first come first" in text
    first = " ".join(f"{broker_id:04d}" for level, broker_id in newest.queue.bids if level == 1)
    assert first in text


def test_the_days_report_says_when_queues_were_watched(root: Path) -> None:
    record_brokers(root)
    report = tickctl_json("book", data_root=root, code=1)  # a day of half a second is blind
    assert report["brokers"]["sentence"].startswith("watched ")
    assert "broker queues: watched" in tickctl("book", data_root=root, code=1).stdout


def test_the_days_certificate_has_the_queues_beside_ticks_and_books(root: Path) -> None:
    """In JSON and as text, from the notes alone, from every push, of one symbol, of a day in the archive alone."""
    without = tickctl_json("day", DAY, "--no-write", data_root=root)
    assert without["brokers"] is None
    pushed = record_brokers(root)
    told = tickctl_json("day", DAY, "--no-write", data_root=root)
    brokers = told["brokers"]
    assert (told["grade"], told["books"]) == (without["grade"], without["books"])
    assert (
        told["sentence"].partition(" were read again at ")[0]
        == without["sentence"].partition(" were read again at ")[0]
    )
    assert (brokers["state"], brokers["pushes_read"], brokers["adds_up"]) == ("blind", False, True)
    assert (brokers["received"], brokers["stored"], brokers["merged"], brokers["unread"]) == (len(pushed),) * 2 + (0, 0)
    (queue,) = brokers["symbols"]
    assert queue["reason"].startswith("watched ")
    assert queue["pushes"] is None
    text = tickctl("day", DAY, "--no-write", data_root=root).stdout
    assert f"Broker queues: {brokers['sentence']}" in " ".join(text.split())
    assert "complete" not in brokers["sentence"]
    page = tickctl("day", DAY, "--html", data_root=root)
    assert page.returncode == 0, page.stderr
    html = (root / "_reports" / f"{DAY}.html").read_text()
    written = json.loads((root / "_reports" / f"{DAY}.json").read_text())["brokers"]
    assert (written["pushes_read"], written["symbols"][0]["pushes"]) == (True, len(pushed))
    assert "<h2>Broker queues</h2>" in html
    assert "a push of a broker queue has neither a number nor a time" in html
    assert f"{len(pushed):,} pushes received: {len(pushed):,} stored; 0 merged; 0 unread." in html
    tickctl_json("archive", DAY, data_root=root)
    broker_file(root, DAY).unlink()
    packed = tickctl_json("day", DAY, "--no-write", data_root=root)["brokers"]
    assert (packed["state"], packed["sentence"]) == (
        "unread", f"{len(pushed) + 1:,} rows in the archive, which were not unpacked for this"
    )  # fmt: skip
    read = tickctl_json("day", DAY, "--no-write", "--recount", data_root=root)["brokers"]
    assert read["symbols"] == written["symbols"]


def test_a_days_queues_go_into_a_parquet_file_and_are_those_that_were_pushed(root: Path) -> None:
    record_brokers(root)
    target = root / "queues.parquet"
    sql = "SELECT * EXCLUDE (trading_day) FROM brokers ORDER BY update_no, side DESC, place"
    done = tickctl("query", sql, "--days", DAY, "--output", target, data_root=root)
    assert done.returncode == 0, done.stderr
    with pytest.warns(IncompleteData):
        table = hk.local(root).load("700", DAY, kind="broker")
    assert pq.read_table(target).select(table.schema.names).cast(table.schema).to_pylist() == table.to_pylist()


HOSTILE = "Evil\x1b]0;owned\x07\x1b[2J\x9b31m\r\nBroker\u202e\u2066\x00\x7f\u2028 \u7d93\u7d00"


def test_a_hostile_name_of_a_broker_reaches_no_terminal_raw(root: Path) -> None:
    """Names come from the network: in JSON each is what came, and no byte of it commands a terminal."""
    writer = broker_writer(root, OPEN_US // 1000 + 60_000)
    queue = BrokerQueue(((1, 4001), (2, 4002)), ((1, 4001),))
    push = BrokerPush("HK.00700", OPEN_US, queue, ((4001, HOSTILE), (4002, "One")))
    writer.write(DAY, [WatchBegan("HK.00700", OPEN_US), PushEntry(push)], 1)
    writer.close()
    done = {
        "book": tickctl("book", "700", "--at", "09:30:00.200", "--json", data_root=root),
        "book as text": tickctl("book", "700", "--at", "09:30:00.200", data_root=root),
        "query": tickctl("query", "SELECT broker FROM brokers ORDER BY place", "--days", DAY, data_root=root),
        "query as JSON": tickctl("query", "SELECT broker FROM brokers", "--days", DAY, "--json", data_root=root),
    }
    for name, ended in done.items():
        assert ended.returncode == 0, f"{name}: {ended.stderr}"
        raw = [char for char in ended.stdout + ended.stderr if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")]
        assert set(raw) <= {"\n"}, f"{name}: {raw}"
    told = json.loads(done["book"].stdout)["brokers"]
    assert [row["broker"] for row in told["bids"]] == [HOSTILE, "One"]
    assert HOSTILE in {row["broker"] for row in json.loads(done["query as JSON"].stdout)}


def test_queues_are_archived_verified_deleted_read_and_restored(root: Path) -> None:
    record_brokers(root)
    for day in ("20261123", "20261124"):
        record_day(root, day, count=100)
    path = broker_file(root, DAY)
    content = path.read_bytes()
    tickctl_json("archive", data_root=root)
    assert all(row["fine"] for row in tickctl_json("verify", data_root=root))
    live = tickctl_json("book", "700", "--days", DAY, data_root=root)
    tickctl_json("retain", "--keep-days", 2, data_root=root)
    assert not path.exists()
    assert tickctl_json("book", "700", "--days", DAY, data_root=root) == live
    sql = "SELECT count(DISTINCT update_no) AS pushes, count(broker) AS places FROM brokers WHERE kind <> 'B'"
    (counted,) = tickctl_json("query", sql, "--days", DAY, data_root=root)
    with pytest.warns(IncompleteData, match="broker queues were not watched all the time"):
        table = hk.local(root).load("700", DAY, kind="broker")
    assert counted == {"pushes": 300, "places": table.num_rows - table["side"].null_count}
    tickctl_json("restore", DAY, data_root=root)
    assert path.read_bytes() == content


def test_a_damaged_archive_deletes_no_queue(root: Path) -> None:
    record_brokers(root)
    for day in ("20261123", "20261124"):
        record_day(root, day, count=100)
    tickctl_json("archive", data_root=root)
    (packed,) = (root / "_archive/depth" / DAY).glob("*.broker.db.*.gz")
    packed.write_bytes(packed.read_bytes()[:-9] + b"\0" * 9)
    assert not all(row["fine"] for row in tickctl_json("verify", data_root=root, code=1))
    tickctl_json("retain", "--keep-days", 2, data_root=root, code=1)
    assert broker_file(root, DAY).exists()


def test_a_day_without_queues_says_what_records_them(root: Path) -> None:
    with pytest.raises(hk.NoData, match="no broker queues") as caught:
        hk.local(root).load("700", DAY, kind="broker")
    assert "BOOK_BROKERS=1" in str(caught.value)

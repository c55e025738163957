"""``hk.connect``: the same calls on a server give what they give on its files, errors and warnings too."""

from __future__ import annotations

import http.server
import json
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hk_tick_collector.client import errors
from hk_tick_collector.client.api import Recordings
from hk_tick_collector.client.default import connect, local
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import PushEntry
from hk_tick_collector.serve.api.answer import FORMATS
from hk_tick_collector.store.book_reader import states
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_file, broker_file
from tests.books import lively_pushes, record_books
from tests.brokers import broker_writer, lively_queues, record_brokers
from tests.serving import BEFORE, GAPPY, ApiServer, add_key, record_roots
from tests.tickctl import record_day, tickctl_json
from tests.ticks import DAY

OF_BOTH_ROOTS = ("HK.00001", "HK.00005", "HK.00700")  # the first one is in the shard alone
PACKED = "20261117"  # archived, its order books too
Call = Callable[[Recordings], Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("remote")
    root = record_roots(directory)
    record_books(root, PACKED)
    record_brokers(root, PACKED)
    record_day(root, PACKED, count=20)
    tickctl_json("archive", PACKED, data_root=root)
    book_file(root, PACKED).unlink()
    broker_file(root, PACKED).unlink()
    record_books(root, DAY)
    record_brokers(root, DAY, ("HK.00005", "HK.00700"))
    record_brokers(directory / "shard", DAY, ("HK.00001", "HK.00700"))
    record_books(directory / "shard", DAY, ("HK.00001", "HK.00700"), pushes=40)
    record_day(directory / "shard", DAY, symbols=["HK.00001", "HK.00700"], count=50)
    return directory


@pytest.fixture(scope="module")
def key(place: Path) -> str:
    return add_key(place / "keys.json")


@pytest.fixture(scope="module")
def narrow(place: Path) -> str:
    return add_key(place / "keys.json", "narrow", symbols=("HK.00005",))


@pytest.fixture(scope="module")
def server(place: Path, key: str, narrow: str) -> Iterator[ApiServer]:
    assert key != narrow
    roots = f"{place / 'HK'},{place / 'shard'}"
    running = ApiServer(place, place / "HK", API_KEYS_FILE=place / "keys.json", DATA_ROOTS=roots)
    yield running
    running.end()


@pytest.fixture(scope="module")
def here(place: Path) -> Recordings:
    return local([place / "HK", place / "shard"])


@pytest.fixture(scope="module")
def there(server: ApiServer, key: str) -> Iterator[Recordings]:
    with connect(server.url, key) as recordings:
        yield recordings


def told(call: Call, recordings: Recordings) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = call(recordings)
    return table, [str(warning.message) for warning in caught]


CALLS: dict[str, Call] = {
    "a day": lambda hk: hk.load("700", DAY),
    "several": lambda hk: hk.load(["700", "5", "1"], f"{GAPPY}..{DAY}"),
    "all of a day": lambda hk: hk.load("all", DAY),
    "all of two days": lambda hk: hk.load("all", f"{BEFORE}..{DAY}"),
    "listed days": lambda hk: hk.load("700", [GAPPY, DAY]),
    "archived": lambda hk: hk.load("700", BEFORE, columns="symbol,ts_ms,seq,price"),
    "a stretch": lambda hk: hk.load("700,5", start="2026-11-18T09:40+08:00", end="2026-11-20T09:45+08:00"),
    "days as ends": lambda hk: hk.load("700", start=GAPPY, end=DAY),
    "kinds": lambda hk: hk.load("700", DAY, types=["price", "odd_lots"]),
    "known by then": lambda hk: hk.load("700", DAY, as_of=1_795_140_000_000),
    "a symbol that is not there": lambda hk: hk.load("700,99", DAY),
    "local time": lambda hk: hk.load("700", DAY, tz="hk"),
    "books": lambda hk: hk.load("700", DAY, kind="book"),
    "books of several days and roots": lambda hk: hk.load("all", f"{PACKED}..{DAY}", kind="book", form="long"),
    "books, archived": lambda hk: hk.load("700", PACKED, kind="book", form="quotes", tz="hk"),
    "books of a stretch": lambda hk: hk.load(
        "700,5", start="2026-11-17T09:30:00.2+08:00", end="2026-11-20T09:30:00.3+08:00", kind="book", depth=3
    ),
    "books of one that has none": lambda hk: hk.load("700,2", DAY, kind="book", depth=1),
    "newest books": lambda hk: hk.load("5", kind="book"),
    "broker queues": lambda hk: hk.load("700", DAY, kind="broker"),
    "broker queues of several days and roots": lambda hk: hk.load("all", f"{PACKED}..{DAY}", kind="broker"),
    "broker queues, archived": lambda hk: hk.load("700", PACKED, kind="broker", tz="hk"),
    "broker queues of a stretch": lambda hk: hk.load(
        "700,5", start="2026-11-17T09:30:00.2+08:00", end="2026-11-20T09:30:00.1+08:00", kind="broker"
    ),
    "broker queues of one that has none": lambda hk: hk.load("700,2", DAY, kind="broker"),
    "newest broker queues": lambda hk: hk.load("5", kind="broker"),
    "newest": lambda hk: hk.load("700"),
    "bars": lambda hk: hk.bars("700,5", f"{GAPPY}..{DAY}", "10m"),
    "filled bars": lambda hk: hk.bars("700", DAY, "15m", fill=True, odd_lots=True, off_exchange=True, auctions=False),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_table_is_the_same(here: Recordings, there: Recordings, name: str) -> None:
    (ours, warned), (theirs, warned_there) = told(CALLS[name], here), told(CALLS[name], there)
    assert theirs.schema.equals(ours.schema, check_metadata=True)
    assert theirs.equals(ours)
    assert ours.num_rows or name == "known by then"
    assert warned_there == warned


@pytest.mark.parametrize("to", ["polars", "pandas", "duckdb"])
def test_other_libraries_get_the_same(here: Recordings, there: Recordings, to: Any) -> None:
    ours, theirs = (hk.load("700", DAY, columns="symbol,seq,price", to=to) for hk in (here, there))
    if to == "duckdb":
        assert ours.fetchall() == theirs.fetchall()
    else:
        assert ours.equals(theirs)


def test_batches_days_coverage_certificate(here: Recordings, there: Recordings) -> None:
    tables = [pa.Table.from_batches(list(hk.iter_batches("700", DAY))) for hk in (here, there)]
    assert tables[0].equals(tables[1].cast(tables[0].schema))
    assert there.days() == here.days()
    assert list(there.coverage(f"{GAPPY}..{DAY}")) == list(here.coverage(f"{GAPPY}..{DAY}"))
    ours, theirs = here.certificate(GAPPY), there.certificate(GAPPY)
    told = [re.sub(r"at [\d:]{8} HKT", "now", certificate["sentence"]) for certificate in (theirs, ours)]
    assert told[0] == told[1]
    assert (theirs["grade"], theirs["symbols"]) == (ours["grade"], ours["symbols"])


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda hk: hk.load("99", DAY), errors.UnknownSymbol),
        (lambda hk: hk.load("99", DAY, kind="book"), errors.UnknownSymbol),
        (lambda hk: hk.load("700", GAPPY, kind="book"), errors.NoData),
        (lambda hk: hk.load("700", DAY, kind="book", require="proven"), errors.BadQuestion),
        (lambda hk: hk.load("700", DAY, kind="book", columns="price"), errors.BadQuestion),
        (lambda hk: hk.load("700", DAY, kind="book", form="tall"), errors.BadQuestion),
        (lambda hk: hk.load("700", DAY, kind="book", depth=0), errors.BadQuestion),
        (lambda hk: hk.load("99", DAY, kind="broker"), errors.UnknownSymbol),
        (lambda hk: hk.load("700", GAPPY, kind="broker"), errors.NoData),
        (lambda hk: hk.load("700", DAY, kind="broker", require="proven"), errors.BadQuestion),
        (lambda hk: hk.load("700", DAY, kind="quote"), errors.BadQuestion),
        (lambda hk: hk.load("700", "20200102"), errors.NoData),
        (lambda hk: hk.load("5", GAPPY, require="proven"), errors.NotProven),
        (lambda hk: hk.load("HK.@@", DAY), errors.BadQuestion),
        (lambda hk: hk.bars("700", DAY, "7x"), errors.BadQuestion),
    ],
)
def test_an_error_is_the_same(here: Recordings, there: Recordings, call: Call, kind: type[Exception]) -> None:
    for recordings in (here, there):
        with pytest.raises(kind) as raised:
            call(recordings)
        assert type(raised.value) is kind


@pytest.mark.parametrize(("day", "told"), [("20251122", "closed on 20251122"), ("20200102", "traded on 20200102")])
def test_why_there_is_nothing_is_told(here: Recordings, there: Recordings, day: str, told: str) -> None:
    hints = []
    for recordings in (here, there):
        with pytest.raises(errors.NoData, match=told) as raised:
            recordings.load("700", day)
        hints.append(raised.value.hint)
    assert hints[0] == hints[1]


def test_what_is_wrong_with_a_parameter_is_told(there: Recordings) -> None:
    """And not what HTTP is told about it."""
    with pytest.raises(errors.BadQuestion, match=r"^interval: .*: a number and s, m or h, as in 5m") as raised:
        there.bars("700", DAY, "7x")
    assert "/docs" not in str(raised.value)


def test_a_wrong_key_is_told_and_not_asked_again(server: ApiServer) -> None:
    with connect(server.url, "hktk_aaaaaaaa_" + "A" * 43) as recordings, pytest.raises(errors.ServerError) as raised:
        recordings.days()
    assert raised.value.status == 401
    assert "AAAA" not in str(raised.value)


# A server at its worst


class Worst(http.server.BaseHTTPRequestHandler):
    """Answers what the test wants, one after the other."""

    answers: list[tuple[int, dict[str, str], bytes]]
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        status, headers, body = self.answers.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing: the test looks itself."""


@pytest.fixture
def worst() -> Iterator[str]:
    Worst.answers, Worst.asked = [], 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Worst) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()


BUSY = (503, {"Retry-After": "7"}, json.dumps({"type": "/problems/store-busy", "detail": "d", "hint": "h"}).encode())


def test_what_may_work_later_is_asked_again_as_late_as_the_server_says(worst: str) -> None:
    pauses: list[float] = []
    Worst.answers = [BUSY, (429, {}, b""), BUSY, (200, {}, b'{"data": []}')]
    with connect(worst, sleep=pauses.append) as recordings:
        assert recordings.days() == []
    assert Worst.asked == 4
    assert (pauses[0], pauses[2]) == (7.0, 7.0)
    assert 0 < pauses[1] <= 0.5


def test_it_ends_with_what_was_last_said(worst: str) -> None:
    Worst.answers = [BUSY] * 3
    with connect(worst, tries=3, sleep=lambda _: None) as recordings, pytest.raises(errors.Busy, match="d"):
        recordings.days()
    assert Worst.asked == 3


def test_a_stream_that_ends_early_is_no_shorter_table(worst: str) -> None:
    sink = pa.BufferOutputStream()
    table = pa.table({"seq": list(range(100_000))})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=10_000)
    whole = sink.getvalue().to_pybytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 4):
        for promised in (str(len(whole)), None):
            headers = {"Content-Length": promised} if promised else {}
            Worst.answers = [(200, headers, whole[:length])]
            with connect(worst, tries=1) as recordings, pytest.raises(errors.ServerError, match="in its middle"):
                recordings.load("700", DAY, columns="seq")


def test_nobody_there_and_nonsense(worst: str) -> None:
    nobody = connect("http://127.0.0.1:1", tries=2, sleep=lambda _: None)
    with nobody as recordings, pytest.raises(errors.ServerError, match="does not answer"):
        recordings.days()
    for body in (b"<html>", b"", b"[" * 100_000, b"x" * 1_000_000):
        Worst.answers = [(404, {}, body)]
        with connect(worst) as recordings, pytest.raises(errors.ServerError, match="404"):
            recordings.days()
    Worst.answers = [(302, {"Location": "http://127.0.0.1:1/"}, b"")]
    with connect(worst, "secret") as recordings, pytest.raises(errors.ServerError, match="302"):
        recordings.days()
    with pytest.raises(errors.BadQuestion):
        connect("ftp://x")


# Pages of order books


@pytest.mark.parametrize(("form", "limit"), [("long", 371), ("wide", 301), ("quotes", 83)])
def test_pages_of_books_are_the_whole(
    server: ApiServer, key: str, here: Recordings, place: Path, form: Any, limit: int
) -> None:
    """One state of the files, whatever is written meanwhile; a page ends in the middle of an update too."""
    asked = {"symbols": "all", "day": f"{PACKED}..{DAY}", "form": form, "depth": 2, "limit": limit}
    with warnings.catch_warnings(action="ignore"):
        whole = here.load("all", f"{PACKED}..{DAY}", kind="book", form=form, depth=2)
    rows: list[dict[str, Any]] = []
    with server.client(key) as client:
        while True:
            page = client.get("/v1/books", params=asked).raise_for_status().json()
            assert len(page["data"]) == limit or page["next"] is None
            if not rows:
                writer = BookWriter(place / "HK", SqliteOptions(), HK.trading_day, lambda: 0)
                writer.write(DAY, [PushEntry(push) for push in lively_pushes(("HK.00700",), 3)], 3)
                writer.close()
            rows += page["data"]
            if page["next"] is None:
                break
            asked["cursor"] = page["next"]
    times = {"recv_ts_us": "recv_ts", "bid_ts_ms": "bid_ts", "ask_ts_ms": "ask_ts", "side_ts_ms": "side_ts"}
    columns = {name: times.get(name, name) for name in rows[0]}
    assert list(columns.values()) == whole.schema.names
    for name, ours in columns.items():
        column = whole.column(ours)
        plain = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        assert [row[name] for row in rows] == plain.to_pylist(), name
    assert page["coverage"]["state"] == "blind"
    assert page["coverage"]["watched"] == 0  # not to the end of the day
    assert "proven" not in json.dumps(page["coverage"])


def test_pages_of_broker_queues_are_the_whole(server: ApiServer, key: str, here: Recordings, place: Path) -> None:
    """A page ends in the middle of a queue too, and what is pushed meanwhile is in none."""
    asked: dict[str, Any] = {"symbols": "all", "day": f"{PACKED}..{DAY}", "limit": 997}
    with warnings.catch_warnings(action="ignore"):
        whole = here.load("all", f"{PACKED}..{DAY}", kind="broker")
    rows: list[dict[str, Any]] = []
    with server.client(key) as client:
        while True:
            page = client.get("/v1/brokers", params=asked).raise_for_status().json()
            assert len(page["data"]) == 997 or page["next"] is None
            if not rows:
                writer = broker_writer(place / "HK", 0)
                writer.write(DAY, [PushEntry(push) for push in lively_queues(("HK.00700",), 3)], 3)
                writer.close()
            rows += page["data"]
            if page["next"] is None:
                break
            asked["cursor"] = page["next"]
        again = client.get("/v1/brokers", params={**asked, "day": DAY})
        moved = client.get("/v1/books", params=asked)
    assert [row.pop("recv_ts_us") for row in rows] == whole["recv_ts"].cast(pa.int64()).to_pylist()
    assert rows == whole.drop_columns(["recv_ts"]).to_pylist()
    assert page["coverage"]["state"] == "blind"
    assert "proven" not in json.dumps(page["coverage"])
    assert [answer.json()["type"].rsplit("/", 1)[1] for answer in (again, moved)] == ["bad-cursor"] * 2


def test_every_format_of_broker_queues_and_what_a_key_may_not_read(
    server: ApiServer, key: str, narrow: str, here: Recordings
) -> None:
    asked = {"symbols": "HK.00700", "day": PACKED}
    with warnings.catch_warnings(action="ignore"):
        whole = here.load("700", PACKED, kind="broker")
    with server.client(key) as client:
        bodies = {name: client.get("/v1/brokers", params={**asked, "format": name}) for name in FORMATS}
        wrong = client.get("/v1/brokers", params={**asked, "form": "long"})
        long = client.post("/v1/brokers", json={**asked, "limit": 7}).raise_for_status().json()
    assert {name: response.status_code for name, response in bodies.items()} == dict.fromkeys(FORMATS, 200)
    assert pa.ipc.open_stream(bodies["arrow"].content).read_all().cast(whole.schema).equals(whole)
    assert pq.read_table(pa.BufferReader(bodies["parquet"].content)).num_rows == whole.num_rows
    assert len(bodies["ndjson"].text.splitlines()) == whole.num_rows
    assert len(bodies["csv"].text.splitlines()) == 1 + whole.num_rows
    assert (len(long["data"]), wrong.status_code) == (7, 400)
    with server.client(narrow) as client:
        refused = client.get("/v1/brokers", params=asked)
        mine = client.get("/v1/brokers", params={"symbols": "all", "day": DAY}).json()
    assert (refused.status_code, refused.json()["type"].rsplit("/", 1)[1]) == (403, "forbidden")
    assert {row["symbol"] for row in mine["data"]} == {"HK.00005"}


def test_every_format_of_books_and_what_a_key_may_not_read(server: ApiServer, key: str, narrow: str) -> None:
    asked = {"symbols": "HK.00700", "day": PACKED, "limit": 5}
    with server.client(key) as client:
        bodies = {name: client.get("/v1/books", params={**asked, "format": name}) for name in FORMATS}
    assert {name: response.status_code for name, response in bodies.items()} == dict.fromkeys(FORMATS, 200)
    assert len(bodies["json"].json()["data"]) == 5
    assert len(bodies["ndjson"].text.splitlines()) == 5
    assert len(bodies["csv"].text.splitlines()) == 6
    assert pa.ipc.open_stream(bodies["arrow"].content).read_all().num_rows == 5
    assert pq.read_table(pa.BufferReader(bodies["parquet"].content)).num_rows == 5
    assert json.loads(bodies["csv"].headers["hk-coverage"])["blind"] == 1

    with server.client(narrow) as client:
        refused = client.get("/v1/books", params=asked)
        mine = client.get("/v1/books", params={**asked, "symbols": "all", "limit": 1000}).json()
        cut = client.get("/v1/books", params={**asked, "symbols": "5", "cursor": "c1.e30.0000000000000000"})
    assert (refused.status_code, refused.json()["type"].rsplit("/", 1)[1]) == (403, "forbidden")
    assert {row["symbol"] for row in mine["data"]} == {"HK.00005"}
    assert {row["symbol"] for row in mine["coverage"]["not_watched"]} == {"HK.00005"}
    assert cut.status_code == 400


def test_the_newest_books(server: ApiServer, place: Path, key: str, narrow: str) -> None:
    state = [state for state in states(book_file(place / "HK", DAY), ["HK.00005"]) if state.book is not None][-1]
    assert state.book is not None
    with server.client(key) as client:
        answer = client.get("/v1/books/latest", params={"symbols": "5,2,1", "levels": 2}).raise_for_status().json()
        many = client.get("/v1/books/latest", params={"symbols": ",".join(map(str, range(1, 30)))})
    first, five = answer["data"]
    assert (first["symbol"], five["symbol"]) == ("HK.00001", "HK.00005")  # of two data roots; of 2 nothing is known
    sides = [[tuple(level.values()) for level in five[side]] for side in ("bids", "asks")]
    assert sides == [list(state.book.bids[:2]), list(state.book.asks[:2])]
    assert (five["day"], five["recv_ts_us"], five["watched"]) == (DAY, state.recv_ts_us, False)
    assert many.status_code == 400
    with server.client(narrow) as client:
        assert client.get("/v1/books/latest", params={"symbols": "1"}).status_code == 403


def test_what_is_told_of_a_day_tells_of_its_books(server: ApiServer, place: Path, key: str, narrow: str) -> None:
    with server.client(key) as client:
        coverage = client.get(f"/v1/days/{DAY}/coverage").raise_for_status().json()["books"]
        told = client.get(f"/v1/days/{DAY}/certificate").raise_for_status().json()["books"]
        page = client.get(f"/v1/days/{DAY}/certificate", params={"format": "html"}).raise_for_status().text
        packed = client.get(f"/v1/days/{PACKED}/coverage").raise_for_status().json()["books"]
        without = client.get(f"/v1/days/{BEFORE}/coverage").raise_for_status().json()["books"]
    assert coverage == told
    assert (told["state"], [row["symbol"] for row in told["symbols"]]) == ("blind", [*OF_BOTH_ROOTS])
    assert told["received"] is told["stored"] is None  # of each file they are known, not of what is told of it
    assert told["sentence"].startswith("3 symbols, watched ")
    assert told["sentence"].endswith("each symbol from the one of 2 data roots that watched it best")
    assert "<h2>Order books</h2>" in page
    assert (packed["state"], packed["symbols"], without) == ("unread", [], None)
    assert str(place) not in json.dumps([told, packed]) + page
    with server.client(narrow) as client:
        mine = client.get(f"/v1/days/{DAY}/certificate").raise_for_status().json()["books"]
    assert {row["symbol"] for row in mine["symbols"]} < {"HK.00005", "HK.00700"}
    assert mine["received"] is None


def test_what_is_told_of_a_day_tells_of_its_broker_queues(
    server: ApiServer, place: Path, key: str, narrow: str
) -> None:
    with server.client(key) as client:
        coverage = client.get(f"/v1/days/{DAY}/coverage").raise_for_status().json()["brokers"]
        told = client.get(f"/v1/days/{DAY}/certificate").raise_for_status().json()["brokers"]
        page = client.get(f"/v1/days/{DAY}/certificate", params={"format": "html"}).raise_for_status().text
        packed = client.get(f"/v1/days/{PACKED}/coverage").raise_for_status().json()["brokers"]
        without = client.get(f"/v1/days/{BEFORE}/coverage").raise_for_status().json()["brokers"]
    assert coverage == told
    assert (told["state"], [row["symbol"] for row in told["symbols"]]) == ("blind", [*OF_BOTH_ROOTS])
    assert told["received"] is told["stored"] is None
    assert "<h2>Broker queues</h2>" in page
    assert (packed["state"], packed["symbols"], without) == ("unread", [], None)
    assert str(place) not in json.dumps([told, packed]) + page
    assert not {"complete", "proven"} & set(json.dumps(told).replace('"', " ").split())
    with server.client(narrow) as client:
        mine = client.get(f"/v1/days/{DAY}/certificate").raise_for_status().json()["brokers"]
    assert [row["symbol"] for row in mine["symbols"]] == ["HK.00005"]
    assert mine["received"] is None

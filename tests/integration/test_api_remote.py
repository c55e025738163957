"""``hk.connect``: the same calls on a server give what they give on its files, errors and warnings too."""

from __future__ import annotations

import http.server
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hk_tick_collector.client import errors
from hk_tick_collector.client.api import Recordings
from hk_tick_collector.client.default import connect, local
from tests.serving import BEFORE, GAPPY, ApiServer, add_key, record_roots
from tests.tickctl import record_day
from tests.ticks import DAY

Call = Callable[[Recordings], Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("remote")
    record_roots(directory)
    record_day(directory / "shard", DAY, symbols=["HK.00001", "HK.00700"], count=50)
    return directory


@pytest.fixture(scope="module")
def key(place: Path) -> str:
    return add_key(place / "keys.json")


@pytest.fixture(scope="module")
def server(place: Path, key: str) -> Iterator[ApiServer]:
    assert key
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
        found = call(recordings)
    return found, [str(one.message) for one in caught]


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
    assert (theirs["grade"], theirs["sentence"], theirs["symbols"]) == (
        ours["grade"],
        ours["sentence"],
        ours["symbols"],
    )


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda hk: hk.load("99", DAY), errors.UnknownSymbol),
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
    with pytest.raises(errors.BadQuestion, match=r"^interval: .*pattern") as raised:
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

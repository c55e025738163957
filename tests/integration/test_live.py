"""The built ``hk-tick-live`` over day files that a real writer fills: WebSocket, server-sent events, tickets, keys."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import hk_tick_collector as hk
from hk_tick_collector.archive import pack
from hk_tick_collector.days.manifest import PARQUET
from hk_tick_collector.serve.keys import edited
from hk_tick_collector.store.position import Position
from hk_tick_collector.store.writer import DayFileWriter
from tests.archived_day import archive_day
from tests.harness import ended, wait_until
from tests.serving import ApiServer, add_key
from tests.unit.store_ticks import DAY, ticks

NEXT_DAY = "20261123"


class Reader:
    """A client that asserts what the channel promises."""

    def __init__(self, url: str, key: str | None = None, **subscription: Any) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.socket: ClientConnection = connect(
            f"{url.replace('http', 'ws')}/v1/live", additional_headers=headers, subprotocols=["hk-ticks.v1"],  # type: ignore[list-item]
            proxy=None, max_size=None,
        ).__enter__()  # fmt: skip
        self.socket.send(json.dumps({"op": "subscribe", **subscription}))
        self.rows: list[list[Any]] = []
        self.others: list[dict[str, Any]] = []
        self.welcome = self.next()
        self.cursor = self.welcome.get("cursor", "")

    def next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv(30))
        return message

    def until(self, kind: str = "caught_up", rows: int = 0) -> dict[str, Any]:
        """The first message of this type once so many rows have come."""
        deadline = time.monotonic() + 30
        while True:
            assert time.monotonic() < deadline, f"no {kind} with {rows} rows; {len(self.rows)} came"
            message = self.next()
            if "prev" in message:
                assert message["prev"] == self.cursor, "a message was missed"
                self.cursor = message["cursor"]
            if message["type"] == "ticks":
                self.rows += message["ticks"]
            else:
                self.others.append(message)
            if message["type"] == kind and len(self.rows) >= rows:
                return message

    def seqs(self) -> list[int]:
        return [int(row[self.welcome["columns"].index("seq")]) for row in self.rows]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "HK"


@pytest.fixture
def live(tmp_path: Path, root: Path) -> Iterator[ApiServer]:
    root.mkdir()
    server = ApiServer(tmp_path / "server", root, "hk-tick-live", API_ANONYMOUS=1)
    with ended(server):
        yield server


def test_what_was_and_what_comes_without_a_seam(live: ApiServer, root: Path) -> None:
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(6000))
        reader = Reader(live.url, symbols="700", since="day")
        assert reader.socket.subprotocol == "hk-ticks.v1"
        for first in range(6001, 6301, 10):
            writer.write(ticks(10, first))
            writer.write(ticks(1, first, symbol="HK.00005"))
        reader.until("ticks", rows=6300)
        assert reader.seqs() == [row.seq for row in ticks(6300)]
        reader.until("heartbeat")  # also past the rows of another symbol
        assert any(message["type"] == "caught_up" for message in reader.others)
        again = Reader(live.url, symbols=["HK.00700", "HK.00005"], since=reader.cursor)
        assert again.welcome["cursor"] == reader.cursor
        again.until()
        assert again.rows == []
        writer.write(ticks(3, 6301))
        again.until("ticks", rows=3)
        assert again.seqs() == [row.seq for row in ticks(3, 6301)]


def test_back_by_rows_types_and_shape(live: ApiServer, root: Path) -> None:
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(100))
        writer.write(ticks(10, 101, tick_type="ODD_LOT"))
        reader = Reader(live.url, since="-20", types="odd_lots", shape="object")
        reader.until()
        assert [row["tick_type"] for row in reader.rows] == ["ODD_LOT"] * 10  # type: ignore[call-overload]
        assert isinstance(reader.rows[0]["seq"], str)  # type: ignore[call-overload]


def test_a_new_day_and_a_file_that_was_replaced(live: ApiServer, root: Path) -> None:
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(50))
        reader = Reader(live.url, since="day")
        reader.until(rows=50)
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(20, day=NEXT_DAY))
        reader.until("ticks", rows=70)
    (root / f"{NEXT_DAY}.db").rename(root / f"{NEXT_DAY}.db.away")
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(30, day=NEXT_DAY))
        assert reader.until("reset")["reason"] == "file_replaced"
        reader.rows.clear()
        reader.until("ticks", rows=30)
        assert reader.seqs() == [row.seq for row in ticks(30, day=NEXT_DAY)]


def test_a_day_without_its_file_is_gone(live: ApiServer, root: Path, tmp_path: Path) -> None:
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(50))
        reader = Reader(live.url, since="day")
        reader.until(rows=50)
    (root / f"{DAY}.db").unlink()
    live.stop()  # it still reads what it had open: the recorder puts back a live file that was removed
    server = ApiServer(tmp_path / "second", root, "hk-tick-live", API_ANONYMOUS=1)
    with ended(server), server.client() as client:
        refused = Reader(server.url, since=reader.cursor)
        assert refused.welcome["slug"] == "cursor-gone"
        assert refused.welcome["query"] == f"/v1/ticks?symbols=all&day={DAY}"
        with pytest.raises(ConnectionClosed) as closed:
            refused.next()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4010
        assert client.get("/v1/live/events", params={"since": reader.cursor}).status_code == 410
        assert client.get("/v1/live/events", params={"since": "v1~nonsense"}).status_code == 400


def test_a_day_that_was_put_away_meanwhile_is_not_passed_over(live: ApiServer, root: Path) -> None:
    """A cursor of before the day holds no place in it, and later days have their files."""
    before = str(Position.at_start_of(DAY))
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(50))
    archive_day(root, root / "_archive", DAY)
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(5, trading_day=NEXT_DAY))
    refused = Reader(live.url, since=before)
    assert (refused.welcome["slug"], refused.welcome["day"]) == ("cursor-gone", DAY)
    goes_on = Reader(live.url, since=refused.welcome["onward"])
    goes_on.until(rows=5)
    with pytest.raises(hk.RecordingsError, match=DAY):
        next(hk.local(root).live("all", since=before))
    assert len(next(hk.local(root).live("all", since=refused.welcome["onward"])).rows) == 5


def test_a_day_that_was_read_to_its_end_may_be_put_away(live: ApiServer, root: Path, tmp_path: Path) -> None:
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(50))
        one_short = str(Reader(live.url, since="-1").cursor)
        reader = Reader(live.url, since="day")
        reader.until(rows=50)
    (root / "_archive").mkdir()
    pack.archive_day(root, root / "_archive", DAY, (PARQUET,), made_at_ms=0)
    live.stop()
    for file in root.glob(f"{DAY}.db*"):
        file.unlink()
    server = ApiServer(tmp_path / "second", root, "hk-tick-live", API_ANONYMOUS=1)
    with ended(server):
        again = Reader(server.url, since=reader.cursor)
        again.until()
        with closing(DayFileWriter(root)) as writer:
            writer.write(ticks(5, day=NEXT_DAY))
        again.until("ticks", rows=5)
        assert again.seqs() == [row.seq for row in ticks(5, day=NEXT_DAY)]
        assert [message for message in again.others if message["type"] == "reset"] == []
        assert len(next(hk.local(root).live("all", since=reader.cursor)).rows) == 5
        assert Reader(server.url, since=one_short).welcome["slug"] == "cursor-gone"
        with pytest.raises(hk.RecordingsError, match=f"{DAY}.db is gone"):
            next(hk.local(root).live("all", since=one_short))


def test_a_damaged_day_file_is_said_and_its_successor_is_read(live: ApiServer, root: Path, tmp_path: Path) -> None:
    live.stop()
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(50))
    server = ApiServer(tmp_path / "second", root, "hk-tick-live", API_ANONYMOUS=1)
    with ended(server):
        reader = Reader(server.url, since="day")
        reader.until(rows=50)
        (root / f"{DAY}.db").write_bytes(b"no database " * 5000)
        reader.until("damaged")
        (root / f"{DAY}.db").rename(root / f"{DAY}.db.corrupt")  # as the recorder does when it writes to it
        with closing(DayFileWriter(root)) as writer:
            writer.write(ticks(70))
            assert reader.until("reset")["reason"] == "file_replaced"
            reader.rows.clear()
            reader.until("ticks", rows=70)
        assert reader.seqs() == [row.seq for row in ticks(70)]


def test_a_process_that_reads_files_may_die(live: ApiServer, root: Path) -> None:
    """Under a reader that keeps up and one that catches up."""
    with closing(DayFileWriter(root)) as writer:
        for first in range(1, 30_001, 10_000):
            writer.write(ticks(10_000, first))
        wait_until(lambda: now_at(live) == 30_000, "a server whose now is the end of the file")
        behind, current = Reader(live.url, since="day"), Reader(live.url, since="now")
        current.until()
        behind.until("ticks", rows=2000)
        for pid in children_of(live):
            os.kill(pid, signal.SIGKILL)
        writer.write(ticks(20, 30_001))
        current.until("ticks", rows=20)
        behind.until("ticks", rows=30_020)
    assert current.seqs() == [row.seq for row in ticks(20, 30_001)]
    assert behind.seqs() == [row.seq for row in ticks(30_020)]
    assert "Traceback" not in live.output


def now_at(server: ApiServer) -> int:
    """The row behind which somebody begins now: where the server has read to, which may be behind the file."""
    reader = Reader(server.url, since="now")
    reader.socket.close()
    places = Position.parse(reader.cursor).places
    return places[-1].rowid if places else 0


def children_of(server: ApiServer) -> list[int]:
    """The processes that read for it."""
    pid = server.proc.pid
    pids = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    assert pids
    return pids


def test_a_stop_says_bye_and_the_cursor_goes_on_at_the_next_server(live: ApiServer, root: Path, tmp_path: Path) -> None:
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(50))
        reader = Reader(live.url, since="day")
        reader.until(rows=50)
        live.signal(signal.SIGTERM)
        reader.until("bye")
        with pytest.raises(ConnectionClosed) as closed:
            reader.next()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert live.wait() == 0
        writer.write(ticks(10, 51))
        server = ApiServer(tmp_path / "second", root, "hk-tick-live", API_ANONYMOUS=1)
        with ended(server):
            again = Reader(server.url, since=reader.cursor)
            again.until("ticks", rows=10)
            assert again.seqs() == [row.seq for row in ticks(10, 51)]


def sse(client: httpx.Client, wanted: int, last: str = "", **params: str) -> tuple[list[list[Any]], str]:
    """Rows of the stream until there are so many, and the last id."""
    rows: list[list[Any]] = []
    headers = {"Last-Event-ID": last} if last else {}
    with client.stream("GET", "/v1/live/events", params=params, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            name, _, text = line.partition(": ")
            if name == "id":
                last = text
            if name == "data" and (message := json.loads(text))["type"] == "ticks":
                rows += message["ticks"]
                if len(rows) >= wanted:
                    return rows, last
    raise AssertionError("the stream ended")


def test_server_sent_events_go_on_behind_their_last_id(live: ApiServer, root: Path) -> None:
    with closing(DayFileWriter(root)) as writer, live.client() as client:
        writer.write(ticks(40))
        first, last = sse(client, 40, since="day")
        writer.write(ticks(5, 41))
        rest, _ = sse(client, 5, last)
        assert [row[1] for row in first + rest] == ["HK.00700"] * 45
        assert len({json.dumps(row) for row in first + rest}) == 45
        text = client.get("/v1/live/metrics").text
        assert 'hk_live_held{root="0"} 0.0' in text
        assert "hk_live_connections_total 2.0" in text


@pytest.fixture
def closed(tmp_path: Path, root: Path) -> Iterator[tuple[ApiServer, Path]]:
    root.mkdir()
    keys = tmp_path / "keys.json"
    server = ApiServer(tmp_path / "server", root, "hk-tick-live", API_KEYS_FILE=keys)
    with ended(server):
        yield server, keys


def test_keys_tickets_patterns_and_an_end_within_seconds(closed: tuple[ApiServer, Path], root: Path) -> None:
    server, keys = closed
    key = add_key(keys, symbols=("HK.00700",))
    with closing(DayFileWriter(root)) as writer, server.client(key) as client:
        writer.write([*ticks(5), *ticks(5, symbol="HK.00005")])
        server.wait_for("keys_read")  # not by asking: ten wrong keys, and the address waits for a minute
        ticket = client.post("/v1/live/ticket").json()["ticket"]
        url = f"{server.url.replace('http', 'ws')}/v1/live?ticket={ticket}"
        with connect(url, proxy=None):
            pass
        for wrong, origin in ((url, None), (url[:-1], None), (foreign_ticket(server, client), server.url)):
            with pytest.raises(InvalidStatus) as refused, connect(wrong, proxy=None, origin=origin):  # type: ignore[arg-type]
                pass
            assert refused.value.response.status_code == 401
            assert b"ticket is not known, was used, or its time is over" in refused.value.response.body
        assert client.get("/v1/live/events", params={"symbols": "5"}).status_code == 403
        assert httpx.get(f"{server.url}/v1/live/events").status_code == 401
        assert Reader(server.url, symbols="all").welcome["slug"] == "bad-parameter"  # the key comes first
        reader = Reader(server.url, key, symbols="all", since="day")
        reader.until(rows=5)
        assert len(reader.rows) == 5
        with edited(keys) as stored:
            stored.clear()
        with pytest.raises(ConnectionClosed) as cut:
            reader.until("never")
        assert cut.value.rcvd is not None
        assert cut.value.rcvd.code == 4003


@pytest.mark.parametrize("way", ["socket", "events"])
def test_a_reader_that_takes_nothing_is_cut_when_its_key_is_taken_back(
    way: str, closed: tuple[ApiServer, Path], root: Path
) -> None:
    """Not when it answers no ping for twenty seconds, or for ever: what waits for it is thrown away."""
    server, keys = closed
    key = add_key(keys)
    with closing(DayFileWriter(root)) as writer, server.client(key) as client, socket.socket() as connection:
        for first in range(1, 40_001, 10_000):
            writer.write(ticks(10_000, first))
        server.wait_for("keys_read")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", server.port))
        head = f"Host: localhost\r\nAuthorization: Bearer {key}\r\n"
        if way == "events":
            connection.sendall(f"GET /v1/live/events?since=day HTTP/1.1\r\n{head}\r\n".encode())
        else:
            upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            connection.sendall(
                f"GET /v1/live HTTP/1.1\r\n{head}{upgrade}Sec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode()
            )
            connection.recv(200)
            text = b'{"op":"subscribe","since":"day"}'
            connection.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)

        def readers() -> bool:
            return "hk_live_readers 1.0" in client.get("/v1/live/metrics").text

        wait_until(readers, "the reader")
        with edited(keys) as stored:
            stored.clear()
        began = time.monotonic()
        wait_until(lambda: not open_connections(server, connection), "its connection is cut", 18)
        assert time.monotonic() - began < 18


def open_connections(server: ApiServer, connection: socket.socket) -> bool:
    """Does the server still hold the other end?"""
    port = connection.getsockname()[1]
    lines = Path(f"/proc/{server.proc.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    ends = f"0100007F:{server.port:04X}", f"0100007F:{port:04X}"
    return any(line.split()[1:3] == list(ends) and line.split()[3] == "01" for line in lines)


def foreign_ticket(server: ApiServer, client: httpx.Client) -> str:
    """An address with a ticket that was given to no page, for a page."""
    ticket = client.post("/v1/live/ticket").json()["ticket"]
    return f"{server.url.replace('http', 'ws')}/v1/live?ticket={ticket}"


def ping_for_ever(reader: Reader) -> None:
    """Each would be answered, taken or not."""
    while True:
        reader.socket.ping()


def test_what_clients_say_is_bounded(live: ApiServer) -> None:
    for text in (
        "[]",
        "{",
        '{"op":"subscribe","symbols":"@/etc/passwd"}',
        '{"op":"subscribe","more":1}',
        '{"op":7}',
        '{"op":"subscribe","symbols":"5","symbols":"700"}',
    ):
        with connect(f"{live.url.replace('http', 'ws')}/v1/live", proxy=None) as socket:
            socket.send(text)
            answer = json.loads(socket.recv(10))
            assert (answer["type"], answer["slug"]) == ("error", "bad-parameter")
    reader = Reader(live.url)
    for _ in range(50):
        reader.socket.send('{"op":"ping"}')
    with pytest.raises(ConnectionClosed):
        reader.until("never")
    reader = Reader(live.url)
    with pytest.raises(ConnectionClosed):
        ping_for_ever(reader)
    with connect(f"{live.url.replace('http', 'ws')}/v1/live", proxy=None) as socket:
        socket.send("x" * 100_000)
        with pytest.raises(ConnectionClosed):
            socket.recv(10)


def test_several_roots_on_one_line(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "HK", tmp_path / "b" / "HK"
    with contextlib.ExitStack() as held:
        writers = [held.enter_context(closing(DayFileWriter(root))) for root in (first, second)]
        writers[0].write(ticks(5))
        writers[1].write(ticks(5, symbol="HK.00005"))
        server = ApiServer(tmp_path / "server", first, "hk-tick-live", API_ANONYMOUS=1, DATA_ROOTS=f"{first},{second}")
        held.enter_context(ended(server))
        reader = Reader(server.url, since="day")
        reader.until(rows=10)
        assert sorted({row[1] for row in reader.rows}) == ["HK.00005", "HK.00700"]
        narrow = Reader(server.url, symbols="700", since=reader.cursor)
        for writer, symbol in zip(writers, ("HK.00700", "HK.00005"), strict=True):
            writer.write(ticks(2, 6, symbol=symbol))
        again = Reader(server.url, since=reader.cursor)
        reader.until("ticks", rows=14)
        again.until("ticks", rows=4)
        narrow.until("ticks", rows=2)
        assert {row[1] for row in narrow.rows} == {"HK.00700"}


def test_the_end_of_a_day_is_told_to_who_catches_up(live: ApiServer, root: Path) -> None:
    for rows in (ticks(7), ticks(2, day=NEXT_DAY)):
        with closing(DayFileWriter(root)) as writer:
            writer.write(rows)
    reader = Reader(live.url, since=str(Position.at_start_of(DAY)))
    over = reader.until("end_of_day")
    assert (over["day"], over["rows"], len(reader.rows)) == (DAY, 7, 9)
    if all(message["type"] != "caught_up" for message in reader.others):  # the rows were there before the day's end was
        reader.until()


def test_the_process_loads_no_arrow() -> None:
    code = "import sys, hk_tick_collector.serve.live.app; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

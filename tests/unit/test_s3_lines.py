"""How long a command waits for a bucket: one that never answers, drips, answers by half, or is slow."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import urllib3
from urllib3.exceptions import HTTPError

from hk_tick_collector.archive import s3, s3_lines
from hk_tick_collector.core.errors import StoreUnavailable
from tests.unit.sources.dripping import Dripping

FIRST_SEC = 0.6
EMPTY = (
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>ticks</Name><Prefix>hk/</Prefix>'
    b"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
)
LISTED = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s" % (len(EMPTY), EMPTY)
OBJECT = (
    b'HTTP/1.1 200 OK\r\nETag: "1"\r\nLast-Modified: Fri, 27 Nov 2026 00:00:00 GMT\r\nContent-Length: 90000\r\n\r\n'
)
BYTE_BY_BYTE = {
    "nothing at all": (b"", b""),
    "status line": (b"HTTP", b"2"),
    "headers": (b"HTTP/1.1 200 OK\r\nX-Any: x", b"2"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n<", b" "),
    "body without end": (b"HTTP/1.1 200 OK\r\n\r\n<", b" "),
    "a part's own header": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"2"),
    "an error": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 99999\r\n\r\n<", b" "),
}


class Answering(Dripping):
    """It says what it has to say to each request, after a while; and counts them."""

    def __init__(self, *answers: bytes, wait_sec: float = 0.0) -> None:
        self._answers, self._wait_sec, self.asked = list(answers), wait_sec, 0
        super().__init__(b"")

    def _say(self, line: socket.socket) -> None:
        with line:
            while line.recv(65_536):
                self.asked += 1
                self._closed.wait(self._wait_sec)
                if not self._answers:
                    self._closed.wait()
                    return
                line.sendall(self._answers.pop(0))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Callable[[Dripping], s3.S3Store]:
    monkeypatch.setattr(s3_lines, "FIRST_SEC", FIRST_SEC)
    environment = {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def at(server: Dripping) -> s3.S3Store:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{server.address}")
        return s3.open_bucket("ticks", "hk")

    return at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How much later it is for whoever asks whether a store rests."""
    later = [0.0]
    monkeypatch.setattr(s3_lines.time, "monotonic", lambda now=time.monotonic: now() + later[0])
    return later


def refused(ask: Callable[[], object]) -> tuple[str, float]:
    started_sec = time.perf_counter()
    with pytest.raises(StoreUnavailable) as caught:
        ask()
    return str(caught.value), time.perf_counter() - started_sec


@pytest.mark.parametrize(("head", "drop"), BYTE_BY_BYTE.values(), ids=BYTE_BY_BYTE)
def test_a_bucket_that_never_answers_is_given_up_once(
    head: bytes, drop: bytes, bucket: Callable[[Dripping], s3.S3Store]
) -> None:
    with closing(Dripping(head, drop)) as server:
        store = bucket(server)
        words, took_sec = refused(lambda: store.names(""))
        assert "cannot list s3://ticks/hk/: the store did not answer within 1 s: see AWS_ENDPOINT_URL_S3" in words
        assert took_sec < 10 * FIRST_SEC
        for _ in range(5):  # the other days of the command
            words, took_sec = refused(lambda: store.stat("2026/20261127.json"))
            assert "did not answer before; it is asked again in 30 s" in words
            assert took_sec < FIRST_SEC


def test_after_a_rest_it_is_asked_again(bucket: Callable[[Dripping], s3.S3Store], clock: list[float]) -> None:
    with closing(Answering()) as server:
        store = bucket(server)
        refused(lambda: store.names(""))
        before = server.asked
        clock[0] += s3_lines.REST_SEC + 1
        server._answers.append(LISTED)
        assert store.names("") == []
        assert server.asked == before + 1


def test_a_slow_bucket_that_answers_is_waited_for(bucket: Callable[[Dripping], s3.S3Store]) -> None:
    with closing(Answering(LISTED, LISTED, LISTED, wait_sec=0.5 * FIRST_SEC)) as server:
        store = bucket(server)
        assert [store.names("") for _ in range(3)] == [[], [], []]


def test_a_first_answer_that_comes_slowly_and_steadily_is_waited_for(
    bucket: Callable[[Dripping], s3.S3Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the list of a large archive over a slow line."""
    monkeypatch.setattr(s3_lines, "SLOWEST_BYTES_PER_SEC", 1_000)
    body = EMPTY + b" " * 6_000

    class Slowly(Answering):
        def _say(self, line: socket.socket) -> None:
            with contextlib.suppress(OSError), line:
                line.recv(65_536)
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                for start in range(0, len(body), 500):
                    self._closed.wait(0.2)
                    line.sendall(body[start : start + 500])

    with closing(Slowly()) as server:
        started_sec = time.perf_counter()
        assert bucket(server).names("") == []
        assert time.perf_counter() - started_sec > 2 * FIRST_SEC


def test_one_that_was_heard_and_falls_silent_has_as_little_time_as_a_new_one(
    bucket: Callable[[Dripping], s3.S3Store],
) -> None:
    with closing(Answering(LISTED)) as server:
        store = bucket(server)
        assert store.names("") == []
        words, took_sec = refused(lambda: store.names(""))
        assert "did not answer within 1 s" in words
        assert FIRST_SEC <= took_sec < 4 * FIRST_SEC
        assert "before" in refused(lambda: store.names(""))[0]


def test_one_that_was_heard_may_drip_longer_than_a_new_one(bucket: Callable[[Dripping], s3.S3Store]) -> None:
    class Drips(Answering):
        def _say(self, line: socket.socket) -> None:
            with contextlib.suppress(OSError), line:
                while line.recv(65_536):
                    self.asked += 1
                    for start in range(0, len(LISTED), 1 if self.asked == 1 else 40):
                        self._closed.wait(0 if self.asked == 1 else 0.4 * FIRST_SEC)
                        line.sendall(LISTED[start : start + (1 if self.asked == 1 else 40)])

    with closing(Drips()) as server:
        store = bucket(server)
        assert store.names("") == []
        started_sec = time.perf_counter()
        assert store.names("") == []
        assert time.perf_counter() - started_sec > 2 * FIRST_SEC


class Taking(Answering):
    """It reads what is sent slowly, or no further than so many bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        super().__init__()
        self.taken_bytes = 0

    def _say(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
            while True:
                taken = line.recv(65_536)
                if not taken:
                    return
                self.taken_bytes += len(taken)
                if taken.startswith(b"GET"):
                    line.sendall(LISTED)
                    continue
                if self.taken_bytes >= self._most_bytes:
                    self._closed.wait()
                    return
                self._closed.wait(0.1)
                if self.taken_bytes > 1 << 20:
                    line.sendall(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\n\r\n')
                    return


def put(store: s3.S3Store) -> None:
    with store._errors("write"):
        store._put("name", bytes(1 << 20), {})


def test_an_upload_that_is_slow_and_moves_is_waited_for(bucket: Callable[[Dripping], s3.S3Store]) -> None:
    with closing(Taking(1 << 30)) as server:
        store = bucket(server)
        assert store.names("") == []
        started_sec = time.perf_counter()
        put(store)
        assert time.perf_counter() - started_sec > 2 * FIRST_SEC


def test_an_upload_that_is_taken_no_further_is_given_up(bucket: Callable[[Dripping], s3.S3Store]) -> None:
    with closing(Taking(200_000)) as server:
        store = bucket(server)
        assert store.names("") == []
        words, took_sec = refused(lambda: put(store))
        assert "did not answer within 1 s" in words
        assert took_sec < 5 * FIRST_SEC


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b'HTTP/1.1 206 Partial\r\nETag: "1"\r\nContent-Length: 90000\r\n\r\n', b"x"),
        (b'HTTP/1.1 206 Partial\r\nETag: "1"\r\nTransfer-Encoding: chunked\r\n\r\n1;', b"x"),
        (b"HTTP/1.1 500 Sorry\r\nContent-Length: 90000\r\n\r\n", b"x"),
    ],
    ids=["bytes", "a part's own header", "an error"],
)
def test_an_object_that_drips_is_given_up(
    head: bytes,
    drop: bytes,
    bucket: Callable[[Dripping], s3.S3Store],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Half(Answering):
        def _say(self, line: socket.socket) -> None:
            with contextlib.suppress(OSError), line:
                while asked := line.recv(65_536):
                    if asked.startswith(b"HEAD"):
                        line.sendall(OBJECT)
                        continue
                    line.sendall(head)
                    while not self._closed.wait(0.02):
                        line.sendall(drop)

    monkeypatch.setattr(s3, "GRACE_SEC", FIRST_SEC)
    monkeypatch.setattr(s3, "SLOWEST_BYTES_PER_SEC", 1 << 20)
    with closing(Half()) as server:
        store = bucket(server)
        words, took_sec = refused(lambda: store.read("name", tmp_path / "file", 90_000))
        assert "cannot read s3://ticks/hk/name" in words or "too slowly" in words
        assert took_sec < 20 * FIRST_SEC


def test_a_listing_that_is_none_is_not_taken_for_missing_credentials(bucket: Callable[[Dripping], s3.S3Store]) -> None:
    body = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with closing(Answering(answer)) as server:
        assert "is not an S3 store" in refused(lambda: bucket(server).names(""))[0]


def test_a_machine_without_a_role_is_asked_for_its_credentials_for_a_moment_only() -> None:
    with closing(Answering()) as server:
        lines = s3_lines.Lines(0.1, 10.0, urllib3.Retry(1))
        started_sec = time.perf_counter()
        with pytest.raises(HTTPError):
            lines.urlopen("GET", f"http://{server.address}/latest/meta-data")
        assert time.perf_counter() - started_sec < 5
        assert server.asked == 2


def test_a_machine_without_a_role_is_told_of_its_credentials_and_not_of_the_bucket(
    bucket: Callable[[Dripping], s3.S3Store], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with closing(Answering()) as nobody, closing(Answering(LISTED)) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{nobody.address}/")
        nobody.close()
        words, _ = refused(lambda: bucket(server).names(""))
        assert "cannot list s3://ticks/hk/: no credentials for S3; set AWS_ACCESS_KEY_ID" in words
        assert server.asked == 0

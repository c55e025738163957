"""Clients of the live channel, with a server that is killed under them: hk.live, and the page of JavaScript."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

import hk_tick_collector as hk
from hk_tick_collector.records.tick import Origin
from hk_tick_collector.store import data_root
from hk_tick_collector.store.position import Position
from hk_tick_collector.store.signals import SignalStore
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import ended, wait_until
from tests.serving import ApiServer, add_key
from tests.unit.store_ticks import DAY, ticks

PAGE = Path(__file__).parents[2] / "docs" / "examples" / "live.js"
NODE_PROGRAM = """
import { live } from "LIVE";
live(process.argv[2], {
  symbols: "HK.00700", since: "day",
  onRow: (row, columns) => console.log(row[columns.indexOf("seq")]),
});
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "HK").mkdir()
    return tmp_path / "HK"


def seqs(rows: int) -> list[int]:
    return [int(row.seq or 0) for row in ticks(rows)]


class Taking:
    """A live iteration in a thread of its own."""

    def __init__(self, live: hk.client.live.Live) -> None:  # type: ignore[attr-defined]
        self.live, self.seqs = live, [0][:0]
        self.signals: list[dict[str, Any]] = []
        self.thread = threading.Thread(target=self._take, daemon=True)
        self.thread.start()

    def _take(self) -> None:
        for batch in self.live:
            self.signals += batch.signals
            self.seqs += [row["seq"] for row in batch.dicts()]

    def end(self) -> list[int]:
        self.live.close()
        self.thread.join(30)
        assert not self.thread.is_alive()
        return self.seqs


@pytest.fixture
def restarting(tmp_path: Path, root: Path) -> Iterator[Callable[[], ApiServer]]:
    """A server that is killed and comes again on its port."""
    servers: list[ApiServer] = []

    def start() -> ApiServer:
        port = servers[-1].port if servers else 0
        for server in servers:
            server.end()
        servers.append(ApiServer(tmp_path / "server", root, "hk-tick-live", API_ANONYMOUS=1, LIVE_PORT=port))
        return servers[-1]

    yield start
    for server in servers:
        server.end()


def test_a_cursor_file_that_is_none_is_told_of(root: Path, tmp_path: Path) -> None:
    kept = tmp_path / "700.cursor"
    for content, words in ((b"1" * 70_000, "700.cursor: larger than 65,536 bytes"), (b"\xff\xfe\x00", "position")):
        kept.write_bytes(content)
        with pytest.raises(hk.RecordingsError, match=words), hk.local(root).live("700", cursor_file=kept) as live:
            next(live)
    with pytest.raises(hk.RecordingsError, match="neither a file nor a pipe"):
        hk.local(root).live("700", cursor_file="/dev/zero")


def test_files_from_a_cursor_file_and_over_a_replaced_file(root: Path, tmp_path: Path) -> None:
    kept = tmp_path / "700.cursor"
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(20))
        first = Taking(hk.local(root).live("700", since="day", cursor_file=kept))
        wait_until(lambda: len(first.seqs) == 20 and kept.exists(), "the rows and their cursor")
        assert first.end() == seqs(20)
        writer.write(ticks(10, 21))
        second = Taking(hk.local(root).live("700", cursor_file=kept))
        wait_until(lambda: len(second.seqs) == 10, "what was missed")
        assert second.end() == seqs(30)[20:]
        third = Taking(hk.local(root).live("700", since="day"))
        wait_until(lambda: len(third.seqs) == 30, "all of it")
    (root / f"{DAY}.db").rename(root / "away")
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(35))
        wait_until(lambda: len(third.seqs) >= 35, "the rows of the new file")
        assert third.end() == seqs(35)


def test_local_files_in_an_event_loop(root: Path) -> None:
    async def take() -> list[int]:
        async with hk.local(root).live("700", since="day") as live:
            async for batch in live:
                return [row["seq"] for row in batch.dicts()]
        return []

    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(20))
        assert asyncio.run(take()) == seqs(20)


@pytest.mark.parametrize("where", ["files", "server"])
def test_two_markets_and_signals_on_one_line(where: str, tmp_path: Path) -> None:
    """And a cursor of the one goes on at the other."""
    roots, hooks, keys = [tmp_path / "HK", tmp_path / "US"], tmp_path / "hooks", tmp_path / "keys.json"
    key = add_key(keys, scopes=["live", "hook:ml-trade"])
    with ExitStack() as held:
        for root, market in zip(roots, ("HK", "US"), strict=True):
            root.mkdir()
            data_root.claim(root, market)
        hk_writer, us_writer = (
            held.enter_context(closing(DayFileWriter(root, origin=Origin(market, "futu"))))
            for root, market in zip(roots, ("HK", "US"), strict=True)
        )
        store = held.enter_context(closing(SignalStore(hooks)))
        hk_writer.write(ticks(20))
        us_writer.write(ticks(10, symbol="US.AAPL"))
        server = ApiServer(
            tmp_path / "server", roots[0], "hk-tick-live", API_KEYS_FILE=keys, HOOKS_DIR=hooks,
            DATA_ROOTS=",".join(map(str, roots)),
        )  # fmt: skip
        held.enter_context(ended(server))
        ways = {"files": hk.local(list(roots)), "server": hk.connect(server.url, key)}
        more = {"files": {"hooks_dir": hooks}, "server": {}}
        other = "server" if where == "files" else "files"
        first = Taking(ways[where].live(["700", "US.AAPL"], since="day", signals="ml-trade", **more[where]))
        wait_until(lambda: len(first.seqs) == 30, "the rows of both")
        for name in ("ml-trade", "other"):
            store.add(name, "HK.00700", {"symbol": "700"}, recv_ts_ms=1, cursor=None, sender="tests")
        wait_until(lambda: len(first.signals) == 1, "the signal")
        us_writer.write(ticks(10, 11, symbol="US.AAPL"))
        hk_writer.write(ticks(10, 21))
        wait_until(lambda: len(first.seqs) == 50, "what came later")
        assert sorted(first.end()) == sorted(seqs(30) + seqs(20))
        assert [signal["name"] for signal in first.signals] == ["ml-trade"]
        second = Taking(ways[other].live("all", since=first.live.cursor, signals=["ml-trade"], **more[other]))
        store.add("ml-trade", "HK.00700", {"n": 2}, recv_ts_ms=1, cursor=None, sender="tests")
        hk_writer.write(ticks(3, 31))
        wait_until(lambda: len(second.seqs) == 3 and len(second.signals) == 1, "what came since")
        assert second.end() == seqs(33)[30:]
        assert second.signals[0]["payload"] == {"n": 2}
        narrow = Taking(ways[where].live("US.AAPL", since=second.live.cursor.rpartition(",")[0]))
        us_writer.write(ticks(2, 21, symbol="US.AAPL"))
        wait_until(lambda: len(narrow.seqs) == 2, "of one market")
        narrow.end()
        assert narrow.live.cursor.startswith("-,v2~")


def test_what_is_asked_of_signals_and_several_roots_is_checked(root: Path, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    both = hk.local([root, tmp_path / "second"])
    with pytest.raises(hk.BadQuestion, match="is of 1 data root; followed: 2"):
        both.live("700", since=str(Position.at_start_of(DAY)))
    with pytest.raises(hk.BadQuestion, match=r"no directory of signals is named .*HOOKS_DIR"):
        both.live("700", signals="all")
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(20))
        assert [row["seq"] for row in next(hk.local(root).live("700", since="-5")).dicts()] == seqs(20)[15:]


def test_what_is_asked_wrongly_is_said_at_once(root: Path) -> None:
    with pytest.raises(hk.BadQuestion, match="not a position"):
        hk.local(root).live("700", since="v1~nonsense")
    with pytest.raises(hk.BadQuestion):
        hk.local(root).live("?!")


def test_a_remote_reader_over_kills_of_the_server(
    root: Path, restarting: Callable[[], ApiServer], tmp_path: Path
) -> None:
    server = restarting()
    kept = tmp_path / "cursor"
    reader = Taking(hk.connect(server.url).live("700", since="day", cursor_file=kept))
    with closing(DayFileWriter(root)) as writer:
        for first in range(1, 301, 10):
            writer.write([*ticks(10, first), *ticks(2, first, symbol="HK.00005")])
            if first in (101, 201):
                wait_until(lambda: len(reader.seqs) >= 50, "some rows")
                restarting()
        wait_until(lambda: len(reader.seqs) >= 300, "all rows")
        assert reader.end() == seqs(300)
        again = Taking(hk.connect(server.url).live("700", cursor_file=kept))
        writer.write(ticks(5, 301))
        wait_until(lambda: len(again.seqs) >= 5, "what came since")
        assert again.end() == seqs(305)[300:]


def test_a_refusal_is_an_error_with_its_hint(root: Path, restarting: Callable[[], ApiServer]) -> None:
    server = restarting()
    with pytest.raises(hk.BadQuestion, match="not a cursor of this server"):
        next(hk.connect(server.url).live("700", since="v1~nonsense"))


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_page_misses_nothing(root: Path, restarting: Callable[[], ApiServer], tmp_path: Path) -> None:
    server = restarting()
    program = tmp_path / "page.mjs"
    shutil.copy(PAGE, tmp_path / "live.mjs")
    program.write_text(NODE_PROGRAM.replace("LIVE", "./live.mjs"))
    output = tmp_path / "seqs"
    with output.open("w") as file:
        node = subprocess.Popen(
            ["node", "--experimental-websocket", str(program), server.url.replace("http", "ws")],
            stdout=file, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        with closing(DayFileWriter(root)) as writer:
            for first in range(1, 101, 10):
                writer.write(ticks(10, first))
                if first == 51:
                    wait_until(lambda: len(output.read_text().split()) >= 10, "the first rows")
                    restarting()
            wait_until(lambda: len(output.read_text().split()) >= 100, "all rows")
            assert [int(text) for text in output.read_text().split()] == seqs(100)
    finally:
        node.kill()
        node.wait(30)

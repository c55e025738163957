"""What gexbot answers, mapped; files of whole days, cut into records; who is left alone and until when."""

from __future__ import annotations

import gzip
import json
import math
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import FeedError, InputError, RejectCode, TickRejected
from hk_tick_collector.gexbot_sim.server import RETRY_AFTER_SEC, Market, start
from hk_tick_collector.gexbot_sim.snapshots import Truth
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.records.snapshot import COPY, LIVE, Series
from hk_tick_collector.sources.gexbot import mapping
from hk_tick_collector.sources.gexbot.access import Access, Banned
from hk_tick_collector.sources.gexbot.copies import Copies, CopyOptions, Ledger, address_of, records_in, unpacked
from hk_tick_collector.sources.gexbot.mapping import SnapshotMapper
from hk_tick_collector.sources.gexbot.polls import MUTE_SEC, Polls
from hk_tick_collector.sources.gexbot.series import SeriesName, parse_series_name
from tests.clock import ManualClock
from tests.harness import wait_until

US = market_of("US")
SPX = Series("US.SPX", "classic", "gex_full")
NOON = 1_795_795_200  # Friday 27 November 2026, 11:00 in New York
MAPPER = SnapshotMapper(US)


def body(**changed: Any) -> str:
    return json.dumps(
        {"timestamp": NOON, "ticker": "SPX", "spot": 5000.25, "zero_gamma": 4990, "strikes": [], **changed}
    )


def test_a_snapshot_keeps_its_body_and_lifts_the_levels_out() -> None:
    snapshot = MAPPER.map(SPX, body(), NOON * 1000 + 400, LIVE)
    assert snapshot[:4] == ("US.SPX", NOON * 1000, NOON * 1000 + 400, "20261127")
    assert (snapshot.series, snapshot.spot, snapshot.zero_gamma) == (SPX, 5000.25, 4990.0)
    assert json.loads(snapshot.body) == json.loads(body())


def test_the_same_said_in_another_order_is_the_same() -> None:
    turned = json.dumps(dict(reversed(json.loads(body()).items())), indent=2)
    mine, other = (MAPPER.map(SPX, text, NOON * 1000, LIVE).digest for text in (body(), turned))
    assert mine == other
    assert mine != MAPPER.map(SPX, body(spot=5000.5), NOON * 1000, LIVE).digest


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (body(spot=math.nan), RejectCode.SYMBOL),
        (body(spot="5000"), RejectCode.PRICE),
        (body(zero_gamma=True), RejectCode.PRICE),
        (body(timestamp=None), RejectCode.TIME),
        (body(timestamp=NOON + 3600), RejectCode.TIME),
        (body(timestamp=NOON * 1000), RejectCode.TIME),
        (body(timestamp=-5), RejectCode.TIME),
        (body(spot=10**400), RejectCode.PRICE),
        (body(ticker="NDX"), RejectCode.UNWANTED),
        (body()[:40], RejectCode.SYMBOL),
        ("[1]", RejectCode.SYMBOL),
        ("[" * 100_000, RejectCode.SYMBOL),
        ("", RejectCode.SYMBOL),
    ],
)  # fmt: skip
def test_what_can_be_no_snapshot_is_refused_with_the_reason(text: str, code: RejectCode) -> None:
    with pytest.raises(TickRejected) as refused:
        MAPPER.map(SPX, text, NOON * 1000, LIVE)
    assert refused.value.code is code
    assert len(str(refused.value)) < 200


def test_a_record_of_another_day_is_not_of_the_file() -> None:
    assert MAPPER.map(SPX, body(timestamp=NOON), NOON * 1000, COPY, "20261127").trading_day == "20261127"
    with pytest.raises(TickRejected, match="a second of 20261125 in the file of 20261127"):
        MAPPER.map(SPX, body(timestamp=NOON - 2 * 86_400), NOON * 1000, COPY, "20261127")


@pytest.mark.parametrize("text", ["classic/gex_full", " STATE/gamma_zero ", "orderflow/orderflow"])
def test_snapshots_of_gexbot_are_taken(text: str) -> None:
    package, _, category = text.strip().lower().partition("/")
    assert parse_series_name(text) == SeriesName(package, category)


def test_a_misspelt_snapshot_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"did you mean classic/gex_full\?"):
        parse_series_name("classic/gexfull")


# --- files of whole days ---

RECORDS = [body(timestamp=NOON + n, name="ü]") for n in range(50)]


def parts(text: str, size: int) -> Iterator[bytes]:
    data = text.encode()
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("form", ["[{}]", "\ufeff [\n{}\n] \n", "{}"])
def test_records_are_cut_out_of_an_array_or_lines_as_they_came(size: int, form: str) -> None:
    text = form.replace("{}", ("\n" if form == "{}" else ", ").join(RECORDS))
    assert list(records_in(parts(text, size))) == RECORDS


@pytest.mark.parametrize(
    "text", ["", "[]", "[" + RECORDS[0], "[" + RECORDS[0] + ",", RECORDS[0][:-1], "[1 2 x]", "<html>"]
)
def test_a_file_that_ends_early_or_is_none_is_told(text: str) -> None:
    with pytest.raises(FeedError, match=r"ends early|holds no record"):
        list(records_in(parts(text, 10)))


def test_something_endless_is_not_kept() -> None:
    with pytest.raises(FeedError, match="no JSON object"):
        list(records_in(b'[{"a": "' + b"x" * 65_536 if n == 0 else b"x" * 65_536 for n in range(1000)))


# --- who is left alone ---


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("key=gexbot_custom_x\n")
    path.chmod(0o600)
    return path


def test_the_wait_doubles_and_begins_small_again(key: Path) -> None:
    clock = ManualClock(NOON * 1000)
    access = Access("https://api.gex.bot/v2/", key, clock)
    for wait_sec in (60, 120, 240):
        told = str(access.refuse(429, None, is_key=False))
        assert "left alone (429); not asked again before" in told
        assert access.banned == told
        assert str(access.refuse(429, None, is_key=False)) == told  # an answer that was on its way costs nothing more
        clock.advance(wait_sec - 1)
        assert access.banned
        clock.advance(1)
        assert not access.banned
    access.served()
    access.refuse(429, None, is_key=False)
    clock.advance(60)
    assert not access.banned


def test_what_the_server_asks_for_is_kept_to_and_bounded(key: Path) -> None:
    clock = ManualClock(NOON * 1000)
    access = Access("https://api.gex.bot/v2", key, clock)
    access.refuse(429, "300", is_key=False)
    clock.advance(299)
    assert access.banned
    clock.advance(1)
    access.refuse(429, "99999999999", is_key=False)
    clock.advance(3600)
    assert not access.banned


def test_a_good_answer_that_was_on_its_way_ends_no_ban(key: Path) -> None:
    access = Access("https://api.gex.bot/v2", key, ManualClock(NOON * 1000))
    access.refuse(429, None, is_key=False)
    access.served()
    assert access.banned


def test_another_key_is_tried_at_once(key: Path) -> None:
    access = Access("https://api.gex.bot/v2", key, ManualClock(NOON * 1000))
    access.refuse(401, None, is_key=True)
    with pytest.raises(Banned, match=r"refused the key \(401\)"):
        access.check()
    key.write_text("key=gexbot_custom_another\n")
    access.check()
    assert access.headers()["Authorization"] == "Bearer gexbot_custom_another"


@pytest.mark.parametrize("fault", ["maintenance", "announced"])
def test_who_cannot_serve_is_asked_on_for_half_a_minute_or_left_alone_where_it_says_so(
    key: Path, tmp_path: Path, fault: str
) -> None:
    market = Market(["SPX"], Truth(tmp_path / "truth"))
    server = start(market, 0)
    clock = ManualClock(NOON * 1000)
    access = Access(f"http://127.0.0.1:{server.server_port}/v2", key, clock)
    lost: Future[str] = Future()
    polls = Polls(access, MAPPER, Silent(), clock, lambda: True, lost.set_result)
    says_until = fault == "announced"
    try:
        polls.start()
        polls.opened.result(60)
        market.fault(fault)
        polls.add([SPX])
        if not says_until:
            wait_until(lambda: market.asked["503"] >= 2, "a second one is asked")
            assert not lost.done()
            clock.advance(MUTE_SEC)
        reason = lost.result(60)
        assert ("left alone (503); not asked again before" in reason) is says_until, reason
        assert says_until or "no snapshot for 30 s: it cannot serve now (503)" in reason
        assert bool(access.banned) is says_until
        clock.advance(RETRY_AFTER_SEC - 1)
        assert bool(access.banned) is says_until
        clock.advance(2)
        assert not access.banned
    finally:
        polls.stop()
        server.shutdown()
        server.server_close()


# --- which days ---


class Silent:
    def push(self, messages: object) -> None: ...
    def reject(self, rejected: object) -> None: ...
    def learn(self, facts: object) -> None: ...
    def changed(self, interrupted: bool = False) -> None: ...
    def waiting_rows(self) -> int:
        return 0


def copies(key: Path, clock: ManualClock, days: int, per_hour: int = 60, api: str = "https://api.gex.bot/v2") -> Copies:
    access = Access(api, key, clock)
    options = CopyOptions(days, per_hour)
    return Copies(
        access, MAPPER, Silent(), TradingCalendar(US), clock, options, Ledger(),
        lambda day: {SPX} if day < "20261127" else (), lambda: [SPX],
    )  # fmt: skip


def test_days_that_are_over_are_asked_for_oldest_first(key: Path) -> None:
    clock = ManualClock(NOON * 1000)
    wanted = copies(key, clock, 3)
    assert wanted.days() == ["20261123", "20261124", "20261125"]  # the 26th is Thanksgiving, the 27th is not over
    clock.advance(2.4 * 3600)
    assert wanted.days() == ["20261123", "20261124", "20261125"]
    clock.advance(3600)  # it closes at 13:00, and half an hour passed
    assert wanted.days() == ["20261124", "20261125", "20261127"]
    assert wanted._due() == ("20261127", SPX)


def test_the_budget_of_an_hour_is_kept(key: Path) -> None:
    clock = ManualClock(NOON * 1000)
    wanted = copies(key, clock, 3, per_hour=2)
    for left in (2, 1, 0):
        assert wanted._calls_left() == left
        wanted._calls.append(clock.monotonic())
    clock.advance(3600)
    assert wanted._calls_left() == 2


@pytest.mark.parametrize("status", [401, 429])
def test_who_gives_no_files_is_asked_seldom_and_polled_all_the_same(key: Path, status: int) -> None:
    """Else each question for a file ended the polls, and the next good poll began the waits anew."""
    asked: list[str] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(status)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    clock = ManualClock(NOON * 1000 + 86_400_000)
    wanted = copies(key, clock, 3, api=f"http://127.0.0.1:{server.server_port}/v2")
    try:
        for wait_sec in (300, 600, 1200):
            before = len(asked)
            with nullcontext() if status == 401 else pytest.raises(Banned):
                wanted.check()
            assert len(asked) == before + 1
            clock.advance(61)
            assert not wanted._access.banned
            wanted._access.served()  # a poll
            clock.advance(wait_sec - 62)
            wanted.check()
            assert len(asked) == before + 1
            clock.advance(2)
        assert {path.partition("?")[0] for path in asked} == {"/v2/hist/SPX/classic/gex_full/2026-11-27"}
    finally:
        server.shutdown()
        server.server_close()


def test_a_packed_file_is_unpacked_as_it_comes() -> None:
    text = "[" + ",".join(RECORDS) + "]"
    packed = gzip.compress(text.encode())
    assert list(records_in(unpacked(packed[at : at + 50] for at in range(0, len(packed), 50)))) == RECORDS
    with pytest.raises(FeedError, match="ends early"):
        list(records_in(unpacked([packed[:-20]])))


@pytest.mark.parametrize("size", [2, 50, 1 << 20])
def test_a_file_packed_in_several_pieces_is_read_to_the_last_one(size: int) -> None:
    pieces = [gzip.compress("".join(f"{record}\n" for record in RECORDS[at : at + 20]).encode()) for at in (0, 20, 40)]
    packed = b"".join(pieces)
    assert list(records_in(unpacked(packed[at : at + size] for at in range(0, len(packed), size)))) == RECORDS
    with pytest.raises(FeedError, match="ends early"):
        list(records_in(unpacked([packed[: len(pieces[0]) + 15]])))
    with pytest.raises(zlib.error):
        list(unpacked([packed + b"<html>"]))


numbers = (
    st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**6), max_value=10**6).map(float)
)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values, max_size=4), st.sampled_from([None, 1]), st.booleans())
def test_what_names_a_snapshot_is_the_same_with_orjson_and_without(
    body: dict[str, object], indent: int | None, ascii_only: bool
) -> None:
    """Two recorders of one data root may have it and not have it, and no snapshot may be stored twice for that."""
    text = json.dumps(body, indent=indent, ensure_ascii=ascii_only)
    with mock.patch.object(mapping, "orjson", None):
        plain = mapping.read(text)
    assert mapping.read(text) == plain
    assert json.loads(plain[1]) == body


@pytest.mark.parametrize(
    "text",
    [
        *(f'{{"a":{"[" * levels}{"]" * levels}}}' for levels in (253, 254, 255, 400, 1025, 100_000)),
        *('{"a":' * levels + "1" + "}" * levels for levels in (254, 255, 400, 1025, 100_000)),
        '{"a":"\x7f"}', '{"a":"\x00"}', '{"a":"\\ud800"}', '{"a":NaN}', '{"a":1e400}', '{"a":-0}', '{"a":1,"a":2}',
        '{"a":18446744073709551616}', '{"a":-9223372036854775809}', '{"a":1%s}' % ("0" * 5000),
    ],
)  # fmt: skip
def test_odd_json_is_the_same_with_orjson_and_without(text: str) -> None:
    """What one reads the other reads, with the same name, or both say why not: nothing else is raised."""

    def told() -> object:
        try:
            return mapping.read(text)
        except TickRejected as exc:
            return exc.code

    with mock.patch.object(mapping, "orjson", None):
        plain = told()
    assert repr(told()) == repr(plain)


def test_the_usual_snapshot_is_read_the_fast_way() -> None:
    text = '{"b": [1, -2.5, 0.125, [5000, 13.75]], "a": "SPX", "c": null}'
    with mock.patch.object(mapping.json, "loads", side_effect=AssertionError("the slow way")):
        assert mapping.read(text)[1] == b'{"a":"SPX","b":[1,-2.5,0.125,[5000,13.75]],"c":null}'


class Packed:
    """Answers everything with this body, and calls it packed so. To be closed."""

    def __init__(self, body: bytes, encoding: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Encoding", encoding)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(OSError):  # who was told enough hangs up
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


BOMB_BYTES = 64 * 1024 * 1024


def bomb() -> bytes:
    return gzip.compress(bytes(BOMB_BYTES), compresslevel=1)


@pytest.mark.parametrize(
    ("packed", "encoding", "words"),
    [
        (bomb, "gzip", "an answer has more than 1,048,576 bytes"),
        (gzip.compress(b'["SPX"]', mtime=0)[:-4], "gzip", "an answer ends early"),
        (b"no gzip at all", "gzip", "an answer cannot be unpacked: "),
        (zlib.compress(b'["SPX"]'), "\x1b[2Jdeflate", r"an answer is packed as '\x1b[2jdeflate', which nobody"),
    ],
)
def test_an_answer_that_unpacks_to_much_more_is_not_unpacked(
    key: Path, packed: bytes | Callable[[], bytes], encoding: str, words: str
) -> None:
    with closing(Packed(packed if isinstance(packed, bytes) else packed(), encoding)) as server:
        clock = ManualClock(NOON * 1000)
        lost: Future[str] = Future()
        polls = Polls(Access(server.address, key, clock), MAPPER, Silent(), clock, lambda: True, lost.set_result)
        tracemalloc.start()
        polls.start()
        with pytest.raises(FeedError) as told:
            polls.opened.result(60)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        with pytest.raises(FeedError) as address:
            address_of(Access(server.address, key, clock), "20261127", *SPX)
    assert words in str(told.value)
    assert words.replace("1,048,576", "65,536") in str(address.value)
    assert peak_bytes < BOMB_BYTES / 2


def test_an_answer_packed_by_gzip_is_read(key: Path) -> None:
    with closing(Packed(gzip.compress(b'{"stocks": ["SPX", "NDX"]}'), "gzip")) as server:
        clock = ManualClock(NOON * 1000)
        polls = Polls(Access(server.address, key, clock), MAPPER, Silent(), clock, lambda: True, lambda _: None)
        polls.start()
        polls.opened.result(60)
        assert polls.tickers == {"SPX", "NDX"}
        polls.stop()

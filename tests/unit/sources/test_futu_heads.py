"""Whose push it is by its first bytes, held against the whole message."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from futu.common.pb import Qot_UpdateBroker_pb2, Qot_UpdateOrderBook_pb2
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import TickRejected
from hk_tick_collector.core.progress import BookProgress
from hk_tick_collector.ingest.book_queue import BookQueue
from hk_tick_collector.opend_sim import encode_book
from hk_tick_collector.opend_sim.depth import Depth, Level
from hk_tick_collector.opend_sim.depth_feed import DepthState
from hk_tick_collector.records.book import BookEvent, RawPush
from hk_tick_collector.sources.futu import mapping
from hk_tick_collector.sources.futu.books import (
    BOOK_PUSHES,
    BROKER_PUSHES,
    BookHandler,
    StatePushes,
    read_book,
    read_brokers,
)
from hk_tick_collector.sources.futu.heads import Heads
from hk_tick_collector.sources.futu.mapping import TickMapper

WANTED = frozenset({"HK.00700", "HK.00005"})
NORMAL_LOTS, ODD_LOTS = 0, 1
AT_US = 1_795_138_205_123_456


class Sink:
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.pushes: list[RawPush] = []

    def push(self, pushes: Sequence[RawPush]) -> None:
        """As of ``BookSink``."""
        self.pushes += pushes

    def tell(self, events: Sequence[BookEvent]) -> None:
        """As of ``BookSink``; a handler has nothing to tell."""
        raise AssertionError(events)


def _book(code: str = "00700", levels: int = 10, **fields: Any) -> Any:
    message = Qot_UpdateOrderBook_pb2.Response(retType=0)
    s2c = message.s2c
    s2c.security.market, s2c.security.code = fields.pop("market", 1), code
    for number in range(levels):
        s2c.orderBookBidList.add(price=412.0 - number, volume=100, orederCount=1)
    s2c.orderBookType = NORMAL_LOTS
    for name, value in fields.items():
        setattr(s2c, name, value)
    return message


def _brokers(code: str = "00700") -> Any:
    message = Qot_UpdateBroker_pb2.Response(retType=0)
    message.s2c.security.market, message.s2c.security.code = 1, code
    message.s2c.brokerBidList.add(id=4001, name="A", pos=1)
    return message


def _taken(bodies: list[bytes], kind: StatePushes = BOOK_PUSHES) -> list[str]:
    sink = Sink()
    handler = BookHandler(sink, TickMapper(), lambda: AT_US, kind)
    handler.wanted = WANTED
    handler(bodies)
    return [raw.symbol for raw in sink.pushes]


def _decoded_symbol(body: bytes) -> str | None:
    """What the whole message says; None for one that is not to be recorded."""
    try:
        message = BOOK_PUSHES.decode(body)
        symbol = TickMapper().symbol(message.s2c.security)
    except Exception:
        return None
    return symbol if message.retType == 0 and message.s2c.orderBookType == NORMAL_LOTS else None


def _with_s2c(before: bytes, s2c: bytes) -> bytes:
    length, size = bytearray(), len(s2c)
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return before + b"\x22" + bytes(length) + bytes([size]) + s2c


@pytest.mark.parametrize(
    "message",
    [
        _book(),
        _book(levels=0),
        _book(levels=40),
        _book(levels=800),
        _book(name="TENCENT", svrRecvTimeBid="2026-11-20 10:00:00.123", svrRecvTimeBidTimestamp=1_795_138_205.1),
    ],
    ids=["ten levels", "no level", "longer than 127 bytes", "longer than 16383 bytes", "all fields"],
)
def test_the_first_bytes_say_what_the_message_says(message: Any) -> None:
    for fields in ({}, {"retMsg": "", "errCode": 0}):
        for name, value in fields.items():
            setattr(message, name, value)
        body = message.SerializeToString()
        heads = Heads(TickMapper(), BOOK_PUSHES.tail)
        is_long = len(message.s2c.SerializeToString()) >= 1 << 14
        assert heads.symbol(body) == (None if is_long else _decoded_symbol(body)), "a long one is decoded"
        assert _taken([body]) == [_decoded_symbol(body)]


def test_the_simulators_pushes_are_known_by_their_first_bytes() -> None:
    state = DepthState("HK.00700", 1, Depth((Level(412.0, 100, 1),), ()), AT_US // 1000, 0)
    heads = Heads(TickMapper(), BOOK_PUSHES.tail)
    assert heads.symbol(encode_book.book_body(state, "NAME")) == "HK.00700"
    assert heads.symbol(encode_book.book_push(state, "NAME", detailed=True).SerializeToString()) == "HK.00700"


def test_a_queue_of_brokers_has_no_last_field_to_look_at() -> None:
    body = _brokers().SerializeToString()
    assert Heads(TickMapper(), BROKER_PUSHES.tail).symbol(body) == "HK.00700"
    assert _taken([body], BROKER_PUSHES) == ["HK.00700"]
    assert read_brokers(RawPush("HK.00700", AT_US, body)).queue.bids == ((1, 4001),)
    with pytest.raises(ValueError, match="begins as a push of brokers and is none"):
        read_brokers(RawPush("HK.00005", AT_US, body))


# Whose first byte is the second one of its length, 0x88 0x08; whoever reads the first alone sees HK.00700 and a field
# that nobody knows.
_LONG = b"\x08\x01\x12\x0500700\x7a\x7d" + bytes(125)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "nothing"),
        (b"\x08\x00\x22", "cut off behind the tag"),
        (b"\x08\x00\x22\x80", "cut off in its length"),
        (b"\x08\x00\x22\x02\x0a", "cut off in the security"),
        (_book().SerializeToString()[:-1], "cut off at its end"),
        (_book().SerializeToString() + b"\x48\x00", "something behind s2c"),
        (_book(orderBookType=ODD_LOTS).SerializeToString(), "odd lots"),
        (_book(market=11).SerializeToString(), "another market"),
        (_book("../x").SerializeToString(), "no code"),
        (b"\x08\x01" + _book().SerializeToString()[2:], "not a success"),
        (_with_s2c(b"\x08\x00", b"\x0a\x03\xff\xff\xff\x48\x00"), "a security that is no message"),
        (_with_s2c(b"\x08\x00", b"\x0a\x88" + _LONG + bytes(1032 - 135) + b"\x48\x00"), "a length of two bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_bytes_are_left_to_the_decoder(body: bytes, why: str) -> None:
    assert Heads(TickMapper(), BOOK_PUSHES.tail).symbol(body) is None, why
    decoded = _decoded_symbol(body)
    assert _taken([body]) == ([] if decoded is None else [decoded])


def test_a_message_that_is_written_in_another_order_is_decoded() -> None:
    whole = _book()
    security, rest = Qot_UpdateOrderBook_pb2.S2C(), Qot_UpdateOrderBook_pb2.S2C()
    security.security.CopyFrom(whole.s2c.security)
    rest.CopyFrom(whole.s2c)
    rest.ClearField("security")
    body = _with_s2c(b"\x08\x00", rest.SerializePartialToString() + security.SerializePartialToString())
    assert Heads(TickMapper(), BOOK_PUSHES.tail).symbol(body) is None
    assert _taken([body]) == ["HK.00700"]


def test_what_overrules_its_first_bytes_is_no_book_of_that_symbol() -> None:
    other = Qot_UpdateOrderBook_pb2.S2C()
    other.security.market, other.security.code, other.orderBookType = 1, "00005", NORMAL_LOTS
    s2c = _book().s2c.SerializeToString() + other.SerializePartialToString()
    bodies = {
        "another security": _with_s2c(b"\x08\x00", s2c),
        "odd lots, and shares behind that look like the last field": _with_s2c(
            b"\x08\x00", _book(orderBookType=ODD_LOTS).s2c.SerializeToString() + b"\x52\x02\x48\x00"
        ),
        "a level that is no message": _with_s2c(
            b"\x08\x00", _book().s2c.SerializeToString() + b"\x12\x01\xff" + b"\x48\x00"
        ),
    }
    for what_is_wrong, body in bodies.items():
        assert _taken([body]) == ["HK.00700"], what_is_wrong
        with pytest.raises(ValueError, match=r"begins as a push of books and is none|a level that cannot be read"):
            read_book(RawPush("HK.00700", AT_US, body))


_messages = st.builds(
    _book,
    st.sampled_from(["00700", "00005", "00001", "", "x", "../x"]),
    st.integers(0, 30),
    market=st.sampled_from([1, 1, 1, 2, 11]),
    orderBookType=st.sampled_from([NORMAL_LOTS, NORMAL_LOTS, ODD_LOTS]),
    name=st.text(max_size=5),
    svrRecvTimeAskTimestamp=st.floats(),
)


@given(st.lists(_messages, max_size=4))
def test_any_message_is_taken_for_what_it_says(messages: list[Any]) -> None:
    bodies = [message.SerializeToString() for message in messages]
    assert _taken(bodies) == [symbol for body in bodies if (symbol := _decoded_symbol(body)) in WANTED]


@given(_messages, st.data())
def test_damaged_bytes_never_become_another_symbols_book(message: Any, data: st.DataObject) -> None:
    body = bytearray(message.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(body[: data.draw(st.integers(0, len(body)))])
    for symbol in _taken([damaged]):
        with contextlib.suppress(ValueError):
            push = read_book(RawPush(symbol, AT_US, damaged))
            assert push.symbol == _decoded_symbol(damaged)


def test_what_no_decoder_takes_is_counted_as_any_push() -> None:
    progress = BookProgress()
    handler = BookHandler(BookQueue(progress), TickMapper(), lambda: AT_US)
    handler.wanted = WANTED
    broken = _with_s2c(b"\x08\x00", _book().s2c.SerializeToString() + b"\x12\x01\xff" + b"\x48\x00")
    handler([broken, _book().SerializeToString()])
    assert progress.received == 2


def test_the_symbols_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hk_tick_collector.sources.futu.heads.SYMBOL_CACHE_ENTRIES", 3)
    heads = Heads(TickMapper(), BOOK_PUSHES.tail)
    for number in range(1, 12):
        assert heads.symbol(_book(f"{number:05}").SerializeToString()) == f"HK.{number:05}"
    assert len(heads._symbols) <= 3
    assert mapping.SYMBOL_CACHE_ENTRIES > 3


def test_the_decoder_says_why_a_code_is_none() -> None:
    with pytest.raises(TickRejected):
        TickMapper().symbol(_book("../x").s2c.security)

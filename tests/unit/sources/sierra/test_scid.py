"""The format: header, records, and what a record is. Written by ``tests/scid_files.py`` from the published layout."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.sources.sierra.scid import (
    HEADER,
    UNBUNDLED_FIRST,
    UNBUNDLED_LAST,
    Kind,
    ScidError,
    kind_of,
    read_header,
    unix_us,
)
from tests.scid_files import FIRST_PART, LAST_PART, Trade, bar, header, read_independently, run_of, write_scid

NOON_US = 1_795_176_000_000_000  # 2026-11-20 12:00 UTC


def record(trade: Trade) -> tuple:  # type: ignore[type-arg]
    return struct.unpack("<q4f4I", trade.pack())


def test_a_header_tells_both_sizes() -> None:
    assert read_header(header()) == (56, 40)
    assert read_header(header(64, 48)) == (64, 48)
    assert read_header(header()[:10]) is None, "not written yet"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"SCIX" + header()[4:], "does not begin with SCID"),
        (header(version=2), "version 2"),
        (header(record_bytes=39), "39 for a record"),
        (header(record_bytes=1 << 31), "damaged"),
        (struct.pack("<4sII", b"SCID", 12, 40) + header()[12:], "claims 12 bytes"),
    ],
)
def test_what_is_no_scid_file_is_said(data: bytes, says: str) -> None:
    with pytest.raises(ScidError, match=says):
        read_header(data)


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"SCID" + tail))
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    try:
        layout = read_header(data)
    except ScidError:
        return
    assert layout is None or (layout.records.size == layout.record_bytes and layout.header_bytes >= HEADER.size)


def test_records_are_read_as_another_reader_reads_them(tmp_path: Path) -> None:
    path = write_scid(tmp_path / "ESZ26_FUT_CME.scid", run_of(NOON_US, 500))
    layout = read_header(path.read_bytes()[:56])
    assert layout is not None
    ours = list(layout.records.iter_unpack(path.read_bytes()[56:]))
    theirs = read_independently(path)
    assert (
        [unix_us(record[0]) for record in ours] == theirs["t"].tolist() == [NOON_US + 250_000 * n for n in range(500)]
    )
    assert [record[1:] for record in ours] == [tuple(record)[1:] for record in theirs.tolist()]


def test_a_longer_record_of_a_later_format_is_read_by_its_beginning() -> None:
    layout = read_header(header(56, 48))
    assert layout is not None
    assert [record[:9] for record in layout.records.iter_unpack(Trade(NOON_US).pack() + b"8 more..")] == [
        record(Trade(NOON_US))
    ]


def test_marks_are_what_four_bytes_hold() -> None:
    assert record(Trade(1, open=FIRST_PART))[1] == UNBUNDLED_FIRST
    assert record(Trade(1, open=LAST_PART))[1] == UNBUNDLED_LAST
    assert UNBUNDLED_FIRST != UNBUNDLED_LAST


@pytest.mark.parametrize(
    ("trade", "kind"),
    [
        (Trade(1), Kind.TRADE),
        (Trade(1, open=FIRST_PART), Kind.TRADE),
        (Trade(1, price=5000.0, open=5000.0, bid=5000.0, ask=5000.0), Kind.TRADE),  # told without bid and ask
        (bar(1), Kind.BAR),
        (Trade(1, trades=2), Kind.BAR),
        (Trade(1, price=5000.5, open=5000.0, bid=4999.0, ask=5001.0), Kind.BAR),  # one trade a bar, by chance
        (Trade(1, price=17.5, open=17.5, bid=17.5, ask=17.5, volume=0), Kind.INDEX),
        (Trade(1, open=float("nan")), Kind.TRADE),  # damaged: of one record nobody learns the storage unit
    ],
)
def test_what_a_record_is(trade: Trade, kind: Kind) -> None:
    assert kind_of(record(trade)) is kind


@given(st.binary(min_size=40, max_size=40))
def test_any_forty_bytes_are_of_some_kind(data: bytes) -> None:
    assert kind_of(struct.unpack("<q4f4I", data)) in Kind

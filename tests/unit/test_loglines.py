"""Log lines read back: whatever the recorder writes, wherever it went through, means the same."""

from __future__ import annotations

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.app.logs import configure_logging
from hk_tick_collector.cli.loglines import Filter, LogRecord, from_journal, from_text
from hk_tick_collector.core.logline import event

AT_MS = 1_795_138_200_123  # 2026-11-20T01:30:00.123Z


def one(line: str) -> LogRecord:
    (record,) = from_text([line])
    return record


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-20T01:30:00.123Z WARNING health queue=0 reason=none",
        "hk-tick-collector  | 2026-11-20T01:30:00.123Z WARNING health queue=0 reason=none",
        "2026-11-20T01:30:00.123456789Z 2026-11-20T01:30:00.123Z WARNING health queue=0 reason=none",
    ],
)
def test_a_stamped_line_wherever_it_went_through(line: str) -> None:
    record = one(line)
    assert (record.at_ms, record.level, record.word) == (AT_MS, "WARNING", "health")
    assert record.fields == {"queue": 0, "reason": None}
    assert " ".join(record.parts) == "2026-11-20T01:30:00.123Z WARNING health queue=0 reason=none"


def test_lines_without_a_time_of_their_own() -> None:
    assert one("<4>health queue=0").level == "WARNING"
    assert one("fatal reason=x level=ERROR").level == "ERROR"
    assert one("fatal reason=x").level is None
    syslog = one("Nov 20 09:30:00 host hk-tick-collector[123]: health queue=1")
    assert (syslog.at_ms, syslog.word, syslog.fields) == (None, "health", {"queue": 1})
    iso = one("2026-11-20T09:30:00+0800 host hk-tick-collector[123]: health queue=1")
    assert iso.at_ms == AT_MS - 123


def test_a_word_may_have_two_parts_and_prose_has_none() -> None:
    assert one('WATCHDOG feed_silent reason="a=b c"').word == "WATCHDOG feed_silent"
    assert one('WATCHDOG feed_silent reason="a=b c"').fields == {"reason": "a=b c"}
    assert one("Started the service").word == ""
    assert one("Started the service").fields == {}


def test_a_traceback_belongs_to_its_line() -> None:
    lines = [
        "2026-11-20T01:30:00.123Z ERROR task_failed task=feed",
        "Traceback (most recent call last):",
        "",
        "ValueError: x=1",
        "2026-11-20T01:30:01.123Z INFO health queue=0",
    ]
    first, second = from_text(lines)
    assert first.text == "\n".join(["task_failed task=feed", *lines[1:4]])
    assert first.fields == {"task": "feed"}
    assert second.word == "health"


def test_a_pause_ends_a_record_and_the_time_is_handed_on() -> None:
    lines = ["2026-11-20T01:30:00.123Z INFO health queue=0", None, None, "<6>health queue=1", "noise", None]
    records = list(from_text(lines))
    assert [(record.at_ms, record.text) for record in records] == [
        (AT_MS, "health queue=0"),
        (AT_MS, "health queue=1\nnoise"),
    ]


CHARACTERS = st.characters().filter(lambda char: char.isprintable() or ord(char) <= 0xFF)
values = st.one_of(st.none(), st.booleans(), st.integers(-(10**15), 10**15), st.text(CHARACTERS, max_size=30))


@given(st.dictionaries(st.from_regex(r"[a-z][a-z_0-9]{0,10}", fullmatch=True), values, max_size=6))
def test_what_event_writes_is_read_back(fields: dict[str, object]) -> None:
    """Text that needs no quotes and looks like a number or a word of Python's comes back as that: the line is the same
    for both."""
    record = one("2026-11-20T01:30:00.123Z INFO " + event("some_word", **fields, last="end"))
    assert record.word == "some_word"
    assert record.fields.pop("last") == "end"
    for key, value in fields.items():
        assert event("w", k=record.fields[key]) == event("w", k=value)
        if isinstance(value, str) and not event("w", k=value).startswith("w k="):
            assert record.fields[key] == value


@pytest.mark.parametrize("under_journald", [False, True])
def test_what_the_recorder_prints_is_read_back(under_journald: bool) -> None:
    stream = io.StringIO()
    log = logging.getLogger("hk_tick_collector.test")
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        configure_logging("INFO", stream, under_journald)
        log.info(event("health", queue=0))
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception(event("task_failed", task="feed"))
    finally:
        root.handlers[:], root.level = before
    records = list(from_text(stream.getvalue().splitlines()))
    assert [(record.word, record.level) for record in records][:2] == [("health", "INFO"), ("task_failed", "ERROR")]
    assert "ValueError: broken" in records[-1].text
    assert all(record.at_ms is not None for record in records) == (not under_journald)


def test_journal_entries() -> None:
    entry = {"__REALTIME_TIMESTAMP": f"{AT_MS}456", "PRIORITY": "3", "MESSAGE": "fatal reason=x level=ERROR"}
    record = from_journal(entry)
    assert record == LogRecord(AT_MS, "ERROR", "fatal reason=x level=ERROR")
    assert from_journal({"MESSAGE": list("fatal ä=1".encode())}) == LogRecord(None, None, "fatal ä=1")
    assert from_journal({"PRIORITY": "3"}) is None
    assert from_journal({"MESSAGE": None}) is None


def test_filters() -> None:
    records = list(
        from_text(
            [
                "2026-11-20T01:30:00.000Z INFO health connected=True",
                "2026-11-20T01:30:01.000Z WARNING WATCHDOG stall rows=5",
                "2026-11-20T01:30:02.000Z WARNING futu_symbol_refused symbol=HK.00700 reason=x",
                "2026-11-20T01:30:03.000Z ERROR fatal reason=HK.007001",
            ]
        )
    )

    def words(wanted: Filter) -> list[str]:
        return [record.word for record in wanted.of(records)]

    assert len(words(Filter())) == 4
    assert words(Filter(level="ERROR")) == ["fatal"]
    assert words(Filter(words=frozenset(["WATCHDOG", "health"]))) == ["health", "WATCHDOG stall"]
    assert words(Filter(words=frozenset(["WATCHDOG feed_silent"]))) == []
    assert words(Filter(symbols=frozenset(["HK.00700"]))) == ["futu_symbol_refused"]
    since_ms = records[1].at_ms
    assert words(Filter(since_ms=since_ms, until_ms=records[2].at_ms)) == ["WATCHDOG stall", "futu_symbol_refused"]
    assert not Filter(since_ms=1).fits(LogRecord(None, "INFO", "health queue=0"))

"""``event`` keeps one event on one line; ``RateLimitedLog`` holds back repeats and says how many."""

from __future__ import annotations

import logging
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.logline import MAX_KEYS, MAX_VALUE_CHARS, RateLimitedLog, event


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-5, "-5"),
        (True, "True"),
        (None, "none"),
        (1.0, "1"),
        (100.0, "100"),
        (0.12345, "0.123"),
        (-0.5, "-0.5"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        ("HK.00700", "HK.00700"),
        ("/data/sqlite/HK/20261120.db", "/data/sqlite/HK/20261120.db"),
        ("2026-11-20T01:30:00Z", "2026-11-20T01:30:00Z"),
        ("騰訊", "騰訊"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "no"', r'"say \"no\""'),
        ("back\\slash", r'"back\\slash"'),
        ("line\nbreak", r'"line\x0abreak"'),
        ("\x1b[31m", r'"\x1b[31m"'),
        ("\u2028", r'"\u2028"'),
    ],
)
def test_value(value: object, text: str) -> None:
    assert event("word", key=value) == f"word key={text}"


def test_word_alone_and_order_of_keys() -> None:
    assert event("futu_connected") == "futu_connected"
    assert event("health", queue=0, phase="morning", lag_sec=0.25) == "health queue=0 phase=morning lag_sec=0.25"


@given(st.text())
def test_any_text_stays_on_one_line_and_cannot_forge_a_key(text: str) -> None:
    line = event("word", first=text, last=1)
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    value = line.removeprefix("word first=").removesuffix(" last=1")
    quoted = value.startswith('"') and value.endswith('"')
    assert quoted or not set(value) & set(' ="')


class Recorder:
    """A logger of its own whose lines are kept, and a clock that stands until it is moved."""

    def __init__(self, name: str) -> None:
        self.now_sec = 50.0
        self.lines: list[tuple[int, str]] = []
        self.logger = logging.Logger(name)
        handler = logging.Handler()
        handler.emit = lambda record: self.lines.append((record.levelno, record.getMessage()))  # type: ignore[method-assign]
        self.logger.addHandler(handler)
        self.limited = RateLimitedLog(self.logger, period_sec=10.0, monotonic=lambda: self.now_sec)

    def texts(self) -> list[str]:
        return [text for _, text in self.lines]


def test_repeats_within_the_period_are_counted_not_written() -> None:
    recorder = Recorder("a")
    for _ in range(1000):
        recorder.limited.log(logging.WARNING, "tick_rejected", symbol="HK.00700")
    assert recorder.lines == [(logging.WARNING, "tick_rejected symbol=HK.00700")]
    recorder.now_sec += 9.99
    recorder.limited.log(logging.WARNING, "tick_rejected", symbol="HK.00005")
    assert len(recorder.lines) == 1
    recorder.now_sec += 0.01
    recorder.limited.log(logging.WARNING, "tick_rejected", symbol="HK.00001")
    assert recorder.texts()[1:] == ["tick_rejected symbol=HK.00001 suppressed=1000"]


def test_the_count_begins_again_after_it_was_said() -> None:
    recorder = Recorder("b")
    for _ in range(3):
        recorder.limited.log(logging.INFO, "word")
    recorder.now_sec += 10
    recorder.limited.log(logging.INFO, "word")
    recorder.now_sec += 10
    recorder.limited.log(logging.INFO, "word")
    assert recorder.texts() == ["word", "word suppressed=2", "word"]


def test_words_and_keys_are_limited_apart() -> None:
    recorder = Recorder("c")
    recorder.limited.log(logging.INFO, "word", key="a")
    recorder.limited.log(logging.INFO, "word", key="b")
    recorder.limited.log(logging.INFO, "other", key="a")
    recorder.limited.log(logging.INFO, "word", key="a")
    assert recorder.texts() == ["word", "word", "other"]


def test_traceback_is_passed_on() -> None:
    recorder = Recorder("d")
    seen: list[bool] = []
    recorder.logger.handlers[0].emit = lambda record: seen.append(record.exc_info is not None)  # type: ignore[method-assign]
    try:
        raise ValueError
    except ValueError:
        recorder.limited.log(logging.ERROR, "failed", exc_info=True)
    assert seen == [True]


def test_many_threads_lose_no_count() -> None:
    recorder = Recorder("e")

    def repeat() -> None:
        for _ in range(500):
            recorder.limited.log(logging.INFO, "word")

    threads = [threading.Thread(target=repeat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    recorder.now_sec += 10
    recorder.limited.log(logging.INFO, "word")
    assert recorder.texts() == ["word", "word suppressed=1999"]


def test_a_value_of_megabytes_is_cut_and_says_how_long_it_was() -> None:
    line = event("word", text="x\x1b" * 2_000_000, last=1)
    assert len(line) < 6 * MAX_VALUE_CHARS
    assert line.endswith('...(4000000 characters)" last=1')


def test_keys_from_outside_bound_lines_and_memory() -> None:
    recorder = Recorder("keys")
    for number in range(20_000):
        recorder.limited.log(logging.WARNING, "word", key=f"value {number}")
    assert len(recorder.lines) == MAX_KEYS + 1
    recorder.now_sec += 11
    recorder.limited.log(logging.WARNING, "word", key="another")
    recorder.limited.log(logging.WARNING, "word", key="value 0")
    assert len(recorder.lines) == MAX_KEYS + 3
    assert len(recorder.limited._state) == 2

"""What a locked phone shows of a letter: its title says what is wrong, and of which market, first."""

from __future__ import annotations

import pytest

from hk_tick_collector.alert.words import title_of
from hk_tick_collector.core.complaint import Level

DOWN = "ALERT HK: the recorder (pid 4711) ended [recorder_down; since 10:14:05 HKT] -> Start it"
LATE = "WARN HK: newest tick is old [ticks_late; since 10:14:05 HKT]"
OVER = "OK HK: OVER newest tick is old [ticks_late; since 10:14:05 HKT, lasted 9 min]"
DIGEST = "HK 20261120: grade B. 20261120 is complete: 1,000 ticks of 3 symbols."


@pytest.mark.parametrize(
    ("kind", "level", "lines", "title"),
    [
        ("event", Level.ALERT, [DOWN], "HK ALERT: recorder down (hk-tick-collector)"),
        ("event", Level.ALERT, [OVER, LATE, DOWN], "HK ALERT: recorder down and 1 more (hk-tick-collector)"),
        ("event", Level.WARN, [LATE, LATE], "HK warning: ticks late (hk-tick-collector)"),
        ("event", Level.WARN, [OVER], "HK over: ticks late (hk-tick-collector)"),
        ("event", Level.WARN, ["something else"], "HK warning (hk-tick-collector)"),
        ("digest", Level.NOTE, [DIGEST, "disk: 3 GB free"], "HK 20261120: grade B (hk-tick-collector)"),
        ("digest", Level.NOTE, [], "HK (hk-tick-collector)"),
        ("test", Level.NOTE, ["it arrives"], "hk-tick-collector HK: a test"),
    ],
)
def test_a_title_says_what_is_wrong(kind: str, level: Level, lines: list[str], title: str) -> None:
    assert title_of(kind, level, lines, "HK") == title
    assert len(title) <= 60

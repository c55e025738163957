"""``missing_ranges.json``: what is written is read again, foreign forms are, and nothing else is."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.errors import InputError
from hk_tick_collector.market.hk import HK
from hk_tick_collector.quality.gap_list import GapLine
from hk_tick_collector.quality.missing_ranges import MissingRange, Now, document, now, read_ranges
from tests.books import DAY, OPEN_US
from tests.nights import examples

AT_MS = OPEN_US // 1000
SYMBOL = "HK.00700"


def gap(start_ms: int, end_ms: int | None, counters: str = "5-6 9-9", state: str = "open") -> GapLine:
    return GapLine(DAY, SYMBOL, state, start_ms, end_ms, 3, counters, "lost", None, None, state == "open")


def written(path: Path, told: object) -> Path:
    path.write_text(json.dumps(told))
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    lines = [gap(AT_MS, AT_MS + 7), gap(AT_MS + 50, None, "1-8 at most"), gap(AT_MS, AT_MS + 90, state="closed")]
    told = document(lines, [DAY])
    assert told["summary"] == {"gap_count": 2, "missing_ticks": 6, "gaps_of_unknown_size": 0}
    spans = [(span["seq_start"], span["seq_end"], span["metadata"]["missing_ticks"]) for span in told["missing_ranges"]]
    assert spans == [(5, 6, 2), (9, 9, 1), (None, None, 3)]
    read = read_ranges(written(tmp_path / "f", told), HK)
    assert read.ranges == (
        MissingRange(SYMBOL, DAY, AT_MS, AT_MS + 7), MissingRange(SYMBOL, DAY, AT_MS + 50, None),
    )  # fmt: skip
    assert [now(span, lines, {SYMBOL: "missing"}) for span in read.ranges] == [Now.MISSING] * 2
    assert [now(span, [lines[2]], {SYMBOL: "proven"}) for span in read.ranges] == [Now.STORED] * 2, "it was filled"
    assert now(read.ranges[0], [], {SYMBOL: "unproven"}) is Now.UNPROVEN
    assert now(read.ranges[0], lines, {}) is Now.NOT_RECORDED


@pytest.mark.parametrize(
    ("mine", "gaps", "meets"),
    [
        ((10, 20), (20, 30), False),  # they share a tick that is stored
        ((10, 20), (19, 30), True),
        ((10, 10), (10, 10), True),  # both within a millisecond
        ((10, None), (30, 40), True),
        ((50, 60), (30, None), True),
        ((31, 32), (30, 40), True),
    ],
)
def test_ranges_meet_gaps_by_their_times(
    mine: tuple[int, int | None], gaps: tuple[int, int | None], meets: bool
) -> None:
    assert MissingRange(SYMBOL, DAY, *mine).meets(gap(*gaps)) is meets


@pytest.mark.parametrize(
    "wrap", [lambda entry: [entry], lambda entry: {"gaps": [entry]}, lambda entry: {"ranges": [entry]}]
)
@pytest.mark.parametrize(
    "start", [AT_MS * 1_000_000, AT_MS * 1000, AT_MS, AT_MS / 1000, "2026-11-20T09:30:00+08:00", "2026-11-20T01:30:00"]
)
def test_times_and_lists_of_other_programs(tmp_path: Path, wrap: Any, start: object) -> None:
    read = read_ranges(written(tmp_path / "f", wrap({"symbol": "700", "start_ts": start})), HK)
    assert read.ranges == (MissingRange(SYMBOL, DAY, AT_MS, None),)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"symbol": "TXF", "start_ts": AT_MS}, "has no symbol of market HK"),
        ({"symbol": "@/etc/passwd", "start_ts": AT_MS}, "has no symbol of market HK"),
        ({"symbol": SYMBOL}, "has no start_ts"),
        ({"symbol": SYMBOL, "start_ts": AT_MS, "end_ts": AT_MS - 1}, "ends before it begins"),
        ({"symbol": SYMBOL, "start_ts": -5}, "has a time that is none"),
        ({"symbol": SYMBOL, "start_ts": 1e300}, "has a time that is none"),
        ({"symbol": SYMBOL, "start_ts": True}, "has a time that is none"),
        ({"symbol": SYMBOL, "start_ts": AT_MS, "gap_type": "orderbook"}, "nobody can send again"),
        (7, "is not an object"),
    ],
)
def test_entries_that_mean_nothing_are_named(tmp_path: Path, entry: object, says: str) -> None:
    read = read_ranges(written(tmp_path / "f", [entry, {"symbol": SYMBOL, "start_ts": AT_MS}]), HK)
    assert (len(read.ranges), read.unread_count) == (1, 1)
    assert says in read.unread[0]


NAMES = st.sampled_from(["missing_ranges", "symbol", "start_ts", "end_ts", "gap_type"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


@given(ANYTHING)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_ends_in_anything_but_an_answer(tmp_path: Path, told: object) -> None:
    with suppress(InputError):
        assert read_ranges(written(tmp_path / "f", told), HK).unread_count >= 0


@pytest.mark.parametrize("text", ["", "no", "[" * 100_000, "3", '{"symbols": []}'])
def test_files_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "f").write_text(text)
    with pytest.raises(InputError, match=str(tmp_path / "f")):
        read_ranges(tmp_path / "f", HK)

"""Tables fit the terminal they are shown on, and fold by what they mean."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.tables import Column, aligned, cells_of, folded, layout
from hk_tick_collector.core.text import counted, days_there

COLUMNS = (
    Column("symbol"),
    Column("stored", is_number=True),
    Column("first", spare=1),
    Column("last", spare=2),
    Column("why", is_text=True),
)
ROWS = (
    ("HK.00700", "1,234", "09:30:00", "16:00:00", "not yet confirmed by a pull"),
    ("HK.00005", "7", "09:30:01", "15:59:58", ""),
)


def shown(width: int | None, columns: Sequence[Column] = COLUMNS, rows: Sequence[Sequence[str]] = ROWS) -> list[str]:
    made = layout(columns, rows, width)
    return [*made.head(), *(line for row in rows for line in made.row(row))]


def test_all_on_one_line_where_there_is_room() -> None:
    assert shown(None) == shown(80) == [
        "symbol    stored  first     last      why",
        "HK.00700   1,234  09:30:00  16:00:00  not yet confirmed by a pull",
        "HK.00005       7  09:30:01  15:59:58",
    ]  # fmt: skip


def test_a_long_text_is_folded_beside_its_row_while_there_is_room() -> None:
    assert shown(63)[1:3] == [
        "HK.00700   1,234  09:30:00  16:00:00  not yet confirmed by a",
        "                                      pull",
    ]


def test_then_it_goes_under_its_row() -> None:
    assert shown(60) == [
        "symbol    stored  first     last",
        "HK.00700   1,234  09:30:00  16:00:00",
        "  not yet confirmed by a pull",
        "HK.00005       7  09:30:01  15:59:58",
    ]


def test_then_columns_that_matter_less_are_left_out_and_named() -> None:
    assert shown(30)[:3] == [
        "symbol    stored  first",
        "HK.00700   1,234  09:30:00",
        "  not yet confirmed by a pull",
    ]
    assert layout(COLUMNS, ROWS, 30).left_out == ["last"]
    assert layout(COLUMNS, ROWS, 24).left_out == ["first", "last"]
    assert layout(COLUMNS, ROWS, 80).left_out == []


def test_then_each_row_is_a_card() -> None:
    columns = [Column(f"a long name {n}") for n in range(3)]
    rows = [("1", "a text of more words than one line holds", "")]
    assert shown(30, columns, rows) == [
        "a long name 0  1",
        "a long name 1  a text of more",
        "               words than one",
        "               line holds",
        "a long name 2",
        "",
    ]
    assert layout(columns, rows, 30).left_out == []


@given(
    st.lists(st.lists(st.text("ab 騰é.,-09", max_size=40).map(str.strip), min_size=5, max_size=5), max_size=5),
    st.integers(20, 120),
)
def test_nothing_is_wider_than_the_terminal_and_no_word_is_lost(rows: list[list[str]], width: int) -> None:
    made = layout(COLUMNS, rows, width)
    for row in rows:
        lines = list(made.row(row))
        assert all(cells_of(line) <= width for line in lines), lines
        kept = range(len(COLUMNS)) if made.is_cards else made.shown
        text = "".join("".join(lines).split())
        for n in kept:
            if row[n] != "-" or not made.is_under:
                assert "".join(row[n].split()) in text or made.is_cards


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 10, []),
        ("one two", 10, ["one two"]),
        ("one two three", 10, ["one two", "three"]),
        ("/a/path/without/blanks", 10, ["/a/path/wi", "thout/blan", "ks"]),
        ("騰訊控股有限公司", 6, ["騰訊控", "股有限", "公司"]),
        ("one two three", None, ["one two three"]),
    ],
)
def test_lines_break_between_words(text: str, width: int | None, lines: list[str]) -> None:
    assert folded(text, width) == lines


def test_decimal_points_stand_under_each_other() -> None:
    assert aligned(["1.25", "1,000", "-", "0.1"]) == ["1.25", "1,000   ", "-   ", "0.1 "]
    assert aligned(["1", "20"]) == ["1", "20"]
    assert aligned([]) == []


def test_numbers_of_things_in_words() -> None:
    assert [counted(n, "tick") for n in (0, 1, 2_000)] == ["0 ticks", "1 tick", "2,000 ticks"]
    assert [counted(n, "process", "processes") for n in (1, 2)] == ["1 process", "2 processes"]
    assert [days_there(days) for days in ([], ["20261120"], ["20261119", "20261120"])] == [
        "no day is recorded",
        "there is 1 day, 20261120",
        "there are 2 days, 20261119 to 20261120",
    ]

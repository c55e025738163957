"""HKEX's list of all trades: read from its page, and held against a day."""

from __future__ import annotations

import random
import tracemalloc
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.daily_quotations import make_page
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.quality.against_list import Stored, compare
from hk_tick_collector.quality.daily_quotations import (
    SECTIONS,
    DailyQuotations,
    Listed,
    TooLarge,
    Trades,
    WrongFile,
)
from hk_tick_collector.quality.witness import witness_notes, write_witness
from hk_tick_collector.watch.witness import AgainstList, against_list
from tests.archived_day import archive_day
from tests.daily_quotations import PAGE, record
from tests.ticks import DAY, make_tick

TEXT = PAGE.read_text()
HEAD = "DATE: 20 NOV 2026 (FRIDAY)\n CODE  NAME OF STOCK    SALES RECORD\n"
DASHES = "-" * 79 + "\n"


def listed(path: Path) -> tuple[dict[str, Listed], DailyQuotations]:
    with closing(DailyQuotations(path)) as page:
        return {listing.symbol: listing for listing in page.listed(lambda _: True)}, page


def read(tmp_path: Path, text: str) -> tuple[dict[str, Listed], DailyQuotations]:
    path = tmp_path / "page.htm"
    path.write_text(text)
    return listed(path)


def trades_of(listing: Listed, page: DailyQuotations) -> list[tuple[str, str, int, float]]:
    assert listing.unread is None, listing
    trades = listing.trades
    return [
        (SECTIONS[section], page.kinds[kind], volume, price / 1000)
        for section, kind, volume, price in zip(
            trades.section.tolist(), trades.kind.tolist(), trades.volume.tolist(), trades.price_milli.tolist(),
            strict=True,
        )
    ]  # fmt: skip


def test_every_trade_of_the_page_is_read_with_section_and_type() -> None:
    codes, page = listed(PAGE)
    assert page.trading_day == DAY
    assert list(codes) == ["HK.00005", "HK.00033", "HK.00700", "HK.09988", "HK.83199"]
    assert not page.is_cut
    assert trades_of(codes["HK.00005"], page)[:3] == [
        ("before trading", "LATE", 2000, 74.0),
        ("before trading", "AUCTION", 12000, 75.1),
        ("morning", "AUTO_MATCH", 400, 75.1),
    ]
    assert [row[0] for row in trades_of(codes["HK.00700"], page)][3:6] == ["morning", "between", "afternoon"]
    assert trades_of(codes["HK.00033"], page) == []
    assert trades_of(codes["HK.09988"], page)[-1] == ("afternoon", "TYPE_C", 300, 101.7)


def test_plain_text_and_escaped_brackets_are_the_same_page(tmp_path: Path) -> None:
    whole, page = listed(PAGE)
    plain = "".join(line for line in TEXT.splitlines(keepends=True) if "<html>" not in line)
    for text in (plain, TEXT.replace("< ", "&lt; ").replace(" >", " &gt;"), TEXT.replace("\n", "\r\n")):
        codes, again = read(tmp_path, text)
        assert {s: trades_of(listing, again) for s, listing in codes.items()} == {
            s: trades_of(listing, page) for s, listing in whole.items()
        }


@pytest.mark.parametrize(
    ("record_text", "says"),
    [
        ("< >[ 100-1.5 hello ]/-//[ ]< >", "1 of its words is not a trade: hello"),
        ("< >[ 100-1.2345 ]/-//[ ]< >", "1 of its words is not a trade: 100-1.2345"),
        ("< >[ 100-1.5 ]/-//[ 200-1.5", "not of the known form"),
        ("TRADING SUSPENDED", "not of the known form"),
        ("< >[ \x1b[31m ]/-//[ ]< >", "not of the known form"),
    ],
)
def test_what_is_no_trade_is_never_left_out_silently(tmp_path: Path, record_text: str, says: str) -> None:
    codes, _ = read(tmp_path, f"{HEAD}   700 TENCENT          {record_text}\n{DASHES}")
    assert says in str(codes["HK.00700"].unread)
    assert not len(codes["HK.00700"].trades)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no SALES RECORDS"),
        ("DATE: 20 NOV 2026\nnothing else\n", "holds no SALES RECORDS"),
        ("日期 20/11/2026\n代號  股份名稱  成交紀錄\n", "is the Chinese page"),
        ("DATE: 31 FEB 2026\n" + HEAD[30:], "not a date"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(WrongFile, match=says):
        read(tmp_path, text)


def test_big5_is_known_for_chinese(tmp_path: Path) -> None:
    path = tmp_path / "d261120c.htm"
    path.write_bytes("DATE: 20 NOV 2026\n股份名稱\n".encode("big5hkscs"))
    with pytest.raises(WrongFile, match="Chinese"):
        listed(path)


def test_a_page_without_a_date_is_known_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "d261119e.htm"
    path.write_text(HEAD.partition("\n")[2] + DASHES)
    assert listed(path)[1].trading_day == "20261119"


def test_what_has_no_lines_or_no_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooLarge, match="not text in lines"):
        read(tmp_path, HEAD + "9" * (1024 * 1024 + 1))
    monkeypatch.setattr("hk_tick_collector.quality.daily_quotations.MOST_CODE_BYTES", 1000)
    with pytest.raises(TooLarge, match="do not end"):
        read(tmp_path, HEAD + "   700 TENCENT          < >[\n" + "     100-600.20\n" * 100)


def test_a_list_that_is_cut_tells_nothing_of_its_last_code(tmp_path: Path) -> None:
    codes, page = read(tmp_path, TEXT[: TEXT.index("M500,000")])
    assert list(codes) == ["HK.00005", "HK.00033"]
    assert page.is_cut


# Against a day


def against(data_root: Path, path: Path = PAGE) -> AgainstList:
    with closing(DailyQuotations(path)) as page:
        return against_list(Catalog(data_root, data_root / "_archive").day(DAY), TradingCalendar(HK), page)


def test_a_day_with_exactly_the_listed_trades(tmp_path: Path) -> None:
    record(tmp_path)
    for _ in range(2):  # live, then archived
        result = against(tmp_path)
        assert result.equal
        assert result.sentence() == (
            f"{DAY} against HKEX's list of trades: 3 symbols with exactly its trades (17, in its order)"
        )
        assert all(sums.equal for listing in result.compared.values() for sums in listing.sums)
        assert not any(listing.in_another_section for listing in result.compared.values())
        if (tmp_path / f"{DAY}.db").exists():
            archive_day(tmp_path, tmp_path / "_archive")


def test_a_missing_trade_is_named_with_its_place(tmp_path: Path) -> None:
    record(tmp_path, HK_00700=[2])
    result = against(tmp_path)
    assert not result.equal
    listing = result.compared["HK.00700"]
    assert (listing.missing, listing.extra) == ({"AUTO_MATCH": 1}, {})
    (trade,) = listing.first_missing
    assert trade[:4] == ("morning", "AUTO_MATCH", 1000, 600.2)
    assert HK.zone.clock_with_ms(trade.ts_ms or 0) == "09:30:00.000"
    assert [sums.tick_type for sums in listing.sums if not sums.equal] == ["AUTO_MATCH"]


def test_a_type_that_the_list_leaves_out_is_not_compared(tmp_path: Path) -> None:
    def odd(symbol: str, counter: int, kind: str) -> list[object]:
        return [make_tick(counter, symbol, tick_type=kind, seq=(1_795_120_000 << 32) | counter)]

    record(tmp_path, odd("HK.83199", 2, "ODD_LOT_CROSS_MARKET"))  # type: ignore[arg-type]
    result = against(tmp_path)
    assert result.equal
    assert "not compared: ODD_LOT_CROSS_MARKET, of which it has none" in result.sentence()
    root = tmp_path / "price-making"
    record(root, odd("HK.83199", 2, "AUTO_MATCH"))  # type: ignore[arg-type]
    assert against(root).compared["HK.83199"].extra == {"AUTO_MATCH": 1}, "what makes the price is surely listed"


def test_unread_cut_and_absent_symbols_are_never_called_equal(tmp_path: Path) -> None:
    record(tmp_path)
    page = tmp_path / "page.htm"
    page.write_text(TEXT.replace("1,000-600.20", "1,000-600.20 what"))
    result = against(tmp_path, page)
    assert list(result.unread) == ["HK.00700"]
    assert not result.equal
    page.write_text(TEXT[: TEXT.index(" 83199")])
    result = against(tmp_path, page)
    assert (result.is_cut, result.absent, result.equal) == (True, ["HK.83199"], False)
    assert "HKEX's list of trades, of which the end is cut off" in result.sentence()
    doubled = TEXT.replace("    33 INTL", "   700 TENCENT").replace("GENIUS      <", " <")
    page.write_text(doubled)
    assert against(tmp_path, page).unread == {"HK.00700": "the list has it twice"}


def test_the_certificate_says_when_more_was_stored_since(tmp_path: Path) -> None:
    record(tmp_path)
    assert witness_notes(tmp_path, DAY, 17) == []
    (tmp_path / "_reports").mkdir()
    path = tmp_path / "_reports" / f"{DAY}.witness.json"
    path.write_text("{}")
    assert "cannot be read" in witness_notes(tmp_path, DAY, 17)[0]
    path.unlink()
    write_witness(tmp_path, against(tmp_path).witness(1))
    assert witness_notes(tmp_path, DAY, 17)[0].endswith("(17, in its order)")
    assert witness_notes(tmp_path, DAY, 18)[0].endswith("that was with 17 ticks, the day holds 18 now")


# The comparison


def columns(rows: list[tuple[int, int, int, int]]) -> Trades:
    table = np.array(rows, np.int64).reshape(-1, 4)
    return Trades(table[:, 0].astype(np.int32), table[:, 1].astype(np.int32), table[:, 2], table[:, 3])


TRADE = st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(1, 3), st.integers(1, 3))


@given(st.lists(TRADE, max_size=30), st.data())
def test_missing_and_extra_are_the_difference_of_two_bags(
    rows: list[tuple[int, int, int, int]], data: st.DataObject
) -> None:
    kept = [row for row in rows if data.draw(st.booleans())]
    more = data.draw(st.lists(TRADE, max_size=5))
    stored = [*kept, *more]
    ours = columns(stored)
    comparison = compare(
        "HK.00700", columns(rows), Stored(ours, np.zeros(len(stored)), np.arange(len(stored))), ["A", "B", "C"]
    )
    bag = [row[1:] for row in rows]
    extra = []
    for row in stored:
        if row[1:] in bag:
            bag.remove(row[1:])
        else:
            extra.append(row)
    assert sum(comparison.missing.values()) == len(bag)
    assert sum(comparison.extra.values()) == len(extra)
    assert comparison.same_trades == len(rows) - len(bag)


def test_one_trade_that_moved_is_one_out_of_order() -> None:
    rows = [(1, 0, n + 1, 1000) for n in range(100)]
    moved = [*rows[:10], *rows[11:60], rows[10], *rows[60:]]
    comparison = compare("HK.00700", columns(rows), Stored(columns(moved), np.zeros(100), np.arange(100)), ["A"])
    assert (comparison.out_of_order, comparison.is_equal()) == (1, True)


def test_a_long_symbol_is_compared_in_a_moment() -> None:
    draw = random.Random(1)
    rows = [
        (1, draw.randrange(2), draw.randrange(1, 50) * 100, 600_000 + draw.randrange(40) * 200) for _ in range(20_000)
    ]
    comparison = compare(
        "HK.00700", columns(rows), Stored(columns(rows[1:]), np.zeros(19_999), np.arange(19_999)), ["A", "B"]
    )
    assert sum(comparison.missing.values()) == 1


def test_memory_hangs_on_the_busiest_code_and_not_on_the_page(tmp_path: Path) -> None:
    """Pages of 0.2 and of 0.6 megabytes, with codes of the same size."""
    peaks = []
    for size_bytes in (200_000, 600_000):
        path = tmp_path / f"{size_bytes}.htm"
        make_page(path, size_bytes, most_trades=500)
        page = DailyQuotations(path)
        tracemalloc.start()
        try:
            trades = sum(len(listed.trades) for listed in page.listed(lambda _symbol: True))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
            page.close()
        assert trades > size_bytes / 25
    assert peaks[1] < 1.5 * peaks[0]
    assert peaks[1] < 300_000

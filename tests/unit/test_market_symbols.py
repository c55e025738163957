"""Symbol lists: one form out, every problem named at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.market.cme import CME
from hk_tick_collector.market.cn import CN
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.symbols import check_symbols, parse_symbols
from hk_tick_collector.market.us import US


def test_separators_and_order_and_repeats() -> None:
    text = " HK.00700, HK.00005\n09988 HK.00700;700\t5,, HK.80700 "
    assert parse_symbols(text, HK.symbols) == ["HK.00700", "HK.00005", "HK.09988", "HK.80700"]


@pytest.mark.parametrize(("word", "code"), [("700", "HK.00700"), ("00700", "HK.00700"), ("1", "HK.00001")])
def test_bare_number_is_filled_up(word: str, code: str) -> None:
    assert parse_symbols(word, HK.symbols) == [code]


@pytest.mark.parametrize(
    ("market", "words", "symbol"),
    [
        (HK, "0700.HK 700.hk HK.700 hk.00700 hk700 HK0700 00700.HK", "HK.00700"),
        (US, "us.brk.b US.BRK.B BRK.B.US brk.b.us", "US.BRK.B"),
        (CN, "sz.000001 000001.SZ 000001.sz", "SZ.000001"),
        (CME, "cme.esz26 ESZ26.CME", "CME.ESZ26"),
    ],
)
def test_a_symbol_is_taken_as_people_and_other_vendors_write_it(market: Market, words: str, symbol: str) -> None:
    assert [parse_symbols(word, market.symbols) for word in words.split()] == [[symbol]] * len(words.split())


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("US.AAPL", "market US"),
        ("SH.600519", "market SH"),
        ("us.aapl", "market US"),
        ("HK.0", "not an HK stock code"),
        ("700.US", "not an HK stock code"),
        ("HK.800000", "index"),
        ("800100", "index"),
        ("HK.HSImain", "futures"),
        ("HK.TCH261127C650000", "options"),
        ("HK.123456", "not an HK stock code"),
        ("HK.00000", "not an HK stock code"),
        ("HK.", "not an HK stock code"),
        ("0", "not an HK stock code"),
        ("123456", "not an HK stock code"),
        ("AAPL", "not an HK stock code"),
        ("HK.\uff10\uff10\uff17\uff10\uff10", "not an HK stock code"),
    ],
)
def test_refused_by_name_with_the_reason(word: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_symbols(word, HK.symbols)
    assert str(caught.value).startswith(f"{word}: ")
    assert words in str(caught.value)


def test_all_problems_at_once_and_the_good_ones_kept() -> None:
    symbols, problems = check_symbols("HK.00700 US.AAPL HK.HSImain 5", HK.symbols)
    assert symbols == ["HK.00700", "HK.00005"]
    assert [problem.split(":")[0] for problem in problems] == ["US.AAPL", "HK.HSImain"]
    with pytest.raises(ConfigError) as caught:
        parse_symbols("HK.00700 US.AAPL HK.HSImain 5", HK.symbols)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("text", ["", "  \n ", ",,"])
def test_nothing_given_is_a_problem(text: str) -> None:
    with pytest.raises(ConfigError, match="no symbol"):
        parse_symbols(text, HK.symbols)


def test_file_with_comments_beside_codes(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\ufeff# big ones\nHK.00700 # Tencent\n\n5\r\nHK.00700\n", encoding="utf-8")
    assert parse_symbols("HK.01299,@list.txt", HK.symbols, tmp_path) == ["HK.01299", "HK.00700", "HK.00005"]
    assert parse_symbols(f"@{tmp_path / 'list.txt'}", HK.symbols) == ["HK.00700", "HK.00005"]


def test_file_problem_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("HK.00700\nUS.AAPL\n@other.txt\n")
    symbols, problems = check_symbols("@list.txt", HK.symbols, tmp_path)
    assert symbols == ["HK.00700"]
    assert f"US.AAPL ({path} line 2): market US" in problems[0]
    assert f"@other.txt ({path} line 3)" in problems[1]


def test_unreadable_files_are_problems(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "big.txt").write_bytes(b"#" * 1_000_001)
    _, problems = check_symbols("@missing.txt @empty.txt @binary.txt @big.txt @ @.", HK.symbols, tmp_path)
    expected = ["cannot be read", "holds no code", "not UTF-8", "larger than", "@ without", "cannot be read"]
    assert len(problems) == len(expected)
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem


@given(st.text(max_size=60))
def test_any_text_gives_only_the_one_form_or_problems(text: str) -> None:
    symbols, problems = check_symbols(text.replace("@", ""), HK.symbols)
    assert symbols or problems
    assert len(set(symbols)) == len(symbols)
    for symbol in symbols:
        assert len(symbol) == 8
        assert symbol.startswith("HK.")
        assert symbol[3:].isascii()
        assert symbol[3:].isdigit()


@pytest.mark.parametrize(
    ("market", "text", "symbols"),
    [
        (US, "US.AAPL,US.BRK.B US.A", ["US.AAPL", "US.BRK.B", "US.A"]),
        (CN, "SH.600519 SZ.000001", ["SH.600519", "SZ.000001"]),
        (CME, "CME.ESZ26 CME.6EH27", ["CME.ESZ26", "CME.6EH27"]),
    ],
)
def test_symbols_of_other_markets(market: Market, text: str, symbols: list[str]) -> None:
    assert parse_symbols(text, market.symbols) == symbols


@pytest.mark.parametrize(
    ("market", "word", "why"),
    [
        (US, "aapl", "write US.AAPL"),
        (US, "HK.00700", "market HK is not recorded here, only US; US.AAPL is the form"),
        (CN, "HK.00700", "only SH and SZ"),
        (US, "US.A/B", "no symbol of a US stock; US.AAPL is the form"),
        (CME, "ESZ26", "write CME.ESZ26"),
        (CME, "CME.ES/Z26", "CME.ESZ26 is the form"),
    ],
)
def test_what_is_no_symbol_of_another_market_is_named(market: Market, word: str, why: str) -> None:
    symbols, problems = check_symbols(word, market.symbols)
    assert symbols == []
    assert [why in problem for problem in problems] == [True], problems

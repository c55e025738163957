"""Which symbols are chosen, when one comes and goes, and what is never done."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import InputError
from hk_tick_collector.watch import universe
from hk_tick_collector.watch.universe import Choice, Measured, RankingFailed, Score

CODES = [f"HK.{n:05d}" for n in range(1, 41)]


def of(*codes: str) -> dict[str, Score]:
    return {code: Score(code, 20, 100.0, 1000.0, 1.0) for code in codes}


def chosen(
    limit: int, order: list[str], before: Choice | None = None, days: int = 99, keep: tuple[str, ...] = ()
) -> Choice:
    return universe.choose(
        "20261123", limit, keep, {"turnover": order}, of=of(*CODES), before=before, days_between=lambda _a, _b: days
    )


def test_medians_are_what_counts() -> None:
    days = [[Measured("HK.00700", ticks, 10.0 * ticks, 1.0)] for ticks in (100, 120, 9_000_000)]
    scores = universe.scores([*days, [Measured("HK.00005", 49, 7.0, 30.0)]])
    assert scores["HK.00700"] == Score("HK.00700", 3, 120, 1200.0, 1.0)
    assert scores["HK.00005"].volatility is None, "so few trades move the price by the spread"
    assert universe.ranking("volatility", scores) == ["HK.00700"]
    assert universe.ranking("turnover", scores, {"HK.00005"}) == ["HK.00005"], "another currency is not held against it"


def test_one_comes_in_at_a_rank_and_goes_out_a_fifth_behind_it() -> None:
    first = chosen(24, CODES)
    assert (first.in_rank, first.out_rank, len(first.members)) == (20, 24, 20)
    at_24 = [*CODES[1:20], *CODES[20:25], CODES[0], *CODES[25:]]  # the first one is 25th now, the 21st is 20th
    later = chosen(24, at_24, first)
    assert (CODES[0] in later.symbols, CODES[20] in later.symbols) == (False, True)
    assert (later.came, later.went) == ((CODES[20],), (CODES[0],))
    at_23 = [*CODES[1:20], *CODES[20:24], CODES[0], *CODES[24:]]
    assert CODES[0] in chosen(24, at_23, first).symbols
    assert CODES[0] in chosen(24, at_24, first, days=4).symbols, "not before five trading days"
    member = next(candidate for candidate in later.members if candidate.symbol == CODES[1])
    assert member.since == first.trading_day


def test_one_that_opend_no_longer_lists_goes_at_once_and_kept_ones_stay() -> None:
    first = chosen(24, CODES, keep=(CODES[39],))
    known = of(*CODES[1:])
    later = universe.choose(
        "20261124", 24, [CODES[39]], {"turnover": CODES[1:]}, of=known, before=first, days_between=lambda _a, _b: 1
    )
    assert CODES[0] not in later.symbols
    assert later.symbols[0] == CODES[39]


@given(
    st.integers(1, 30), st.lists(st.permutations(CODES), min_size=1, max_size=3), st.permutations(CODES),
    st.lists(st.sampled_from(CODES), max_size=30), st.integers(0, 9),
)  # fmt: skip
def test_there_are_never_more_than_the_limit_and_each_once(
    limit: int, orders: list[list[str]], earlier: list[str], keep: list[str], days: int
) -> None:
    keep = list(dict.fromkeys(keep))[:limit]
    rankings = dict(zip(("turnover", "ticks", "volatility"), orders, strict=False))
    before = universe.choose("20261120", limit, [], {"turnover": earlier}, of=of(*CODES))
    choice = universe.choose(
        "20261123", limit, keep, rankings, of=of(*CODES), before=before, days_between=lambda _a, _b: days
    )
    assert len(choice.symbols) == len(set(choice.symbols)) <= limit
    assert set(keep) <= set(choice.symbols)
    assert set(choice.came) | set(before.symbols) == set(choice.symbols) | set(choice.went)
    ranked, slots = set(choice.symbols).difference(keep), limit - len(keep)
    assert len(ranked) >= min(slots, max(1, int(slots / universe.OUT_FACTOR) - len(rankings) + 1)), "no slot is idle"


def test_rankings_that_name_more_than_there_is_room_for_at_once() -> None:
    first = {"turnover": ["HK.00700"], "ticks": ["HK.00005"], "volatility": ["HK.00001"]}
    assert universe.choose("20261123", 2, [], first, of=of(*CODES)).symbols == ("HK.00700", "HK.00005")


def test_those_that_are_always_wanted_take_no_rank_from_others() -> None:
    assert chosen(24, CODES, keep=tuple(CODES[:12])).symbols == tuple(CODES[:22])


def test_more_that_are_always_wanted_than_there_are_slots_are_refused() -> None:
    with pytest.raises(InputError, match="2 symbols are always wanted"):
        chosen(1, CODES, keep=("HK.00001", "HK.00002"))


def test_a_ranking_that_failed_changes_nothing() -> None:
    few = chosen(24, CODES[:3])
    universe.check(few, 6)
    with pytest.raises(RankingFailed, match="7 are recorded now"):
        universe.check(few, 7)
    with pytest.raises(RankingFailed):
        universe.check(chosen(24, []), 0)


def test_a_choice_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    first = chosen(24, CODES, keep=(CODES[39],))
    path = universe.store(tmp_path, first)
    assert path.stat().st_mode & 0o777 == 0o640
    assert universe.newest(tmp_path, "20261124") == first
    assert universe.newest(tmp_path, first.trading_day) is None, "the choice for the same day is made anew"
    (path.parent / "20261122.json").write_text("{}")
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 9'))
    assert universe.newest(tmp_path, "20261124") is None


def test_the_list_says_why() -> None:
    text = universe.symbols_text(chosen(24, CODES, keep=("HK.00009",)))
    assert "HK.00009  # always wanted; turnover 9, since 20261123\n" in text
    assert "HK.00001  # turnover 1, since 20261123\n" in text

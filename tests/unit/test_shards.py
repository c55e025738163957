"""Symbols over recorders: even, seldom moved, each in one place, and never silently in none or two."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import InputError
from hk_tick_collector.watch import shards
from hk_tick_collector.watch.shards import FIXED_LOAD, Plan
from hk_tick_collector.watch.universe import Score

CODES = [f"HK.{n:05d}" for n in range(1, 1001)]


def heavy(seed: int) -> dict[str, float]:
    """A few symbols have most of the ticks, as in a market."""
    rng = random.Random(seed)
    return {code: FIXED_LOAD + 60_000 / (n + 1) ** 0.7 * rng.uniform(0.9, 1.1) for n, code in enumerate(CODES)}


def where(plan: Plan) -> dict[str, int]:
    return {symbol: shard.number for shard in plan.shards for symbol in shard.symbols}


def test_the_load_is_even_and_a_new_days_noise_moves_few() -> None:
    first = shards.divide("20261120", heavy(1), 4, 300)
    loads = [shard.load for shard in first.shards]
    assert max(loads) / min(loads) < 1.01
    assert (sorted(where(first)), first.moved) == (CODES, ())
    again = shards.divide("20261123", heavy(1), 4, 300, first)
    assert (where(again), again.moved) == (where(first), ())
    later = shards.divide("20261123", heavy(2), 4, 300, first)
    assert len(later.moved) < 100
    assert max(shard.load for shard in later.shards) <= shards.STICKY * sum(heavy(2).values()) / 4 + 1


@given(
    st.dictionaries(st.sampled_from(CODES[:60]), st.floats(1, 1e6), max_size=60),
    st.integers(1, 6),
    st.dictionaries(st.sampled_from(CODES[:60]), st.integers(1, 8), max_size=60),
)
def test_each_symbol_is_in_one_shard_and_no_shard_is_overfull(
    loads: dict[str, float], count: int, was: dict[str, int]
) -> None:
    before = Plan(
        "20261120", 99, tuple(shards.Shard(n, 0.0, tuple(s for s in was if was[s] == n)) for n in range(1, 9))
    )
    slots = max(1, -(-len(loads) // count))
    plan = shards.divide("20261123", loads, count, slots, before)
    symbols = [symbol for shard in plan.shards for symbol in shard.symbols]
    assert sorted(symbols) == sorted(loads)
    assert all(len(shard.symbols) <= slots for shard in plan.shards)
    assert set(plan.moved) == {symbol for symbol in loads if symbol in was and was[symbol] != where(plan)[symbol]}


def test_more_symbols_than_slots_are_refused() -> None:
    with pytest.raises(InputError, match=r"1,000 symbols do not fit into 3 shards of 300: take more shards, or fewer"):
        shards.divide("20261120", heavy(1), 3, 300)


def test_one_that_was_never_recorded_costs_by_its_turnover() -> None:
    of = {
        "HK.00700": Score("HK.00700", 20, ticks=90_000, turnover=9e9),
        "HK.00005": Score("HK.00005", 0, turnover=1e9, is_snapshot=True),
    }
    loads = shards.loads_of(["HK.00700", "HK.00005", "HK.09988"], of)
    assert loads == {"HK.00700": FIXED_LOAD + 90_000, "HK.00005": FIXED_LOAD + 10_000, "HK.09988": FIXED_LOAD}


def test_a_plan_is_read_as_it_was_written_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "symbols.txt"
    assert shards.read(target) is None
    plan = shards.divide("20261123", dict.fromkeys(CODES[:5], 1.0), 2, 3)
    written = shards.write(target, plan, {code: f"{code}  # why" for code in CODES})
    assert [path.name for path in written] == ["symbols.1.txt", "symbols.2.txt", "symbols.shards.json"]
    assert shards.read(target) == plan
    assert (tmp_path / "symbols.1.txt").read_text().splitlines()[1] == f"{plan.shards[0].symbols[0]}  # why"
    shards.write(target, shards.divide("20261124", {CODES[0]: 1.0}, 1, 3), {CODES[0]: CODES[0]})
    assert (tmp_path / "symbols.2.txt").read_text() == "# there is no shard 2 any more\n"
    for text in ("", "[]", "{}", '{"format_version": 9}', "[" * 50_000):
        shards.plan_path(target).write_text(text)
        with pytest.raises(InputError, match="is not a plan of shards"):
            shards.read(target)


def test_what_is_wrong_with_lists_is_said_of_each_symbol(tmp_path: Path) -> None:
    target = tmp_path / "symbols.txt"
    plan = Plan("20261123", 3, (shards.Shard(1, 1.0, ("HK.00001", "HK.00002")), shards.Shard(2, 1.0, ("HK.00003",))))
    assert shards.problems(target, plan, {1: ["HK.00001", "HK.00002"], 2: ["HK.00003"]}) == []
    assert shards.problems(target, plan, {1: ["HK.00001", "HK.00003", "HK.00009"], 2: ["HK.00001"]}) == [
        "HK.00002 is in no list: the plan has it in shard 1",
        "HK.00001 is in 2 lists: shards 1, 2",
        "HK.00003 is in the list of shard 1: the plan has it in shard 2",
        "HK.00009 is in the list of shard 1 and not in the plan",
    ]
    assert shards.problems(target, plan, {1: ["HK.00001", "HK.00002"], 2: None}) == [
        f"{tmp_path}/symbols.2.txt is not there: shard 2 records nothing of it"
    ]

"""Fault commands are checked word by word; a fault strikes as often as it was told."""

from __future__ import annotations

import pytest

from hk_tick_collector.opend_sim.faults import FAULTS, Fault, FaultError, FaultState, fault_help, parse_fault
from tests.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(0)


@pytest.fixture
def state(clock: ManualClock) -> FaultState:
    return FaultState(clock.monotonic, seed=3)


def test_a_command_becomes_a_checked_fault() -> None:
    fault = parse_fault(["skip", "percent=10", "seconds=2.5", "symbol=hk.00700"])
    assert fault == Fault("skip", percent=10.0, seconds=2.5, symbol="HK.00700")
    assert fault.fields() == {"percent": 10.0, "seconds": 2.5, "symbol": "HK.00700"}


def test_defaults_are_filled_in() -> None:
    assert parse_fault(["restart"]).seconds == 3
    assert parse_fault(["fail-subscribe"]).next == 1
    assert parse_fault(["fail-subscribe", "seconds=4"]).next is None
    assert parse_fault(["unreadable"]).kind == "time"
    assert parse_fault(["unreadable", "kind=NaN"]).kind == "nan"


def test_other_spellings_are_understood() -> None:
    assert parse_fault(["Out_Of_Order"]).name == "disorder"
    assert parse_fault(["lose_login"]).name == "logout"
    assert parse_fault(["no_sequences"]).name == "no-sequence"
    assert parse_fault(["throttle", "bytes-per-sec=5000"]).bytes_per_sec == 5000
    assert parse_fault(["clear", "kind=delay_answers"]).kind == "delay-answers"


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("", ["empty", "known faults: drop"]),
        ("explode", ["unknown fault 'explode'", "drop", "hang", "bad-sha1"]),
        ("drop seconds=3", ["drop", "unknown parameter 'seconds=3'", "no parameters"]),
        ("skip percent", ["unknown parameter 'percent'", "percent="]),
        ("skip percent=0", ["percent=0", "from 0.01 to 100"]),
        ("skip percent=nan", ["percent=nan"]),
        ("skip next=1.5", ["next=1.5"]),
        ("late", ["late", "ms= is missing"]),
        ("late ms=soon", ["ms=soon", "from 1 to 600000"]),
        ("right kind=platinum", ["unknown kind 'platinum'", "level2", "bmp"]),
        ("clear kind=nothing", ["unknown kind 'nothing'", "drop"]),
        ("skip " + "next=1 " * 20, ["more than 16 words"]),
    ],
)
def test_a_wrong_command_is_named_with_what_is_allowed(line: str, parts: list[str]) -> None:
    with pytest.raises(FaultError) as info:
        parse_fault(line.split())
    for part in parts:
        assert part in str(info.value)


def test_every_fault_has_help_and_parses_with_its_required_parameters() -> None:
    sample = {"seconds": "1", "ms": "5", "limit": "9", "bytes_per_sec": "100", "to": "2026-12-22T09:10:00"}
    text = fault_help()
    for name, spec in FAULTS.items():
        assert f"  {name}" in text
        words = [f"{p}={spec.kinds[0] if p == 'kind' else sample[p]}" for p in spec.required]
        assert parse_fault([name, *words]).name == name


def test_a_fault_ends_after_its_seconds(state: FaultState, clock: ManualClock) -> None:
    state.begin(parse_fault(["silent", "seconds=2"]))
    clock.advance(1.9)
    assert state.active("silent") is not None
    clock.advance(0.1)
    assert state.active("silent") is None
    assert not state.any_active()


def test_a_fault_strikes_its_number_of_times(state: FaultState) -> None:
    state.begin(parse_fault(["skip", "next=3"]))
    assert [state.hit("skip") is not None for _ in range(5)] == [True, True, True, False, False]
    assert state.hit_counts == {"skip": 3}


def test_a_fault_strikes_each_nth(state: FaultState) -> None:
    state.begin(parse_fault(["unreadable", "every=3"]))
    assert [state.hit("unreadable") is not None for _ in range(7)] == [False, False, True, False, False, True, False]


def test_a_fault_strikes_its_share(state: FaultState) -> None:
    state.begin(parse_fault(["skip", "percent=10"]))
    hits = sum(state.hit("skip") is not None for _ in range(5000))
    assert 400 < hits < 600


def test_a_fault_for_one_symbol_spares_the_others(state: FaultState) -> None:
    state.begin(parse_fault(["skip", "next=1", "symbol=HK.00700"]))
    assert state.hit("skip", "HK.00005") is None
    assert state.hit("skip", "HK.00700") is not None
    assert state.hit("skip", "HK.00700") is None


def test_a_new_command_replaces_the_old_and_end_names_what_it_ended(state: FaultState) -> None:
    state.begin(parse_fault(["late", "ms=100"]))
    state.begin(parse_fault(["late", "ms=200"]))
    state.begin(parse_fault(["silent"]))
    late = state.active("late")
    assert late is not None
    assert late.ms == 200
    assert state.end("late") == ["late"]
    assert state.end("late") == []
    assert state.end() == ["silent"]
    assert state.active_faults() == {}

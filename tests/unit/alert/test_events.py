"""Events: each told once, through everything that comes and goes, on a clock of the test's own."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.alert.events import Kind, Ledger, Telling
from hk_tick_collector.alert.rules import RULES, Finding
from hk_tick_collector.core.complaint import Code, Level

START_MS = 1_795_914_000_000


def finding(code: str = Code.NO_TICKS, level: Level = Level.ALERT, sentence: str = "no tick comes") -> Finding:
    return Finding(code, level, "HK", sentence)


class Bench:
    """A ledger whose time the test moves."""

    def __init__(self) -> None:
        self.ledger, self.now_ms = Ledger(), START_MS

    def see(self, *findings: Finding, after_sec: float = 2) -> list[Kind]:
        self.now_ms += int(after_sec * 1000)
        return [telling.kind for telling in self.ledger.observe(findings, self.now_ms)]

    def hold(self, *findings: Finding, seconds: float) -> list[Kind]:
        """A look every two seconds for so long."""
        return list(itertools.chain.from_iterable(self.see(*findings) for _ in range(int(seconds / 2))))


def test_it_fires_after_its_time_and_is_told_once_and_when_it_is_over() -> None:
    bench = Bench()
    assert bench.hold(finding(), seconds=120) == []
    assert bench.see(finding()) == [Kind.FIRED]
    assert bench.hold(finding(), seconds=590) == []
    assert bench.see() == [Kind.RESOLVED]
    assert bench.hold(seconds=4000) == []
    assert bench.ledger.events == {}


def test_what_is_gone_before_its_time_is_told_to_nobody() -> None:
    bench = Bench()
    for _ in range(20):
        assert bench.hold(finding(), seconds=100) == []
        assert bench.hold(seconds=10) == []
    assert bench.ledger.events == {}


def test_it_is_told_again_after_10_and_30_minutes_and_then_every_hour() -> None:
    bench = Bench()
    told_min = [round((second - 120) / 60) for second in range(0, 4 * 3600, 2) if bench.see(finding())]
    assert told_min == [0, 10, 30, 90, 150, 210]


def test_what_happened_once_counts_for_a_quarter_of_an_hour() -> None:
    bench, quarantined = Bench(), finding(Code.TICKS_QUARANTINED, Level.WARN)
    assert bench.see(quarantined) == [Kind.FIRED]
    assert bench.hold(seconds=580) == []
    assert bench.see(quarantined) == []
    assert bench.hold(seconds=890) == [Kind.STILL]
    assert bench.hold(seconds=20) == [Kind.RESOLVED]


def test_one_that_comes_and_goes_is_told_so_once_and_then_when_it_is_calm() -> None:
    bench = Bench()
    quick = finding(Code.RECORDER_RESTARTING, Level.WARN)
    told = [kind for _ in range(20) for kind in (*bench.see(quick), *bench.see())]
    assert told == [Kind.FIRED, Kind.RESOLVED, Kind.FIRED, Kind.FLAPS]
    assert bench.hold(seconds=590) == []
    assert bench.hold(seconds=20) == [Kind.RESOLVED]


def test_one_that_flapped_and_stays_is_told_as_lasting() -> None:
    bench = Bench()
    quick = finding(Code.RECORDER_RESTARTING, Level.WARN)
    for _ in range(2):
        bench.see(quick)
        bench.see()
    bench.see(quick)
    assert bench.hold(quick, seconds=590) == []
    assert bench.hold(quick, seconds=20) == [Kind.STILL]


def test_a_warning_that_becomes_an_alert_is_told_again() -> None:
    bench = Bench()
    assert bench.hold(finding(Code.SOURCE_DISCONNECTED, Level.WARN), seconds=130) == [Kind.FIRED]
    assert bench.see(finding(Code.SOURCE_DISCONNECTED)) == [Kind.FIRED]
    assert bench.see(finding(Code.SOURCE_DISCONNECTED)) == []


def test_a_recorder_that_is_away_ends_nothing_that_only_it_can_tell() -> None:
    bench, down = Bench(), finding(Code.RECORDER_DOWN, sentence="it died")
    disk = finding(Code.DISK_FULL)
    assert bench.hold(finding(Code.SOURCE_DISCONNECTED), disk, seconds=130) == [Kind.FIRED, Kind.FIRED]
    assert bench.hold(down, seconds=130) == [Kind.RESOLVED, Kind.FIRED]  # the disk is seen from outside
    assert [event.code for event in bench.ledger.firing()] == [Code.SOURCE_DISCONNECTED, Code.RECORDER_DOWN]
    assert bench.see() == [Kind.RESOLVED, Kind.RESOLVED]


def test_a_restart_tells_nothing_twice_and_forgets_nothing() -> None:
    bench = Bench()
    bench.hold(finding(), seconds=130)
    again = Ledger()
    again.load(list(bench.ledger.events.values()), bench.now_ms)
    assert again.observe([finding()], bench.now_ms + 5000) == []
    assert [telling.kind for telling in again.observe([], bench.now_ms + 7000)] == [Kind.RESOLVED]


def test_a_clock_that_was_set_back_while_we_were_away_holds_nothing_up() -> None:
    bench = Bench()
    bench.hold(finding(), seconds=60)
    again, earlier_ms = Ledger(), START_MS - 7_200_000
    again.load(list(bench.ledger.events.values()), earlier_ms)
    assert again.observe([finding()], earlier_ms + 119_000) == []
    assert [telling.kind for telling in again.observe([finding()], earlier_ms + 121_000)] == [Kind.FIRED]


def test_who_was_told_of_an_alert_is_told_its_end_though_it_is_a_warning_by_then() -> None:
    bench = Bench()
    bench.hold(finding(Code.SOURCE_DISCONNECTED), seconds=130)
    bench.hold(finding(Code.SOURCE_DISCONNECTED, Level.WARN), seconds=10)
    (over,) = bench.ledger.observe([], bench.now_ms + 2000)
    assert (over.kind, over.event.level) == (Kind.RESOLVED, Level.ALERT)


@given(st.lists(st.tuples(st.sampled_from(sorted(RULES)), st.integers(1, 90), st.integers(1, 90)), max_size=12))
def test_nobody_is_told_that_it_is_over_before_it_was_told(steps: list[tuple[str, int, int]]) -> None:
    ledger, now_ms, firing = Ledger(), START_MS, set[str]()
    tellings: list[Telling] = []
    for code, on_looks, off_looks in steps:
        for is_there in (*[True] * on_looks, *[False] * off_looks):
            now_ms += 2000
            findings = [finding(code, RULES[code].level)] if is_there else []
            tellings += ledger.observe(findings, now_ms)
    for telling in tellings:
        if telling.kind in (Kind.FIRED, Kind.FLAPS):
            firing.add(telling.event.key)
        elif telling.kind is Kind.RESOLVED:
            assert telling.event.key in firing
            firing.discard(telling.event.key)

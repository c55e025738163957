"""OpenD's sums against stored ticks: what is a difference, what only moved, and which guess would explain it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.days.schema import ticks_schema
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.quality import against_source as against
from hk_tick_collector.quality.against_source import LEFT_OUT, MINUTE_MS, Amount, Minutes, TypedMinutes
from hk_tick_collector.sources.futu.answers import MinuteBar, MinuteBars, SymbolInfo
from hk_tick_collector.sources.futu.reference import (
    HISTORY_CALLS,
    MAX_PAGES,
    MAX_UNANSWERED,
    MAX_UNANSWERED_IN_A_ROW,
    WINDOW_SEC,
    Pace,
    Reference,
)
from hk_tick_collector.store.reader import CoverageRow
from hk_tick_collector.store.verdict import MISSING, PROVEN, UNPROVEN
from hk_tick_collector.watch.repair import NO_TICKS, Repair, State, reason_to_ask, shown_day

DAY = "20261120"
START_MS = day_start_ms(DAY)
END_MS = START_MS + 86_400_000
COLUMNS = ("symbol", "ts_ms", "tick_type", "volume", "turnover")


def at(hour: int, minute: int, second: float = 0) -> int:
    return START_MS + (hour * 60 + minute) * MINUTE_MS + round(second * 1000)


EDGES = against.edge_spans(HK, DAY, DayKind.WHOLE)


def compare(opend: Minutes, stored: Minutes, until_ms: int = END_MS) -> against.Comparison:
    return against.compare_minutes(opend, stored, EDGES, until_ms)


def amount(volume: int, price: float = 10.0) -> Amount:
    return Amount(volume, volume * price)


# Sums


def test_ticks_are_summed_by_symbol_minute_and_type_over_batches() -> None:
    def batch(rows: Sequence[tuple[str, int, str | None, int | None, float | None]]) -> pa.RecordBatch:
        names = [list(column) for column in zip(*rows, strict=True)]
        schema = ticks_schema(COLUMNS)
        arrays = [pa.array(values, type=field.type) for values, field in zip(names, schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    by_minute = against.stored_by_minute(
        [
            batch([("HK.00700", at(9, 30), "AUTO_MATCH", 100, 1000.0), ("HK.00005", at(9, 30), "ODD_LOT", 3, 30.0)]),
            batch([("HK.00700", at(9, 30, 59.999), "AUTO_MATCH", 200, 2000.0), ("HK.00700", at(9, 31), None, 7, 70.0)]),
            batch([("HK.00700", at(9, 31), None, None, None)]),
        ]
    )
    assert by_minute == {
        "HK.00700": {at(9, 30): {"AUTO_MATCH": Amount(300, 3000.0)}, at(9, 31): {"UNKNOWN": Amount(7, 70.0)}},
        "HK.00005": {at(9, 30): {"ODD_LOT": Amount(3, 30.0)}},
    }
    assert against.stored_by_minute([]) == {}


def test_types_that_opend_does_not_count_are_left_out() -> None:
    typed: TypedMinutes = {
        at(9, 30): {"AUTO_MATCH": amount(100), "LATE": amount(5000), "ODD_LOT": amount(7)},
        at(9, 31): {"OVERSEAS": amount(9)},
    }
    assert against.counted(typed) == {at(9, 30): Amount(107, 1070.0)}
    assert against.counted(typed, ()) == {at(9, 30): Amount(5107, 51070.0), at(9, 31): Amount(9, 90.0)}


def test_a_bar_is_labelled_with_the_end_of_its_minute() -> None:
    assert against.minutes_of_bars([(at(9, 31), amount(5)), (at(9, 32), Amount())]) == {at(9, 30): amount(5)}
    assert against.minutes_of_bars([(at(9, 31), amount(5))], label_is_end=False) == {at(9, 31): amount(5)}


# Comparing


def test_equal_minutes_have_no_difference() -> None:
    minutes = {at(10, minute): amount(100 + minute) for minute in range(30)}
    comparison = compare(minutes, dict(minutes))
    assert (comparison.equal, comparison.minutes, comparison.theirs) == (True, 30, comparison.stored)
    assert comparison.theirs.volume == sum(range(100, 130))


@pytest.mark.parametrize("lost", [1, 100, 12_345])
def test_a_lost_tick_is_found_in_its_minute(lost: int) -> None:
    opend = {at(10, minute): amount(20_000) for minute in range(5)}
    stored = {**opend, at(10, 3): amount(20_000 - lost)}
    (difference,) = compare(opend, stored).differences
    assert (difference.minute_ms, difference.missing_volume) == (at(10, 3), lost)


def test_a_minute_that_is_stored_and_not_with_opend_is_a_difference_too() -> None:
    (difference,) = compare({}, {at(10, 0): amount(300)}).differences
    assert difference.missing_volume == -300


def test_the_same_volume_at_another_price_is_a_difference() -> None:
    (difference,) = compare({at(10, 0): amount(300, 10.0)}, {at(10, 0): amount(300, 11.0)}).differences
    assert difference.missing_volume == 0


def test_turnover_may_differ_by_what_adding_floats_costs() -> None:
    assert compare({at(10, 0): Amount(300, 1e9)}, {at(10, 0): Amount(300, 1e9 + 500)}).equal
    assert not compare({at(10, 0): Amount(300, 1e9)}, {at(10, 0): Amount(300, 1e9 + 5000)}).equal


def test_minutes_that_are_not_over_are_not_compared() -> None:
    comparison = compare({at(10, 0): amount(1), at(10, 1): amount(2)}, {at(10, 0): amount(1)}, until_ms=at(10, 1, 30))
    assert (comparison.equal, comparison.minutes) == (True, 1)


def test_volume_counted_in_the_next_minute_is_moved_and_not_lost() -> None:
    opend = {at(10, 0): amount(100), at(10, 1): amount(900)}
    stored = {at(10, 0): amount(400), at(10, 1): amount(600)}
    comparison = compare(opend, stored)
    assert (comparison.equal, len(comparison.moved)) == (True, 2)
    lost_as_well = compare(opend, {**stored, at(10, 1): amount(599)})
    assert (len(lost_as_well.differences), lost_as_well.moved) == (2, ())


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [((9, 29), (9, 20)), ((9, 30), (9, 21)), ((15, 59), (16, 8)), ((16, 7), (16, 9)), ((11, 59), (12, 0))],
)
def test_auction_volume_may_be_in_any_bar_at_that_edge(theirs: tuple[int, int], ours: tuple[int, int]) -> None:
    base = {at(10, minute): amount(10) for minute in range(3)}
    comparison = compare({**base, at(*theirs): amount(5000)}, {**base, at(*ours): amount(5000)})
    assert (comparison.equal, len(comparison.moved)) == (True, 2)
    assert not compare({**base, at(*theirs): amount(5000)}, {**base, at(*ours): amount(4999)}).equal


def test_volume_moved_elsewhere_is_a_difference() -> None:
    assert len(compare({at(10, 0): amount(500)}, {at(10, 5): amount(500)}).differences) == 2


def test_edges_of_the_days_kinds() -> None:
    whole = [(at(0, 0), at(9, 31)), (at(11, 59), at(13, 1)), (at(15, 59), at(24, 0))]
    assert against.edge_spans(HK, DAY, DayKind.WHOLE) == whole
    assert against.edge_spans(HK, DAY, DayKind.HALF) == [(at(0, 0), at(9, 31)), (at(11, 59), at(24, 0))]
    assert against.edge_spans(HK, DAY, DayKind.CLOSED) == [(at(0, 0), at(24, 0))]


@given(
    st.dictionaries(st.integers(570, 990), st.integers(1, 10**6), min_size=1, max_size=40),
    st.data(),
)
def test_removing_ticks_anywhere_is_never_called_equal(volumes: dict[int, int], data: st.DataObject) -> None:
    """Whatever moved, the sum of what is missing is positive, so something is listed."""
    opend = {START_MS + minute * MINUTE_MS: amount(volume) for minute, volume in volumes.items()}
    victim = data.draw(st.sampled_from(sorted(opend)))
    gone = data.draw(st.integers(1, opend[victim].volume))
    stored = {**opend, victim: amount(opend[victim].volume - gone)}
    comparison = compare(opend, stored)
    assert sum(difference.missing_volume for difference in comparison.differences) == gone


# Day totals


def test_a_closed_days_total_must_be_equal() -> None:
    ours = amount(1000)
    assert against.compare_totals(amount(1000), ours, ours).equal
    (difference,) = against.compare_totals(amount(1001), ours, ours).differences
    assert difference.missing_volume == 1


@pytest.mark.parametrize(("shown", "missing"), [(1000, 0), (1100, 0), (1200, 0), (1300, 100), (900, -100)])
def test_while_the_market_trades_the_total_lies_between_two_readings(shown: int, missing: int) -> None:
    comparison = against.compare_totals(amount(shown), amount(1000), amount(1200))
    assert comparison.equal == (missing == 0)
    assert sum(difference.missing_volume for difference in comparison.differences) == missing


# Which other guess explains it


def typed(minutes: Minutes, tick_type: str = "AUTO_MATCH") -> TypedMinutes:
    return {minute: {tick_type: amount_of} for minute, amount_of in minutes.items()}


def suspicion(bars: dict[str, list[tuple[int, Amount]]], stored: dict[str, TypedMinutes]) -> str | None:
    return against.suspicion(bars, stored, LEFT_OUT, EDGES, at(15, 0))


def test_other_labels_are_suspected_only_when_they_explain_everything() -> None:
    minutes = {at(10, minute): amount(100 * minute + 7) for minute in range(20)}
    label_is_start = {"HK.00700": list(minutes.items())}
    assert "labelled" in str(suspicion(label_is_start, {"HK.00700": typed(minutes)}))
    lost = {**minutes, at(10, 19): amount(5)}
    assert suspicion(label_is_start, {"HK.00700": typed(lost)}) is None


def test_a_loss_in_the_last_minute_is_not_explained_away() -> None:
    bars = {"HK.00700": [(at(14, minute + 1), amount(100 + minute)) for minute in range(60)]}
    minutes = against.minutes_of_bars(bars["HK.00700"])
    assert suspicion(bars, {"HK.00700": typed({**minutes, at(14, 59): amount(9)})}) is None


@pytest.mark.parametrize(("tick_type", "word"), [("ODD_LOT", "left out of"), ("LATE", "counted in")])
def test_a_type_is_suspected_that_explains_everything(tick_type: str, word: str) -> None:
    minutes = {at(10, minute): amount(100 + minute) for minute in range(20)}
    stored = typed(minutes)
    for minute in (at(10, 3), at(10, 9)):
        stored[minute][tick_type] = amount(40)
    counts_it = tick_type in LEFT_OUT
    bars = [
        (minute + MINUTE_MS, amount_of.plus(amount(40)) if counts_it and tick_type in stored[minute] else amount_of)
        for minute, amount_of in minutes.items()
    ]
    assert f"{tick_type} are {word}" in str(suspicion({"HK.00700": bars}, {"HK.00700": stored}))
    totals = {"HK.00700": against.total(amount_of for _, amount_of in bars)}
    assert f"{tick_type} are {word}" in str(against.suspicion_of_totals(totals, {"HK.00700": stored}, LEFT_OUT))


# Asking OpenD within its limits


class FakeClock:
    """Time that only ``sleep`` moves."""

    def __init__(self) -> None:
        self.sec = 0.0

    def now_ms(self) -> int:
        return round(self.sec * 1000)

    def monotonic(self) -> float:
        return self.sec

    async def sleep(self, seconds: float) -> None:
        self.sec += seconds


class FakeOpenD:
    """Refuses a whole request for one bad code, as OpenD does; limits calls as OpenD does."""

    def __init__(self, clock: FakeClock, bad: Sequence[str] = (), *, names_the_bad: bool = True) -> None:
        self.clock = clock
        self.bad = bad
        self.names_the_bad = names_the_bad
        self.calls: list[float] = []
        self.used_by_others = 0
        self.endless = False
        self.error: FeedError | None = None
        self.silent: Collection[str] = ()
        self.state: FeedError | None = None
        self.unanswered = 0

    async def global_state(self, _timeout_sec: float) -> None:
        if self.state is not None:
            raise self.state

    def _admit(self, limit: int) -> None:
        if self.error is not None:
            raise self.error
        recent = [call for call in self.calls if self.clock.sec - call < WINDOW_SEC]
        if self.used_by_others > 0:
            self.used_by_others -= 1
            raise FeedError("接口请求频率太高")
        assert len(recent) < limit, f"call {len(self.calls)} at {self.clock.sec} s is one too many"
        self.calls.append(self.clock.sec)

    async def static_info(self, codes: Sequence[str], _timeout_sec: float) -> dict[str, SymbolInfo]:
        self._admit(10)
        if not set(self.silent).isdisjoint(codes):
            self.unanswered += 1
            await self.clock.sleep(_timeout_sec)
            raise FeedTimeout("no answer")
        bad = [code for code in codes if code in self.bad]
        if bad:
            raise FeedError(f"unknown stock {bad[0][3:]}" if self.names_the_bad else "wrong parameter")
        return {code: SymbolInfo(code, "x", 100, "Eqty", False) for code in codes}

    async def minute_bars(self, code: str, day: str, _timeout_sec: float, page_key: bytes | None) -> MinuteBars:
        assert day == "2026-11-20"
        self._admit(HISTORY_CALLS)
        if code in self.bad:
            raise FeedError("unknown stock")
        page = int(page_key or b"0")
        return MinuteBars((MinuteBar(page, 1, 1.0),), str(page + 1).encode() if page < 2 or self.endless else None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr("hk_tick_collector.sources.futu.reference.asyncio.sleep", clock.sleep)
    return clock


def reference(opend: FakeOpenD) -> Reference:
    return Reference(opend, opend.clock)  # type: ignore[arg-type]


def test_calls_are_paced_to_the_limit_of_any_thirty_seconds(clock: FakeClock) -> None:
    async def take(count: int) -> None:
        pace = Pace(60, clock)
        for _ in range(count):
            await pace.take()

    asyncio.run(take(60))
    assert clock.sec == 0
    asyncio.run(take(61))
    assert clock.sec == WINDOW_SEC


@pytest.mark.parametrize("names_the_bad", [True, False])
def test_bad_codes_cost_only_themselves(clock: FakeClock, names_the_bad: bool) -> None:
    codes = [f"HK.{n:05d}" for n in range(1, 901)]
    bad = ["HK.00003", "HK.00450", "HK.00900"]
    opend = FakeOpenD(clock, bad, names_the_bad=names_the_bad)
    answers = asyncio.run(reference(opend).static_info(codes))
    assert sorted(answers.refused) == bad
    assert sorted(answers.given) == sorted(set(codes).difference(bad))


def test_a_limit_used_up_by_others_is_waited_out(clock: FakeClock) -> None:
    opend = FakeOpenD(clock)
    opend.used_by_others = 2
    assert len(asyncio.run(reference(opend).minute_bars("HK.00700", "20261120"))) == 3
    assert clock.sec == 2 * WINDOW_SEC
    opend.used_by_others = 99
    with pytest.raises(FeedError, match="频率"):
        asyncio.run(reference(opend).minute_bars("HK.00700", "20261120"))


def test_pages_that_never_end_are_an_error(clock: FakeClock) -> None:
    opend = FakeOpenD(clock)
    opend.endless = True
    with pytest.raises(FeedError, match=f"more than {MAX_PAGES} pages"):
        asyncio.run(reference(opend).minute_bars("HK.00700", "20261120"))


ALL = [f"HK.{n:05d}" for n in range(1, 1001)]


@pytest.mark.parametrize("state", [None, FeedError("not now")])
@pytest.mark.parametrize(
    "silent", [["HK.00003"], ["HK.01000"], ["HK.00001", "HK.00400", "HK.00401"], ALL[440:448]], ids=len
)
def test_codes_that_are_never_answered_cost_only_themselves(
    clock: FakeClock, silent: list[str], state: FeedError | None
) -> None:
    opend = FakeOpenD(clock, ["HK.00007"])
    opend.silent, opend.state = silent, state
    answers = asyncio.run(reference(opend).static_info(ALL))
    assert set(silent) <= answers.unanswered.keys()
    assert len(answers.unanswered) <= len(silent) + (MAX_UNANSWERED_IN_A_ROW if len(silent) > 3 else 0)
    assert answers.refused.keys() == {"HK.00007", *answers.unanswered}
    assert answers.given.keys() | answers.refused.keys() == set(ALL)
    assert opend.unanswered <= MAX_UNANSWERED + 3


def test_silence_over_many_codes_is_not_searched_for_ever(clock: FakeClock) -> None:
    """Each that is not answered takes its whole time; what was answered is given."""
    opend = FakeOpenD(clock)
    opend.silent = ALL[:400:10]
    answers = asyncio.run(reference(opend).static_info(ALL))
    assert set(opend.silent) <= answers.unanswered.keys()
    assert set(ALL[400:]) == answers.given.keys() - set(ALL[:400])
    assert opend.unanswered <= MAX_UNANSWERED


@pytest.mark.parametrize("state", [None, FeedTimeout(), FeedLost()], ids=["says how it is", "silent", "gone"])
def test_an_opend_that_answers_nothing_is_asked_no_more(clock: FakeClock, state: FeedError | None) -> None:
    opend = FakeOpenD(clock)
    opend.silent, opend.state = ALL, state
    with pytest.raises(type(state) if state is not None else FeedTimeout):
        asyncio.run(reference(opend).static_info(ALL))
    assert opend.unanswered == (1 if state is not None else MAX_UNANSWERED_IN_A_ROW)


@pytest.mark.parametrize("error", [FeedLost, FeedTimeout])
def test_a_lost_connection_ends_it_at_once(clock: FakeClock, error: Callable[[], FeedError]) -> None:
    opend = FakeOpenD(clock)
    opend.error = error()
    with pytest.raises(type(opend.error)):
        asyncio.run(reference(opend).static_info(["HK.00700", "HK.00005"]))


# What repair asks for


def coverage_row(state: str, reason: str | None = None, verified_until_ms: int | None = at(15, 58)) -> CoverageRow:
    return CoverageRow(
        "HK.00700", 1, 100, 100, 0, None, 1, 100, verified_until_ms, at(9, 30), at(15, 58), state, reason, 0, 0, 1, None
    )


@pytest.mark.parametrize(
    ("row", "state", "why"),
    [
        (None, State(), "no tick is stored"),
        (None, State(UNPROVEN, "kept no coverage", 5), "kept no coverage"),
        (coverage_row(PROVEN), State(PROVEN), None),
        (coverage_row(PROVEN), State(PROVEN, open_gaps=1), PROVEN),
        (coverage_row(MISSING, "3 ticks between"), State(MISSING), "3 ticks between"),
        (coverage_row(UNPROVEN, "not yet confirmed"), State(UNPROVEN), "not yet confirmed"),
        (coverage_row(PROVEN, verified_until_ms=at(14, 0)), State(PROVEN), "confirmed only until 14:00:00"),
    ],
)
def test_what_may_lack_something_is_asked_for(row: CoverageRow | None, state: State, why: str | None) -> None:
    assert reason_to_ask(row, state, at(15, 50), HK.zone) == why


@pytest.mark.parametrize(
    ("now_ms", "day"),
    [
        (at(8, 59), "20261119"),
        (at(9, 0), DAY),
        (at(23, 59), DAY),
        (at(24, 5), DAY),  # Saturday
        (at(72 + 8, 59), DAY),  # Monday before the auction
        (at(72 + 9, 0), "20261123"),
    ],
)
def test_the_day_that_opend_shows(now_ms: int, day: str) -> None:
    assert shown_day(TradingCalendar(HK), now_ms) == day


@pytest.mark.parametrize(
    ("after", "error", "complete"),
    [
        (State(PROVEN), None, True),
        (State(NO_TICKS), None, True),
        (State(MISSING), None, False),
        (State(UNPROVEN), None, False),
        (State(PROVEN), "OpenD refuses", False),
        (State(NO_TICKS), "timeout", False),
    ],
)
def test_only_what_is_proven_or_was_never_there_is_complete(after: State, error: str | None, complete: bool) -> None:
    assert Repair("HK.00700", "", State(), after, 0, error).complete is complete

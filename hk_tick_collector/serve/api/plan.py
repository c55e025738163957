"""What a question reads, and of which state of the files.

Which days and symbols, and how complete they are, is worked out by the Python API (``client.plan``), so that an answer
over HTTP is the answer from files. Here come the key's rights, what pages need (a state that does not move, and the
cursor), and what every answer says of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from hk_tick_collector.client import question as asked_for
from hk_tick_collector.client.coverage import PROVEN, Coverage
from hk_tick_collector.client.errors import BadQuestion
from hk_tick_collector.client.local import LocalFiles, coverage_of
from hk_tick_collector.client.plan import DayRead, Plan
from hk_tick_collector.client.question import Bound, Stretch
from hk_tick_collector.core.errors import InputError
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.query.fetch import explain_nothing
from hk_tick_collector.serve.api.answer import Facts
from hk_tick_collector.serve.api.completeness import summary_of
from hk_tick_collector.serve.api.cursor import Cursor, Spot, question_of
from hk_tick_collector.serve.api.roots import MAX_SYMBOLS, bad, instant
from hk_tick_collector.serve.api.states import name_of, pinned, state_at, state_of
from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.problems import Problem
from hk_tick_collector.serve.rights import refuse_hidden
from hk_tick_collector.store.follow import place_at
from hk_tick_collector.store.position import Place, Position

MAX_DAYS = 3660
WARNED = 20  # symbols without a tick that are named
Asked = Mapping[str, Any]
Page = tuple[str, tuple[tuple[str, str], ...]]


@dataclass
class Reading:
    """One question's."""

    files: LocalFiles
    stretch: Stretch
    plan: Plan
    coverage: Coverage
    facts: Facts
    question: str
    states: dict[str, str] = field(default_factory=dict)
    start: Spot | None = None

    @property
    def page(self) -> Page:
        """What all pages of an answer have in common."""
        return self.question, tuple(sorted(self.states.items()))


class _OfDays(Protocol):
    @property
    def reads(self) -> Sized: ...


_PlanT = TypeVar("_PlanT", bound=_OfDays)


def planned(stretch: Stretch, plan: Callable[[], _PlanT]) -> _PlanT:
    """What ``plan`` makes of a stretch. A Problem when that means nothing, or too many days."""
    try:
        made = plan()
    except (BadQuestion, InputError) as exc:
        text = str(exc.args[0])
        raise bad("symbols" if any(repr(symbol) in text for symbol in stretch.symbols) else "day", text) from exc
    if len(made.reads) > MAX_DAYS:
        raise Problem("too-large", f"{len(made.reads)} days are meant; {MAX_DAYS} at most")
    return made


def reading_of(files: LocalFiles, asked: Asked, key: Key, newest: DayRead | None = None) -> Reading:
    """What is read; a Problem or an error of the Python API when there is nothing, or it may not be read. ``newest``:
    the newest day, when it was read already."""
    question = question_of(asked)
    cursor = Cursor.parse(asked["cursor"], question) if asked.get("cursor") else None
    stretch = stretch_of(asked)
    plan = planned(stretch, lambda: files.plan(stretch))
    if newest is not None:
        plan.reads = [newest if name_of(read) == name_of(newest) else read for read in plan.reads]
    plan.reads = [allowed(read, key) for read in plan.reads]
    coverage = _judged(plan, stretch, asked)
    states = dict(cursor.states) if cursor is not None else {name_of(read): state_of(read) for read in plan.reads}
    if cursor is not None:
        plan.reads = _of_cursor(plan.reads, states)
    as_of = {
        "at_ms": cursor.as_of_ms if cursor is not None else files.clock.now_ms(),
        "position": _position(plan.reads),
    }
    facts = Facts(as_of, summary_of(coverage), _warnings(files, plan, stretch))
    return Reading(files, stretch, plan, coverage, facts, question, states, cursor.spot if cursor else None)


def reading_of_today(files: LocalFiles, asked: Asked, key: Key, read: DayRead, place: Place) -> Reading:
    """As ``reading_of``, of symbols that were read already, up to a place in the newest day file."""
    stretch = stretch_of(asked)
    plan = Plan([allowed(read, key)])
    coverage = _judged(plan, replace(stretch, as_of_ms=None), asked)  # the read's own is of that moment
    position = str(Position.at_start_of(place.day).moved(place))
    facts = Facts({"at_ms": files.clock.now_ms(), "position": position}, summary_of(coverage))
    states = {name_of(read): state_at(place)}
    return Reading(files, stretch, plan, coverage, facts, question_of(asked), states)


def _judged(plan: Plan, stretch: Stretch, asked: Asked) -> Coverage:
    """How complete it is. A Problem when it has to be proven, and is not."""
    coverage = coverage_of(plan, stretch)
    if asked.get("require") == PROVEN and not coverage.is_proven:
        raise Problem("not-proven", coverage.sentence(), more={"coverage": summary_of(coverage)})
    return coverage


def _of_cursor(reads: Sequence[DayRead], states: Mapping[str, str]) -> list[DayRead]:
    """The days of the first page, as they were then. A Problem when one is not there any more."""
    absent = sorted(states.keys() - {name_of(read) for read in reads})
    if absent:  # the pages behind would begin in another day
        raise Problem("cursor-gone", "a day of the first page cannot be read any more", hint="ask again without cursor")
    newest = max(states, default="")
    known = [read for read in reads if name_of(read) in states or name_of(read) < newest]  # not what began since
    return [_pinned(read, states.get(name_of(read))) for read in known]


def stretch_of(asked: Asked) -> Stretch:
    """The question as the Python API asks it."""
    symbols = asked_for.symbol_words(asked["symbols"])
    if len(symbols) > MAX_SYMBOLS:
        raise bad("symbols", f"{len(symbols)} are given; {MAX_SYMBOLS} at most, or {asked_for.ALL}")
    start, end = (_bound(name, asked) for name in ("start", "end"))
    if asked.get("day") is not None and (start is not None or end is not None):
        raise bad("day", "give a day, or start and end, and not both")
    if start is not None and type(start) is type(end) and start >= end:  # type: ignore[operator]
        raise bad("end", "end must be after start")
    return Stretch(symbols, asked.get("day"), start, end, asked.get("as_of_ms"))


def _bound(name: str, asked: Asked) -> Bound | None:
    text = asked.get(name)
    return None if text is None else instant(name, text, asked.get("tz"))


def allowed(read: DayRead, key: Key) -> DayRead:
    """What a key may see of a day. A Problem when a symbol was named that it may not."""
    if key.reads_all:
        return read
    if read.symbols is None:
        names = {*read.ticks_by_symbol, *(row.symbol for row in read.coverage)}
        return read.only(tuple(sorted(filter(key.may_read, names))))
    refuse_hidden(key, read.symbols)
    return read


def _pinned(read: DayRead, kept: str | None) -> DayRead:
    """The day up to where a cursor keeps it. Problem when it is another file now."""
    pinned_read = pinned(read, kept)
    if pinned_read is None:
        raise Problem(
            "cursor-gone",
            f"{read.day.trading_day} is another file than on the first page",
            hint="ask again without cursor",
        )
    return pinned_read


def _position(reads: Sequence[DayRead]) -> str | None:
    """Where the live channel goes on behind the newest day file."""
    live = [read for read in reads if read.day.db is not None and read.last_rowid is not None]
    if not live:
        return None
    day: Day = live[-1].day
    assert day.db is not None
    place = place_at(day.db, day.trading_day, live[-1].last_rowid)
    return str(Position.at_start_of(place.day).moved(place))


def _warnings(files: LocalFiles, plan: Plan, stretch: Stretch) -> list[str]:
    """A sentence for each symbol that is not recorded on these days, and for days that are not recorded."""
    warnings = []
    if stretch.symbols:
        there = {symbol for read in plan.reads for symbol, ticks in read.ticks_by_symbol.items() if ticks}
        lacking = sorted({symbol for read in plan.reads for symbol in read.symbols or ()} - there)
        markets = {recorded.market.code: recorded for recorded in files.markets()} if lacking else {}
        for symbol in lacking[:WARNED]:
            days = [read.day for read in plan.reads if symbol in (read.symbols or ())]
            warnings.append(explain_nothing(markets[days[0].market.code].catalog, days, [symbol], ""))
    absent = sorted({row.trading_day for row in plan.not_there})
    if absent:
        warnings.append(f"{len(absent)} trading days are not recorded or cannot be read: {', '.join(absent[:WARNED])}")
    return warnings

"""What people read: one line for each thing, the title of a letter, and the digest of a day."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from hk_tick_collector.alert.events import Event, Kind, Telling
from hk_tick_collector.alert.rules import advice
from hk_tick_collector.core.complaint import Level
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.market.market import Market
from hk_tick_collector.quality.model import Certificate
from hk_tick_collector.store.signals import Signal
from hk_tick_collector.watch.recorder import Disk

LINE_CHARS = 500
_SIGNS = ("ALERT", "WARN", "NOTE", "OK")
_CODE = re.compile(r"\[([a-z][a-z_]{0,39});")
_WORDS = {Kind.FIRED: "", Kind.STILL: "STILL ", Kind.RESOLVED: "OVER ", Kind.FLAPS: "COMES AND GOES "}


def clock(ms: int, market: Market) -> str:
    """The time of day by the market's clock: ``09:30:00 HKT``."""
    return f"{datetime.fromtimestamp(ms / 1000, market.zone.tzinfo):%H:%M:%S} {market.time_word}"


def line_of(telling: Telling, market: Market, now_ms: int) -> str:
    """One thing that is told."""
    event = telling.event
    sign = "OK" if telling.kind is Kind.RESOLVED else event.level.value.upper()
    lasted = _span((event.seen_ms if telling.kind is Kind.RESOLVED else now_ms) - event.began_ms)
    since = f"since {clock(event.began_ms, market)}"
    if telling.kind is not Kind.FIRED:
        since += f", {'lasted' if telling.kind is Kind.RESOLVED else 'for'} {lasted}"
    text = f"{sign} {event.subject}: {_WORDS[telling.kind]}{event.sentence} [{event.code}; {since}]"
    todo = advice(event.code)
    if todo is not None and telling.kind is Kind.FIRED:
        text += f" -> {todo}"
    return cut(printable(text), LINE_CHARS)


def _span(ms: int) -> str:
    minutes = max(0, ms) // 60_000
    if minutes < 1:
        return f"{max(0, ms) // 1000} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def title_of(kind: str, level: Level, lines: Sequence[str], market: str) -> str:
    """The title of a letter: what a locked phone shows, so it says what is wrong, and of which market, first."""
    if kind == "test":
        return f"hk-tick-collector {market}: a test"
    if kind == "signal":
        return f"hk-tick-collector {market}: signal"
    if kind == "digest":
        return f"{lines[0].partition('. ')[0] if lines else market} (hk-tick-collector)"
    is_over = all(line.startswith("OK ") for line in lines)
    sign = "over" if is_over else "ALERT" if level is Level.ALERT else "warning"
    # The gravest first: a warning that ended is not what somebody is called for.
    told = sorted(lines, key=lambda line: _SIGNS.index(line.split(" ", 1)[0]) if line.split(" ", 1)[0] in _SIGNS else 0)
    codes = list(dict.fromkeys(match[1].replace("_", " ") for line in told if (match := _CODE.search(line))))
    more = f" and {len(codes) - 1} more" if len(codes) > 1 else ""
    return f"{market} {sign}: {codes[0]}{more} (hk-tick-collector)" if codes else f"{market} {sign} (hk-tick-collector)"


def digest_lines(
    day: Certificate,
    disk: Disk | None,
    firing: Sequence[Event],
    mutes: Mapping[str, int],
    market: Market,
    archived: bool,
) -> list[str]:
    """The day in a few lines."""
    lines = [f"{market.code} {day.trading_day}: grade {day.grade}. {printable(day.sentence)}"]
    lines.append(
        f"{day.stored_ticks:,} ticks; symbols: {day.proven_symbols} proven, {day.missing_symbols} missing, "
        f"{day.unproven_symbols} unproven; {'archived' if archived else 'not archived'}"
    )
    if disk is not None:
        left = "" if disk.days_left is None else f", enough for {disk.days_left:,.0f} recorded days"
        lines.append(f"disk: {disk.free_bytes / 1e9:,.1f} GB free{left}")
    lines += [f"still wrong: {printable(event.sentence)} [{event.code}]" for event in firing]
    lines += [f"muted until {clock(until_ms, market)}: {code}" for code, until_ms in sorted(mutes.items())]
    return lines


def week_line(grades: Mapping[str, str]) -> str:
    """The grades of a week's days."""
    return "this week: " + ", ".join(f"{day[4:6]}-{day[6:]} {grade}" for day, grade in sorted(grades.items()))


_TRADE = ("action", "direction", "price")  # what the ml-trade hook always has; the rest is said by name
_SAID_APART = frozenset({*_TRADE, "symbol", "timestamp", "simulated"})


def signal_line(signal: Signal, market: Market) -> str:
    """A signal of a hook: what the sender decided first, then all else that it sent."""
    given = signal.payload
    head = f"{given['action']} {given['direction']} at {given['price']}" if set(_TRADE) <= set(given) else ""
    apart = _SAID_APART if head else frozenset({"symbol"})
    rest = [f"{name} {_value(value)}" for name, value in given.items() if name not in apart and value is not None]
    text = "; ".join(part for part in (head, ", ".join(rest)) if part)
    simulated = " SIMULATED" if given.get("simulated") is True else ""
    place = f"[{signal.name} {signal.number}; {clock(signal.recv_ts_ms, market)}]"
    return f"{cut(printable(f'{signal.symbol}{simulated}: {text}'), LINE_CHARS - len(place))} {place}"


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

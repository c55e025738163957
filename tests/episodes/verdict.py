"""What must hold after an episode, from the ledger and the files alone.

- never falsely proven: a proven symbol has every trade that OpenD had until ``verified_until_ms``, all readable
- never falsely missing: a symbol with missing ticks lacks at least so many
- nothing lost: what a message to a living recorder held is stored, as far as it can be told apart, and so is what
  OpenD still shows at the end
- nothing doubled, nothing invented
- coverage and certificate say the same
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.quality.certificate import make_certificate
from hk_tick_collector.quality.model import SymbolCertificate
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store import reader
from hk_tick_collector.store.reader import CoverageRow
from tests.episodes.episode import DAY, SYMBOLS, Outcome, hk_ms
from tests.episodes.world import Content, Told, Trade


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that did not hold."""

    promise: str
    symbol: str
    text: str

    def __str__(self) -> str:
        return f"{self.promise} {self.symbol}: {self.text}"


@dataclass(slots=True)
class Verdict:
    """Everything wrong with an outcome, and the states for statistics."""

    broken: list[Broken]
    states: Counter[str]


def content_of_row(tick: Tick) -> Content:
    """A tick or a stored row, as the ledger names it."""
    return Content(
        tick.symbol, tick.ts_ms // 1000, tick.price or 0.0, tick.volume or 0, tick.turnover or 0.0,
        tick.direction or "", tick.tick_type or "",
    )  # fmt: skip


def judge_outcome(outcome: Outcome, calendar: TradingCalendar) -> Verdict:
    """Hold the files against the ledger."""
    stored = stored_contents(outcome.data_root)
    broken = _too_many(stored, Counter(trade.content for trade in outcome.trades))
    states: Counter[str] = Counter()
    for symbol in SYMBOLS:
        broken += _lost(outcome, symbol, [trade for trade in outcome.trades if trade.symbol == symbol], stored)
    for day in outcome.plan.days:
        coverage, certificates = _words(outcome, day, calendar)
        for symbol in SYMBOLS:
            trades = [t for t in outcome.trades if t.symbol == symbol and hk_date(t.ts_ms) == day]
            row, certificate = coverage.get(symbol), certificates.get(symbol)
            if row is None or certificate is None:
                if any(trade.known_ms is not None and trade.day_shift == 0 and trade.readable for trade in trades):
                    broken.append(Broken("silent", symbol, f"traded on {day}, and the certificate does not know it"))
                continue
            states[certificate.state] += 1
            broken += _false_words(symbol, trades, stored, row, certificate, _skipped_at_breaks(outcome))
            if day == DAY:
                broken += _wanted_proof(outcome, symbol, trades, stored, certificate)
    return Verdict(broken, states)


def _too_many(stored: Counter[Content], made: Counter[Content]) -> list[Broken]:
    """Rows that are stored more often than they were made, a sentence for each symbol and kind."""
    examples: dict[tuple[str, str], list[str]] = {}
    for content, rows in stored.items():
        if rows > made[content]:
            kind = "doubled" if made[content] else "invented"
            examples.setdefault((kind, content.symbol), []).append(f"{rows} rows of {made[content]}: {content}")
    return [Broken(kind, symbol, f"{len(texts)}, as {texts[0]}") for (kind, symbol), texts in examples.items()]


def stored_contents(data_root: Path) -> Counter[Content]:
    """All rows of all day files."""
    stored: Counter[Content] = Counter()
    for db in sorted(data_root.glob("????????.db")):
        with closing(sqlite3.connect(db)) as conn:
            for row in conn.execute(
                "SELECT symbol, ts_ms / 1000, price, volume, turnover, direction, tick_type FROM ticks"
            ):
                stored[Content(*row)] += 1
    return stored


def digest_of(data_root: Path) -> str:
    """Of all that is stored and when: equal for two runs that went the same way."""
    digest = hashlib.sha256()
    for db in sorted(data_root.glob("????????.db")):
        with closing(sqlite3.connect(db)) as conn:
            for row in conn.execute("SELECT * FROM ticks ORDER BY rowid"):
                digest.update(repr(row).encode())
    return digest.hexdigest()


def _words(
    outcome: Outcome, trading_day: str, calendar: TradingCalendar
) -> tuple[dict[str, CoverageRow], dict[str, SymbolCertificate]]:
    db = outcome.data_root / f"{trading_day}.db"
    if not db.exists():
        return {}, {}
    coverage = {row.symbol: row for row in reader.coverage(db)}
    day = Catalog(outcome.data_root, outcome.data_root / "_archive").day(trading_day)
    certificate = make_certificate(day, calendar, outcome.plan.end_ms)
    return coverage, {one.symbol: one for one in certificate.symbols}


def _lost(outcome: Outcome, symbol: str, trades: list[Trade], stored: Counter[Content]) -> list[Broken]:
    shown = _told_apart(outcome, [trade for trade in trades if trade.readable and trade.shown_ms is not None])
    still = _told(trade for trade in _to_be_fetched(outcome, symbol) if trade.readable)
    if outcome.plan.odd.other_day:  # a stray of tomorrow may be doubted: it is in the quarantine then
        for trade in trades:
            if trade.day_shift > 0:
                shown.pop(trade.content, None)
                still.pop(trade.content, None)
    kept = stored + outcome.excused
    lost = [f"{content} shown {n}, stored {stored[content]}" for content, n in shown.items() if n > kept[content]]
    away = [f"{content} has {n}, stored {stored[content]}" for content, n in still.items() if n > stored[content]]
    broken = []
    if lost:
        broken.append(Broken("lost", symbol, f"{len(lost)} of {len(shown)} shown: {lost[0]}"))
    if away and outcome.plan.backfill_rows:
        broken.append(Broken("not fetched", symbol, f"{len(away)} of {len(still)} that OpenD still shows: {away[0]}"))
    return broken


def _to_be_fetched(outcome: Outcome, symbol: str) -> list[Trade]:
    """What OpenD still shows of a symbol, and the recorder was able to ask for.

    All of it, except that in the evening only the newest rows are asked for, as many as the settings say: of a symbol
    which OpenD did not take before, and of all when the recorder was not there before.
    """
    plan, shown = outcome.plan, outcome.memory.get(symbol, [])
    rows, nobody = plan.backfill_rows, plan.start_ms >= hk_ms(16, 20)
    if not rows:
        return shown
    early = [t for t in shown[:-rows] if not (t.refused or (nobody and (t.known_ms or 0) < plan.start_ms))]
    return early + shown[-rows:]


def _told_apart(outcome: Outcome, trades: Sequence[Trade]) -> Counter[Content]:
    """How many trades of each content whoever saw the messages can know of.

    As ``_told``, but one that came without a sequence, or with another one in each way, may be any other that looks
    like it, told again: there are as many as one message showed side by side, or as there are numbers.
    """
    told = _told(trades)
    alike: dict[Told, list[Trade]] = {}
    for trade in trades:
        alike.setdefault(trade.told, []).append(trade)
    for same, those in alike.items():
        numbers = {trade.seq for trade in those if trade.is_numbered}
        if not all(trade.is_numbered for trade in those):
            known = max(outcome.together[same], len(numbers))
            told[same.content] -= max(0, _told(those)[same.content] - known)
    return told


def _told(trades: Iterable[Trade]) -> Counter[Content]:
    """How many trades of each content can be told apart: one number and one content in one millisecond is one tick."""
    seen: set[tuple[int, int, Content]] = set()
    told: Counter[Content] = Counter()
    for trade in trades:
        content = trade.content
        identity = (trade.seq, trade.ts_ms, content)
        if not trade.seq or identity not in seen:
            told[content] += 1
            seen.add(identity)
    return told


def _skipped_at_breaks(outcome: Outcome) -> int:
    """How many numbers that no trade has may be taken for missing ticks: one at each break. OpenD shows its neighbours
    side by side, as it does when it missed the tick itself while it was away."""
    return 1 + len(outcome.log) if outcome.plan.manner == "skip" else 0


def _false_words(
    symbol: str,
    trades: list[Trade],
    stored: Counter[Content],
    row: CoverageRow,
    certificate: SymbolCertificate,
    skipped_at_breaks: int,
) -> list[Broken]:
    broken: list[Broken] = []
    today = [trade for trade in trades if trade.day_shift == 0]
    if certificate.state == "proven":
        until_ms = certificate.verified_until_ms or 0
        had = [trade for trade in today if trade.known_ms is not None and trade.known_ms <= until_ms]
        wanted = _told(had)
        absent = [content for content, n in wanted.items() if n > stored[content]]
        if absent:
            broken.append(Broken("false proven", symbol, f"{len(absent)} of {len(wanted)} absent, as {absent[0]}"))
    # A trade that is told under another date has a number of this day and no row in its file.
    strays = len(trades) - len(today)
    absent_rows = strays + sum((Counter(trade.content for trade in today) - stored).values()) + skipped_at_breaks
    if certificate.state == "missing" and not absent_rows:
        text = f"{certificate.missing_ticks} ticks ({certificate.reason}), and nothing is"
        broken.append(Broken("false missing", symbol, text))
    elif certificate.missing_ticks > absent_rows:
        broken.append(Broken("false missing", symbol, f"{certificate.missing_ticks} said, {absent_rows} are"))
    if certificate.state != row.state:
        broken.append(Broken("two words", symbol, f"coverage says {row.state}, certificate {certificate.state}"))
    return broken


def _wanted_proof(
    outcome: Outcome, symbol: str, trades: list[Trade], stored: Counter[Content], certificate: SymbolCertificate
) -> list[Broken]:
    """In an ordinary episode with nothing absent the end is a proof; else a recorder that never proves would pass."""
    plan = outcome.plan
    if not plan.ordinary or certificate.state == "proven" or not trades:
        return []
    absent = Counter(trade.content for trade in trades) - stored
    harmless = not {what.split("_")[0] for _, what in plan.faults} & {"restart", "burst", "refuse"}
    if absent or not harmless or plan.backfill_rows < 1000 or plan.calm_from_ms > hk_ms(16, 5):
        return []
    if plan.start_ms > plan.trading[0][0] or {what for _, what in plan.faults} & {"stale", "fail", "hang"}:
        return []  # it may have begun behind more than OpenD surely shows, or could not ask in time
    if not any(trade.pushed for trade in trades):
        return []  # nothing could be held against an answer
    return [Broken("unproven", symbol, f"all is stored, and it says {certificate.state}: {certificate.reason}")]

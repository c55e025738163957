"""What is known of the completeness of exported days, and saying it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hk_tick_collector.cli.common import say
from hk_tick_collector.core.text import counted
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.store.verdict import MISSING, PROVEN

if TYPE_CHECKING:
    from hk_tick_collector.export.backtest import Proof
    from hk_tick_collector.export.rows import DayPart

DAYS_TOLD = 5


def say_incomplete(parts: Sequence[DayPart]) -> None:
    """Of which days it is not proven that they are whole, as far as that is known by now."""
    told = [text for text in (_incomplete(part, proofs_of(part.day)) for part in parts) if text]
    for text in told[:DAYS_TOLD]:
        say(text)
    if len(told) > DAYS_TOLD:
        say(f"... and {len(told) - DAYS_TOLD:,} more days of which that is so")


def _incomplete(part: DayPart, proofs: Mapping[str, Proof]) -> str:
    wanted = part.symbols()
    rows = [proofs[symbol] for symbol in wanted if symbol in proofs]
    missing_ticks = sum(row.missing_ticks for row in rows if row.state == MISSING)
    proven = sum(row.state == PROVEN for row in rows)
    if proven == len(wanted) or (part.so_far and not missing_ticks):
        return ""
    lost = f", {counted(missing_ticks, 'tick')} known to be missing" if missing_ticks else ""
    unproven = f"{len(wanted) - proven} of {counted(len(wanted), 'symbol')} not proven complete"
    return f"{part.day.trading_day}: {unproven}{lost} (hk-tickctl gaps)"


def proofs_of(day: Day) -> dict[str, Proof]:
    """What is known of each symbol's completeness."""
    from hk_tick_collector.export.backtest import Proof  # noqa: PLC0415
    from hk_tick_collector.quality.gap_list import gap_lines  # noqa: PLC0415
    from hk_tick_collector.store.gaps import OPEN  # noqa: PLC0415
    from hk_tick_collector.store.judging import verdict_of  # noqa: PLC0415

    notes = day.notes()
    open_gaps = notes.open_gaps()
    gaps: dict[str, list[dict[str, Any]]] = {}
    for line in gap_lines(day):
        if line.state == OPEN:
            gaps.setdefault(line.symbol, []).append(
                {"from_ms": line.start_ts_ms, "until_ms": line.end_ts_ms, "missing_ticks": line.missing_ticks,
                 "reason": line.reason}
            )  # fmt: skip
    proofs = {}
    for row in notes.coverage:
        try:
            verdict = verdict_of(row, open_gaps.get(row.symbol, []))
        except (ValueError, TypeError) as exc:
            proofs[row.symbol] = Proof("unproven", f"its coverage cannot be read: {exc}", 0)
            continue
        symbol_gaps = tuple(gaps.get(row.symbol, ()))
        proofs[row.symbol] = Proof(verdict.state, verdict.reason, verdict.missing_ticks, symbol_gaps)
    return proofs

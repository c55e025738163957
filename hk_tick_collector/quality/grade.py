"""A day's completeness in one letter and one sentence."""

from __future__ import annotations

from dataclasses import replace

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.text import cut
from hk_tick_collector.quality.model import Certificate, counted_reasons
from hk_tick_collector.store.gaps import NOT_SUBSCRIBED
from hk_tick_collector.store.reader import GapRow
from hk_tick_collector.store.verdict import PROVEN, UNPROVEN, UP_TO

# The first whose rule holds, read from F up to A.
GRADES = {
    "A": "every symbol is proven and, once the day is over, OpenD was asked for each after the closing auction and all "
    "rows were read again",
    "B": "nothing is known to be missing; symbols that are not proven hold at most 1 % of the ticks, or OpenD was not "
    "asked for each after the closing auction, or the rows were not read again, or symbols are proven as equal to an "
    "imported file alone",
    "C": "nothing is known to be missing; symbols that are not proven hold more than 1 % of the ticks, or a wanted "
    "symbol was not subscribed all day",
    "D": "ticks are missing, or may be before the first one seen: at most 1 in 1,000",
    "E": "more than 1 tick in 1,000 is missing, or may be: of those before the first one seen only the most is known",
    "F": "the file cannot be read, contradicts itself, or holds no tick",
}
NAMED_SYMBOLS = 5  # in the sentence
WORDS_CHARS = 80
UNPROVEN_SHARE_OF_B = 0.01
MISSING_SHARE_OF_D = 0.001


def graded(certificate: Certificate) -> Certificate:
    """The certificate with its grade and its sentence, which follow from the rest."""
    return replace(certificate, grade=_grade(certificate), sentence=_sentence(certificate))


def explained(certificate: Certificate) -> str:
    """Why the day has its grade: of the rule, the part that holds here."""
    grade, symbols = certificate.grade, certificate.symbols
    parts = []
    if grade in ("D", "E"):
        most = _missing_at_most(certificate)
        whole = certificate.stored_ticks + most
        bound = "at most " if any(verdict.missing_at_most is not None for verdict in symbols) else ""
        verb = "is" if most == 1 else "are"
        verb = verb if certificate.missing_symbols else "may be"
        parts.append(f"{bound}{most:,} of {whole:,} ticks {verb} missing ({_percent(most / whole)})")
        if bound and _other_doubt(certificate):
            parts.append("besides, nothing counts what other doubts may hide")
    if grade in ("B", "C"):
        parts.append("nothing is known to be missing")
        if certificate.unproven_symbols and not certificate.not_subscribed_symbols:
            share = "at most" if grade == "B" else "more than"
            parts.append(f"symbols that are not proven hold {share} 1 % of the ticks")
        if certificate.not_subscribed_symbols:
            parts.append("a wanted symbol was not subscribed all day")
        if grade == "B" and certificate.replayed_symbols:
            parts.append(
                "what is proven is that the rows are those of the imported file, not that the exchange told no more"
            )
        if grade == "B" and not _end_asked(certificate):
            asked = f"{_asked(certificate)} was not asked for each symbol"
            not_asked = "the file was not read" if certificate.replayed_symbols else asked
            parts.append(f"{not_asked} after the closing auction")
        if grade == "B" and certificate.rows_unread:
            parts.append("the rows were not read again")
    return "; ".join(parts) or GRADES[grade]


def _missing_at_most(certificate: Certificate) -> int:
    """What is missing, were all that nothing counts as much as it can be."""
    return certificate.missing_ticks + sum(verdict.missing_at_most or 0 for verdict in certificate.symbols)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _end_asked(certificate: Certificate) -> bool:
    """On a closed day there is no closing auction to ask after."""
    if certificate.so_far or not certificate.sessions:
        return True
    return certificate.end_confirmed_symbols == len(certificate.symbols)


def _grade(certificate: Certificate) -> str:
    stored_ticks, missing_ticks = certificate.stored_ticks, _missing_at_most(certificate)
    if certificate.error is not None or certificate.problems or not stored_ticks:
        return "F"
    if certificate.missing_symbols or missing_ticks:
        return "D" if missing_ticks <= MISSING_SHARE_OF_D * (stored_ticks + missing_ticks) else "E"
    proven_ticks = sum(verdict.stored_ticks for verdict in certificate.symbols if verdict.state == PROVEN)
    if stored_ticks - proven_ticks > UNPROVEN_SHARE_OF_B * stored_ticks or certificate.not_subscribed_symbols:
        return "C"
    all_proven = certificate.proven_symbols == len(certificate.symbols)
    all_proven = all_proven and not certificate.replayed_symbols
    return "A" if all_proven and _end_asked(certificate) and not certificate.rows_unread else "B"


def _sentence(certificate: Certificate) -> str:
    day = certificate.trading_day
    if certificate.error is not None:
        return f"{day} cannot be read: {certificate.error}"
    if certificate.so_far:
        day += f" so far ({certificate.zone.clock(certificate.made_at_ms)} {certificate.time_word})"
    if certificate.problems:
        problems = f"{len(certificate.problems)} problem{_s(len(certificate.problems))}"
        return f"{day} contradicts itself ({problems}): what it says of its completeness cannot be relied on."
    may_miss = any(verdict.may_miss for verdict in certificate.symbols)
    losses = f"{_missing(certificate)}; {_others(certificate)}" if may_miss else ""
    return f"{day} {losses or _nothing_missing(certificate)}.{_not_subscribed(certificate)}{_read_again(certificate)}"


def _not_subscribed(certificate: Certificate) -> str:
    """Which wanted symbols OpenD did not send, since when, until when, and in its words."""
    number = certificate.not_subscribed_symbols
    if not number:
        return ""
    windows = {gap.symbol: gap for gap in certificate.open_gaps if gap.is_window}
    named = [
        f"{symbol} {_time_of(gap, certificate)} ({cut(gap.reason.removeprefix(NOT_SUBSCRIBED), WORDS_CHARS)})"
        for symbol, gap in list(windows.items())[:NAMED_SYMBOLS]
    ]
    more = [f"and {number - len(named):,} more"] if number > len(named) else []
    were = "symbol was" if number == 1 else "symbols were"
    return f" {number:,} wanted {were} not subscribed: {', '.join([*named, *more])}."


def _time_of(gap: GapRow, certificate: Certificate) -> str:
    start, end = (certificate.zone.clock(ts_ms) for ts_ms in (gap.gap_start_ts_ms, gap.gap_end_ts_ms))
    word = certificate.time_word
    return f"from {start} to {end} {word}" if gap.is_over or not certificate.so_far else f"since {start} {word}"


def _read_again(certificate: Certificate) -> str:
    at_ms, rows = certificate.rows_read_at_ms, certificate.rows_read
    if certificate.so_far or not certificate.stored_ticks:
        return ""
    if at_ms is None or rows is None:
        return " Its rows were not read again." if certificate.rows_unread else ""
    day, clock = certificate.zone.date(at_ms), certificate.zone.clock(at_ms)
    clock += f" {certificate.time_word}"
    when = clock if day == certificate.trading_day else f"{clock} on {day}"
    return f" Its {rows:,} row{_s(rows)} {'was' if rows == 1 else 'were'} read again at {when}."


def _nothing_missing(certificate: Certificate) -> str:
    if not certificate.stored_ticks:
        return "holds no tick"
    symbols = sum(bool(verdict.stored_ticks) for verdict in certificate.symbols)
    ticks = f"{certificate.stored_ticks:,} tick{_s(certificate.stored_ticks)}"
    if not symbols:
        return f"holds {ticks}, and nothing is known of their completeness"
    ticks += f" of {symbols:,} symbol{_s(symbols)}"
    if certificate.unproven_symbols:
        return f"is not proven to be complete: nothing is known to be missing in {ticks}, but {_doubts(certificate)}"
    return _proven(certificate, ticks)


def _proven(certificate: Certificate, ticks: str) -> str:
    """How far the proof of a day goes of which every symbol is proven."""
    if certificate.replayed_symbols:
        return _by_copy(certificate, ticks)
    behind = len(certificate.symbols) - certificate.end_confirmed_symbols
    if certificate.so_far or not certificate.sessions:
        return f"is complete: {ticks}, every symbol proven{_until(certificate)}"
    if behind:
        return (
            f"is complete as far as asked: {ticks}, every symbol proven, {behind:,} of them not to the end of the day"
        )
    return f"is complete: {ticks}, every symbol proven, and {_asked(certificate)} had nothing more after the close"


def _by_copy(certificate: Certificate, ticks: str) -> str:
    others = certificate.proven_symbols - certificate.replayed_symbols
    besides = f" ({others:,} proven by their counters)" if others else ""
    return (
        f"is equal to what was imported: {ticks}{besides}, and the file had no other record when it was read again; "
        "whether the exchange told more is not known"
    )


def _missing(certificate: Certificate) -> str:
    unknown = sum(verdict.missing_at_most is not None for verdict in certificate.symbols)
    missing_ticks, symbols = certificate.missing_ticks, len(certificate.symbols)
    where = f"in {certificate.missing_symbols:,} of {symbols:,} symbol{_s(symbols)}"
    if not unknown:
        whole = certificate.stored_ticks + missing_ticks
        return f"misses {missing_ticks:,} of {whole:,} tick{_s(whole)}, {where}"
    most = _missing_at_most(certificate)
    if _is_by_total(certificate):
        return (
            f"misses at least {missing_ticks:,} tick{_s(missing_ticks)} {where}, {most:,} at most: by volume, which "
            "does not tell in how many trades it was"
        )
    before = "it is unknown what came before the first tick seen"
    if certificate.missing_symbols:
        misses = f"misses at least {missing_ticks:,} tick{_s(missing_ticks)} {where}"
        return f"{misses}; for {unknown:,} {before} (at most {most:,} in all)"
    which = f"for {unknown:,} of {symbols:,} symbol{_s(symbols)}"
    return f"is not proven to be complete: {which} {before}, at most {most:,} tick{_s(most)}"


def _is_by_total(certificate: Certificate) -> bool:
    return any(verdict.evidence == EvidenceLevel.RUNNING_TOTAL for verdict in certificate.symbols)


def _asked(certificate: Certificate) -> str:
    return "the source" if _is_by_total(certificate) else "OpenD"


def _others(certificate: Certificate) -> str:
    replayed = certificate.replayed_symbols
    by_copy = f" ({replayed:,} as equal to an imported file alone)" if replayed else ""
    why = _other_doubt(certificate)
    also = f" (also: {why})" if why else ""
    unproven = f"{certificate.unproven_symbols:,} unproven{also}"
    return f"{certificate.proven_symbols:,} are proven complete{by_copy}, {unproven}"


def _other_doubt(certificate: Certificate) -> str | None:
    """Why most of the symbols are unproven that are so for more than a beginning that was never shown."""
    unproven = [verdict.reason or "" for verdict in certificate.symbols if verdict.state == UNPROVEN]
    others = counted_reasons(
        "; ".join(doubt for doubt in reason.split("; ") if not doubt.startswith(UP_TO)) for reason in unproven
    )
    return next((reason for reason, _ in others.most_common(1)), None)


def _doubts(certificate: Certificate) -> str:
    why = next(iter(certificate.reasons), "")
    unproven = certificate.unproven_symbols
    return f"{unproven:,} {'is' if unproven == 1 else 'are'} unproven" + (f" (mostly: {why})" if why else "")


def _until(certificate: Certificate) -> str:
    until_ms = certificate.confirmed_until_ms
    return "" if until_ms is None else f" until {certificate.zone.clock(until_ms)} {certificate.time_word}"


def _s(number: int) -> str:
    return "" if number == 1 else "s"

"""A day's completeness in one letter and one sentence."""

from __future__ import annotations

from dataclasses import replace

from hk_tick_collector.market.sessions import hk_ms_of_day
from hk_tick_collector.quality.model import Certificate
from hk_tick_collector.store.coverage import PROVEN

# The first whose rule holds, read from F up to A.
GRADES = {
    "A": "every symbol is proven and, once the day is over, OpenD was asked for each after the closing auction",
    "B": "nothing is known to be missing; symbols that are not proven hold at most 1 % of the ticks",
    "C": "nothing is known to be missing; symbols that are not proven hold more than 1 % of the ticks",
    "D": "ticks are missing, at most 1 in 1,000",
    "E": "more than 1 tick in 1,000 is missing, or how many is not known",
    "F": "the file cannot be read, contradicts itself, or holds no tick",
}
UNPROVEN_SHARE_OF_B = 0.01
MISSING_SHARE_OF_D = 0.001


def graded(certificate: Certificate) -> Certificate:
    """The certificate with its grade and its sentence, which follow from the rest."""
    return replace(certificate, grade=_grade(certificate), sentence=_sentence(certificate))


def _grade(certificate: Certificate) -> str:
    stored_ticks, missing_ticks = certificate.stored_ticks, certificate.missing_ticks
    if certificate.error is not None or certificate.problems or not stored_ticks:
        return "F"
    if certificate.missing_symbols:
        is_known = not any(one.missing_at_most is not None for one in certificate.symbols)
        few = missing_ticks <= MISSING_SHARE_OF_D * (stored_ticks + missing_ticks)
        return "D" if is_known and few else "E"
    proven_ticks = sum(one.stored_ticks for one in certificate.symbols if one.state == PROVEN)
    if stored_ticks - proven_ticks > UNPROVEN_SHARE_OF_B * stored_ticks:
        return "C"
    all_proven = certificate.proven_symbols == len(certificate.symbols)
    ended = certificate.so_far or certificate.end_confirmed_symbols == len(certificate.symbols)
    # On a closed day there is no closing auction to ask after.
    return "A" if all_proven and (ended or not certificate.sessions) else "B"


def _sentence(certificate: Certificate) -> str:
    day = certificate.trading_day
    if certificate.error is not None:
        return f"{day} cannot be read: {certificate.error}"
    if certificate.so_far:
        day += f" so far ({hk_clock(certificate.made_at_ms)})"
    if certificate.problems:
        what = f"{len(certificate.problems)} problem{_s(len(certificate.problems))}"
        return f"{day} contradicts itself ({what}): what it says of its completeness cannot be relied on."
    if certificate.missing_symbols:
        return f"{day} {_missing(certificate)}; {_others(certificate)}."
    return f"{day} {_nothing_missing(certificate)}."


def _nothing_missing(certificate: Certificate) -> str:
    if not certificate.stored_ticks:
        return "holds no tick"
    symbols = len(certificate.symbols)
    ticks = f"{certificate.stored_ticks:,} tick{_s(certificate.stored_ticks)}"
    if not symbols:
        return f"holds {ticks}, and nothing is known of their completeness"
    ticks += f" of {symbols:,} symbol{_s(symbols)}"
    if certificate.unproven_symbols:
        return f"is not proven to be complete: nothing is known to be missing in {ticks}, but {_doubts(certificate)}"
    behind = symbols - certificate.end_confirmed_symbols
    if certificate.so_far or not certificate.sessions:
        return f"is complete: {ticks}, every symbol proven{_until(certificate)}"
    if behind:
        return (
            f"is complete as far as asked: {ticks}, every symbol proven, {behind:,} of them not to the end of the day"
        )
    return f"is complete: {ticks}, every symbol proven, and OpenD had nothing more after the close"


def _missing(certificate: Certificate) -> str:
    unknown = sum(one.missing_at_most is not None for one in certificate.symbols)
    missing_ticks, symbols = certificate.missing_ticks, len(certificate.symbols)
    where = f"in {certificate.missing_symbols:,} of {symbols:,} symbol{_s(symbols)}"
    if not unknown:
        whole = certificate.stored_ticks + missing_ticks
        return f"misses {missing_ticks:,} of {whole:,} tick{_s(whole)}, {where}"
    if missing_ticks:
        beginning = f"of {unknown:,} also the beginning of the day"
        return f"misses at least {missing_ticks:,} tick{_s(missing_ticks)} {where}, {beginning}"
    return f"misses the beginning of the day {where}, how many ticks is not known"


def _others(certificate: Certificate) -> str:
    return f"{certificate.proven_symbols:,} are proven complete, {certificate.unproven_symbols:,} unproven"


def _doubts(certificate: Certificate) -> str:
    why = next(iter(certificate.reasons), "")
    unproven = certificate.unproven_symbols
    return f"{unproven:,} {'is' if unproven == 1 else 'are'} unproven" + (f" (mostly: {why})" if why else "")


def _until(certificate: Certificate) -> str:
    until_ms = certificate.confirmed_until_ms
    return "" if until_ms is None else f" until {hk_clock(until_ms)}"


def hk_clock(ts_ms: int) -> str:
    """UTC epoch milliseconds as a time of day in Hong Kong, ``09:30:00``."""
    minutes, ms = divmod(hk_ms_of_day(ts_ms), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{ms // 1000:02d}"


def _s(number: int) -> str:
    return "" if number == 1 else "s"

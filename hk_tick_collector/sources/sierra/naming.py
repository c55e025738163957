"""What a ``.scid`` file is of: its symbol by its name, and how the symbol's prices are written by the user's rules.

Sierra Chart names a file after the symbol: ``ESZ26_FUT_CME.scid``, with some data services ``ESZ26.CME.scid`` or
``ESZ26-CME.scid``. The exchanges of CME Group are one market here and share its days and hours; which of them it was
is kept as the venue.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from hk_tick_collector.core.errors import InputError
from hk_tick_collector.sources.source import Described

MARKET = "CME"
CURRENCY = "USD"
EXCHANGES = ("CME", "CBOT", "NYMEX", "COMEX")

_NAME = re.compile(
    rf"(?P<code>[A-Z0-9]{{1,16}})(?:_FUT_|[.-])(?P<venue>{'|'.join(EXCHANGES)})\.(?:scid|SCID)", re.ASCII
)
_WILDCARDS = ("*", "?", "[")


class Instrument(NamedTuple):
    """One file's symbol, and what makes a price of what is written there."""

    symbol: str  # "CME.ESZ26"
    venue: str  # "CME", "CBOT", ...
    multiplier: float = 1.0
    tick_size: float | None = None  # None: a price is the shortest number that is stored as these four bytes


class Rule(NamedTuple):
    """``0.01`` for all symbols, ``CME.6E*=0.01`` for some: the last one that fits counts."""

    pattern: str
    value: float

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.value!r}" if self.pattern == "*" else f"{self.pattern}={self.value!r}"


def described(instrument: Instrument) -> Described:
    """What is known of it: a name and a contract's size stand in no file."""
    return Described(instrument.symbol, unit="contracts", currency=CURRENCY, tick_size=instrument.tick_size)


def parse_name(file_name: str) -> Instrument:
    """``ESZ26_FUT_CME.scid`` -> ``CME.ESZ26``; InputError with what a name must look like."""
    match = _NAME.fullmatch(file_name)
    if match is None:
        raise InputError(
            f"{file_name}: the symbol cannot be told from the file's name; a futures contract of "
            f"{', '.join(EXCHANGES)} is expected, named like ESZ26_FUT_CME.scid"
        )
    return Instrument(f"{MARKET}.{match['code']}", match["venue"])


def parse_rule(option: str, text: str) -> Rule:
    """One value of ``--multiplier`` or ``--tick-size``; InputError names the option.

    Also for a pattern that no symbol of this market can fit: prices would be stored as if the rule had not been given.
    """
    pattern, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{option}: {text!r} is not a number above zero; write 0.01, or CME.6E*=0.01 for some symbols")
    if pattern and not pattern.startswith((f"{MARKET}.", *_WILDCARDS)):
        raise InputError(f"{option}: {text!r} fits no symbol; they are written with the market, as in CME.6E*={number}")
    return Rule(pattern or "*", value)


def value_for(symbol: str, rules: Sequence[Rule]) -> float | None:
    """What the rules say of a symbol; None when none fits."""
    return next((rule.value for rule in reversed(rules) if fnmatchcase(symbol, rule.pattern)), None)


def instrument_of(file_name: str, multipliers: Sequence[Rule] = (), tick_sizes: Sequence[Rule] = ()) -> Instrument:
    """The instrument of a file by its name and the rules."""
    named = parse_name(file_name)
    return named._replace(
        multiplier=value_for(named.symbol, multipliers) or 1.0, tick_size=value_for(named.symbol, tick_sizes)
    )

"""Text from outside, made fit for a log line, a file or a terminal: bounded, and printable to the last sign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

SHOWN_CHARS = 300  # of a value that somebody else chose: enough to know it by


def cut(text: str, chars: int = SHOWN_CHARS) -> str:
    """``text``, or its beginning and how long it was."""
    return text if len(text) <= chars else f"{text[:chars]}...({len(text)} characters)"


def plain(value: Any) -> object:
    """A value of somebody else's as JSON can hold it, and not longer than what is shown."""
    if isinstance(value, str):
        return cut(value)
    if value is None or type(value) in (bool, int):
        return value
    return value if type(value) is float and math.isfinite(value) else cut(ascii(value))


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 tick``, ``2,000 ticks``. ``plural``: where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def days_there(days: Sequence[str]) -> str:
    """Which days there are, in words: ``there are 3 days, 20261118 to 20261120``."""
    if not days:
        return "no day is recorded"
    return f"there is 1 day, {days[0]}" if len(days) == 1 else f"there are {len(days):,} days, {days[0]} to {days[-1]}"


def printable(text: str, keep: str = "") -> str:
    """``text`` with everything that a terminal would obey written as an escape: ``\\x1b`` for ESC.

    That is control characters, line breaks, marks that turn the direction of writing, and lone surrogates, which no
    encoding can write. ``keep``: such characters that may stay, as ``"\\n"`` in a text of several lines.
    """
    plain = text
    for sign in keep:
        plain = plain.replace(sign, "")
    if plain.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else _escape(sign) for sign in text)


def _escape(sign: str) -> str:
    code = ord(sign)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

"""HKEX's Daily Quotations: the exchange's own list of every trade of a day, read as a stream.

One public page a trading day, ``dYYMMDDe.htm``. The list begins behind the line ``CODE  NAME OF STOCK    SALES RECORD``
and ends at a line of dashes. A code stands in the first six columns, its name behind it, and then its trades in order,
without times, over as many lines as they need::

         5 HSBC HOLDINGS    < U12,000-75.10 >[ 400-75.10 Y1,200-75.05
                            D37-74.90 ]/-//[ 800-75.15 ]< U9,600-75.20 >

``<`` before trading ``>[`` morning ``]/-//[`` afternoon ``]<`` closing auction ``>``. A letter before the quantity is
the trade's type (``TYPES``); none is automatch.

The form is known from public programs that read the page, not from a description by HKEX. So nothing is guessed: a code
whose text is of another form, or holds a word that is no trade, says so (``Listed.unread``) and is compared with
nothing. HTML around and within the text is taken out. Memory: one code's text, ``MOST_CODE_BYTES`` at most.
"""

from __future__ import annotations

import html
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from hk_tick_collector.core.errors import InputError, RecorderError, StoreCorrupt
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.store.layout import check_day

SECTIONS = ("before trading", "morning", "between", "afternoon", "closing auction")
# The letter before a quantity, under the names of futu-api's TickerType. "C" occurs and nobody says what it means.
TYPES = {
    "": "AUTO_MATCH",
    "U": "AUCTION",
    "Y": "INTER_AUTO_MATCH",
    "D": "ODD_LOT",
    "M": "NON_AUTO_MATCH",
    "X": "INTER_NON_AUTO_MATCH",
    "P": "LATE",
    "*": "OVERSEAS",
}
MILLI = 1000  # prices have at most three decimals

HEAD_BYTES = 256 * 1024  # in which the date stands
MOST_LINE_BYTES = 1024 * 1024
MOST_CODE_BYTES = 32 * 1024 * 1024
MOST_BYTES = 1024 * 1024 * 1024
WORDS_SHOWN = 3

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DATE = re.compile(r"DATE\s*:\s*(\d{1,2})\s+([A-Z]{3})[A-Z]*\s+(\d{4})", re.IGNORECASE)
_NAME = re.compile(r"d(\d{2})(\d{2})(\d{2})e\b", re.IGNORECASE)
_HEADING = re.compile(r"CODE\s+NAME OF STOCK\s+SALES RECORD", re.IGNORECASE)
_DASHES = re.compile(r"\s*-{20,}\s*$")
_TAG = re.compile(r"</?(?:font|pre|a|p|b|i|u|br|hr|div|span|html|head|body|title|meta|center)\b[^<>]*>", re.IGNORECASE)
_CODE = re.compile(r" {0,5}(\d{1,5})[ *#%](?! {0,3}[A-Z*]?[\d,]+-[\d.])\s*[^\s<]")
_FORM = re.compile(r"<([^<>\[\]]*)>\s*\[([^<>\[\]]*)\]([^<>\[\]]*)\[([^<>\[\]]*)\]\s*<([^<>\[\]]*)>\s*\Z")
_TRADE = re.compile(r"(?<!\S)([A-Z*]?)(\d[\d,]{0,14})-(\d[\d,]{0,9}(?:\.\d{1,3})?)(?!\S)")
_WORD = re.compile(r"\S+")
_CHINESE = tuple(word.encode(code) for word in ("股份", "成交") for code in ("utf-8", "big5hkscs", "gb18030"))

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]


class WrongFile(InputError):
    """It is not the English Daily Quotations page of a day."""


class TooLarge(RecorderError):
    """It is larger than any such page."""


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades in order; four arrays of one length."""

    section: Codes  # place in SECTIONS
    kind: Codes  # place in the list of types that whoever reads them keeps
    volume: Ints
    price_milli: Ints

    def __len__(self) -> int:
        return len(self.volume)


@dataclass(frozen=True, slots=True)
class Listed:
    """One code of the list. ``unread``: why its trades could not be read in full; then they are not whole."""

    symbol: str
    trades: Trades
    unread: str | None = None


class DailyQuotations:
    """A page, open for one reading. ``trading_day`` and ``kinds`` (names of types, grown while reading) are what it
    says; ``is_cut`` tells, behind the last code, whether the list has no end.

    WrongFile when it is no such page, OSError when it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kinds = list(TYPES.values())
        self.is_cut = False
        self._places = {letter: n for n, letter in enumerate(TYPES)}
        try:
            self._file = open_regular(path)
        except StoreCorrupt as exc:
            raise WrongFile(f"{path} is not a regular file") from exc
        try:
            head = self._file.read(HEAD_BYTES)
            if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise WrongFile(f"{path} is in UTF-16: save it as plain text or HTML, as HKEX sends it")
            self.trading_day = self._day(head)
            self._file.seek(0)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def listed(self, is_wanted: Callable[[str], bool]) -> Iterator[Listed]:
        """The codes that are wanted, as they stand. WrongFile when there is no list, TooLarge."""
        lines = _lines(self._file, self.path)
        if not any(_HEADING.search(line) for line in lines):
            raise self._no_list()
        ended = False
        code, texts, size = "", [""], 0
        for line in lines:
            if _DASHES.match(line):
                ended = True
                break
            match = _CODE.match(line)
            if match:
                if code and is_wanted(code):
                    yield self._read(code, texts)
                code, texts, size = _symbol(match[1]), [line], len(line)
            elif code and not _HEADING.search(line):
                texts.append(line)
                size += len(line)
                if size > MOST_CODE_BYTES:
                    raise TooLarge(f"{self.path}: the trades of {code} do not end: is it the right file?")
        self.is_cut = not ended
        if ended and code and is_wanted(code):  # of a list that is cut the last code is, too
            yield self._read(code, texts)

    def _day(self, head: bytes) -> str:
        text = head.decode("latin-1")
        match = _DATE.search(text)
        if match is not None and match[2].upper() in _MONTHS:
            day = f"{match[3]}{_MONTHS.index(match[2].upper()) + 1:02d}{int(match[1]):02d}"
        elif (named := _NAME.search(self.path.name)) and _HEADING.search(text):
            day = f"20{named[1]}{named[2]}{named[3]}"
        else:
            raise self._no_list()
        try:
            return check_day(day)
        except ValueError:
            raise WrongFile(f"{self.path} says that it is of {day}, which is not a date") from None

    def _no_list(self) -> WrongFile:
        self._file.seek(0)
        head = self._file.read(HEAD_BYTES)
        if any(word in head for word in _CHINESE):
            return WrongFile(f"{self.path} is the Chinese page: take the English one, dYYMMDDe.htm")
        return WrongFile(f"{self.path} holds no SALES RECORDS of HKEX's Daily Quotations (the page dYYMMDDe.htm)")

    def _read(self, symbol: str, lines: list[str]) -> Listed:
        text = " ".join(lines)
        start = text.find("<")
        form = _FORM.match(text, start) if start >= 0 else None
        if form is None:
            return Listed(symbol, _joined([]), "its sections are not of the known form")
        parts = []
        for section, text in enumerate(form.groups()):
            part = text.replace("/", " ")
            trades = self._trades(section, part)
            if len(trades) != _words(part, section):
                return Listed(symbol, _joined([]), _strange(part, section))
            parts.append(trades)
        return Listed(symbol, _joined(parts))

    def _trades(self, section: int, part: str) -> Trades:
        """One at a time: a busy code has half a million, and their texts are many times their numbers."""
        kinds, volumes, prices_milli = array("i"), array("q"), array("q")
        for match in _TRADE.finditer(part):
            letter, volume, price = match.groups()
            kinds.append(self._place(letter))
            volumes.append(int(volume.replace(",", "")))
            prices_milli.append(round(float(price.replace(",", "")) * MILLI))
        return Trades(
            np.full(len(kinds), section, np.int32),
            np.array(kinds, np.int32),
            np.array(volumes, np.int64),
            np.array(prices_milli, np.int64),
        )

    def _place(self, letter: str) -> int:
        place = self._places.get(letter)
        if place is None:
            place = self._places[letter] = len(self.kinds)
            self.kinds.append(f"TYPE_{letter}")
        return place


def _each_word(part: str, section: int) -> Iterator[str]:
    """Between the sessions there are strokes besides, which part them."""
    is_between = SECTIONS[section] == "between"
    return (word[0] for word in _WORD.finditer(part) if not is_between or word[0].strip("-"))


def _words(part: str, section: int) -> int:
    return sum(1 for _ in _each_word(part, section))


def _strange(part: str, section: int) -> str:
    """What is said of words that are no trades."""
    strange = [word for word in _each_word(part, section) if not _TRADE.fullmatch(word)]
    shown = ", ".join(printable(cut(word, 20)) for word in strange[:WORDS_SHOWN])
    return f"{len(strange):,} of its words {'is not a trade' if len(strange) == 1 else 'are not trades'}: {shown}"


def _joined(parts: list[Trades]) -> Trades:
    if not parts:
        nothing = np.zeros(0, np.int64)
        return Trades(nothing.astype(np.int32), nothing.astype(np.int32), nothing, nothing)
    return Trades(
        np.concatenate([part.section for part in parts]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.volume for part in parts]),
        np.concatenate([part.price_milli for part in parts]),
    )


def _symbol(code: str) -> str:
    return f"HK.{int(code):05d}"


def _lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """The lines as plain text, without HTML. TooLarge for what has no lines, or no end."""
    size = 0
    while line := file.readline(MOST_LINE_BYTES):
        size += len(line)
        if len(line) == MOST_LINE_BYTES or size > MOST_BYTES:
            raise TooLarge(f"{path} is not text in lines as HKEX's page is: is it the right file?")
        text = line.decode("latin-1").rstrip("\r\n")
        if ">" in text or "&" in text:
            text = html.unescape(_TAG.sub("", text)).replace("\xa0", " ")
        yield text

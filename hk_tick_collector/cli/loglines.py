"""The recorder's log lines read back: time, level, word, fields. ``core/logline.py`` and ``app/logs.py`` write them.

A text line is ``2026-11-20T01:30:00.123Z INFO health queue=0``, with whatever ``docker``, ``docker compose`` or
``journalctl`` put in front; or ``<6>health queue=0`` as it goes to journald; or the bare message. A line that is none
of them is a part of the one before (a traceback), as long as there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SYSLOG = {"0": "CRITICAL", "1": "CRITICAL", "2": "CRITICAL", "3": "ERROR", "4": "WARNING", "5": "INFO", "6": "INFO"}
_STAMPED = re.compile(
    r"(?:.*? )??(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3})Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)", re.DOTALL
)
_PRIORITY = re.compile(r"<([0-7])>(.*)", re.DOTALL)
_IDENTIFIED = re.compile(r"(.*?)\bhk-tick-collector\[\d+\]: (.*)", re.DOTALL)
_ISO_STAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{3,6})?(?:Z|[+-]\d{2}:?\d{2})")
_MESSAGE = re.compile(r"([A-Za-z]\w*(?: [a-z]\w*)?)(?= [a-z_0-9]+=)")
_FIELD = re.compile(r' ([a-z_0-9]+)=("(?:[^"\\]|\\.)*"|\S*)')
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|.)", re.DOTALL)
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})")
_FRACTION = re.compile(r"-?\d+\.\d+")


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One event."""

    at_ms: int | None  # UTC epoch milliseconds; None when nothing tells
    level: str | None
    text: str  # the message with its word, and the lines that belong to it

    @property
    def word(self) -> str:
        """What happened: ``health``, ``WATCHDOG stall``; empty for a line that is no event."""
        match = _MESSAGE.match(self.text.split("\n", 1)[0])
        return match[1] if match else ""

    @property
    def fields(self) -> dict[str, Any]:
        """The pairs, with numbers, truth values and None as such."""
        first = self.text.split("\n", 1)[0]
        return {key: _value(text) for key, text in _FIELD.findall(first)} if self.word else {}

    @property
    def parts(self) -> tuple[str, str, str]:
        """Time, level and text as the recorder writes them where it keeps the time itself; empty what is not known."""
        return "" if self.at_ms is None else _utc(self.at_ms), self.level or "", self.text

    def as_json(self) -> dict[str, Any]:
        """One object."""
        return {
            "at_ms": self.at_ms,
            "at": None if self.at_ms is None else _utc(self.at_ms),
            "level": self.level,
            "word": self.word,
            "fields": self.fields,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """What is wanted; None and empty sets take everything."""

    since_ms: int | None = None
    until_ms: int | None = None
    level: str | None = None  # this or worse
    words: frozenset[str] = frozenset()
    symbols: frozenset[str] = frozenset()

    def fits(self, record: LogRecord) -> bool:
        """A record without a level counts as INFO, one without a time never fits a time."""
        if self.since_ms is not None and (record.at_ms is None or record.at_ms < self.since_ms):
            return False
        if self.until_ms is not None and (record.at_ms is None or record.at_ms > self.until_ms):
            return False
        if self.level is not None and LEVELS.index(record.level or "INFO") < LEVELS.index(self.level):
            return False
        if self.words and not self.words.intersection((record.word, record.word.split(" ")[0])):
            return False
        return not self.symbols or any(_names(record.text, symbol) for symbol in self.symbols)

    def of(self, records: Iterable[LogRecord]) -> Iterator[LogRecord]:
        """Those that fit."""
        return (record for record in records if self.fits(record))


def _names(text: str, symbol: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(symbol)}(?!\w)", text) is not None


def from_journal(entry: dict[str, Any]) -> LogRecord | None:
    """A record from an entry of ``journalctl --output=json``; None for one without a message."""
    message = entry.get("MESSAGE")
    if isinstance(message, list):  # bytes, when it is not all UTF-8
        message = bytes(message).decode("utf-8", "replace")
    if not isinstance(message, str):
        return None
    stamp = str(entry.get("__REALTIME_TIMESTAMP", ""))
    level = _SYSLOG.get(str(entry.get("PRIORITY", "")), "DEBUG") if "PRIORITY" in entry else None
    return LogRecord(int(stamp) // 1000 if stamp.isdigit() else None, level, message)


def from_text(lines: Iterable[str | None]) -> Iterator[LogRecord]:
    """The records of a text, each when the next one begins, the text ends, or a None tells that no more comes now."""
    last: LogRecord | None = None
    last_at_ms: int | None = None
    for line in lines:
        record = None if line is None else _begin(line)
        if record is None and last is not None and line is not None:
            last = replace(last, text=f"{last.text}\n{line}")
            continue
        if last is not None:
            yield last
        if record is None and line:
            record = LogRecord(None, None, line)
        if record is not None and record.at_ms is None:
            record = replace(record, at_ms=last_at_ms)
        last_at_ms = record.at_ms if record is not None else last_at_ms
        last = record
    if last is not None:
        yield last


def _begin(line: str) -> LogRecord | None:
    """The record that begins with this line; None when the line goes on with another one."""
    match = _STAMPED.fullmatch(line)
    if match:
        moment = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
        return LogRecord(round(moment.timestamp() * 1000), match[2], match[3])
    match = _IDENTIFIED.fullmatch(line)
    if match:
        stamp = _ISO_STAMP.search(match[1])
        return _bare(match[2], _parse_iso_ms(stamp[0]) if stamp else None)
    match = _PRIORITY.fullmatch(line)
    if match:
        return LogRecord(None, _SYSLOG.get(match[1], "DEBUG"), match[2])
    return _bare(line, None) if _MESSAGE.match(line) else None


def _bare(text: str, at_ms: int | None) -> LogRecord:
    level = re.search(r" level=([A-Z]+)$", text.split("\n", 1)[0])
    return LogRecord(at_ms, level[1] if level and level[1] in LEVELS else None, text)


def _parse_iso_ms(text: str) -> int:
    text = re.sub(r"([+-]\d{2})(\d{2})$", r"\1:\2", text.replace("Z", "+00:00"))
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _utc(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms // 1000, tz=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def _value(text: str) -> Any:
    if text.startswith('"'):
        return _ESCAPE.sub(lambda match: _unescaped(match[1]), text[1:-1])
    if text in ("none", "True", "False"):
        return {"none": None, "True": True, "False": False}[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FRACTION.fullmatch(text) else text


def _unescaped(code: str) -> str:
    return chr(int(code[1:], 16)) if len(code) > 1 else code

"""The cursor of a page: where it ended, of which state of the files, for which question.

All pages of a question are one state: the first page fixes, for every day, how far its file was written (a rowid, with
the check of the row there) or which archive it was. Rows that come later are left out until somebody asks anew.

As text: base64 of JSON, and 64 bits of its SHA-256, so that a cursor that was cut or altered is refused and never means
another place. It holds nothing that the question did not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from hk_tick_collector.serve.problems import Problem

_FORM = "c1"
_DIGEST_CHARS = 16
_MAX_NUMBER = 1 << 53
_STATE = re.compile(r"[=+].{0,2000}|[0-9]{1,18}\.[0-9a-f]{8}", re.ASCII | re.DOTALL)
MAX_CHARS = 12_000


class Spot(NamedTuple):
    """Behind which row a page ended."""

    part: int  # which of the days (of data roots) that the question reads, in their order
    symbol: str
    ts_ms: int
    given: int  # rows of that symbol and millisecond that were given


class Cursor(NamedTuple):
    """What a page hands to the next one."""

    question: str  # hash of what was asked
    spot: Spot
    as_of_ms: int
    states: Mapping[str, str]  # by day: "<rowid>.<check>" of a file, "=<hash>" of an archive, "+" and several of them

    def __str__(self) -> str:
        content = [self.question, list(self.spot), self.as_of_ms, dict(self.states)]
        text = base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).rstrip(b"=").decode()
        return f"{_FORM}.{text}.{_digest(text)}"

    @classmethod
    def parse(cls, text: str, question: str) -> Cursor:
        """The cursor of a text that ``str`` made for this question; else a Problem."""
        form, _, rest = text.partition(".")
        body, _, digest = rest.partition(".")
        if form != _FORM or len(text) > MAX_CHARS or not text.isascii() or digest != _digest(body):
            raise Problem("bad-cursor", "the cursor was cut or altered")
        try:
            cursor = _read(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))
        except (TypeError, ValueError, AttributeError, RecursionError):
            raise Problem("bad-cursor", "the cursor was cut or altered") from None
        if cursor.question != question:
            raise Problem("bad-cursor", "the cursor is of another query: only limit may change between pages")
        return cursor


def _read(content: Any) -> Cursor:
    """From what JSON held. Anybody can make the digest, so no part is believed. ValueError, TypeError, AttributeError
    when it is no cursor."""
    question, (part, symbol, ts_ms, given), as_of_ms, states = content
    numbers = (part, ts_ms, given, as_of_ms)
    if not all(type(number) is int and 0 <= number < _MAX_NUMBER for number in numbers):
        raise ValueError
    held = {str(day): str(state) for day, state in states.items()}
    if not all(_STATE.fullmatch(state) for state in held.values()):
        raise ValueError
    return Cursor(str(question), Spot(part, str(symbol), ts_ms, given), as_of_ms, held)


def question_of(asked: Mapping[str, Any]) -> str:
    """The hash of a question: everything but where to go on and how many rows."""
    kept = {name: value for name, value in asked.items() if name not in ("cursor", "limit") and value is not None}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:_DIGEST_CHARS]


def _digest(text: str) -> str:
    return hashlib.sha256(f"{_FORM}.{text}".encode()).hexdigest()[:_DIGEST_CHARS]

"""What the Python API raises and warns of. All are ``RecordingsError``, and each has a ``hint``: what to do next.

    RecordingsError
    ├── BadQuestion       no such column, a time without a zone, no symbol at all
    ├── NoData            nothing is recorded there
    │   └── UnknownSymbol  and the symbol is recorded nowhere near
    ├── NotProven         ``require="proven"``, and a day is not
    ├── DayPacked         archived as a packed day file only, which cannot be read in place
    ├── Damaged           a file is damaged or another program's
    ├── Unreadable        a file may not be read by this user, or the disk refuses
    │   └── Busy          for now: ask again
    └── ServerError       a server did not answer, or refused (``hk.connect``)

``slug`` is the name that the HTTP API gives to the same thing (``docs/api.md``), so that a remote error becomes the
same class as a local one.
"""

from __future__ import annotations

from typing import ClassVar

from hk_tick_collector.core import errors as core


class RecordingsError(core.RecorderError):
    """A question to the recordings was not answered. ``hint``: what to do, in a sentence; may be empty."""

    slug: ClassVar[str] = ""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} ({self.hint})" if self.hint else text


class BadQuestion(RecordingsError, core.InputError, ValueError):
    """What was asked for has no meaning."""

    slug = "bad-parameter"


class NoData(RecordingsError, core.NoData, LookupError):
    """Nothing is recorded there."""

    slug = "no-data"


class UnknownSymbol(NoData):
    """A symbol is recorded nowhere in these days."""

    slug = "unknown-symbol"


class NotProven(RecordingsError):
    """``require="proven"`` was given, and it is not proven that nothing is missing."""

    slug = "not-proven"


class DayPacked(RecordingsError):
    """A day is archived as a packed day file only, which cannot be read in place."""

    slug = "day-packed"


class Damaged(RecordingsError, core.StoreCorrupt):
    """A file is damaged, or not one of ours."""

    slug = "store-damaged"


class Unreadable(RecordingsError, core.StoreUnavailable):
    """A file cannot be read: this user may not, or the disk refuses."""

    slug = "store-unreadable"


class Busy(Unreadable, core.StoreBusy):
    """A file cannot be read just now; ask again in a moment."""

    slug = "store-busy"


class ServerError(RecordingsError):
    """A server did not answer, or refused. ``status``: of HTTP, 0 when there was no answer."""

    slug = "server"

    def __init__(self, text: str, hint: str = "", *, status: int = 0) -> None:
        super().__init__(text, hint)
        self.status = status


class IncompleteData(UserWarning):
    """Ticks were handed out of which it is not proven that none is missing. Once a call, naming symbols and counts."""

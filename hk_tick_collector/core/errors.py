"""Errors with a meaning of their own. The docstring's first line is what a user reads when no text is given."""

from __future__ import annotations

from enum import StrEnum


class RecorderError(Exception):
    """Something the recorder cannot go on with."""

    def __init__(self, text: str | None = None) -> None:
        doc = (type(self).__doc__ or "").strip().splitlines()
        super().__init__(text if text is not None else doc[0])


class ConfigError(RecorderError):
    """The configuration is wrong; nothing was started."""


class RejectCode(StrEnum):
    """The kind of reason for which a tick is not stored. Logs are limited and certificates speak by it: it never holds
    anything that OpenD sent."""

    MARKET = "market"  # another market than Hong Kong
    SYMBOL = "symbol"  # a code that no Hong Kong security can have
    UNWANTED = "unwanted"  # a code that nobody asked OpenD for
    TIME = "time"  # in no known form, or no date and time
    DAY = "day"  # a day that no tick of now can be of
    WITNESSES = "witnesses"  # a time that timestamp and sequence both put on another day
    PRICE = "price"
    TURNOVER = "turnover"
    VOLUME = "volume"
    REFUSED_BY_SQLITE = "refused_by_sqlite"


class TickRejected(RecorderError):
    """One tick cannot be stored as it came; it goes to quarantine, its frame goes on."""

    def __init__(self, code: RejectCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class FeedError(RecorderError):
    """OpenD did not do what was asked."""


class RequestNotBuilt(FeedError):
    """A request to OpenD could not be put together; OpenD was not asked."""


class FeedTimeout(FeedError):
    """OpenD did not answer in time."""


class FeedLost(FeedError):
    """The connection to OpenD is gone."""


class StoreError(RecorderError):
    """A day file could not be written; the rows are still ours."""


class StoreBusy(StoreError):
    """Another process holds the day file's lock."""


class StoreUnavailable(StoreError):
    """The disk or the file system refuses writes (full, read-only, I/O error)."""


class StoreFault(StoreUnavailable):
    """The recorder's own code failed while storing; the rows are still ours."""


class StoreCorrupt(StoreError):
    """SQLite calls the day file damaged, or it is not a file of ours."""


class CopiesUnavailable(RecorderError):
    """The engine that holds copies of recorded days cannot answer, or refuses."""


class TooMuchAtOnce(RecorderError):
    """More is asked for than may be made ready at once: ask for fewer days or symbols."""


class RowRefused(StoreError):
    """SQLite refuses a single row for what it holds."""


class QuestionError(RecorderError):
    """A question in a language of its own, such as SQL, is wrong or asks for what is not allowed."""


class NoData(RecorderError):
    """There is nothing to show."""


class InputError(RecorderError):
    """What was asked for has no meaning: no day, no time, no symbol."""

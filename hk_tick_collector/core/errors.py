"""Errors with a meaning of their own. The docstring's first line is what a user reads when no text is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hk_tick_collector.core.tick import RejectCode


class RecorderError(Exception):
    """Something the recorder cannot go on with."""

    def __init__(self, text: str | None = None) -> None:
        doc = (type(self).__doc__ or "").strip().splitlines()
        super().__init__(text if text is not None else doc[0])


class ConfigError(RecorderError):
    """The configuration is wrong; nothing was started."""


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


class RowRefused(StoreError):
    """SQLite refuses a single row for what it holds."""


class NoData(RecorderError):
    """There is nothing to show."""

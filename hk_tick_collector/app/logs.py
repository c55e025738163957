"""Where log lines go and what they look like: one handler on the root logger, to standard error.

On a terminal or in a file a line is ``2026-11-20T01:30:00.123Z INFO health queue=0``. Under journald, which has its own
clock and levels, it is ``<6>health queue=0``: the syslog priority, then the message word at once. A record at ERROR or
above ends in ``level=ERROR``, since journald keeps the priority out of the text and ``grep ERROR`` has to find it.

Promises: ``logging`` calls never raise into the caller, whatever happens to the stream, nor does a reader that went
away change the exit code. Lines of other packages come from WARNING up, so that DEBUG shows the recorder's own. Limits:
a reader that is alive but does not read blocks the caller, as with every program that writes to a full pipe.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from hk_tick_collector.core.logline import event
from hk_tick_collector.core.text import cut, printable

OWN_LOGGER = "hk_tick_collector"
MAX_RECORD_CHARS = 100_000  # all stacks of a stalled recorder are a tenth of it

_PRIORITIES = (  # sd-daemon(3): the number in <N> is the syslog severity
    (logging.CRITICAL, "<2>"),
    (logging.ERROR, "<3>"),
    (logging.WARNING, "<4>"),
    (logging.INFO, "<6>"),
)
_DEBUG_PRIORITY = "<7>"
_READER_GONE = (errno.EPIPE, errno.ECONNRESET)


class _Formatter(logging.Formatter):
    """Stacks without the lines of source code: to read those, ``traceback`` opens files, and the loop logs, too."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        error = traceback.TracebackException(*ei, lookup_lines=False)
        _leave_source_out(error)
        return "".join(error.format()).rstrip("\n")


def _leave_source_out(error: traceback.TracebackException | None) -> None:
    while error is not None:
        frames = [(frame.filename, frame.lineno or 0, frame.name, "") for frame in error.stack]
        error.stack = traceback.StackSummary.from_list(frames)
        for inner in error.exceptions or ():
            _leave_source_out(inner)
        if error.__cause__ is not None:
            _leave_source_out(error.__context__)
        error = error.__cause__ or error.__context__


class _PlainFormatter(_Formatter):
    """Own timestamp (UTC, milliseconds) and level in front of the message."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, tz=UTC)
        stamp = f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"
        return f"{stamp} {record.levelname} {_clean(super().format(record))}"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        return _with_error_word(record) if record.levelno > logging.ERROR else record.getMessage()


class _JournaldFormatter(_Formatter):
    """A priority in front of every line, of a traceback, too: journald takes each line for a message of its own."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next((text for level, text in _PRIORITIES if record.levelno >= level), _DEBUG_PRIORITY)
        return "\n".join(priority + line for line in _clean(super().format(record)).split("\n"))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        return _with_error_word(record) if record.levelno >= logging.ERROR else record.getMessage()


def _clean(text: str) -> str:
    """Lines of a bounded length without what a terminal would obey: a traceback ends in words that came from outside,
    and other packages log what they like."""
    if len(text) > MAX_RECORD_CHARS:
        text = cut(text, MAX_RECORD_CHARS)
    return printable(text, "\n\t")


def _with_error_word(record: logging.LogRecord) -> str:
    """At the end of the first line, so that the message word stays in front."""
    first, *more = record.getMessage().split("\n")
    return "\n".join([f"{first} level=ERROR", *more])


if TYPE_CHECKING:
    _TextHandler = logging.StreamHandler[TextIO]
else:
    _TextHandler = logging.StreamHandler  # takes no parameter before Python 3.11


class _Handler(_TextHandler):
    """Writes to the stream. A line that cannot be written is lost, never raised."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        error = sys.exc_info()[1]
        try:
            if isinstance(error, OSError) and error.errno in _READER_GONE:
                self._silence()
            elif not isinstance(error, OSError):
                self._say_unreadable(record, error)
        except (OSError, ValueError):
            return  # the stream is closed as well; there is nobody to tell

    def _silence(self) -> None:
        """The reader is gone for good. The interpreter's last flush would fail, too, and turn the exit code to 120."""
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, self.stream.fileno())
        finally:
            os.close(null)

    def _say_unreadable(self, record: logging.LogRecord, error: BaseException | None) -> None:
        """A message whose arguments do not fit its text, or whose text does not fit the stream's encoding."""
        text = ascii(record.msg) if isinstance(record.msg, str) else type(record.msg).__name__
        line = event("log_line_unreadable", logger=record.name, text=text, error=type(error).__name__)
        fallback = logging.LogRecord(record.name, logging.ERROR, record.pathname, record.lineno, line, None, None)
        self.stream.write(self.format(fallback) + self.terminator)
        self.flush()


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether ``stream`` is the one that systemd connected to the journal.

    systemd.exec(5): ``JOURNAL_STREAM`` holds ``device:inode`` of the standard output or error it set up. The variable
    is inherited by children with other streams, so that only the comparison tells.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def configure_logging(level: str, stream: TextIO | None = None, under_journald: bool | None = None) -> None:
    """Send all records of ``level`` (a name such as INFO) and above to ``stream``, standard error if None.

    ``under_journald`` None means: find out. Replaces the handlers of an earlier call. futu-api's own loggers do not
    pass their records on and are the feed's business.
    """
    stream = stream or sys.stderr
    if under_journald is None:
        under_journald = is_journal(stream, os.environ)
    handler = _Handler(stream)
    handler.setFormatter(_JournaldFormatter() if under_journald else _PlainFormatter())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.getLogger(OWN_LOGGER).setLevel(level)
    logging.captureWarnings(True)

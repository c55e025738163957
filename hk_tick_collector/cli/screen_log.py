"""Where the live screen finds the recorder's newest log lines: the journal of its unit, or a file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

from hk_tick_collector.cli.loglines import LogRecord, from_text
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.core.regular import open_named

TAIL_BYTES = 65_536
ASK_SEC = 5.0


class ScreenLog(Protocol):
    """The newest lines, oldest first, of which the last is the newest::

        log = FileLog(Path("recorder.log"))
        log.newest(3)[-1].text        # "health connected=True status=ok ..."

    RecorderError says why there are none, and where they are.
    """

    def newest(self, rows: int) -> list[LogRecord]:
        """At most ``rows`` of them."""
        ...


class FileLog:
    """A file that the recorder's standard error goes to. No more than its last TAIL_BYTES are read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def newest(self, rows: int) -> list[LogRecord]:
        """As of ``ScreenLog``."""
        try:
            with open_named(self._path) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - TAIL_BYTES))
                lines = file.read(TAIL_BYTES).decode("utf-8", "replace").splitlines()
        except OSError as exc:
            raise RecorderError(f"the log cannot be read ({exc.strerror})") from None
        return list(from_text(lines[1:] if size > TAIL_BYTES else lines))[-rows:]


class JournalLog:
    """The journal of a unit, as far as this user may read it."""

    def __init__(self, unit: str) -> None:
        self._unit = unit

    def newest(self, rows: int) -> list[LogRecord]:
        """As of ``ScreenLog``."""
        journalctl = shutil.which("journalctl")
        if journalctl is None:
            raise RecorderError("no journal here; name the recorder's log with --log")
        command = [journalctl, "--unit", self._unit, "--lines", str(rows), "--output", "cat", "--no-pager", "--quiet"]
        try:
            done = subprocess.run(  # noqa: S603 - no shell, and our own words
                command, capture_output=True, timeout=ASK_SEC, check=False, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.SubprocessError) as exc:
            raise RecorderError(f"the journal does not answer ({type(exc).__name__})") from None
        records = list(from_text(done.stdout.decode("utf-8", "replace").splitlines()))
        if not records:
            raise RecorderError(f"the journal shows nothing of {self._unit}: --log names a file, --unit another unit")
        return records[-rows:]

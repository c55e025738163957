"""What the start needs from the disk is waited for: a disk that stumbles or is mounted late heals, a setting does not.

Each failed attempt is told to the service manager, and once a minute to the log. Under systemd the manager's own limit
for a start (TimeoutStartSec) ends a waiting that takes too long, and begins anew.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.errors import ConfigError, StoreError
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.health.sdnotify import notify

log = logging.getLogger(__name__)

RETRY_MIN_SEC = 0.5
RETRY_MAX_SEC = 10.0
LOG_PERIOD_SEC = 60.0
# What a machine answers to the reading of a good .env file. Anything else is the operator's to correct.
_MACHINE_ERRNOS = frozenset({errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT})

T = TypeVar("T")


def may_heal(error: ConfigError) -> bool:
    """Is it the machine that does not let a file of settings be read, and nothing that stands in it?"""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _MACHINE_ERRNOS


class Patience:
    """Says what is waited for, and how long to wait until the next attempt."""

    def __init__(self) -> None:
        self._backoff = Backoff(RETRY_MIN_SEC, RETRY_MAX_SEC)
        self._log = RateLimitedLog(log, LOG_PERIOD_SEC)

    def next_sec(self, error: Exception) -> float:
        """After a failed attempt: tell, and the seconds to wait."""
        wait_sec = self._backoff.next_sec()
        self._log.log(
            logging.ERROR,
            "start_waits",
            error=error,
            attempt=self._backoff.attempts,
            wait_sec=wait_sec,
            action="trying again until it works; nothing is recorded meanwhile",
        )
        notify(f"STATUS=waiting to start: {' '.join(str(error).split())}")
        return wait_sec


def until_it_works(step: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """The result of ``step``, however long its disk takes to answer. Raises the ``ConfigError`` that no time heals."""
    patience = Patience()
    while True:
        try:
            return step()
        except StoreError as exc:
            sleep(patience.next_sec(exc))
        except ConfigError as exc:
            if not may_heal(exc):
                raise
            sleep(patience.next_sec(exc))

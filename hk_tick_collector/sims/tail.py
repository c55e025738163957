"""How a check beside a running recorder treats the newest events: both sides are still being written."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass

MAX_MS = 600_000


def tail_ms(text: str) -> int:
    """An option's type: so long that a busy machine is excused, and not so long that a loss is."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is below 0")
    if number > MAX_MS:
        raise argparse.ArgumentTypeError(
            f"{number} is above {MAX_MS}: what is older than ten minutes and not stored is missing"
        )
    return number


@dataclass(frozen=True, slots=True)
class Tail:
    """The newest time of a truth file. What was made in it need not be stored yet; what is stored in it need not be in
    the truth file yet, which is read before the recorder's rows."""

    from_ms: int | None = None  # None: there is none, all must agree

    @classmethod
    def of(cls, made_ms: Iterable[int], allow_tail_ms: int) -> Tail:
        """The last ``allow_tail_ms`` before the newest of those events."""
        newest_ms = max(made_ms, default=None) if allow_tail_ms else None
        return cls(None if newest_ms is None else newest_ms - allow_tail_ms)

    def holds(self, ts_ms: object) -> bool:
        """Is an event of that time in it? What has no time is not."""
        return self.from_ms is not None and isinstance(ts_ms, int) and ts_ms >= self.from_ms

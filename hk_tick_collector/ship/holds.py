"""Who may send rows of a day: while its copy is being replaced as a whole, nobody adds to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Holds:
    """Days that are being replaced, and the day of which a shipment is on its way just now."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[str] = set()
        self._sending: str | None = None

    @contextmanager
    def sending(self, day: str) -> Iterator[bool]:
        """While a shipment of that day is sent. False: the day is held, and nothing may be sent."""
        with self._changed:
            if day in self._held:
                free = False
            else:
                self._sending, free = day, True
        try:
            yield free
        finally:
            with self._changed:
                if free:
                    self._sending = None
                self._changed.notify_all()

    @contextmanager
    def held(self, day: str) -> Iterator[None]:
        """While that day is replaced; begins when its last shipment has ended, well or ill."""
        with self._changed:
            self._held.add(day)
            self._changed.wait_for(lambda: self._sending != day)
        try:
            yield
        finally:
            with self._changed:
                self._held.discard(day)

"""Who subscribed what: quota, the 60-second rule, and who gets a symbol's ticks pushed.

Rules (Futu's OpenD documentation): one code and one type is one subscription, however many connections hold it; it
can be given back after 60 seconds at the earliest; it stops counting when the last connection dropped it. A closed
connection drops all of its own at once.

Owned by the event loop; nothing here waits or locks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hk_tick_collector.core.errors import RecorderError

MIN_HOLD_SEC = 60.0

Key = tuple[str, int]  # symbol "HK.00700", Qot_Common.SubType


class Refused(RecorderError):
    """A request that OpenD answers with an error; the text goes to the client as it is."""


class NotAnswered(RecorderError):
    """A request that OpenD keeps silent over."""


@dataclass(slots=True)
class _Held:
    since_sec: float
    push: bool


class SubscriptionBook:
    """All subscriptions of one simulator, by code and type, then by connection id."""

    def __init__(self, min_hold_sec: float = MIN_HOLD_SEC, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._min_hold_sec = min_hold_sec
        self._monotonic = monotonic
        self._held: dict[Key, dict[int, _Held]] = {}
        self._push_to: dict[Key, tuple[int, ...]] = {}
        self._of_type: dict[int, dict[str, None]] = {}
        self.changes = 0  # counts up with every change of what is held or pushed

    def subscribe(self, conn_id: int, keys: Iterable[Key], quota: int, push: bool | None) -> None:
        """Take all of them or none. ``push`` None leaves the registration for pushes as it is. Refused over quota."""
        wanted = list(dict.fromkeys(keys))
        new = sum(1 for key in wanted if key not in self._held)
        if new > quota - self.used():
            raise Refused(
                f"subscription quota exceeded: {new} more wanted, {max(0, quota - self.used())} of {quota} left; "
                "unsubscribe something first"
            )
        now_sec = self._monotonic()
        for key in wanted:
            held = self._held.setdefault(key, {}).setdefault(conn_id, _Held(now_sec, False))
            self._of_type.setdefault(key[1], {})[key[0]] = None
            if push is not None:
                held.push = push
            self._note_push(key)

    def unsubscribe(self, conn_id: int, keys: Iterable[Key]) -> None:
        """Give back all of them or none. Refused when one is not held, or not yet for 60 seconds."""
        wanted = list(dict.fromkeys(keys))
        for key in wanted:
            held = self._held.get(key, {}).get(conn_id)
            if held is None:
                raise Refused(f"{key[0]} is not subscribed with this type on this connection")
            held_sec = self._monotonic() - held.since_sec
            if held_sec < self._min_hold_sec:
                raise Refused(
                    f"{key[0]} was subscribed {held_sec:.0f} s ago; a subscription can be given back after "
                    f"{self._min_hold_sec:.0f} s"
                )
        for key in wanted:
            self._remove(conn_id, key)

    def register_push(self, conn_id: int, keys: Iterable[Key], push: bool) -> None:
        """Turn pushes of held subscriptions on or off. Refused when one is not held by this connection."""
        wanted = list(keys)
        for key in wanted:
            if conn_id not in self._held.get(key, {}):
                raise Refused(f"{key[0]} is not subscribed with this type; subscribe before registering its push")
        for key in wanted:
            self._held[key][conn_id].push = push
            self._note_push(key)

    def drop_connection(self, conn_id: int) -> None:
        """The connection is gone, and its subscriptions with it."""
        for key in self.keys_of(conn_id):
            self._remove(conn_id, key)

    def holds(self, conn_id: int, key: Key) -> bool:
        return conn_id in self._held.get(key, {})

    def keys_of(self, conn_id: int) -> list[Key]:
        return [key for key, holders in self._held.items() if conn_id in holders]

    def connections(self) -> list[int]:
        """Ids of the connections that hold something."""
        return sorted({conn_id for holders in self._held.values() for conn_id in holders})

    def push_to(self, key: Key) -> tuple[int, ...]:
        """Ids of the connections that want this pushed."""
        return self._push_to.get(key, ())

    def symbols(self, sub_type: int) -> list[str]:
        """What anybody holds of one type, pushed or not."""
        return list(self._of_type.get(sub_type, ()))

    def used(self) -> int:
        """Quota in use, over all connections."""
        return len(self._held)

    def _remove(self, conn_id: int, key: Key) -> None:
        holders = self._held[key]
        del holders[conn_id]
        if not holders:
            del self._held[key]
            del self._of_type[key[1]][key[0]]
        self._note_push(key)

    def _note_push(self, key: Key) -> None:
        self.changes += 1
        targets = tuple(conn_id for conn_id, held in self._held.get(key, {}).items() if held.push)
        if targets:
            self._push_to[key] = targets
        else:
            self._push_to.pop(key, None)

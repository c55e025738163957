"""Sending: a thread for each target, and one for the dead man's address. What is sent comes out of the outbox."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from hk_tick_collector.alert.outbox import GIVE_UP_MS, MAX_LINES, Outbox, Waiting
from hk_tick_collector.alert.targets import ANY_ROOM_CHARS, SEND_SEC, DeadMan, EditableTarget, Letter, NotSent, Target
from hk_tick_collector.alert.words import title_of
from hk_tick_collector.core.complaint import Level
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.core.logline import RateLimitedLog, event

POLL_SEC = 1.0
MAX_DIRECT = 100
CANNOT_BE_CHANGED = (400, 403, 404)
_ROOM_BELOW_CHARS = 200  # for the lines that say what is not there
_log = logging.getLogger(__name__)


def letter_of(waiting: Waiting, given_up: int, market: str, room_chars: int = ANY_ROOM_CHARS) -> Letter:
    """What goes out: the lines, no more than somebody reads and the target takes, and what never arrived."""
    ends = itertools.accumulate(len(line) + 1 for line in waiting.lines)
    fits = sum(1 for end in ends if end <= room_chars - _ROOM_BELOW_CHARS)
    lines = list(waiting.lines[: max(1, min(MAX_LINES, fits))])
    if len(waiting.lines) > len(lines):
        lines.append(f"and {len(waiting.lines) - len(lines)} more: hk-tickctl alert list")
    if given_up:
        lines.append(f"{given_up} earlier letters could not be sent for a day and were given up: hk-tickctl alert list")
    title = title_of(waiting.kind, waiting.level, waiting.lines, market)
    data = {"kind": waiting.kind, "level": waiting.level.value, "market": market, "created_ms": waiting.created_ms}
    return Letter(f"{waiting.number}-{waiting.created_ms}", title, "\n".join(lines), data)


class Postman:
    """Sends the letters of one target until ``stop``."""

    def __init__(
        self, name: str, target: Target, directory: Path, market: str, now_ms: Callable[[], int],
        stop: threading.Event, room_chars: int = ANY_ROOM_CHARS,
    ) -> None:  # fmt: skip
        self.name, self._room_chars = name, room_chars
        self._target, self._directory, self._market = target, directory, market
        self._now_ms, self._stop = now_ms, stop
        self._handed_over: tuple[int, str | None] = (0, None)  # the last letter that was taken, and its receipt
        self._direct: queue.SimpleQueue[Waiting] = queue.SimpleQueue()
        self._faults = RateLimitedLog(_log)
        self.thread = threading.Thread(target=self._run, name=f"post-{name}", daemon=True)

    def send_at_once(self, level: Level, lines: Sequence[str]) -> None:
        """Past the outbox, which cannot be written: the disk that is full may be what has to be told."""
        if self._direct.qsize() < MAX_DIRECT:
            self._direct.put(Waiting(0, self.name, "event", level, tuple(lines), self._now_ms(), 0))

    def _run(self) -> None:
        outbox: Outbox | None = None
        while not self._stop.is_set():
            try:
                self._send_direct()
                outbox = outbox or Outbox(self._directory)
                if self.send_next(outbox) or self.edit_next(outbox):
                    continue
            except StoreError as exc:
                self._faults.log(logging.ERROR, "alert_outbox_failed", reason=exc, action="trying again")
            except Exception:  # noqa: BLE001 - one that ends the thread would call nobody ever after
                self._faults.log(logging.ERROR, "alert_fault", exc_info=True, target=self.name, action="trying again")
            self._stop.wait(POLL_SEC)
        if outbox is not None:
            outbox.close()

    def _send_direct(self) -> None:
        while not self._direct.empty():
            waiting = self._direct.get_nowait()
            try:
                self._hand_over(self._letter(waiting))
            except NotSent:
                self._direct.put(waiting)
                return

    def _letter(self, waiting: Waiting, given_up: int = 0) -> Letter:
        return letter_of(waiting, given_up, self._market, self._room_chars)

    def _hand_over(self, letter: Letter) -> str | None:
        """``Target.send``; whatever else goes wrong in somebody's library, it was not sent."""
        try:
            return self._target.send(letter)
        except NotSent:
            raise
        except Exception as exc:  # noqa: BLE001 - its text may hold an address
            raise NotSent(type(exc).__name__) from None

    def send_next(self, outbox: Outbox) -> bool:
        """Send one letter; False when none is due, or it was not taken."""
        waiting = outbox.due(self.name, self._now_ms())
        if waiting is None:
            return False
        if waiting.number == self._handed_over[0]:  # the disk would not let us note it: once a second is no way to tell
            outbox.sent(waiting, self._now_ms(), self._handed_over[1])
            return True
        given_up = outbox.given_up(self.name, self._now_ms() - 7 * GIVE_UP_MS)
        try:
            receipt = self._hand_over(self._letter(waiting, given_up))
        except NotSent as exc:
            is_over = outbox.failed(waiting, str(exc), self._now_ms(), exc.retry_after_sec)
            self._not_sent(waiting, exc, "given up" if is_over else "trying again")
            return False
        self._handed_over = waiting.number, receipt
        outbox.sent(waiting, self._now_ms(), receipt)
        _log.info(event("alert_sent", target=self.name, kind=waiting.kind, lines=len(waiting.lines)))
        return True

    def edit_next(self, outbox: Outbox) -> bool:
        """Change one message that was sent; False when none has to be, or it was not taken."""
        edit = outbox.edit_due(self.name, self._now_ms()) if isinstance(self._target, EditableTarget) else None
        if edit is None or not isinstance(self._target, EditableTarget):
            return False
        try:
            self._target.edit(edit.receipt, self._letter(edit.letter))
        except NotSent as exc:
            final = exc.status in CANNOT_BE_CHANGED
            is_over = outbox.edit_failed(edit, str(exc), self._now_ms(), exc.retry_after_sec, final=final)
            self._not_sent(edit.letter, exc, "told in a letter of its own" if is_over else "trying again")
            return is_over
        outbox.edited(edit)
        _log.info(event("alert_edited", target=self.name, lines=len(edit.letter.lines)))
        return True

    def _not_sent(self, waiting: Waiting, exc: NotSent, action: str) -> None:
        self._faults.log(
            logging.WARNING, "alert_not_sent", key=self.name, target=self.name, reason=exc, tries=waiting.tries + 1,
            action=action,
        )  # fmt: skip


class DeadManPing:
    """Asks an address while ``is_well`` says so."""

    def __init__(self, settings: DeadMan, is_well: Callable[[], bool], stop: threading.Event) -> None:
        self._settings, self._is_well, self._stop = settings, is_well, stop
        self._faults = RateLimitedLog(_log)
        self.thread = threading.Thread(target=self._run, name="dead-man", daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(self._settings.every_sec):
            if self._is_well():
                self.ping()

    def ping(self) -> None:
        """Once. Its answer matters to nobody here."""
        import httpx  # noqa: PLC0415 - an extra

        from hk_tick_collector.core.paced import paced_client  # noqa: PLC0415 - as above

        try:
            with (
                paced_client(timeout=SEND_SEC, follow_redirects=False, trust_env=False) as client,
                client.stream("GET", self._settings.url.get_secret_value()),
            ):
                pass
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            self._faults.log(logging.WARNING, "alert_deadman_failed", reason=type(exc).__name__)

"""One connection to Schwab's streamer: ``remote.conversation`` in its words.

Owns the login of this connection, its commands, one after another and each with its answer, and the list of what is
subscribed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.sources.remote import conversation as remote
from hk_tick_collector.sources.remote.asking import BUSY, REFUSALS, SHOWN_CHARS, busy_wait_sec, words_of
from hk_tick_collector.sources.remote.conversation import CHECK_SEC, check_flood, read_object
from hk_tick_collector.sources.schwab import messages
from hk_tick_collector.sources.schwab.books import BookTaker
from hk_tick_collector.sources.schwab.mapping import LastTradeMapper
from hk_tick_collector.sources.schwab.tokens import Access, Tokens
from hk_tick_collector.sources.source import Sink

log = logging.getLogger(__name__)

RENEW_AGAIN_SEC = 60
# Where another program has this login, or the streamer may still hold our last connection: asked again after so long.
TAKEN_AT_LOGIN_SEC, TAKEN_LATER_SEC, DENIED_SEC = 60, 900, 300
MAX_PARTS = 10_000  # of a message
ANSWER_SEC = 8.0  # for a command: less than those wait who ask, so that the next one still gets its turn


class Conversation(remote.Conversation):
    """See ``remote.conversation.Conversation``."""

    word, title = "schwab", "Schwab"
    silence_sec = messages.SILENCE_SEC
    max_message_bytes = messages.MAX_MESSAGE_BYTES

    def __init__(
        self,
        tokens: Tokens,
        mapper: LastTradeMapper,
        sink: Sink,
        clock: Clock,
        on_lost: Callable[[str], None],
        books: BookTaker | None = None,
    ) -> None:
        super().__init__(sink, clock, on_lost)
        # By service, in Schwab's spelling; the sets are replaced on the thread alone.
        self.subscribed: dict[str, frozenset[str]] = dict.fromkeys(
            (messages.EQUITIES, messages.NYSE_BOOK, messages.NASDAQ_BOOK), frozenset()
        )
        self.server_ms = 0  # what its clock said last, in a heartbeat
        self.server_heard_ms = 0  # and ours then
        self._tokens = tokens
        self._mapper = mapper
        self._books = books
        self._access: Access | None = None
        self._commands = asyncio.Lock()
        self._requests = 0
        self._answers: dict[str, tuple[int, str]] = {}
        self._waiting = ""  # for the answer to this request
        self._delayed = ""

    def ask(
        self, *, add: Sequence[str] = (), remove: Sequence[str] = (), service: str = messages.EQUITIES
    ) -> Future[None]:
        """Subscribe and unsubscribe, on any thread; done when the streamer has said yes. FeedError with its words;
        FeedLost, also in the future, when the connection is gone."""
        return self.run_there(lambda: self._ask(service, add, remove))

    # --- on the thread ---

    def address(self) -> str:
        """As the preferences say at this moment."""
        self._access = self._tokens.get()
        return self._access.streamer.url

    def read(self, raw: str | bytes) -> Mapping[str, Any] | None:
        """One with a part that is known."""
        message = read_object(raw)
        return message if message is not None and not _PARTS.isdisjoint(message) else None

    def turned_away(self, status: int, retry_after: str) -> FeedError:
        """Who is busy is left alone; a token that is not taken is bought anew."""
        if status in BUSY:
            return self._tokens.leave_alone(
                f"the streamer wants to be left alone ({status})", busy_wait_sec(retry_after)
            )
        if status in REFUSALS:
            self._tokens.refused()
        return super().turned_away(status, retry_after)

    async def greet(self) -> None:
        """Log in; nothing else may be said before that is answered."""
        assert self._access is not None
        streamer, token = self._access.streamer, self._access.token
        async with self._commands:
            code, words = await self._command(lambda number: messages.login(number, streamer, token))
        if code != 0:
            raise self._not_let_in(code, words)
        self.opened.set_result(None)
        await self._keep_token()

    def _not_let_in(self, code: int, words: str) -> FeedError:
        if code == messages.LOGIN_DENIED:
            self._tokens.refused()
            return self._tokens.leave_alone(_told(code, words), DENIED_SEC, login_helps=True)
        if code == messages.CLOSE_CONNECTION:
            return self._tokens.leave_alone(_told(code, words), TAKEN_AT_LOGIN_SEC)
        return FeedLost(_told(code, words))

    async def _keep_token(self) -> None:
        """The next connection finds a good token, whenever it is made. This one goes on without it."""
        while True:
            await asyncio.sleep(CHECK_SEC)
            try:
                if await asyncio.to_thread(self._tokens.renew):
                    log.info(event("schwab_token_renewed"))
            except Exception as exc:  # noqa: BLE001 - whatever it is, this connection needs no token any more
                self.repeat_log.log(
                    logging.WARNING,
                    "schwab_token_not_renewed",
                    error=words_of(exc),
                    action="trying again; the next connection will want one",
                )
                await asyncio.sleep(RENEW_AGAIN_SEC)

    async def _ask(self, service: str, add: Sequence[str], remove: Sequence[str]) -> None:
        """One after another: which word subscribes depends on the answer before it. What is not answered counts as not
        subscribed, whichever way it was meant."""
        async with self._commands:
            if remove:
                with self._unknown(service, remove):
                    await self._subscription(service, "UNSUBS", remove)
                self.subscribed[service] = self.subscribed[service].difference(remove)
            if add:  # SUBS replaces what there was of the service
                word = "ADD" if self.subscribed[service] else "SUBS"
                with self._unknown(service, add):
                    await self._subscription(service, word, add)
                self.subscribed[service] = self.subscribed[service].union(add)

    @contextlib.contextmanager
    def _unknown(self, service: str, keys: Sequence[str]) -> Iterator[None]:
        """Without an answer nobody knows whether these are sent."""
        try:
            yield
        except FeedTimeout:
            self.subscribed[service] = self.subscribed[service].difference(keys)
            raise

    async def _subscription(self, service: str, command: str, keys: Sequence[str]) -> None:
        assert self._access is not None
        streamer = self._access.streamer
        code, words = await self._command(
            lambda number: messages.subscription(number, streamer, service, command, keys)
        )
        if code == messages.SERVICE_NOT_AVAILABLE:
            raise messages.ServiceClosed(_told(code, words))
        if code not in messages.OK:
            raise FeedError(_told(code, words))

    async def _command(self, text: Callable[[int], str]) -> tuple[int, str]:
        """Its answer's code and words; whoever calls has the lock. FeedTimeout: no other command waits for an answer
        that does not come."""
        number, self._requests = self._requests, self._requests + 1
        self._waiting = str(number)
        await self.send(text(number))
        try:
            async with asyncio.timeout(ANSWER_SEC):
                await self.until(lambda: self._waiting in self._answers)
        except TimeoutError:
            self._waiting = ""
            raise FeedTimeout(f"a command was not answered in {ANSWER_SEC:g} s") from None
        return self._answers.pop(self._waiting)

    def take(self, message: Mapping[str, Any]) -> None:
        """Data above all."""
        for kind, take in _TAKERS.items():
            parts = message.get(kind)
            if isinstance(parts, list):
                for part in parts[:MAX_PARTS]:
                    if isinstance(part, dict):
                        take(self, part)

    def _data(self, part: dict[str, Any]) -> None:
        if self._books is not None and self._books.take(part):
            return
        mapped = self._mapper.map(part, self.clock.now_ms())
        if mapped.rejected:
            self.sink.reject(mapped.rejected)
        if mapped.learned:
            self.sink.learn(mapped.learned)
        if mapped.ticks:
            self.sink.push(list(mapped.ticks.values()))
        if mapped.delayed:
            self.repeat_log.log(
                logging.WARNING,
                "schwab_data_delayed",
                symbol=mapped.delayed,
                action="trades come late: sign the exchanges' agreements for real-time data at Schwab",
            )
        check_flood(mapped.rejected)

    def _response(self, part: dict[str, Any]) -> None:
        code, words = messages.code_of(part)
        if str(part.get("requestid")) == self._waiting and self._waiting not in self._answers:
            self._answers[self._waiting] = code, words
            self.note_change()
        elif code not in messages.OK:
            self._complaint(code, words)

    def _notify(self, part: dict[str, Any]) -> None:
        if "heartbeat" in part:
            self._heartbeat(part["heartbeat"])
            return
        code, words = messages.code_of(part)
        if code not in messages.OK:
            self._complaint(code, words)

    def _heartbeat(self, told: object) -> None:
        text = str(told) if isinstance(told, str | int) else ""
        if text.isascii() and text.isdigit() and len(text) <= 13:
            self.server_ms, self.server_heard_ms = int(text), self.clock.now_ms()
            self._mapper.note_clock(self.server_ms, self.server_heard_ms)

    def _complaint(self, code: int, words: str) -> None:
        """What nobody asked for."""
        if code == messages.CLOSE_CONNECTION:
            raise self._tokens.leave_alone(_told(code, words), TAKEN_LATER_SEC)
        if code == messages.LOGIN_DENIED:
            self._tokens.refused()
        if code in (messages.LOGIN_DENIED, messages.STOP_STREAMING):
            raise FeedLost(_told(code, words))
        self.repeat_log.log(logging.WARNING, "schwab_error", key=str(code), code=code, message=_told(code, words))


_TAKERS: dict[str, Callable[[Conversation, dict[str, Any]], None]] = {
    "data": Conversation._data,
    "response": Conversation._response,
    "notify": Conversation._notify,
}
_PARTS = frozenset(_TAKERS)


def _told(code: int, words: str) -> str:
    """What a code means, with the streamer's own words."""
    meaning = messages.WORDS.get(code, "the streamer said no")
    shown = printable(cut(words, SHOWN_CHARS))
    return f"{meaning} (code {code}{': ' if shown else ''}{shown})"

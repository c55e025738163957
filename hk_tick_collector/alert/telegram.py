"""Telegram: letters with buttons, and a few questions that listed people may ask the bot.

Its HTTP interface is a handful of JSON calls, made here with httpx: aiogram would hold pydantic back for everybody in
the environment, and bring a second HTTP client. Strangers are not answered; an empty list of users is nobody. What
buttons and commands do reads files and changes nothing but mutes; nothing that is typed reaches a shell.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from hk_tick_collector.alert.targets import RETRY_AFTER_MAX_SEC, SEND_SEC, Letter, NotSent, TelegramSettings
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.text import cut, printable

TEXT_CHARS = 4000  # Telegram takes 4096
PER_MIN = 18  # it lets about 20 a minute through to a chat
POLL_SEC, READ_SEC = 25, 35.0
BACK_OFF_SEC = (1.0, 2.0, 5.0, 15.0, 60.0)
OLD_SEC = 300  # what was asked longer ago, while we were away, is not answered
MAX_UPDATES = 100
BAD_REQUEST, NOT_MODIFIED = 400, "message is not modified"
_CODE = re.compile(r"\[([a-z][a-z_]{0,39});")
_CALLBACK = re.compile(r"v1:(details|today|mute|refresh):([a-z_]{0,40})", re.ASCII)
_SAME_AS = {"refresh": "status", "today": "day", "start": "help"}
_COMMAND = re.compile(r"/(status|day|gaps|top|symbol|help|start)(?:@\w{1,64})?(?:\s+(\S{1,30}))?\s*", re.ASCII)

_log = logging.getLogger(__name__)


class TelegramApi:
    """Calls of one bot. NotSent with Telegram's own words, never with the address, in which the token is."""

    def __init__(self, settings: TelegramSettings) -> None:
        from hk_tick_collector.core.paced import paced_client  # noqa: PLC0415 - httpx is an extra

        self._url = f"{settings.api}/bot{settings.token.get_secret_value()}"
        self._client = paced_client(timeout=SEND_SEC, follow_redirects=False, trust_env=False)

    def call(self, method: str, read_sec: float = SEND_SEC, **asked: Any) -> Any:
        """What Telegram answers under ``result``."""
        import httpx  # noqa: PLC0415

        try:
            answer = self._client.post(f"{self._url}/{method}", json=asked, timeout=read_sec)
            body = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
            raise NotSent(type(exc).__name__) from None
        if not isinstance(body, dict) or body.get("ok") is not True:
            raise _refusal(answer.status_code, body if isinstance(body, dict) else {})
        return body.get("result")


def _refusal(status: int, body: Mapping[str, Any]) -> NotSent:
    parameters = body.get("parameters")
    wait = parameters.get("retry_after") if isinstance(parameters, dict) else None
    wait_sec = min(float(wait), RETRY_AFTER_MAX_SEC) if isinstance(wait, int) and wait > 0 else None
    return NotSent(
        f"Telegram answers {status}: {printable(cut(str(body.get('description', '')), 100))}", wait_sec, status
    )


class Telegram:
    """A chat of one bot, as ``targets.EditableTarget``."""

    def __init__(self, settings: TelegramSettings) -> None:
        self._settings = settings
        self._api = TelegramApi(settings)
        self._sent_sec: deque[float] = deque(maxlen=PER_MIN)

    def send(self, letter: Letter) -> str | None:
        """One message with buttons for what it is about; its number."""
        message = self._say("sendMessage", letter)
        number = message.get("message_id") if isinstance(message, dict) else None
        return str(number) if isinstance(number, int) else None

    def edit(self, receipt: str, letter: Letter) -> None:
        """The same message, with another text."""
        try:
            self._say("editMessageText", letter, message_id=int(receipt))
        except NotSent as exc:
            if exc.status != BAD_REQUEST or NOT_MODIFIED not in str(exc):
                raise

    def _say(self, method: str, letter: Letter, **more: Any) -> Any:
        now_sec = time.monotonic()
        if len(self._sent_sec) == PER_MIN and now_sec - self._sent_sec[0] < 60:
            raise NotSent("more than Telegram takes in a minute", 60 - (now_sec - self._sent_sec[0]))
        sent = self._api.call(
            method, chat_id=self._settings.chat, text=cut(f"{letter.title}\n{letter.text}", TEXT_CHARS),
            disable_web_page_preview=True, reply_markup={"inline_keyboard": [_buttons(letter)]}, **more,
        )  # fmt: skip
        self._sent_sec.append(now_sec)
        return sent


def _buttons(letter: Letter) -> list[dict[str, str]]:
    code = _CODE.search(letter.text)
    buttons = [("Status", "v1:refresh:"), ("Today", "v1:today:")]
    if code is not None:
        buttons += [("What to do", f"v1:details:{code[1]}"), ("Mute 1 h", f"v1:mute:{code[1]}")]
    return [{"text": text, "callback_data": data} for text, data in buttons]


class TelegramBot:
    """Answers listed people, in a thread of its own, until ``stop``. ``answer(verb, argument)`` gives the text."""

    def __init__(
        self, name: str, settings: TelegramSettings, answer: Callable[[str, str], str], stop: threading.Event
    ) -> None:
        self._settings, self._answer, self._stop = settings, answer, stop
        self._api = TelegramApi(settings)
        self._faults = RateLimitedLog(_log)
        self._next_update = 0
        self.name = name
        self.thread = threading.Thread(target=self._run, name=f"bot-{name}", daemon=True)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                self.poll()
                failures = 0
            except NotSent as exc:
                self._faults.log(logging.WARNING, "alert_bot_failed", key=self.name, target=self.name, reason=exc)
                wait_sec = exc.retry_after_sec or BACK_OFF_SEC[min(failures, len(BACK_OFF_SEC) - 1)]
                failures += 1
                self._stop.wait(wait_sec)
            except Exception:  # noqa: BLE001 - a bot that is dead would look as if nobody asked
                self._faults.log(logging.ERROR, "alert_fault", exc_info=True, target=self.name, action="trying again")
                self._stop.wait(BACK_OFF_SEC[-1])

    def poll(self) -> None:
        """Wait for what people ask, and answer it."""
        asked = self._api.call(
            "getUpdates", READ_SEC, offset=self._next_update, timeout=POLL_SEC, limit=MAX_UPDATES,
            allowed_updates=["message", "callback_query"],
        )  # fmt: skip
        if not isinstance(asked, list):
            raise NotSent("Telegram answers something else than updates")
        for update in asked[:MAX_UPDATES]:
            number = update.get("update_id") if isinstance(update, dict) else None
            if not isinstance(number, int):
                raise NotSent("Telegram answers something else than updates")
            self._next_update = max(self._next_update, number + 1)  # also of one that we cannot answer
            self._handle(update)

    def _handle(self, update: Mapping[str, Any]) -> None:
        try:
            query = update.get("callback_query")
            message = query["message"] if query else update["message"]
            user = (query or message)["from"]["id"]
            chat, asked_sec = message["chat"]["id"], message["date"]
            text = str(query["data"] if query else message.get("text", ""))
        except (KeyError, TypeError):
            return
        if user not in self._settings.users or chat != self._settings.chat:
            self._faults.log(logging.WARNING, "alert_bot_stranger", key="stranger", target=self.name)
            return
        if query:
            self._api.call("answerCallbackQuery", callback_query_id=str(query.get("id", "")))
        elif time.time() - asked_sec > OLD_SEC:
            return
        self._api.call("sendMessage", chat_id=chat, text=cut(self._answer_to(text), TEXT_CHARS))

    def _answer_to(self, text: str) -> str:
        button, command = _CALLBACK.fullmatch(text), _COMMAND.fullmatch(text)
        if button is not None:
            verb, argument = button[1], button[2]
        elif command is not None:
            verb, argument = command[1], command[2] or ""
        else:
            verb, argument = "help", ""
        return printable(self._answer(_SAME_AS.get(verb, verb), argument), "\n")

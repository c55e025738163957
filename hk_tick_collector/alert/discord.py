"""Discord: letters into a channel, by the channel's own webhook address.

With ``wait`` it says what it calls the message, which can then be changed. Who is mentioned is called by name; nothing
in a text ever calls anybody else.
"""

from __future__ import annotations

from typing import Any

from hk_tick_collector.alert.targets import ROOM_CHARS, SEND_SEC, Letter, NotSent, wait_of
from hk_tick_collector.core.complaint import Level
from hk_tick_collector.core.text import cut, printable

MAX_ANSWER_BYTES = 64 << 10
_TEXT_CHARS = 1950  # Discord takes 2000, and a cut text says how long it was


class Discord:
    """A channel, as ``targets.EditableTarget``."""

    def __init__(self, url: str, mention: int | None) -> None:
        import httpx  # noqa: PLC0415 - an extra

        from hk_tick_collector.core.paced import paced_client  # noqa: PLC0415 - as above

        self._url, self._mention = httpx.URL(url), mention
        self._client = paced_client(timeout=SEND_SEC, follow_redirects=False, trust_env=False)

    def send(self, letter: Letter) -> str | None:
        """One message; its number."""
        answer = self._call("POST", self._url.copy_merge_params({"wait": "true"}), letter)
        number = answer.get("id") if isinstance(answer, dict) else None
        return number if isinstance(number, str) and number.isdecimal() and len(number) < 25 else None

    def edit(self, receipt: str, letter: Letter) -> None:
        """The same message, with another text."""
        self._call("PATCH", self._url.copy_with(path=f"{self._url.path.rstrip('/')}/messages/{receipt}"), letter)

    def _call(self, method: str, url: Any, letter: Letter) -> Any:
        import httpx  # noqa: PLC0415

        calls = self._mention is not None and (
            letter.data.get("level") == Level.ALERT or letter.data.get("kind") == "signal"
        )
        head = f"<@{self._mention}> " if calls else ""
        body = {
            "content": cut(f"{head}**{letter.title}**\n{printable(letter.text, chr(10))}", _TEXT_CHARS),
            "allowed_mentions": {"parse": [], "users": [str(self._mention)] if calls else []},
        }
        try:
            with self._client.stream(method, url, json=body) as answer:
                content = next(answer.iter_bytes(MAX_ANSWER_BYTES), b"")
                status, wait = answer.status_code, answer.headers.get("retry-after", "")
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise NotSent(type(exc).__name__) from None
        if not 200 <= status < 300:
            raise NotSent(f"Discord answers {status}", wait_of(wait), status)
        try:
            return httpx.Response(200, content=content).json()
        except ValueError:
            return None  # it was taken, and cannot be changed


assert ROOM_CHARS["discord"] < _TEXT_CHARS

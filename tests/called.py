"""Somebody who is called: a server of the test's own, with a webhook and an address for signs of life."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "0123456789abcdef0123"
TOKEN = "planted-token-that-nobody-may-see"


class Called(ThreadingHTTPServer):
    """Somebody who is called. ``answers`` are given one after the other, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, dict[str, str]]] = [(200, {})]
        self.letters: list[dict[str, Any]] = []
        self.pings = 0
        self.refused = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{TOKEN}"

    def __exit__(self, *exc: Any) -> None:
        self.shutdown()
        super().__exit__(*exc)

    def texts(self) -> str:
        return "\n".join(letter["text"] for letter in self.letters)


class TelegramServer(Called):
    """As far as a bot asks it: messages that people sent are given once, what it says is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []
        self.said: list[dict[str, Any]] = []
        self.edits: list[dict[str, Any]] = []
        self.refusals: list[tuple[int, dict[str, Any]]] = []

    def ask(self, user: int, chat: int, text: str, *, button: bool = False) -> None:
        """Somebody types, or presses a button."""
        message = {"from": {"id": user}, "chat": {"id": chat}, "date": time.time(), "text": text}
        asked = {"callback_query": {"id": "1", "from": {"id": user}, "message": message, "data": text}}
        self.asked.append(asked if button else {"message": message})

    def answer(self, method: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Of one call."""
        if method == "getUpdates":
            first = given["offset"]
            updates = [{"update_id": number, **update} for number, update in enumerate(self.asked) if number >= first]
            if not updates:
                time.sleep(0.05)  # it waits for something to come, as Telegram does, only shorter
            return 200, {"ok": True, "result": updates}
        if method in ("sendMessage", "editMessageText"):
            if self.refusals:
                return self.refusals.pop(0)
            (self.said if method == "sendMessage" else self.edits).append(given)
            return 200, {"ok": True, "result": {"message_id": given.get("message_id", len(self.said))}}
        return 200, {"ok": True, "result": True}


class DiscordServer(Called):
    """A channel's webhook: messages by their number, as they read now."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: dict[str, list[dict[str, Any]]] = {}
        self.refusals: list[tuple[int, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/api/webhooks/1/{TOKEN}"

    def now(self) -> list[str]:
        """What each message says, the oldest first."""
        return [texts[-1]["content"] for texts in self.messages.values()]

    def take(self, method: str, path: str, given: dict[str, Any]) -> tuple[int, Any]:
        """Of one call."""
        if self.refusals:
            return self.refusals.pop(0)
        if method == "POST":
            assert path == f"/api/webhooks/1/{TOKEN}?wait=true"
            number = str(900_000_000_000_000_000 + len(self.messages))
            self.messages[number] = [given]
            return 200, {"id": number}
        number = path.removeprefix(f"/api/webhooks/1/{TOKEN}/messages/")
        if number not in self.messages:
            return 404, {"message": "Unknown Message"}
        self.messages[number].append(given)
        return 200, {"id": number}


class _Handler(BaseHTTPRequestHandler):
    server: Called

    def do_GET(self) -> None:
        self.server.pings += 1
        self._say(200, {})

    def do_PATCH(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if isinstance(self.server, DiscordServer):
            status, answer = self.server.take(self.command, self.path, json.loads(body))
            self._give(status, json.dumps(answer).encode())
            return
        if isinstance(self.server, TelegramServer):
            self._bot(self.server, body)
            return
        stamp, signature = self.headers["X-HK-Timestamp"], self.headers["X-HK-Signature"]
        wanted = hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        answers = self.server.answers
        status, headers = answers.pop(0) if len(answers) > 1 else answers[0]
        if status == 200:
            assert signature in (None, f"sha256={wanted}")
            self.server.letters.append({**json.loads(body), "key": self.headers["Idempotency-Key"]})
        else:
            self.server.refused += 1
        self._say(status, headers)

    def _bot(self, server: TelegramServer, body: bytes) -> None:
        bot, method = self.path.rsplit("/", 2)[1:]
        assert bot == f"bot{TOKEN}"
        status, answer = server.answer(method, json.loads(body))
        self._give(status, json.dumps(answer).encode())

    def _give(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _say(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Silent."""

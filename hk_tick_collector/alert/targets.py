"""Whom to call: the file of targets, and how each is reached.

The file is TOML, mode 0640 or less, because it holds tokens (``docs/alerts.md`` has one with everything in it). All
that is wrong in it is said at once. A token never reaches a log or an error: a target is known by its name.
"""

from __future__ import annotations

import difflib
import hashlib
import hmac
import json
import logging
import re
import stat
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from hk_tick_collector.alert.rules import RULES, no_such_rule
from hk_tick_collector.core.complaint import Level
from hk_tick_collector.core.errors import ConfigError, StoreCorrupt
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.core.text import printable
from hk_tick_collector.store.signals import NAME_PATTERN

MAX_FILE_BYTES = 256 << 10
SEND_SEC = 15.0
APPRISE_SEC = 60.0  # a letter may be several requests
WAYS = ("webhook", "discord", "telegram", "apprise")
RETRY_AFTER_MAX_SEC = 3600.0
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_URL = re.compile(r"https?://[^\s/]+\S*")
ROOM_CHARS = {"discord": 1900, "telegram": 3900}  # of a letter; Discord takes 2000, Telegram 4096
ANY_ROOM_CHARS = 20_000
_OTHERS_MAY = stat.S_IWGRP | stat.S_IRWXO


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("a name has small letters, digits and -, 32 at most")
    return text


def _hours(text: str) -> str:
    if not _HOURS.fullmatch(text):
        raise ValueError("write for example 22:30-07:30")
    return text


def _hook(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text):
        raise ValueError("is not the name of a hook; it has small letters, digits and -, 32 at most")
    return text


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ValueError, OSError, ZoneInfoNotFoundError) as exc:
        raise ValueError("is not a time zone; write for example Asia/Hong_Kong") from exc
    return text


def _url(text: SecretStr) -> SecretStr:
    if not _URL.fullmatch(text.get_secret_value()):
        raise ValueError("is not an address; it begins with https:// or http://")
    return text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _base(text: str) -> str:
    if not _URL.fullmatch(text):
        raise ValueError("is not an address; it begins with https:// or http://")
    return text.rstrip("/")


class TelegramSettings(_Strict):
    """A bot and a chat. ``users``: ids of those whom the bot answers; nobody else is."""

    token: SecretStr = Field(min_length=10, max_length=200)
    chat: int
    users: tuple[int, ...] = Field((), max_length=100)
    api: Annotated[str, AfterValidator(_base)] = "https://api.telegram.org"


class TargetSettings(_Strict):
    """One who is called."""

    name: Annotated[str, AfterValidator(_name)]
    webhook: Annotated[SecretStr, AfterValidator(_url)] | None = None
    secret: SecretStr | None = Field(None, min_length=16)  # signs a webhook's body
    apprise: SecretStr | None = None
    telegram: TelegramSettings | None = None
    discord: Annotated[SecretStr, AfterValidator(_url)] | None = None  # a channel's webhook address
    mention: int | None = Field(None, gt=0, lt=2**63)  # whom Discord calls by name about an alert or a signal
    signals: tuple[Annotated[str, AfterValidator(_hook)], ...] = Field((), max_length=50)  # hooks whose signals it gets
    levels: tuple[Literal["alert", "warn"], ...] = ("alert", "warn")
    digest: bool = True
    quiet: Annotated[str, AfterValidator(_hours)] | None = None  # then alerts alone; the rest waits for the digest
    zone: Annotated[str, AfterValidator(_zone)] = "Asia/Hong_Kong"

    def is_quiet(self, now_ms: int) -> bool:
        """Is it one of its quiet hours?"""
        hours = _HOURS.fullmatch(self.quiet or "")
        if hours is None:
            return False
        begin, end = (int(hours[at]) * 60 + int(hours[at + 1]) for at in (1, 3))
        local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(ZoneInfo(self.zone))
        minute = local.hour * 60 + local.minute
        return begin <= minute < end if begin <= end else minute >= begin or minute < end

    @property
    def room_chars(self) -> int:
        """How much text a letter to it may have."""
        return next((ROOM_CHARS[way] for way in ROOM_CHARS if getattr(self, way) is not None), ANY_ROOM_CHARS)

    @property
    def is_editable(self) -> bool:
        """Can what it was sent be changed?"""
        return self.discord is not None or self.telegram is not None

    def takes(self, level: Level, now_ms: int) -> bool:
        """Is it called at once about something of this level?"""
        return level.value in self.levels and (level is Level.ALERT or not self.is_quiet(now_ms))


class DeadMan(_Strict):
    """An address that is asked while all is well: whoever watches it calls when this machine is dead."""

    url: Annotated[SecretStr, AfterValidator(_url)]
    every_sec: float = Field(60, ge=5, le=86_400)


class RuleSettings(_Strict):
    """A change of one rule."""

    for_sec: float | None = Field(None, ge=0, le=86_400)
    is_off: bool = False


class HookSettings(_Strict):
    """A hook that is expected to be heard of."""

    silent_sec: float = Field(ge=60, le=86_400)  # of continuous trading; longer, and somebody is told


class TargetsFile(_Strict):
    """The whole file."""

    targets: tuple[TargetSettings, ...] = Field(min_length=1, max_length=50)
    deadman: DeadMan | None = None
    rules: dict[str, RuleSettings] = Field(default_factory=dict)
    hooks: dict[Annotated[str, AfterValidator(_hook)], HookSettings] = Field(default_factory=dict, max_length=50)


def read_targets(path: Path) -> TargetsFile:
    """The file's content. ConfigError with every mistake, a line each, and no secret."""
    content = _content(path)
    try:
        data = tomllib.loads(content)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path.name}: {exc}") from exc
    try:
        targets, mistakes = TargetsFile.model_validate(data), []
    except ValidationError as exc:
        targets = None
        errors = exc.errors(include_input=False)
        if any(error["loc"][:1] == ("targets",) and len(error["loc"]) > 1 for error in errors):
            errors = [error for error in errors if error["loc"] != ("targets",)]  # there are some: they are wrong
        mistakes = [f"{_place(error['loc'])}: {_words_of(error)}" for error in errors]
    mistakes += _mistakes(data)
    if targets is None or mistakes:
        raise ConfigError("\n".join(f"{path.name}: {mistake}" for mistake in mistakes))
    return targets


def _content(path: Path) -> str:
    try:
        with open_regular(path) as file:
            mode = path.stat().st_mode
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"ALERT_FILE: {path} cannot be read ({exc.strerror}): docs/alerts.md has one") from exc
    except StoreCorrupt as exc:
        raise ConfigError(f"ALERT_FILE: {exc}") from exc
    if mode & _OTHERS_MAY:
        raise ConfigError(f"ALERT_FILE: others may read {path}, which holds tokens: chmod 640 {path}")
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"ALERT_FILE: {path} has more than {MAX_FILE_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as exc:
        raise ConfigError(f"ALERT_FILE: {path} is not UTF-8") from exc


def _words_of(error: Mapping[str, Any]) -> str:
    """pydantic's words, or ours for a key that is none: with the one that was meant, where it looks like it."""
    if error["type"] != "extra_forbidden":
        return str(error["msg"]).removeprefix("Value error, ")
    tables: Sequence[type[BaseModel]] = _Strict.__subclasses__()
    known = sorted({name for table in tables for name in table.model_fields})
    meant = difflib.get_close_matches(str(error["loc"][-1]), known, 1)
    return "is not a key that is known here" + (f": did you mean {meant[0]}?" if meant else "; docs/alerts.md has all")


def _place(location: tuple[int | str, ...]) -> str:
    parts = [part for part in location if part != "[key]"]  # pydantic's word for a name that is wrong
    named = (str(part + 1) if isinstance(part, int) else printable(part)[:60] for part in parts)
    return ".".join(named) or "the file"


def _mistakes(data: dict[str, Any]) -> list[str]:
    """What is wrong between entries, of a file that may be wrong in them as well."""
    given, rules = data.get("targets"), data.get("rules")
    targets = [target for target in given if isinstance(target, dict)] if isinstance(given, list) else []
    mistakes = [f"{_called(target)}: {text}" for target in targets for text in _unfit(target)]
    names = [target["name"] for target in targets if isinstance(target.get("name"), str)]
    twice = sorted({name for name in names if names.count(name) > 1 and _NAME.fullmatch(name)})
    mistakes += [f"targets: {name} is there twice" for name in twice]
    unknown = [code for code in rules if code not in RULES] if isinstance(rules, dict) else []
    return mistakes + [f"rules.{printable(code):.60}: {no_such_rule(code)}" for code in unknown]


def _called(target: dict[str, Any]) -> str:
    name = target.get("name")
    return f"targets.{name}" if isinstance(name, str) and _NAME.fullmatch(name) else "a target"


def _unfit(target: dict[str, Any]) -> Iterator[str]:
    ways = [way for way in WAYS if way in target]
    if len(ways) != 1:
        yield f"give it one of {', '.join(WAYS)}, not {len(ways)}"
    if "secret" in target and "webhook" not in target:
        yield "secret signs a webhook, and there is none"
    if "mention" in target and "discord" not in target:
        yield "mention is for discord, and there is none"


# Sending


class NotSent(Exception):
    """It was not taken. ``retry_after_sec``: what the other side asks for; ``status``: its answer's, if it gave one.
    The text has no address and no token."""

    def __init__(self, reason: str, retry_after_sec: float | None = None, status: int | None = None) -> None:
        super().__init__(reason)
        self.retry_after_sec, self.status = retry_after_sec, status


@dataclass(frozen=True, slots=True)
class Letter:
    """What is sent: a title, lines of text, and the same for programs."""

    id: str
    title: str
    text: str
    data: Mapping[str, Any]


class Target(Protocol):
    """A way to somebody.

    ``send`` returns when the other side has taken the letter, else it raises NotSent; it may be called again with the
    same letter, whose ``id`` tells the other side so::

        class Printer:
            def send(self, letter: Letter) -> None:
                print(letter.title, letter.text, sep="\\n")
    """

    def send(self, letter: Letter) -> str | None:
        """Hand the letter over, within SEND_SEC. Returned is what names it at the other side, if it can be changed
        there."""
        ...


@runtime_checkable
class EditableTarget(Target, Protocol):
    """A way to somebody on which a letter that was taken can be changed: a state that goes on is one message."""

    def edit(self, receipt: str, letter: Letter) -> None:
        """Have the message that ``send`` named read like this letter. NotSent as of ``send``; with the status 400, 403
        or 404 it cannot be changed any more."""
        ...


class Webhook:
    """An address of one's own: a JSON body, with ``X-HK-Signature: sha256=<HMAC of "timestamp.body">`` if a secret is
    given and ``X-HK-Timestamp`` in seconds, so that an old letter cannot be sent again by somebody else."""

    def __init__(self, url: str, secret: str | None) -> None:
        self._url, self._secret = url, secret

    def send(self, letter: Letter) -> None:
        """One request. 2xx is taken; 429 and 503 may say when to come again."""
        import httpx  # noqa: PLC0415 - an extra

        from hk_tick_collector.core.paced import paced_client  # noqa: PLC0415 - as above

        body = json.dumps({"id": letter.id, "title": letter.title, "text": letter.text, **letter.data}).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": letter.id}
        if self._secret is not None:
            stamp = str(int(time.time()))
            signed = hmac.new(self._secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
            headers |= {"X-HK-Timestamp": stamp, "X-HK-Signature": f"sha256={signed}"}
        try:
            with (
                paced_client(timeout=SEND_SEC, follow_redirects=False, trust_env=False) as client,
                client.stream("POST", self._url, content=body, headers=headers) as answer,
            ):
                status, wait = answer.status_code, answer.headers.get("retry-after", "")
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise NotSent(type(exc).__name__) from None
        if not 200 <= status < 300:
            raise NotSent(f"it answers {status}", wait_of(wait), status)


def wait_of(text: str) -> float | None:
    """The seconds of a ``Retry-After``, as far as they are believed."""
    return min(float(text), RETRY_AFTER_MAX_SEC) if re.fullmatch(r"\d{1,6}(\.\d{1,9})?", text, re.ASCII) else None


class Apprise:
    """Mail, ntfy, Slack, Pushover and about a hundred others, by an address of apprise's."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._at_work: threading.Thread | None = None
        self._late: tuple[str, list[object]] = ("", [])  # a letter that was not waited for, and how it ended since

    def send(self, letter: Letter) -> None:
        """It tells only true or false. Its own limits begin anew with each byte that a service answers: it is waited
        for on a thread of its own, and that is left to itself, one at a time. A letter that was taken meanwhile is not
        sent again: a slow service would bring it once more with each try."""
        import apprise  # noqa: PLC0415 - an extra

        _silence_apprise()
        sender = apprise.Apprise()
        if not sender.add(self._url):
            raise NotSent("apprise does not know such an address")
        if self._at_work is not None and self._at_work.is_alive():
            raise NotSent("the letter before is not answered yet")
        if self._late == (letter.id, [True]):
            return
        ended: list[object] = []

        def notify() -> None:
            try:
                ended.append(bool(sender.notify(title=letter.title, body=letter.text)))
            except Exception as exc:  # noqa: BLE001 - a hundred services' own code, and its texts hold addresses
                ended.append(exc)

        self._at_work = threading.Thread(target=notify, name="apprise", daemon=True)
        self._at_work.start()
        self._at_work.join(APPRISE_SEC)
        if not ended:
            self._late = (letter.id, ended)
            raise NotSent(f"no answer within {APPRISE_SEC:g} s")
        if isinstance(ended[0], Exception):
            raise NotSent(type(ended[0]).__name__)
        if not ended[0]:
            raise NotSent("it did not take it")


def check_ways(file: TargetsFile) -> None:
    """Better now than at night: ModuleNotFoundError when what a target needs is not installed, ConfigError when apprise
    does not know an address."""
    if file.deadman is not None or any(target.apprise is None for target in file.targets):
        import httpx  # noqa: F401, PLC0415
    unknown = []
    for target in file.targets:
        if target.apprise is not None:
            import apprise  # noqa: PLC0415

            _silence_apprise()
            if not apprise.Apprise().add(target.apprise.get_secret_value()):
                unknown.append(f"targets.{target.name}: apprise does not know such an address")
    if unknown:
        raise ConfigError("\n".join(unknown))


def _silence_apprise() -> None:
    """It writes addresses with their tokens."""
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)

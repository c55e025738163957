"""Signals in and out: who may send, what is stored, and behind which tick.

A sender has a key with the scope ``hook:<name>``, or it signs: HMAC-SHA256 with the hook's secret over the time (epoch
seconds), a full stop, and the body, at most MAX_SKEW_SEC old. A signature is its own idempotency key, so one that is
sent again is stored once.

All work on files is done on one thread of its own: the file of signals has one writer, and a slow disk holds nobody
else up.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import math
import os
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import orjson
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hk_tick_collector.core.clock import Clock, SystemClock
from hk_tick_collector.core.errors import RecorderError, StoreError
from hk_tick_collector.market.symbols import check_symbols
from hk_tick_collector.serve.api.roots import Roots
from hk_tick_collector.serve.limits import MinuteLimit
from hk_tick_collector.serve.names import NameTwice, check_names
from hk_tick_collector.serve.problems import FieldError, Problem, problem_of
from hk_tick_collector.serve.settings import ServeSettings
from hk_tick_collector.store.follow import Follower
from hk_tick_collector.store.signals import NAME_PATTERN, SameKeyOtherSignal, Signal, SignalStore, read_signals

ML_TRADE = "ml-trade"
MAX_BODY_BYTES = 16 << 10
MAX_SKEW_SEC = 300
MAX_WAITING = 100  # signals that wait for the disk
SIGNALS_PER_MIN = 6000  # of one sender
MIN_SECRET_CHARS = 32
KEY_PATTERN = r"^[\x21-\x7e]{1,128}$"
_SIGNATURE = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_FILE_BYTES = 1 << 20
_T = TypeVar("_T")


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("write RFC 3339 with an offset, 2026-11-20T09:30:22+08:00")
    return value


class AnySignal(BaseModel):
    """What every hook takes: an object that names a symbol. The rest is the sender's."""

    model_config = ConfigDict(extra="allow", strict=True)

    symbol: str = Field(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9._:/-]+$", examples=["HK.00700"])


class MlTrade(AnySignal):
    """The decision of a trading model."""

    action: str = Field(min_length=1, max_length=32, pattern=r"^[a-z_]+$", examples=["entry"])
    direction: str = Field(pattern=r"^(long|short|flat)$", examples=["long"])
    price: float = Field(gt=0, allow_inf_nan=False, examples=[165.25])
    confidence: float | None = Field(None, ge=0, le=1)
    position_before: float | None = Field(None, allow_inf_nan=False)
    position_after: float | None = Field(None, allow_inf_nan=False)
    pnl: float | None = Field(None, allow_inf_nan=False)
    total_pnl: float | None = Field(None, allow_inf_nan=False)
    total_trades: int | None = Field(None, ge=0, le=2**53)
    timestamp: Annotated[AwareDatetime, BeforeValidator(_text)] = Field(
        strict=False, examples=["2026-11-20T09:30:22.123456+08:00"]
    )
    simulated: bool | None = None


class Sender(NamedTuple):
    """Who sent a signal."""

    name: str  # of the key or the signature, for the store
    may_read: Callable[[str], bool]  # may it speak of this symbol?
    signature: str | None = None  # of this message


class Received(NamedTuple):
    """What a sender is told."""

    signal: Signal
    is_new: bool


class Inbox:
    """One a server. ``close`` at its end."""

    def __init__(self, settings: ServeSettings, roots: Roots, clock: Clock | None = None) -> None:
        self._directory = settings.hooks_dir
        self._secrets = _Secrets(settings.hooks_secrets_file)
        self._roots = roots
        self._clock = clock or SystemClock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hooks")
        self._store: SignalStore | None = None
        self._followers: dict[int, Follower] = {}
        self._waiting = 0
        self._limit = MinuteLimit()

    def close(self) -> None:
        """Let go of all files."""
        self._thread.submit(self._close_files)
        self._thread.shutdown()

    def _close_files(self) -> None:
        for follower in self._followers.values():
            follower.close()
        if self._store is not None:
            self._store.close()

    # Who

    async def signed_by(self, name: str, time_text: str | None, signature: str | None, body: bytes) -> bool:
        """Is this body signed with the hook's secret, now?"""
        now_sec = self._clock.now_ms() / 1000
        is_timely = bool(time_text) and time_text is not None and re.fullmatch(r"[0-9]{1,12}", time_text) is not None
        if not is_timely or abs(now_sec - int(str(time_text))) > MAX_SKEW_SEC:
            return False
        secret = await self._do(self._secrets.of, name)
        wanted = hmac.new(secret or b"there is none", f"{time_text}.".encode() + body, hashlib.sha256).hexdigest()
        given = signature if signature is not None and _SIGNATURE.fullmatch(signature) else ""
        return hmac.compare_digest(wanted, given) and secret is not None

    # In

    async def receive(self, name: str, body: bytes, sender: Sender, idempotency_key: str | None) -> Received:
        """Store a signal; it is safe when this returns. A Problem when it was not stored."""
        directory = self._needed()
        recv_ts_ms = self._clock.now_ms()
        payload = payload_of(name, body)
        counted_as = sender.name if sender.signature is None else f"{sender.name} {name}"  # a key may have many hooks
        if not self._limit.take(counted_as, SIGNALS_PER_MIN).is_allowed:
            raise Problem("rate-limited", f"{SIGNALS_PER_MIN} signals a minute at most", headers={"Retry-After": "60"})
        number, symbol = self._symbol(payload["symbol"])
        if not sender.may_read(symbol):
            raise Problem("forbidden", f"the key may not speak of {symbol}")

        def store() -> Received:
            if self._store is None:
                self._store = SignalStore(directory)
            return Received(
                *self._store.add(
                    name, symbol, payload, recv_ts_ms=recv_ts_ms, cursor=self._cursor(number), sender=sender.name,
                    idempotency_key=idempotency_key, signature=sender.signature,
                )
            )  # fmt: skip

        try:
            return await self._do(store)
        except SameKeyOtherSignal as exc:
            raise Problem("idempotency-conflict") from exc

    def _symbol(self, text: str) -> tuple[int, str]:
        """The number of the root that records it (the first one's when none does), and the symbol in its form."""
        for root in self._roots.all:
            symbols, problems = check_symbols(text, root.market.symbols)
            if len(symbols) == 1 and not problems:
                return root.number, symbols[0]
        return self._roots.all[0].number, text

    def _cursor(self, number: int) -> str | None:
        """Where the live channel stands; None while the files cannot be read: a signal is stored all the same."""
        follower = self._followers.get(number)
        if follower is None:
            follower = self._followers[number] = Follower(self._roots.all[number].data_root)
        try:
            return str(follower.end())
        except StoreError:
            return None

    # Out

    async def stored(self, name: str, after: int, limit: int) -> list[Signal]:
        """Signals of a hook with a greater number, oldest first."""
        return await self._do(read_signals, self._needed(), after, limit, name)

    def _needed(self) -> Path:
        if self._directory is None:
            raise Problem("not-found", "this server has no hooks", hint="ask who runs the server to set HOOKS_DIR")
        return self._directory

    async def _do(self, work: Callable[..., _T], *args: Any) -> _T:
        if self._waiting >= MAX_WAITING:
            raise Problem("overloaded", "too many signals wait for the disk")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)
        except SameKeyOtherSignal:
            raise
        except (RecorderError, OSError) as exc:
            raise problem_of(exc) from exc
        finally:
            self._waiting -= 1


def payload_of(name: str, body: bytes) -> dict[str, Any]:
    """What was sent, as it was sent. A Problem names what is wrong with it."""
    if len(body) > MAX_BODY_BYTES:
        raise Problem("too-large", f"a signal has at most {MAX_BODY_BYTES} bytes", hint="send less")
    try:
        payload = orjson.loads(body)
        check_names(body)
        (MlTrade if name == ML_TRADE else AnySignal).model_validate(payload)
    except NameTwice as exc:
        error = FieldError(exc.name, "is given twice")
        raise Problem("bad-parameter", f"wrong: {error.field}", errors=[error]) from exc
    except (orjson.JSONDecodeError, RecursionError) as exc:
        raise Problem("bad-parameter", "the body is not JSON") from exc
    except ValidationError as exc:
        errors = [
            FieldError(".".join(map(str, error["loc"])) or "body", error["msg"])
            for error in exc.errors(include_url=False, include_input=False)[:20]
        ]
        raise Problem("bad-parameter", f"wrong: {', '.join(error.field for error in errors)}", errors=errors) from exc
    if not _is_storable(payload):
        raise Problem("bad-parameter", "a number or a text in the body cannot be stored")
    document: dict[str, Any] = payload
    return document


def _is_storable(payload: dict[str, Any]) -> bool:
    """No number that JSON readers elsewhere would refuse, no text that is no UTF-8."""
    waiting: list[Any] = [payload]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, float) and not math.isfinite(value):
            return False
    return True


class _Secrets:
    """The secrets of hooks, ``name=secret`` a line; read again when the file changes."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._found: dict[str, bytes] = {}

    def of(self, name: str) -> bytes | None:
        """The secret of a hook. A Problem when others could read the file."""
        if self._path is None:
            return None
        with open(self._path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "is not a regular file")
            if stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IRWXO):
                raise Problem("internal", "the file of secrets may be read by others; set its mode to 0640")
            seen = (status.st_ino, status.st_size, status.st_mtime_ns)
            if seen != self._seen:
                self._found, self._seen = _secrets(file.read(_MAX_FILE_BYTES)), seen
        return self._found.get(name)


def _secrets(content: bytes) -> dict[str, bytes]:
    secrets = {}
    for line in content.decode("utf-8", "replace").splitlines():
        name, sign, secret = (part.strip() for part in line.partition("="))
        if sign and re.fullmatch(NAME_PATTERN, name) and len(secret) >= MIN_SECRET_CHARS:
            secrets[name] = secret.encode()
    return secrets

"""One connection to OpenD for a job: made, logged in, used, ended whatever happens.

It is a connection of its own beside the recorder's. Requests that need no subscription cost the recorder nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.sources.futu import sdk
from hk_tick_collector.sources.futu.markets import at_futu
from hk_tick_collector.sources.futu.sdk import Connection

OPEN_TIMEOUT_SEC = 10.0
LOGIN_TIMEOUT_SEC = 3.0  # an OpenD that was just started may need it; a login that waits for a code takes minutes
_STATE_PERIOD_SEC = 0.5
_LOOK = "is OpenD running, and are FUTU_HOST and FUTU_PORT its API address?"

_T = TypeVar("_T")


class OpenDAddress(NamedTuple):
    """Where OpenD is, for which market it is asked, and the key that it wants to see (None: it wants none)."""

    host: str
    port: int
    rsa_key_file: Path | None = None
    market: str = "HK"  # as the setting MARKET


class OpenDNotReady(FeedError):
    """OpenD answers, but it is not logged in."""


async def with_connection(
    address: OpenDAddress,
    work: Callable[[Connection], Awaitable[_T]],
    timeout_sec: float = OPEN_TIMEOUT_SEC,
    *,
    wait_ready: bool = True,
) -> _T:
    """Connect, wait until OpenD is logged in, do ``work``, close; the work's result.

    ``timeout_sec`` is for connecting; the login is waited for ``LOGIN_TIMEOUT_SEC``; ``work`` has timeouts of its own.
    With ``wait_ready`` False, work begins whether OpenD is logged in or not. Errors name host, port and what to do:
    FeedLost (no connection), FeedTimeout (no answer), OpenDNotReady (no login), FeedError (OpenD refuses), ConfigError
    (the key). For instance::

        audit = Audit(day, calendar, symbols)
        address = OpenDAddress("127.0.0.1", 11111)
        result = await with_connection(address, lambda connection: audit.against_kline(Reference(connection)))
    """
    sdk.configure(address.rsa_key_file)
    where = f"OpenD at {address.host}:{address.port}"
    market = at_futu(address.market)
    connection = Connection(address.host, address.port, lambda _pushes: None, lambda _notice: None, market)
    try:
        with _named(where, encrypted=address.rsa_key_file is not None):
            await connection.open(timeout_sec)
            if wait_ready:
                await _await_login(connection, timeout_sec)
        return await work(connection)
    finally:
        connection.close()


async def _await_login(connection: Connection, timeout_sec: float) -> None:
    """OpenD accepts connections before it is logged in (domain: GetGlobalState). One that refuses to say is asked all
    the same: it refuses what it cannot do."""
    loop = asyncio.get_running_loop()
    deadline_sec = loop.time() + LOGIN_TIMEOUT_SEC
    while True:
        try:
            state = await connection.global_state(timeout_sec)
        except (FeedLost, FeedTimeout):
            raise
        except FeedError:
            return
        if state.ready:
            return
        if loop.time() >= deadline_sec:
            raise OpenDNotReady(
                f"is not logged in (status {state.program_status}, quotes {'' if state.qot_logined else 'not '}logged "
                "in); log it in, it may wait for a verification code on its telnet port"
            )
        await asyncio.wait({connection.lost}, timeout=_STATE_PERIOD_SEC)
        if connection.lost.done():
            raise FeedLost(connection.lost.result())


@contextlib.contextmanager
def _named(where: str, *, encrypted: bool) -> Iterator[None]:
    """Errors of connecting, with the place and what to do."""
    try:
        yield
    except FeedTimeout as exc:
        raise FeedTimeout(f"{where} does not answer: {exc}; {_LOOK}") from exc
    except FeedLost as exc:
        if "no TCP connection" in str(exc):
            raise FeedLost(f"{exc}; {_LOOK}") from exc
        key = "has it the same RSA key (FUTU_RSA_KEY_FILE)" if encrypted else "does it want an RSA key"
        raise FeedLost(f"{where} ended the connection: {exc}; is this its API port, and {key}?") from exc
    except OpenDNotReady as exc:
        raise OpenDNotReady(f"{where} {exc}") from exc
    except FeedError as exc:
        raise FeedError(f"{where} refuses: {exc}") from exc

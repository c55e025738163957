"""Commands that ask OpenD: one connection from the recorder's settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from hk_tick_collector.cli.common import App
    from hk_tick_collector.sources.futu.sdk import Connection

OPEN_TIMEOUT_SEC = 10.0
REQUEST_TIMEOUT_SEC = 12.0

_T = TypeVar("_T")


def with_opend(
    app: App,
    work: Callable[[Connection], Awaitable[_T]],
    timeout_sec: float = OPEN_TIMEOUT_SEC,
    *,
    wait_ready: bool = True,
) -> _T:
    """``watch.opend.with_connection`` to the OpenD of the settings."""
    from hk_tick_collector.watch.opend import OpenDAddress, with_connection  # noqa: PLC0415 - futu-api takes its time

    settings = app.settings
    address = OpenDAddress(settings.futu_host, settings.futu_port, settings.futu_rsa_key_file)
    return asyncio.run(with_connection(address, work, timeout_sec, wait_ready=wait_ready))

"""Commands that ask the source (OpenD): one connection from the recorder's settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import ConfigError, InputError

if TYPE_CHECKING:
    from hk_tick_collector.cli.common import App
    from hk_tick_collector.sources.futu.reference import Reference
    from hk_tick_collector.sources.futu.sdk import Connection
    from hk_tick_collector.sources.plausible import PlausibleDays
    from hk_tick_collector.sources.source import Link

OPEN_TIMEOUT_SEC = 10.0
REQUEST_TIMEOUT_SEC = 12.0

_T = TypeVar("_T")


class NotFromOpenD(InputError):
    """The settings name another source than the one that can be asked."""


def check_source(app: App) -> None:
    """NotFromOpenD when the recorder of the settings records from another source: OpenD may be there all the same, and
    have symbols and ticks of the same market."""
    from hk_tick_collector.sources.futu.spec import PROVIDER  # noqa: PLC0415

    if app.places.source != PROVIDER:
        raise NotFromOpenD(
            f"SOURCE={app.places.source}: only OpenD (SOURCE={PROVIDER}) can be asked by a command; what another one "
            "shows again its recorder asks for"
        )


def with_connection(
    app: App,
    work: Callable[[Connection], Awaitable[_T]],
    timeout_sec: float = OPEN_TIMEOUT_SEC,
    *,
    wait_ready: bool = True,
    of_data_root: bool = False,
) -> _T:
    """``watch.opend.with_connection`` to the OpenD of the settings. ``of_data_root``: it is asked about days of the
    data root. ConfigError when those are of another market than the settings'; NotFromOpenD."""
    from hk_tick_collector.store.data_root import foreign  # noqa: PLC0415

    settings = app.places  # a list of symbols may be what is asked for
    check_source(app)
    from hk_tick_collector.watch import opend  # noqa: PLC0415 - futu-api takes its time

    other = foreign(app.data_root, settings.market) if of_data_root else None
    if other is not None:
        raise ConfigError(f"MARKET: {other}")
    address = opend.OpenDAddress(settings.futu_host, settings.futu_port, settings.futu_rsa_key_file, settings.market)
    return asyncio.run(opend.with_connection(address, work, timeout_sec, wait_ready=wait_ready))


def with_reference(app: App, work: Callable[[Reference], Awaitable[_T]]) -> _T:
    """``work`` with the source's own figures of days of the data root."""

    async def asking(connection: Connection) -> _T:
        from hk_tick_collector.sources.futu.reference import Reference  # noqa: PLC0415

        return await work(Reference(connection))

    return with_connection(app, asking, of_data_root=True)


def with_link(app: App, days: PlausibleDays, work: Callable[[Link], Awaitable[_T]]) -> _T:
    """``work`` with a link that pushes nothing, on days of the data root. ``days``: which ticks may be of."""

    async def asking(connection: Connection) -> _T:
        from hk_tick_collector.sources.futu.link import FutuLink  # noqa: PLC0415
        from hk_tick_collector.sources.futu.mapping import TickMapper  # noqa: PLC0415

        return await work(FutuLink(connection, TickMapper(days, connection.market), SystemClock(), push=False))

    return with_connection(app, asking, of_data_root=True)


@dataclass(frozen=True)
class Listed:
    """What the source offers: how many symbols may be subscribed (None: nobody was asked), and the turnover of the day
    so far of every code that trades, in its own currency."""

    quota: int | None = None
    members: tuple[str, ...] = ()  # of the groups that were asked for
    turnover: Mapping[str, float] = field(default_factory=dict)


def ask_listed(app: App, groups: Sequence[str] = ()) -> Listed:
    """Stocks and ETFs that are listed and not suspended, and the members of ``groups`` (``Reference.members``)."""

    async def asking(reference: Reference) -> Listed:
        members = [code for group in groups for code in await reference.members(group)]
        codes = [code for code, info in (await reference.listed()).items() if not info.delisted]
        snapshots = (await reference.snapshots(sorted(codes))).given
        trading = {code: snapshot.turnover for code, snapshot in snapshots.items() if not snapshot.suspended}
        return Listed(await reference.quota(), tuple(dict.fromkeys(members)), trading)

    return with_reference(app, asking)

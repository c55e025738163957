"""``--from clickhouse://...``: a command reads copies instead of files."""

from __future__ import annotations

import os

from hk_tick_collector.cli.common import App
from hk_tick_collector.clickhouse.address import Address, parse_address
from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.copy import Copy, recorders
from hk_tick_collector.clickhouse.recorded import CopiedDays
from hk_tick_collector.client.copied import PASSWORD
from hk_tick_collector.core.errors import ConfigError, InputError, NoData
from hk_tick_collector.ship.settings import load_ship_settings


def read_copies(app: App, url: str, recorder: str | None) -> None:
    """From now on the days of ``app`` are those in the ClickHouse at ``url``. InputError when it is not said whose."""
    try:
        address = parse_address(url)
    except ConfigError as exc:
        raise InputError(str(exc)) from exc
    engine = ClickHouse(address, _password(app, address))
    known = recorders(engine)
    if not known:
        raise NoData(f"{address.shown} has no ticks of any recorder")
    if recorder is None and len(known) > 1:
        raise InputError(f"{address.shown} has copies of {', '.join(known)}: name one with --recorder")
    name = recorder or next(iter(known))
    if name not in known:
        raise NoData(f"{address.shown} has no ticks of {name}; there are {', '.join(known)}")
    days = CopiedDays(Copy(engine, name), known[name])
    app.__dict__.update(catalog=days, market=days.market, data_root=days.data_root, archive_root=days.archive_root)


def _password(app: App, address: Address) -> str:
    """The environment's; else that of the settings, if they are about the same server and user."""
    if PASSWORD in os.environ:
        return os.environ[PASSWORD]
    settings = load_ship_settings(app.env_file, os.environ)
    if settings.ship_url and settings.address[::2] == address[::2]:
        return settings.password()
    return ""

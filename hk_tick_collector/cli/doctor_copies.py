"""The check of ``hk-tickctl doctor`` for copies in ClickHouse. Nothing is checked where SHIP_URL names none."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from hk_tick_collector.cli.checkup import FAIL, Checkup, Outcome, fail, ok
from hk_tick_collector.cli.common import App
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.core.extras import extra_with, how_to_install, missing_library

if TYPE_CHECKING:
    from hk_tick_collector.ship.settings import ShipSettings


def check(checkup: Checkup, app: App) -> None:
    """Does ClickHouse answer, and are its tables those of this version?"""
    from hk_tick_collector.ship.settings import load_ship_settings  # noqa: PLC0415 - pydantic takes its time

    try:
        settings = load_ship_settings(app.env_file, os.environ)
    except ConfigError as exc:
        if checkup.outcomes["configuration"].result != FAIL:  # else it has told
            told = str(exc).replace("\n", "; ")
            checkup.add("clickhouse", fail(told, "correct it; docs/configuration.md lists all settings"))
        return
    if settings.ship_url:
        checkup.run("clickhouse", partial(_answers, settings))


def _answers(settings: ShipSettings) -> Outcome:
    try:
        from hk_tick_collector.clickhouse import connection, tables  # noqa: PLC0415 - with its HTTP library
    except ModuleNotFoundError as exc:
        library = missing_library(exc)
        return fail(f"the package {library} is missing", how_to_install(extra_with(library)))
    try:
        with connection.ClickHouse(settings.address, settings.password(), timeout_sec=connection.CONNECT_SEC) as engine:
            tables.check(engine)
    except ConfigError as exc:
        return fail(str(exc), "docs/clickhouse.md")
    except (connection.EngineAway, connection.EngineRefused) as exc:
        return fail(str(exc), "docs/clickhouse.md")
    return ok(f"{settings.address.shown} is ready for the recorder {settings.recorder}")

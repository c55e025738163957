"""The checks of ``hk-tickctl doctor`` for what serves: the API's port, the file of keys, the group's right, Redis.

Nothing is checked where nothing is set up: nobody has to serve. A default sets nothing up, not even one that is written
in a settings file, as in a copy of ``.env.example``.
"""

from __future__ import annotations

import os
import socket
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hk_tick_collector.cli.checkup import FAIL, Checkup, Outcome, fail, ok, skipped, warn
from hk_tick_collector.cli.common import App
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.store import layout

if TYPE_CHECKING:
    from hk_tick_collector.relay.settings import RelaySettings
    from hk_tick_collector.serve.settings import ServeSettings

UNITS = {"api": "hk-tick-api", "live": "hk-tick-live", "redis": "hk-tick-redis"}
_UNIT_DIR = Path("/etc/systemd/system")
_FEW_FILES = 3
_CONNECT_SEC = 3.0


def check(checkup: Checkup, app: App) -> None:
    """All of them, in order."""
    # pydantic takes its time
    from hk_tick_collector.relay.settings import RelaySettings, load_relay_settings  # noqa: PLC0415
    from hk_tick_collector.serve.settings import load_serve_settings  # noqa: PLC0415

    try:
        serve = load_serve_settings(app.env_file, os.environ)
        relay = load_relay_settings(app.env_file, os.environ)
    except ConfigError as exc:
        if checkup.outcomes["configuration"].result == FAIL:
            return  # it has told
        checkup.add(
            "serving", fail(str(exc).replace("\n", "; "), "correct it; docs/configuration.md lists all settings")
        )
        return
    installed = [name for name in UNITS if (_UNIT_DIR / f"{UNITS[name]}.service").exists()]
    wants_redis = "redis" in installed or relay.redis_url != RelaySettings.model_fields["redis_url"].default
    if not installed and serve.api_keys_file is None and not serve.api_anonymous and not wants_redis:
        return
    checkup.run("api_port", partial(_port, serve, is_installed="api" in installed))
    checkup.run("api_keys", partial(_keys, serve))
    checkup.run("group_reads", partial(_group, app))
    if wants_redis:
        checkup.run("redis", partial(_redis, relay))


def _port(settings: ServeSettings, *, is_installed: bool) -> Outcome:
    where = f"{settings.api_host}:{settings.api_port}"
    if not settings.api_port:
        return ok("any free one is taken")
    try:
        with socket.create_connection((settings.api_host, settings.api_port), _CONNECT_SEC):
            return ok(f"something answers at {where}")
    except OSError:
        if is_installed:
            return warn(f"nothing answers at {where}", "look at: systemctl status hk-tick-api")
        return ok(f"{where} is free")


def _keys(settings: ServeSettings) -> Outcome:
    from hk_tick_collector.serve.keys import KeyRing  # noqa: PLC0415
    from hk_tick_collector.serve.settings import check_exposure  # noqa: PLC0415

    try:
        ring = KeyRing.open(settings.api_keys_file)
        check_exposure(settings, ring)
    except ConfigError as exc:
        problem, _, advice = str(exc).partition(": ")
        return fail(problem, advice or "correct it")
    if settings.api_keys_file is None:
        readers = "anyone on this machine may read" if settings.api_anonymous else "nobody may read over HTTP"
        return ok(f"none: {readers}")
    return ok(f"{len(ring.keys)} keys in {settings.api_keys_file}")


def _group(app: App) -> Outcome:
    """Who serves is in the recorder's group, which has to reach the day files and what SQLite puts beside them."""
    root = app.data_root_given.absolute() if app.data_root_given is not None else app.places.data_root
    if not root.is_dir():
        return skipped(f"{root} does not exist yet")
    wanted = stat.S_IRGRP | stat.S_IXGRP
    if stat.S_IMODE(root.stat().st_mode) & wanted != wanted:
        return fail(f"the group of {root} may not look into it", f"sudo chmod g+rx {root}")
    for db in layout.recent_day_files(root, _FEW_FILES):
        for path in (db, *(db.with_name(f"{db.name}{end}") for end in ("-wal", "-shm"))):
            if path.exists() and not path.stat().st_mode & stat.S_IRGRP:
                return fail(f"the group may not read {path}", f"sudo chmod g+r {path}")
    return ok(f"the group of {root} reads its day files")


def _redis(settings: RelaySettings) -> Outcome:
    from hk_tick_collector.relay.redis_sink import RedisSink  # noqa: PLC0415
    from hk_tick_collector.relay.sink import SinkAway  # noqa: PLC0415

    sink = RedisSink(settings)
    try:
        position = sink.where()
    except SinkAway as exc:
        problem, _, advice = str(exc).rpartition(": ")
        return fail(problem, advice)
    finally:
        sink.close()
    return ok("Redis answers" + ("" if position is None else f"; it has ticks up to {position.newest_day}"))

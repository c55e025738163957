"""The checks of ``hk-tickctl doctor`` that need no OpenD: this machine, its settings, its service.

Zone data may be what is missing: nothing here imports ``market`` before that is known.
"""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hk_tick_collector.cli.checkup import Checkup, Outcome, fail, ok, skipped, warn
from hk_tick_collector.cli.common import App
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.core.text import counted
from hk_tick_collector.store import layout
from hk_tick_collector.store.companions import locked_out
from hk_tick_collector.store.owner import acting_as
from hk_tick_collector.watch import recorder as system
from hk_tick_collector.watch.access import CLOSED_ADVICE, closed_to_us

FEW_DAYS = 10
FEW_DAYS_LEFT = 10.0
MIN_FREE_BYTES = 500_000_000  # less than a day of 900 symbols
_ZONE = "Asia/Hong_Kong"
_HONG_KONG_AHEAD = timedelta(hours=8)  # for an estimate that must not depend on zone data
_STARTS_AT_BOOT = ("enabled", "enabled-runtime", "static", "generated")


def check(checkup: Checkup, app: App, unit: str) -> None:
    """All of them, in order."""
    service = system.service(unit)
    root_needs = () if app.data_root_given is not None else ("configuration",)
    checkup.run("home", _home)
    checkup.run("zone_data", lambda: _zone_data(app))
    checkup.run("configuration", lambda: _configuration(app))
    checkup.run("data_directory", lambda: _data_directory(app, service), root_needs)
    checkup.run("disk", lambda: _disk(data_root(app)), root_needs)
    checkup.run("unit", lambda: _unit(service))
    if provider(app) == "futu":
        checkup.run("sdk_log", lambda: _sdk_log(app), ["configuration"])


def _sdk_log(app: App) -> Outcome:
    from hk_tick_collector.cli.doctor_source import sdk_log  # noqa: PLC0415 - where OpenD is the source

    return sdk_log(app)


def provider(app: App) -> str:
    """The source that SOURCE names; the first one when the settings are wrong, which another check says."""
    try:
        return app.settings.source
    except RecorderError:
        return "futu"


def data_root(app: App) -> Path:
    """Where the day files are or will be; unlike ``app.data_root`` it need not exist."""
    return app.data_root_given.absolute() if app.data_root_given is not None else app.settings.data_root


def _home() -> Outcome:
    home = os.environ.get("HOME")
    advice = "set HOME to a directory of this user: the SDK keeps its log files there"
    if not home:
        return warn("HOME is not set: the SDK writes no log", advice)
    if not os.access(home, os.W_OK):
        return warn(f"HOME={home} is not writable for this user: the SDK writes no log", advice)
    return ok(home)


def _zone_data(app: App) -> Outcome:
    advice = "install the system's tzdata, or: pip install tzdata"
    try:
        offset = datetime(2026, 11, 20, tzinfo=UTC).astimezone(ZoneInfo(_ZONE)).utcoffset()
    except ZoneInfoNotFoundError:
        return fail(f"this machine does not know the time zone {_ZONE}", advice)
    if offset != timedelta(hours=8):
        return fail(f"{_ZONE} is not eight hours before UTC, but {offset}", advice)
    with suppress(RecorderError, OSError):  # wrong settings have a check of their own
        zone = app.market.zone.name
        try:
            ZoneInfo(zone)
        except ZoneInfoNotFoundError:
            return fail(f"this machine does not know the time zone {zone}", advice)
        return ok(f"{zone} is known")
    return ok(f"{_ZONE} is known")


def _configuration(app: App) -> Outcome:
    from hk_tick_collector.app.config import ConfigErrors  # noqa: PLC0415 - pydantic takes its time
    from hk_tick_collector.app.config_sources import set_twice  # noqa: PLC0415

    try:
        settings = app.settings
    except ConfigErrors as exc:
        advice = "correct it; docs/configuration.md lists all settings"
        if closed_to_us(exc):
            return fail(f"{app.env_file or Path('.env').absolute()} is closed to this user", CLOSED_ADVICE)
        if app.env_file is None and not Path(".env").exists():
            advice = f"there is no {Path('.env').absolute()}: name the recorder's settings file with --env-file"
        return fail("; ".join(problem.text for problem in exc.problems), advice)
    where = f"OpenD at {settings.futu_host}:{settings.futu_port}"
    if settings.source == "sierra":
        where = f"Sierra Chart in {settings.sierra_dir}"
    elif settings.source == "dxlink":
        where = f"dxLink by {settings.dxlink_url or settings.dxlink_api}"
    elif settings.source == "gexbot":
        where = f"gexbot at {settings.gexbot_api}"
    elif settings.source == "schwab":
        where = f"Schwab by {settings.schwab_api}"
    elif settings.source == "shioaji":
        where = f"Shioaji's gateway at {settings.shioaji_url}"
    finding = f"{counted(len(settings.symbols), 'symbol')}, {where}"
    twice = set_twice(app.env_file)
    return warn(f"{finding}; {'; '.join(twice)}", "leave one line of each") if twice else ok(finding)


def _data_directory(app: App, service: system.Service | None) -> Outcome:
    outcome = _writable(app, service)
    if outcome.result != "ok":
        return outcome
    return _left_companion(data_root(app)) or _other_market(app) or outcome


def _other_market(app: App) -> Outcome | None:
    """The recorder refuses to start there."""
    from hk_tick_collector.store.data_root import foreign  # noqa: PLC0415

    with suppress(RecorderError):  # wrong settings have a check of their own
        problem, _, advice = (foreign(data_root(app), app.settings.market) or "").partition("; ")
        return fail(problem, advice) if problem else None
    return None


def _writable(app: App, service: system.Service | None) -> Outcome:
    root = data_root(app)
    app.work_as_owner(root)
    user = service.user if service is not None and service.installed else ""
    if not root.is_dir():
        return fail(f"{root} does not exist", f"create it: sudo install -d -m 0750 {_ownership(user)}{root}")
    other_user = _other_user(user)
    if other_user is not None:
        if not _may_write(root, other_user):
            return fail(f"{root} is not writable for the service's user {user}", f"sudo chown -R {user} {root}")
        return ok(f"{root} is writable for {user}")
    try:
        layout.probe_write(root)
    except OSError as exc:
        if user and acting_as() is not None:  # the service's user: else ``_may_write`` answered
            return fail(f"{root} is not writable for the service's user {user}", f"sudo chmod u+rwx {root}")
        return fail(
            f"{root} is not writable: {exc.strerror}",
            f"give uid {os.geteuid()} write permission, or run doctor as the recorder's user",
        )
    holder = system.lock_holder(root)
    return ok(f"{root} is writable" + (f"; recorder pid {holder.pid} uses it" if holder is not None else ""))


def _ownership(user: str) -> str:
    """Whose directory it must be: the service's user's, without a service that of whoever runs the recorder by hand."""
    if user:
        return f"-o {user} -g {user} "
    return f"-o {os.geteuid()} -g {os.getegid()} " if os.geteuid() else ""


def _left_companion(root: Path) -> Outcome | None:
    """What a reader of another user left beside a day file locks out the recorder, to whom the file belongs."""
    for db in layout.recent_day_files(root, FEW_DAYS):
        lock = locked_out(db, db.stat().st_uid)
        if lock is not None:
            problem, _, advice = lock.partition("; ")
            return fail(problem, advice)
    return None


def _other_user(name: str) -> pwd.struct_passwd | None:
    """The service's user when we are somebody else: then a write of ours proves nothing."""
    try:
        user = pwd.getpwnam(name) if name else None
    except KeyError:
        return None
    return user if user is not None and user.pw_uid != os.geteuid() else None


def _may_write(path: Path, user: pwd.struct_passwd) -> bool:
    status = path.stat()
    if user.pw_uid == 0:
        return True
    if status.st_uid == user.pw_uid:
        needed = 0o300
    elif status.st_gid in os.getgrouplist(user.pw_name, user.pw_gid):
        needed = 0o030
    else:
        needed = 0o003
    return status.st_mode & needed == needed


def _disk(root: Path) -> Outcome:
    there = root
    while not there.exists():
        there = there.parent
    today = (datetime.now(UTC) + _HONG_KONG_AHEAD).strftime("%Y%m%d")
    disk = system.disk(there, today)
    free = f"{disk.free_bytes / 1e9:,.1f} GB free"
    if not os.access(there, os.R_OK | os.X_OK):
        return warn(
            f"{free}; {there} is closed to this user: how long that lasts cannot be told",
            CLOSED_ADVICE,
        )
    advice = "make room: hk-tickctl archive, hk-tickctl retain, or a larger disk"
    if disk.day_bytes is None or disk.days_left is None:
        finding = f"{free}; how long that lasts is known once a whole day is recorded"
        return fail(finding, advice) if disk.free_bytes < MIN_FREE_BYTES else ok(finding)
    finding = f"{free}, full in {system.days_text(disk.days_left)} recorded days of {disk.day_bytes / 1e6:,.1f} MB"
    if disk.days_left < 1:
        return fail(finding, advice)
    return warn(finding, advice) if disk.days_left < FEW_DAYS_LEFT else ok(finding)


def _unit(service: system.Service | None) -> Outcome:
    if service is None:
        return skipped("this machine is not run by systemd")
    name = service.unit
    if not service.installed:
        return warn(f"there is no unit {name}", "sudo bash scripts/install_systemd.sh, or name yours with --unit")
    finding = f"{name} is {service.active_state} ({service.sub_state}), {service.enabled or 'not enabled'}"
    if service.load_state != "loaded":
        return fail(f"{name} is {service.load_state}", f"systemctl status {name} says why")
    if service.active_state == "failed" or service.sub_state == "auto-restart":
        return fail(f"{finding}; {service.ending}", "hk-tickctl logs says why")
    for wrong, addition, advice in (
        (service.needs_reload, "; its file has changed", "sudo systemctl daemon-reload"),
        (service.enabled not in _STARTS_AT_BOOT, ": it does not start at boot", f"sudo systemctl enable {name}"),
        (service.active_state != "active", "", f"sudo systemctl start {name}"),
    ):
        if wrong:
            return warn(f"{finding}{addition}", advice)
    return ok(finding)

"""``hk-tickctl alert``: try whom hk-tick-alert calls, see what it told, and have it keep silent for a while."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, group_command, print_table, write_json
from hk_tick_collector.cli.groups import Group
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.complaint import Level
from hk_tick_collector.core.errors import ConfigError, InputError
from hk_tick_collector.store.owner import become_owner

if TYPE_CHECKING:
    from hk_tick_collector.alert.settings import AlertSettings

_SPAN = re.compile(r"([1-9][0-9]{0,3})(m|h|d)", re.ASCII)
_UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]{1,200}", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9-]{1,40}", re.ASCII)
_SPAN_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


@click.group(
    "alert",
    cls=Group,
    help="""Who is alerted by hk-tick-alert, and about what.

    \b
    hk-tickctl alert test
    hk-tickctl alert list
    hk-tickctl alert mute ticks_late --for 2h

    The file that ALERT_FILE names lists the targets: docs/alerts.md.
    """,
    short_help="Who is alerted when something is wrong: try it, mute it.",
)
def command() -> None:
    """See ``--help``."""


def _alert_command(name: str, **attrs: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """A command on the outbox. The function gets the settings first."""
    return group_command(command, _on_outbox, name, **attrs)


def _on_outbox(function: Callable[..., int], env_file: Path | None, as_json: bool, **arguments: Any) -> int:
    return function(_settings(env_file), as_json, **arguments)


def _settings(env_file: Path | None) -> AlertSettings:
    from hk_tick_collector.alert.settings import load_alert_settings  # noqa: PLC0415 - pydantic takes its time

    return load_alert_settings(env_file, os.environ)


def _directory(settings: AlertSettings) -> Path:
    if settings.alert_dir is None:
        raise ConfigError("ALERT_DIR is not set: give the directory that hk-tick-alert has (docs/alerts.md)")
    _take_rights_of_owner(settings.alert_dir)
    return settings.alert_dir


def _take_rights_of_owner(directory: Path) -> None:
    """Root works with the rights of whoever owns the directory, who may have planted links there, and has to be able to
    write afterwards, too."""
    if os.geteuid() == 0 and directory.is_dir() and directory.stat().st_uid != 0:
        become_owner(directory)


@_alert_command(
    "test",
    help="Send a test to each target, or only to NAME, and say whether it was accepted.",
    short_help="Send a test to each target, or only to NAME.",
)
@click.argument("name", required=False)
def test(settings: AlertSettings, as_json: bool, name: str | None) -> int:
    """See ``--help``. Sent from here, past the outbox: what is tried is the way to somebody."""
    from hk_tick_collector.alert.outbox import Waiting  # noqa: PLC0415
    from hk_tick_collector.alert.post import letter_of  # noqa: PLC0415
    from hk_tick_collector.alert.targets import NotSent, check_ways, read_targets  # noqa: PLC0415
    from hk_tick_collector.alert.ways import target_of  # noqa: PLC0415
    from hk_tick_collector.days.catalog import Catalog  # noqa: PLC0415

    if settings.alert_file is None:
        raise ConfigError("ALERT_FILE is not set: it names the file that says whom to alert (docs/alerts.md shows one)")
    file = read_targets(settings.alert_file)
    check_ways(file)
    wanted = [target for target in file.targets if name in (None, target.name)]
    if not wanted:
        raise InputError(f"there is no target {name}; there are {', '.join(target.name for target in file.targets)}")
    _take_rights_of_owner(settings.data_root)
    market, now_ms = Catalog(settings.data_root, settings.archive).market.code, SystemClock().now_ms()
    tries = []
    for target in wanted:
        waiting = Waiting(0, target.name, "test", Level.NOTE, ("somebody tried whether this arrives",), now_ms, 0)
        try:
            target_of(target).send(letter_of(waiting, 0, market))
        except NotSent as exc:
            tries.append({"target": target.name, "taken": False, "reason": str(exc)})
        else:
            tries.append({"target": target.name, "taken": True, "reason": None})
    if as_json:
        write_json(tries)
    else:
        for line in tries:
            click.echo(f"{line['target']}: {'taken' if line['taken'] else 'not taken: ' + str(line['reason'])}")
    return EXIT_FINE if all(line["taken"] for line in tries) else EXIT_PROBLEM


@_alert_command("list", help="What was sent, what waits, and what is muted.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many messages, the newest first."
)
def list_letters(settings: AlertSettings, as_json: bool, limit: int) -> int:
    """See ``--help``."""
    from hk_tick_collector.alert.outbox import OUTBOX_FILE, Outbox  # noqa: PLC0415

    directory, now_ms = _directory(settings), SystemClock().now_ms()
    if not (directory / OUTBOX_FILE).exists():  # PermissionError when this user may not know
        raise InputError(f"there is no {OUTBOX_FILE} in {directory}: hk-tick-alert has not run there yet")
    outbox = Outbox(directory, read_only=True)
    letters, mutes = outbox.recent(limit), outbox.mutes(now_ms)
    outbox.close()
    if as_json:
        write_json({"letters": letters, "mutes": mutes})
        return EXIT_FINE
    rows = [[_utc(letter["created_ms"]), letter["target"], letter["kind"], letter["level"], _state(letter),
             "; ".join(letter["lines"])] for letter in letters]  # fmt: skip
    print_table(["UTC", "target", "kind", "level", "state", "text"], rows, spare=("kind", "target"), text="text")
    for code, until_ms in sorted(mutes.items()):
        click.echo(f"muted until {_utc(until_ms)} UTC: {code}")
    return EXIT_FINE


def _utc(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _state(letter: dict[str, Any]) -> str:
    if letter["sent_ms"] is not None:
        return "sent"
    if letter["given_up_ms"] is not None:
        return f"given up: {letter['reason'] or 'too many waited'}"
    return f"waits: {letter['reason']}" if letter["reason"] else "waits"


@_alert_command("mute", help="Send nothing about CODE for a while; --for 0m ends it.")
@click.argument("code")
@click.option("--for", "span", default="1h", show_default=True, metavar="SPAN", help="30m, 2h, 7d at most; 0m ends it.")
def mute(settings: AlertSettings, as_json: bool, code: str, span: str) -> int:
    """See ``--help``."""
    from hk_tick_collector.alert.outbox import Outbox  # noqa: PLC0415
    from hk_tick_collector.alert.rules import RULES, no_such_rule  # noqa: PLC0415

    if code not in RULES:
        raise InputError(f"{code}: {no_such_rule(code)}")
    until_ms = SystemClock().now_ms() + _span_ms(span)
    outbox = Outbox(_directory(settings))
    outbox.mute(code, until_ms)
    outbox.close()
    if as_json:
        write_json({"code": code, "until_ms": until_ms})
    else:
        click.echo(f"{code}: silent for {span}" if _span_ms(span) else f"{code}: told again")
    return EXIT_FINE


def _span_ms(text: str) -> int:
    if text in ("0m", "0"):
        return 0
    from hk_tick_collector.alert.outbox import MAX_MUTE_SEC  # noqa: PLC0415

    match = _SPAN.fullmatch(text)
    span_ms = int(match[1]) * _SPAN_MS[match[2]] if match else None
    if span_ms is None or span_ms > MAX_MUTE_SEC * 1000:
        raise InputError(f"--for {text}: write for example 30m, 2h or 3d, 7d at most")
    return span_ms


@_alert_command("failed", help="Note that UNIT failed, so that somebody is alerted. For OnFailure= in systemd units.")
@click.argument("unit")
def failed(settings: AlertSettings, as_json: bool, unit: str) -> int:
    """See ``--help``. systemd says the reason in the environment."""
    from hk_tick_collector.alert.outbox import Outbox  # noqa: PLC0415

    if not _UNIT.fullmatch(unit):
        raise InputError(f"{unit:.100} is not the name of a unit")
    result = (os.environ.get(name, "")[:40] for name in ("MONITOR_SERVICE_RESULT", "MONITOR_EXIT_STATUS"))
    reason = " ".join(part for part in result if _WORD.fullmatch(part)) or "no reason was given"
    outbox = Outbox(_directory(settings))
    outbox.fail_unit(unit, reason, SystemClock().now_ms())
    outbox.close()
    if as_json:
        write_json({"unit": unit, "reason": reason})
    else:
        click.echo(f"{unit}: noted ({reason})")
    return EXIT_FINE

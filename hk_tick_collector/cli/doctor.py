"""``hk-tickctl doctor``: check everything the recorder needs, and say what to do."""

from __future__ import annotations

import contextlib
import os
import sys
from importlib import import_module

import click

from hk_tick_collector.cli import doctor_copies, doctor_local, doctor_serving
from hk_tick_collector.cli.checkup import FAIL, OK, SKIPPED, WARN, Checkup, Outcome
from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, App, tickctl_command, write_json
from hk_tick_collector.cli.options import unit_option
from hk_tick_collector.cli.terminal import GREEN, GREY, RED, YELLOW, coloured, set_beside, show_lines, show_text
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.sources.secrets import hold

_COLOURS = {OK: GREEN, WARN: YELLOW, FAIL: RED, SKIPPED: GREY}
# Of the source that is recorded from; those of the others, and what they need to ask, are not loaded.
_CHECKS_OF = {
    "futu": "doctor_source",
    "sierra": "doctor_sierra",
    "dxlink": "doctor_dxlink",
    "gexbot": "doctor_gexbot",
    "schwab": "doctor_schwab",
    "shioaji": "doctor_shioaji",
}
_SECRETS = ("dxlink_secrets_file", "schwab_secrets_file", "shioaji_secrets_file", "gexbot_key_file")
_INDENT = 24  # of what was found


@tickctl_command(
    "doctor",
    help="""Check everything the recorder needs, and say what to do.

    This machine: HOME, time zone data, settings, the data directory, disk, the service, the SDK's log; if ticks are
    served, also the API's port, the key file, the group's read permission, and Redis. OpenD: its port, an answer in
    time, login, clock, quote right, quota, symbols, trading days, a trial subscription with ticks. Each check is ok,
    warn, fail or skipped, with what was found and what to do.

    Runs beside the recorder without disturbing it. Run it as the recorder's user and with its settings
    (--env-file). Exits with 1 when a check fails; a warning or a skipped check does not count as a failure.
    """,
)
@click.option("--offline", is_flag=True, help="Ask neither OpenD nor another source.")
@unit_option
def command(app: App, offline: bool, unit: str) -> int:
    _hold_secrets(app)
    checkup = Checkup((lambda _name, _outcome: None) if app.as_json else _show)
    doctor_local.check(checkup, app, unit)
    doctor_serving.check(checkup, app)
    doctor_copies.check(checkup, app)
    source = import_module(f"{__package__}.{_CHECKS_OF[doctor_local.provider(app)]}")
    source.check(checkup, app, offline=offline)
    if app.as_json:
        write_json(checkup.as_json())
    else:
        _show_summary(checkup)
    return EXIT_PROBLEM if checkup.named(FAIL) else EXIT_FINE


def _hold_secrets(app: App) -> None:
    """Before root takes the rights of the data root's owner."""
    if os.geteuid() == 0:
        with contextlib.suppress(ConfigError):  # said by the check of the settings
            for name in _SECRETS:
                path = getattr(app.settings, name)
                if path is not None:
                    hold(path)


def _show(name: str, outcome: Outcome) -> None:
    mark = coloured(f"{outcome.result:<8}", _COLOURS[outcome.result])
    first_line, *more = set_beside(outcome.found, _INDENT)
    show_lines([f"{mark}{name:<16}{first_line}", *more])
    if outcome.advice:
        show_text(outcome.advice, f"{'':<{_INDENT}}-> ")
    sys.stdout.flush()


def _show_summary(checkup: Checkup) -> None:
    counts = [(len(checkup.named(result)), result) for result in (OK, WARN, FAIL, SKIPPED)]
    print(", ".join(f"{count} {result}" for count, result in counts if count))

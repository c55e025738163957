"""Options that several commands have, each with one name: ``--days``, ``--symbols``, ``--times``.

Earlier names (``--day``, ``--symbol``, ``--time``) go on working and are not shown. Where a day is an argument, it may
be given as ``--days``, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

import click

from hk_tick_collector.cli.common import App
from hk_tick_collector.watch.recorder import unit_of

SYMBOLS_HELP = "Only these: 700, 0700.HK or HK.00700, several with commas, or @file."
DAYS_HELP = "A day (YYYYMMDD, today, yesterday, last), a range A..B, A.. or ..B, or several with commas."

Function = Callable[..., Any]


class Option(click.Option):
    """An option with earlier names, which work and are not shown."""

    def __init__(self, declarations: Sequence[str], *, earlier: Sequence[str] = (), **attrs: Any) -> None:
        super().__init__([*declarations, *earlier], **attrs)
        self.earlier = frozenset(earlier)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """As click's, without the earlier names."""
        every = self.opts
        self.opts = [name for name in every if name not in self.earlier]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = every


def named_option(*declarations: str, earlier: Sequence[str] = (), **attrs: Any) -> Callable[[Function], Function]:
    """``click.option`` with earlier names."""
    return click.option(*declarations, cls=Option, earlier=earlier, **attrs)


def days_option(otherwise: str = "Default: the newest.", **attrs: Any) -> Callable[[Function], Function]:
    """``--days`` of a command that works on several. ``otherwise``: what it says of none."""
    return named_option(
        "--days", "days", earlier=["--day"], metavar="DAYS", help=f"{DAYS_HELP} {otherwise}".rstrip(), **attrs
    )  # fmt: skip


def symbols_option(help_text: str = SYMBOLS_HELP) -> Callable[[Function], Function]:
    """``--symbols``, ``-s``."""
    return named_option(
        "--symbols", "-s", "symbols", earlier=["--symbol"], multiple=True, metavar="CODES", help=help_text
    )  # fmt: skip


def unit_option(function: Function) -> Function:
    """``--unit``; the function is given what ``watch.recorder.unit_of`` says where nobody names one."""

    def with_unit(app: App, *arguments: Any, unit: str | None, **named: Any) -> Any:
        return function(app, *arguments, unit=unit or unit_of(app.env_file), **named)

    help_text = "The recorder's systemd unit. Default: hk-tick-collector; with NAME.env hk-tick-collector@NAME."
    return click.option("--unit", help=help_text)(update_wrapper(with_unit, function))


def day_argument(name: str = "day", *, is_required: bool = False) -> Callable[[Function], Function]:
    """The argument DAY (``name`` in capitals), or ``--days`` in its place."""
    shown = name.upper()

    def decorate(function: Function) -> Function:
        def run(app: App, *, days_option_: str | None, **arguments: Any) -> Any:
            given = arguments[name]
            if given is not None and days_option_ is not None:
                raise click.UsageError(f"{shown} and --days exclude each other: name the day once")
            arguments[name] = given if given is not None else days_option_
            if is_required and arguments[name] is None:
                raise click.UsageError(f"Missing argument '{shown}'.")
            return function(app, **arguments)

        update_wrapper(run, function)
        instead = named_option(
            "--days", "days_option_", earlier=["--day"], metavar=shown, help=f"Instead of the argument {shown}."
        )  # fmt: skip
        metavar = shown if is_required else f"[{shown}]"
        return click.argument(name, required=False, metavar=metavar)(instead(run))

    return decorate

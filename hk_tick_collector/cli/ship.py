"""``hk-tickctl ship``: make a ClickHouse ready, and prove the copies there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.common import (
    EXIT_FINE,
    EXIT_PROBLEM,
    be_gentle,
    group_command,
    print_table,
    say,
    write_json,
)
from hk_tick_collector.cli.groups import Group
from hk_tick_collector.cli.options import named_option
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import InputError, NoData, RecorderError
from hk_tick_collector.store.owner import become_owner

if TYPE_CHECKING:
    from hk_tick_collector.clickhouse.connection import ClickHouse
    from hk_tick_collector.days.catalog import Catalog
    from hk_tick_collector.ship.settings import ShipSettings


@click.group(
    "ship",
    cls=Group,
    help="""Copies of recorded days in ClickHouse, which hk-tick-ship fills.

    \b
    hk-tickctl ship init
    hk-tickctl ship verify last

    Which ClickHouse: the settings SHIP_URL, SHIP_USER and SHIP_PASSWORD_FILE (docs/clickhouse.md).
    """,
    short_help="Copies in ClickHouse: create the tables, prove a day.",
)
def command() -> None:
    """See ``--help``."""


def _ship_command(name: str, **attrs: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """A command on the sink. The function gets the settings and a connection first."""
    return group_command(command, _on_sink, name, **attrs)


def _on_sink(function: Callable[..., int], env_file: Path | None, as_json: bool, **arguments: Any) -> int:
    from hk_tick_collector.clickhouse.connection import ClickHouse  # noqa: PLC0415 - after --help

    settings = _settings(env_file)
    with ClickHouse(settings.address, settings.password()) as engine:
        if settings.ship_dir.is_dir():
            become_owner(settings.ship_dir)  # who ships; the password was read before
        return function(settings, engine, as_json, **arguments)


def _settings(env_file: Path | None) -> ShipSettings:
    from hk_tick_collector.ship.settings import load_ship_settings  # noqa: PLC0415 - pydantic takes its time

    return load_ship_settings(env_file, os.environ)


@_ship_command(
    "init",
    short_help="Create the database and its tables, or update them.",
    help="""Create the database and its tables, or update them after an update of this program.

    Nothing is dropped, and running it again does no harm. The user needs CREATE, ALTER, INSERT and SELECT on the
    database.""",
)
@click.option("--replicated", is_flag=True, help="Tables that replicas keep equal (needs Keeper); for new tables.")
@click.option("--take-over", is_flag=True, help="Ship under a name that another machine shipped under before.")
def init(settings: ShipSettings, engine: ClickHouse, as_json: bool, replicated: bool, take_over: bool) -> int:
    """See the help text."""
    from hk_tick_collector.clickhouse import tables  # noqa: PLC0415
    from hk_tick_collector.ship.claim import claim, owner_of  # noqa: PLC0415

    now_ms = SystemClock().now_ms()
    done = tables.init(engine, tables.Shape(replicated), now_ms)
    claim(engine, settings.recorder, owner_of(settings.data_root), now_ms, take_over=take_over)
    if as_json:
        write_json({"sink": engine.address.shown, "recorder": settings.recorder, "done": done})
    else:
        for line in done:
            show_text(line)
        show_text(f"{engine.address.shown} is ready for the recorder {settings.recorder}")
    return EXIT_FINE


@_ship_command(
    "verify",
    short_help="Is the copy of a day equal to the day here?",
    help="""Is the copy of a day equal to the day here? DAYS: YYYYMMDD, last, or all.

    ClickHouse computes the content hash of each symbol from its own rows, and it has to equal that of the day file or
    the archive; order books, broker queues and snapshots likewise. A copy that differs is replaced as a whole, and one
    that is missing is sent, unless --check is given. Exits with 1 when a copy differs and was not replaced, or when a
    day could not be compared (FAILED). The remaining days are still compared, as long as ClickHouse answers.

    hk-tick-ship does the same by itself when a day is over. While it runs, this command cannot replace days: stop it
    first, or give --check.""",
)
@click.argument("days", metavar="[DAYS]", required=False)
@named_option("--days", "given", earlier=["--day"], metavar="DAYS", help="Instead of the argument DAYS.")
@click.option("--check", "only_check", is_flag=True, help="Only compare: replace nothing, note nothing.")
def verify(
    settings: ShipSettings, engine: ClickHouse, as_json: bool, days: str | None, given: str | None, only_check: bool
) -> int:
    """See the help text."""
    if days is not None and given is not None:
        raise click.UsageError("DAYS and --days exclude each other: name the days once")
    days = days or given or "last"
    from hk_tick_collector.clickhouse.tables import check  # noqa: PLC0415
    from hk_tick_collector.days.catalog import Catalog  # noqa: PLC0415
    from hk_tick_collector.ship.copies import Copies  # noqa: PLC0415

    be_gentle()
    catalog = Catalog(settings.data_root, settings.archive)
    wanted = _days(catalog, days)
    check(engine)
    copies = Copies(engine, settings.recorder)
    checks = _compared(catalog, copies, wanted) if only_check else _healed(settings, catalog, copies, wanted)
    if as_json:
        write_json([_as_json(*row) for row in checks])
    else:
        print_table(["day", "copy", "reason"], checks, text="reason")
    return EXIT_PROBLEM if any(result in ("WRONG", "FAILED") for _, result, _ in checks) else EXIT_FINE


def _as_json(name: str, result: str, reason: str) -> dict[str, str]:
    """``kind`` stands in the rows of order books, broker queues and snapshots alone."""
    day, _, kind = name.partition(" ")
    return {"trading_day": day, **({"kind": kind} if kind else {}), "result": result, "reason": reason}


def _days(catalog: Catalog, text: str) -> list[str]:
    """The days meant, and behind each a name of its order books, broker queues and snapshots that are at rest. NoData
    when all that is meant is in use."""
    from hk_tick_collector.ship.states import is_at_rest  # noqa: PLC0415

    there = [
        (day, of_kind.kind)
        for of_kind in (catalog.book_days, catalog.broker_days, catalog.snapshot_days)
        for day in of_kind.days()
    ]
    with_ticks = set(catalog.days())
    at_rest = [(day, kind) for day, kind in there if is_at_rest(kind, catalog.data_root, day)]
    known = {*with_ticks, *(day for day, _ in at_rest)}
    if text == "all" or not known:  # the last day is one that can be compared
        known |= {day for day, _ in there}
    names, in_use = [], []
    for day in _named_days(sorted(known), catalog, text):
        beside = [(f"{day} {kind.word}", (day, kind) in at_rest) for of_day, kind in there if of_day == day]
        names += [day] if day in with_ticks or not beside else []
        names += [name for name, is_so in beside if is_so]
        in_use += [name for name, is_so in beside if not is_so]
    if in_use:
        why = f"{', '.join(in_use)}: in use by a recorder, by hk-tick-ship or by another reader"
        if not names:
            raise NoData(f"{why}; compared once nobody has it open")
        say(f"left out: {why}")
    return names


def _named_days(known: list[str], catalog: Catalog, text: str) -> list[str]:
    from hk_tick_collector.core.dates import parse_day  # noqa: PLC0415

    if not known:
        raise NoData(f"no day is recorded under {catalog.data_root}")
    if text == "all":
        return known
    if text == "last":
        return known[-1:]
    try:
        return [f"{parse_day(text):%Y%m%d}"]
    except ValueError:
        raise InputError(f"{text!r} is not a day: write YYYYMMDD, last or all") from None


def _compared(catalog: Catalog, copies: Any, days: list[str]) -> list[tuple[str, str, str]]:
    from hk_tick_collector.ship.copies import differing, place_of, recorded  # noqa: PLC0415
    from hk_tick_collector.ship.states import states_to_ship  # noqa: PLC0415

    beside = {states.word: states for states in states_to_ship(catalog, copies.engine, copies.recorder)}

    def compare(name: str) -> str:
        of_day, _, kind = name.partition(" ")
        if kind:
            return beside[kind].check(of_day, SystemClock().now_ms(), heal=False).different
        day = catalog.day(name)
        return differing(recorded(day, place_of(day)).symbols, copies.there(name))

    return _judged(days, compare, if_absent="WRONG", if_different="WRONG")


def _judged(
    days: list[str], compare: Callable[[str], str], *, if_absent: str, if_different: str
) -> list[tuple[str, str, str]]:
    """The row of each day. One that cannot be read, or not be made equal, keeps no later day from its turn; a
    ClickHouse that gives no answer does, for each would wait for it."""
    from hk_tick_collector.clickhouse.connection import EngineLost  # noqa: PLC0415
    from hk_tick_collector.ship.copies import NOTHING_THERE  # noqa: PLC0415

    results = {"": "equal", NOTHING_THERE: if_absent}
    checks, lost = [], ""
    for day in days:
        if lost:
            checks.append((day, "FAILED", f"not looked at: {lost}"))
            continue
        try:
            different = compare(day)
        except (RecorderError, OSError) as exc:
            lost = str(exc) if isinstance(exc, EngineLost) else ""
            checks.append((day, "FAILED", str(exc)))
        else:
            checks.append((day, results.get(different, if_different), different))
    return checks


def _healed(settings: ShipSettings, catalog: Catalog, copies: Any, days: list[str]) -> list[tuple[str, str, str]]:
    from hk_tick_collector.ship.alone import Alone  # noqa: PLC0415
    from hk_tick_collector.ship.claim import claim, owner_of  # noqa: PLC0415
    from hk_tick_collector.ship.keeper import Keeper  # noqa: PLC0415
    from hk_tick_collector.ship.state import State  # noqa: PLC0415

    sink = claim(copies.engine, settings.recorder, owner_of(settings.data_root), SystemClock().now_ms())
    state, alone = State(settings.ship_dir), Alone(settings.data_root)
    try:
        alone.hold(sink, settings.recorder)
        state.begin(sink, settings.recorder)
        copies.clear_stages()
        keeper = Keeper(catalog, copies, state)

        def check(name: str) -> str:
            day, _, kind = name.partition(" ")
            return keeper.check_states(kind, day, is_alone=True) if kind else keeper.check(day, is_alone=True)

        return _judged(days, check, if_absent="sent", if_different="replaced")
    finally:
        alone.let_go()
        state.close()

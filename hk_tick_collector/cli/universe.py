"""``hk-tickctl universe``: which symbols to record from the next trading day on, and why."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hk_tick_collector.cli.asking import Listed, NotFromOpenD, ask_listed
from hk_tick_collector.cli.common import (
    EXIT_FINE,
    EXIT_PROBLEM,
    App,
    be_gentle,
    print_table,
    progress,
    say,
    tickctl_command,
)
from hk_tick_collector.cli.ending import clean_ending
from hk_tick_collector.cli.options import days_option
from hk_tick_collector.cli.stretch import days_to_read
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.errors import ConfigError, InputError, NoData, RecorderError
from hk_tick_collector.core.text import counted
from hk_tick_collector.market.symbols import check_symbols
from hk_tick_collector.store.atomic import write_whole
from hk_tick_collector.watch import shards, universe
from hk_tick_collector.watch.recorder import lock_holder
from hk_tick_collector.watch.universe import Choice, Measured, Score
from hk_tick_collector.watch.when import some_days

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day

RESERVE_FACTOR, RESERVE_SLOTS = 0.05, 10  # of the quota, for what is added by hand
BEFORE_OPENING_MS = 3_600_000
USUAL_DAYS = 20
INDICES = {"HSI": "HK.800000", "HSCEI": "HK.800100", "HSTECH": "HK.800700"}  # as plates at Futu
MAX_PROBLEMS = 50  # of lists, shown


@tickctl_command(
    "universe",
    help="""Choose the symbols to record, from their recordings, or from OpenD's list if they were never recorded.

    \b
    hk-tickctl universe                               shows what would be chosen
    hk-tickctl universe --write symbols.txt --reload  FUTU_SYMBOLS=@symbols.txt
    hk-tickctl universe --explain 700
    hk-tickctl universe --limit 300 --shards 4 --write symbols.txt
    hk-tickctl universe --check symbols.txt

    It chooses at most --limit symbols: those of --keep, and the first ones of each ranking (medians over --days). A
    symbol enters by its rank, and leaves only when it is a fifth behind that rank in every ranking, and not before
    five trading days. OpenD is asked for its list, the turnover of its day so far and its quota; that costs no quota.
    Codes that are suspended or no longer listed are left out.

    Symbols are removed only while the market is closed, and not in the hour before it opens: a day that was recorded
    only in part can never be proven. A choice of fewer than half of the present symbols changes nothing; the exit
    code is then 1.

    --shards divides them over recorders with accounts of their own, of --limit symbols each: symbols.1.txt and so on,
    by ticks a day, and a symbol moves only where the load would be uneven. The plan is symbols.shards.json; --check
    compares the lists with it and exits with 1 when a symbol is in no list or in two.
    """,
    short_help="Choose the symbols to record.",
)
@click.option("--limit", type=click.IntRange(1), help="Symbols at most. Default: OpenD's quota less 5 %, at least 10.")
@click.option("--by", default=",".join(universe.STRATEGIES), show_default=True, metavar="NAMES", help="Rankings.")
@click.option(
    "--keep",
    default="",
    metavar="CODES",
    help="Always wanted: 700,5 or @file, index:HSI, plate:HK.BK1001, watchlist:NAME.",
)
@days_option("Default: the last 20.")
@click.option("--recorded-only", is_flag=True, help="Choose only among recorded symbols; needs --limit.")
@click.option("--write", "target", type=click.Path(path_type=Path, dir_okay=False), help="Write the list to this file.")
@click.option("--reload", is_flag=True, help="Tell the recorder to read its list again (SIGHUP).")
@click.option(
    "--shards", "count", type=click.IntRange(2, shards.MAX_SHARDS), help="Number of recorders that share the list."
)
@click.option("--check", "checked", type=click.Path(path_type=Path, dir_okay=False), help="Compare lists with a plan.")
@click.option("--explain", metavar="CODE", help="Why this one is chosen, or not.")
def command(
    app: App,
    limit: int | None,
    by: str,
    keep: str,
    days: str | None,
    recorded_only: bool,
    target: Path | None,
    reload: bool,
    count: int | None,
    checked: Path | None,
    explain: str | None,
) -> int:
    """See the help text."""
    if checked is not None:
        return _check_lists(app, checked.absolute())
    strategies = _strategies(by)
    groups, keep = _groups(keep)
    kept = _codes(app, keep) if keep else []
    if recorded_only and limit is None:
        raise click.UsageError("--recorded-only needs --limit: OpenD, which knows the quota, is not asked")
    if reload and target is None:
        raise click.UsageError("--reload needs --write: there is no new list to read")
    if reload and count is not None:
        raise click.UsageError("--reload tells one recorder: with --shards, systemctl reload 'hk-tick-collector@*'")
    if recorded_only and groups:
        raise click.UsageError(f"--keep {groups[0]}: only OpenD knows who is in it; leave --recorded-only out")
    try:
        listed = Listed() if recorded_only else ask_listed(app, groups)
    except NotFromOpenD as exc:
        raise InputError(f"{exc}: --recorded-only --limit N ranks what is recorded") from exc
    kept += listed.members
    be_gentle()
    of = _scores(app, days, listed)
    rankings = {name: universe.ranking(name, of, _comparable(app, of)) for name in strategies}
    trading_day = _next_day(app)
    before = universe.newest(app.data_root, trading_day)
    slots = _slots(listed) if limit is None else limit
    choice = universe.choose(
        trading_day,
        slots * (count or 1),
        kept,
        rankings,
        of=of,
        before=before,
        days_between=lambda first, last: _days_between(app, first, last),
    )
    if explain is not None:
        return _explain(app, choice, rankings, of, explain)
    if count is not None:
        plan = _divide(app, choice, before, of, count, slots, target)
        _say_quota(listed, max(len(shard.symbols) for shard in plan.shards), is_shard=True)
        return EXIT_FINE
    _say_quota(listed, len(choice.members))
    if target is not None:
        _put(app, choice, before, target, reload=reload)
    app.emit(asdict(choice), lambda: _show(choice, target))
    return EXIT_FINE


def _divide(
    app: App, choice: Choice, before: Choice | None, of: dict[str, Score], count: int, slots: int, target: Path | None
) -> shards.Plan:
    whole = target.absolute() if target is not None else None
    loads = shards.loads_of(choice.symbols, of)
    plan = shards.divide(choice.trading_day, loads, count, slots, shards.read(whole) if whole is not None else None)
    if whole is not None:
        universe.check(choice, 0 if before is None else len(before.members))
        _check_moves(app, plan, shards.read(whole))
        lines = {member.symbol: f"{member.symbol}  # {universe.why(member)}" for member in choice.members}
        shards.write(whole, plan, lines)
        universe.store(app.data_root, choice)

    def human() -> None:
        rows = [(shard.number, len(shard.symbols), slots, round(shard.load)) for shard in plan.shards]
        print_table(("shard", "symbols", "slots", "load"), rows, numbers=("shard", "symbols", "slots", "load"))
        where = f", written beside {shards.plan_path(whole)}" if whole is not None else "; nothing was written"
        many = counted(len(choice.members), "symbol")
        show_text(f"{many} for {choice.trading_day}, {len(plan.moved):,} moved to another shard{where}")

    app.emit(asdict(plan), human)
    return plan


def _check_moves(app: App, plan: shards.Plan, before: shards.Plan | None) -> None:
    """A symbol that moves is taken away from one recorder before the other one has it."""
    recorded = {symbol for shard in before.shards for symbol in shard.symbols} if before is not None else set()
    gone = recorded.difference(*(shard.symbols for shard in plan.shards)).union(plan.moved)
    if gone and not _may_take_away(app):
        raise universe.RankingFailed(
            f"{counted(len(gone), 'symbol')} would be moved or taken away in mid-session, and their day could never be "
            "proven: nothing was changed; do it when the market is closed"
        )


def _check_lists(app: App, target: Path) -> int:
    plan = shards.read(target)
    if plan is None:
        raise NoData(f"there is no plan {shards.plan_path(target)}: hk-tickctl universe --shards N --write makes one")
    listed: dict[int, list[str] | None] = {}
    for shard in plan.shards:
        path = shards.list_path(target, shard.number)
        listed[shard.number] = _listed_in(app, path) if path.exists() else None
    problems = shards.problems(target, plan, listed)

    def human() -> None:
        for problem in problems[:MAX_PROBLEMS]:
            show_text(problem)
        many = counted(sum(len(shard.symbols) for shard in plan.shards), "symbol")
        state = f"{counted(len(problems), 'problem')}" if problems else "each in exactly one list"
        show_text(f"{many} in {counted(len(plan.shards), 'shard')} for {plan.trading_day}: {state}")

    app.emit({"plan": asdict(plan), "problems": problems}, human)
    return EXIT_PROBLEM if problems else EXIT_FINE


def _strategies(text: str) -> list[str]:
    names = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    wrong = [name for name in names if name not in universe.STRATEGIES]
    if wrong or not names:
        raise click.UsageError(f"--by {text!r}: name one or more of {', '.join(universe.STRATEGIES)}")
    return names


def _groups(keep: str) -> tuple[list[str], str]:
    """The groups among the words of ``--keep``, as OpenD is asked for them, and the other words."""
    words = [word for word in keep.split(",") if word.strip()]
    groups, codes = [], []
    for word in map(str.strip, words):
        kind, colon, name = word.partition(":")
        if not colon:
            codes.append(word)
        elif kind == "index" and name.upper() in INDICES:
            groups.append(f"plate:{INDICES[name.upper()]}")
        elif kind in ("plate", "watchlist") and name:
            groups.append(word)
        else:
            raise click.UsageError(
                f"--keep {word!r}: write index:{' or index:'.join(INDICES)}, plate:HK.BK1001, or watchlist:NAME"
            )
    return groups, ",".join(codes)


def _listed_in(app: App, path: Path) -> list[str]:
    """The symbols of a shard's list, which may have none."""
    symbols, problems = check_symbols(f"@{path.name}", app.market.symbols, path.parent)
    if problems and problems != [f"symbols file {path} holds no code"]:
        raise InputError("; ".join(problems))
    return symbols


def _codes(app: App, text: str) -> list[str]:
    symbols, problems = check_symbols(text, app.market.symbols, Path.cwd())
    if problems:
        raise InputError("--keep: " + "; ".join(problems))
    return symbols


def _say_quota(listed: Listed, symbols: int, *, is_shard: bool = False) -> None:
    """A list that is longer than the quota is written all the same: another account may have more."""
    if listed.quota is not None and symbols > listed.quota:
        whose = "the longest list, if its account has this quota," if is_shard else "the list"
        click.echo(
            f"OpenD's quota is {listed.quota:,}: {counted(symbols - listed.quota, 'symbol')} of {whose} would not be "
            f"recorded: lower --limit to {listed.quota:,}, or leave it out",
            err=True,
        )


def _slots(listed: Listed) -> int:
    assert listed.quota is not None
    reserve = max(RESERVE_SLOTS, int(listed.quota * RESERVE_FACTOR))
    if listed.quota <= reserve:
        raise InputError(f"OpenD's quota is {listed.quota}: too few to keep a reserve of {reserve}; give --limit")
    return listed.quota - reserve


def _scores(app: App, days: str | None, listed: Listed) -> dict[str, Score]:
    """Of what was recorded; of what never was, OpenD's turnover of the day so far."""
    named = some_days(app, days) if days is not None else app.catalog.days()[-USUAL_DAYS:]
    chosen = days_to_read(app, named)
    if not chosen and not listed.turnover:
        raise NoData(f"no day is recorded under {app.data_root}, and OpenD was not asked: there is nothing to rank")
    with clean_ending(), progress("reading days", len(chosen)) as done:
        of = universe.scores(_measured(day, done) for day in chosen)
    if listed.turnover:
        of = {symbol: score for symbol, score in of.items() if symbol in listed.turnover}
        for code, turnover in listed.turnover.items():
            of.setdefault(code, Score(code, 0, turnover=turnover, is_snapshot=True))
    return of


def _measured(day: Day, done: Callable[[float], None]) -> list[Measured]:
    from hk_tick_collector.query.engine import Engine  # noqa: PLC0415 - DuckDB takes its time
    from hk_tick_collector.query.top import MAX_ROWS, top  # noqa: PLC0415

    with Engine([day], []) as engine:
        rows = [row for batch in top(engine, "ticks", MAX_ROWS).batches for row in batch.to_pylist()]
    done(1)
    return [Measured(row["symbol"], row["ticks"], row["turnover"] or 0.0, row["volatility_pct"]) for row in rows]


def _comparable(app: App, of: Mapping[str, Score]) -> set[str]:
    return {symbol for symbol in of if app.market.currency_of(symbol) == app.market.currencies[0]}


def _next_day(app: App) -> str:
    """The first trading day that has not begun."""
    day = app.market.trading_day(app.now_ms)
    has_begun = app.calendar.recording_window(day)[0] <= app.now_ms
    return day if app.calendar.is_trading_day(day) and not has_begun else app.calendar.next_trading_day(day)


def _days_between(app: App, first: str, last: str) -> int:
    day, count = first, 0
    while day < last and count < universe.STAY_DAYS:
        day, count = app.calendar.next_trading_day(day), count + 1
    return count


def _may_take_away(app: App) -> bool:
    """Not while the market is open, nor in the hour before."""
    day = app.market.trading_day(app.now_ms)
    start_ms, end_ms = app.calendar.recording_window(day)
    return not app.calendar.is_trading_day(day) or not start_ms - BEFORE_OPENING_MS <= app.now_ms < end_ms


def _put(app: App, choice: Choice, before: Choice | None, target: Path, *, reload: bool) -> None:
    recorded = _recorded(app, target) if reload else set()
    universe.check(choice, max(len(recorded), 0 if before is None else len(before.members)))
    gone = recorded.difference(choice.symbols)
    if gone and not _may_take_away(app):
        raise universe.RankingFailed(
            f"{counted(len(gone), 'symbol')} would be taken away in mid-session, and their day could never be proven: "
            "nothing was changed; do it when the market is closed"
        )
    write_whole(target.absolute(), universe.symbols_text(choice))
    universe.store(app.data_root, choice)  # behind the list: what is stored is what the recorder is to have
    if reload:
        _tell_recorder(app, choice, target)


def _recorded(app: App, target: Path) -> set[str]:
    """What FUTU_SYMBOLS names now: nothing while the list that it names is still to be written."""
    try:
        return set(app.settings.symbols)
    except ConfigError:
        if target.exists():
            raise
        return set()


def _tell_recorder(app: App, choice: Choice, target: Path) -> None:
    """SIGHUP. RecorderError when it would read another list, or may not be told."""
    if set(App(app.env_file, app.data_root_given).settings.symbols) != set(choice.symbols):
        raise RecorderError(
            f"{target} is written, but FUTU_SYMBOLS does not name it: set FUTU_SYMBOLS=@{target.absolute()}"
        )
    holder = lock_holder(app.data_root)
    if holder is None:
        say(f"{target} is written; no recorder works in {app.data_root}, so none was told")
        return
    try:
        os.kill(holder.pid, signal.SIGHUP)
    except PermissionError as exc:
        raise RecorderError(
            f"{target} is written, but only the recorder's user or root may tell process {holder.pid} to read it: "
            "systemctl reload hk-tick-collector"
        ) from exc


def _explain(app: App, choice: Choice, rankings: dict[str, list[str]], of: dict[str, Score], text: str) -> int:
    symbol = _codes(app, text)[0]
    member = next((candidate for candidate in choice.members if candidate.symbol == symbol), None)
    ranks = {name: symbols.index(symbol) + 1 for name, symbols in rankings.items() if symbol in symbols}
    score = of.get(symbol)
    result = {
        "symbol": symbol, "chosen": member is not None, "ranks": ranks, "in_rank": choice.in_rank,
        "out_rank": choice.out_rank, "score": asdict(score) if score else None,
        "member": asdict(member) if member else None,
    }  # fmt: skip

    def human() -> None:
        if member is not None:
            show_text(f"{symbol} is chosen: {universe.why(member)}")
        elif score is None:
            show_text(f"{symbol} is not chosen: it was not recorded, or OpenD does not list it as trading")
        else:
            told = ", ".join(f"{name} {rank}" for name, rank in ranks.items()) or "in no ranking"
            show_text(f"{symbol} is not chosen: {told}; it comes in at {choice.in_rank} or better")

    app.emit(result, human)
    return EXIT_FINE if member is not None else EXIT_PROBLEM


def _show(choice: Choice, target: Path | None) -> None:
    print_table(
        ("symbol", "why", "days", "ticks", "turnover", "volatility"),
        [_row(member.symbol, universe.why(member), member.score) for member in choice.members],
        numbers=("days", "ticks", "turnover", "volatility"),
        spare=("days", "volatility"),
    )
    where = f", written to {target}" if target is not None else "; nothing was written (--write FILE does)"
    changes = f"{len(choice.came):,} new, {len(choice.went):,} gone"
    many = counted(len(choice.members), "symbol")
    show_text(f"{many} of {choice.limit:,} for {choice.trading_day}, {changes}{where}")


def _row(symbol: str, reason: str, score: Score | None) -> Sequence[object]:
    if score is None:
        return (symbol, reason, None, None, None, None)
    ticks = None if score.is_snapshot else round(score.ticks)
    return (symbol, reason, score.days, ticks, round(score.turnover), score.volatility)

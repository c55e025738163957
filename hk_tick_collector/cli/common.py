"""What all commands of ``hk-tickctl`` share: options, where the data is, output, exit codes.

Exit codes: 0 fine, 1 a problem was found or the work failed, 2 the command or the configuration is wrong, 3 there is
no data to work on, 130 interrupted. Results go to standard output, everything else to standard error. With ``--json``
standard output holds one JSON document and nothing else.

Heavy libraries are imported where they are used, so that a quick question gets a quick answer.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hk_tick_collector.cli.groups import EXIT_INTERRUPTED
from hk_tick_collector.cli.terminal import (
    BOLD,
    GREEN,
    RED,
    USUAL_COLUMNS,
    YELLOW,
    coloured,
    console,
    json_text,
    show_lines,
    width,
)
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.disk import told
from hk_tick_collector.core.errors import ConfigError, InputError, NoData, QuestionError, RecorderError, StoreCorrupt
from hk_tick_collector.core.tables import Column, aligned, folded, layout
from hk_tick_collector.core.text import printable
from hk_tick_collector.store.layout import archive_dir, no_directory
from hk_tick_collector.store.owner import acting_as, become_owner
from hk_tick_collector.watch.access import DAMAGED_ADVICE, check_open, closed_to_us

if TYPE_CHECKING:
    from hk_tick_collector.app.config import Settings
    from hk_tick_collector.days.catalog import Catalog
    from hk_tick_collector.market.calendar import TradingCalendar
    from hk_tick_collector.market.market import Market

EXIT_FINE, EXIT_PROBLEM, EXIT_USAGE, EXIT_NO_DATA = 0, 1, 2, 3
EXIT_PIPE = 141  # 128 + SIGPIPE: the reader of our output went away
NICE_HEAVY = 10
CONTRADICTIONS_SHOWN = 20
ENV_FILE_VARIABLE = "HK_TICKCTL_ENV_FILE"  # the settings file where none is named; a service's command sets it

_FunctionT = TypeVar("_FunctionT", bound=Callable[..., int | None])


@dataclass
class App:
    """What a command works with. ``now_ms`` is the wall clock, UTC epoch milliseconds."""

    env_file: Path | None = None
    data_root_given: Path | None = None
    archive_root_given: Path | None = None
    as_json: bool = False
    left_out: list[str] = field(default_factory=list)  # days that could not be read; the others were
    several: bool = False  # the command reads all of DATA_ROOTS as one

    @cached_property
    def settings(self) -> Settings:
        """The recorder's settings. ConfigError names all that is wrong."""
        from hk_tick_collector.app.config import load_settings  # noqa: PLC0415 - pydantic takes its time

        return load_settings(self.env_file, os.environ)

    @cached_property
    def places(self) -> Settings:
        """The settings for who works with files alone: without a list of symbols, or with a wrong one, as well."""
        from hk_tick_collector.app.config import ConfigErrors, load_settings  # noqa: PLC0415
        from hk_tick_collector.market.registry import market_of  # noqa: PLC0415
        from hk_tick_collector.sources.registry import OFFERED  # noqa: PLC0415

        try:
            return self.settings
        except ConfigErrors as exc:
            others = [problem for problem in exc.problems if problem.key != "FUTU_SYMBOLS"]
            if others:  # the list of symbols is of no matter here
                raise ConfigErrors(others) from None
            examples = (spec.market for spec in OFFERED)
            for symbol in (market_of(code).symbols.example for code in dict.fromkeys(examples)):
                with suppress(ConfigErrors):  # of another market than the one that is set
                    return load_settings(self.env_file, {**os.environ, "FUTU_SYMBOLS": symbol})
            raise

    @cached_property
    def data_root(self) -> Path:
        """Where the day files are: ``--data-root``, else the setting; of several that are read as one its own, or the
        first. NoData when there is no such directory, PermissionError when this user may not look into it."""
        if self.several and self._listed_roots:
            return self._own_of(self._listed_roots)[0]
        root = self.data_root_given.absolute() if self.data_root_given is not None else self.places.data_root
        listed = [root for root, _ in self._listed_roots]
        if listed and not self.several:
            word = "DATA_ROOTS names" if root in listed else "it is none of DATA_ROOTS, which names"
            say(f"this works on one data root: {root} ({word} {len(listed)}; --data-root chooses)")
        self._enter(root)
        return root

    def _enter(self, root: Path, *, is_listed: bool = False) -> None:
        if not root.is_dir():
            cure = "correct DATA_ROOTS" if is_listed else "name the recorder's DATA_ROOT with --data-root or --env-file"
            raise NoData(f"{no_directory(root)}: {cure}")
        self.work_as_owner(root)
        check_open(root)  # else it would look as if nothing were in it

    @cached_property
    def _listed_roots(self) -> list[tuple[Path, Path]]:
        """DATA_ROOTS, each with its archive, unless the command line says where; none where it names only one that is
        DATA_ROOT."""
        if self.data_root_given is not None or self.archive_root_given is not None:
            return []
        from hk_tick_collector.client.places import listed_roots  # noqa: PLC0415 - with the settings' libraries

        listed = listed_roots(self.env_file, os.environ)
        if len(listed) == 1:
            with suppress(ConfigError):
                return [] if self.places.data_root == listed[0][0] else listed
        return listed

    def _own_of(self, listed: list[tuple[Path, Path]]) -> tuple[Path, Path]:
        """DATA_ROOT, where it is one of these; else the first of them."""
        with suppress(ConfigError):
            own = self.places.data_root
            listed = [roots for roots in listed if roots[0] == own] or listed
        self._enter(listed[0][0], is_listed=True)
        return listed[0]

    @cached_property
    def catalogs(self) -> list[Catalog]:
        """The days of each data root that is read: those of DATA_ROOTS that hold the market of the command's own."""
        from hk_tick_collector.days.catalog import Catalog  # noqa: PLC0415 - not for who reads no days

        own = Catalog(self.data_root, self.archive_root)
        if not (self.several and self._listed_roots):
            return [own]
        for root, _ in self._listed_roots:
            self._enter(root, is_listed=True)
        catalogs = [Catalog(*roots) for roots in self._listed_roots]
        return [catalog for catalog in catalogs if catalog.market is own.market]

    def work_as_owner(self, directory: Path) -> None:
        """Before anything in the data root is touched: root takes the rights of its owner, who may have planted links
        there. Whatever needs root (the settings file, systemd) is read before."""
        if os.geteuid() == 0 and directory.is_dir() and directory.stat().st_uid != 0:
            with suppress(ConfigError):  # raised again where the settings are needed
                _ = self.settings
            become_owner(directory)
            for code in (__file__, os.__file__):
                if not os.access(code, os.R_OK):
                    raise RecorderError(
                        f"{Path(code).parent} is closed to the owner of {directory}, whose rights root takes: "
                        "install hk-tick-collector and its Python where that user may read them"
                    )

    @cached_property
    def archive_root(self) -> Path:
        """Where archived days are: ``--archive-root``, else the setting, else beside the day files."""
        data_root = self.data_root  # first: it says whose rights root takes
        if self.archive_root_given is not None:
            return self.archive_root_given.absolute()
        if self.several and self._listed_roots:
            return archive_dir(data_root)
        if self.data_root_given is None and self.places.archive_root is not None:
            return self.places.archive_root
        return archive_dir(data_root)

    @cached_property
    def catalog(self) -> Catalog:
        """All days, live and archived, of all data roots that are read."""
        if len(self.catalogs) == 1:
            return self.catalogs[0]
        from hk_tick_collector.days.union import UnionCatalog  # noqa: PLC0415 - for few

        return UnionCatalog(self.catalogs)

    def each_root(self) -> list[App]:
        """An ``App`` for each data root that is read."""
        if len(self.catalogs) == 1:
            return [self]
        return [App(self.env_file, catalog.data_root, catalog.archive_root, self.as_json) for catalog in self.catalogs]

    def say_contradictions(self) -> bool:
        """Where data roots tell otherwise of what was read, on standard error. True when any do."""
        texts = getattr(self.__dict__.get("catalog"), "contradictions", ())
        for text in texts[:CONTRADICTIONS_SHOWN]:
            say(text)
        if len(texts) > CONTRADICTIONS_SHOWN:
            say(f"... and {len(texts) - CONTRADICTIONS_SHOWN:,} symbols more that data roots tell differently")
        return bool(texts)

    @cached_property
    def calendar(self) -> TradingCalendar:
        """Trading days."""
        from hk_tick_collector.market.calendar import TradingCalendar  # noqa: PLC0415

        return TradingCalendar(self.market)

    @cached_property
    def market(self) -> Market:
        """The market of the data root's days; while it has none, the one that is set (MARKET). ConfigError when it is
        not known."""
        from hk_tick_collector.market.registry import market_of  # noqa: PLC0415
        from hk_tick_collector.store import data_root  # noqa: PLC0415

        code = None
        with suppress(RecorderError, OSError):  # raised again where the data root is needed
            code = data_root.market_of(self.data_root)
        if code is None and self.data_root_given is None:
            with suppress(RecorderError, OSError):
                code = self.places.market
        return market_of(code)

    @property
    def now_ms(self) -> int:
        """The wall clock."""
        return SystemClock().now_ms()

    def emit(self, data: object, human: Callable[[], None]) -> None:
        """The result: as JSON when that was asked for, else as ``human`` prints it."""
        if self.as_json:
            write_json(data)
        else:
            human()


def write_json(data: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json_text(data, indent=2) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for the person, on standard error: never part of the result."""
    room = shutil.get_terminal_size((USUAL_COLUMNS, 0)).columns if sys.stderr.isatty() else None
    lines = [line for paragraph in text.split("\n") for line in (folded(paragraph, room) or [""])]
    click.echo("\n".join(lines), err=True)


_MEANING = {
    **dict.fromkeys(("proven", "fine", "archived", "migrated", "closed"), GREEN),
    **dict.fromkeys(("unproven", "refused", "would be migrated"), YELLOW),
    **dict.fromkeys(("missing", "open", "WRONG", "failed", "problem"), RED),
}


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[str] = (),
    spare: Sequence[str] = (),
    text: str = "",
) -> None:
    """A table on standard output that fits its terminal (``core.tables``). None is shown as a dash.

    ``numbers``: columns set to the right. ``spare``: those that may be left out where there is no room, the first ones
    first. ``text``: the last column, when it holds sentences."""
    made = [
        Column(name, name in numbers, len(spare) - spare.index(name) if name in spare else 0, name == text)
        for name in columns
    ]
    cells = [[printable(shown(value)) for value in row] for row in rows]
    for n, column in enumerate(made):
        if column.is_number:
            for row, number in zip(cells, aligned([row[n] for row in cells]), strict=True):
                row[n] = number
    table = layout(made, cells, width())
    show_lines([*table.head(_in_colour), *(line for row in cells for line in table.row(row, _in_colour))])
    say_left_out(table.left_out)


def _in_colour(column: str, cell: str) -> str:
    """The head in bold, a state by what it means."""
    return coloured(cell, _MEANING.get(cell.strip(), "") if column else BOLD)


def say_left_out(names: Sequence[str]) -> None:
    """Which columns a terminal had no room for, on standard error."""
    if names:
        say(f"not shown: {', '.join(names)} (a wider window, a pipe and --json show all)")


def shown(value: object) -> str:
    """A value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


@contextmanager
def progress(text: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
    """A progress bar on standard error while a person watches; the yielded function takes what was done since last.

    ``total``: the units of the whole work, None when that is not known.
    """
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=total)
        yield lambda done: bar.advance(task, done)


def be_gentle() -> None:
    """Before heavy work: let the recorder have the CPU first."""
    os.nice(max(0, NICE_HEAVY - os.nice(0)))


def tickctl_command(
    name: str, *, several: bool = False, names_roots: bool = False, **attrs: Any
) -> Callable[[Callable[..., int | None]], click.Command]:
    """A command with the options that all have. The function gets an ``App`` first and returns an exit code (None: 0).
    ``several``: it reads all data roots of DATA_ROOTS that hold one market as one. ``names_roots``: data roots are its
    arguments, so that the options for one are not in its help (``twins.apps_of`` refuses them).

    Errors with a meaning of their own end in one sentence on standard error and the right exit code.
    """

    def decorate(function: Callable[..., int | None]) -> click.Command:
        def run(
            env_file: Path | None, data_root: Path | None, archive_root: Path | None, as_json: bool, **arguments: Any
        ) -> None:
            app = App(env_file, data_root, archive_root, as_json, several=several)
            code = run_guarded(lambda: function(app, **arguments), as_json=as_json)
            has_problem = app.say_contradictions() or bool(app.left_out)
            raise SystemExit(EXIT_PROBLEM if has_problem and code == EXIT_FINE else code)

        update_wrapper(run, function)  # its help text, and the options that stand above it
        command: click.Command = click.command(name, cls=click.Command, **attrs)(run)
        command.params.extend(_common_options(hide_roots=names_roots))
        return command

    return decorate


def group_command(
    group: click.Group, call: Callable[..., int | None], name: str, *options: click.Parameter, **attrs: Any
) -> Callable[[_FunctionT], _FunctionT]:
    """A command of a group that is not about a data root: with ``options``, ``--env-file`` and ``--json``.

    ``call`` gets the function, what these two say, and the other arguments; it makes of them what the function wants,
    and returns the exit code (None: 0). Errors end as those of ``tickctl_command``.
    """

    def decorate(function: _FunctionT) -> _FunctionT:
        def run(env_file: Path | None, as_json: bool, **arguments: Any) -> None:
            raise SystemExit(run_guarded(lambda: call(function, env_file, as_json, **arguments), as_json=as_json))

        update_wrapper(run, function)  # its help text, and the options that stand above it
        command: click.Command = click.command(name, cls=click.Command, **attrs)(run)
        command.params.extend([*options, env_file_option(), _json_option()])
        group.add_command(command)
        return function

    return decorate


def run_guarded(work: Callable[[], int | None], *, as_json: bool = False) -> int:
    """Run a command's work; its exit code, also when it raises one of our errors. ``as_json``: standard output gets
    the error, too, as a line of JSON. UsageError for an argument that means nothing: click tells that."""
    try:
        code = work() or EXIT_FINE
        sys.stdout.flush()  # while a closed pipe is still ours to answer for
        return code
    except BrokenPipeError:
        # Whoever read our output has enough. Nothing may be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except InputError as exc:
        raise click.UsageError(str(exc)) from exc
    except (RecorderError, OSError, KeyboardInterrupt) as exc:
        text, code = _ending(exc)
        text += _owners_rights(exc)
        say(f"hk-tickctl: {text}")
        if as_json:
            print(json_text({"error": text, "exit_code": code}), flush=True)
        return code


def _ending(exc: BaseException) -> tuple[str, int]:
    """What is said of an error, and the exit code."""
    if isinstance(exc, KeyboardInterrupt):
        return "interrupted", EXIT_INTERRUPTED
    closed = closed_to_us(exc)
    if closed is not None:
        return closed, EXIT_PROBLEM
    if isinstance(exc, (NoData, QuestionError)):
        return str(exc), EXIT_NO_DATA if isinstance(exc, NoData) else EXIT_USAGE
    if isinstance(exc, ConfigError):
        return f"the configuration is wrong\n{exc}", EXIT_USAGE
    if isinstance(exc, OSError):
        return told(exc), EXIT_PROBLEM
    says_what_to_do = not isinstance(exc, StoreCorrupt) or "hk-tickctl" in str(exc)
    return str(exc) if says_what_to_do else f"{exc}; {DAMAGED_ADVICE}", EXIT_PROBLEM


def _owners_rights(exc: BaseException) -> str:
    """What root has to know when its work was refused: that it was done with the rights of the data root's owner."""
    acting = acting_as()
    cause = exc.__cause__ if isinstance(exc, RecorderError) else exc
    if acting is None or not isinstance(cause, PermissionError):
        return ""
    return (
        f"\nas root, hk-tickctl works with the rights of {acting.name}, the owner of {acting.directory}: "
        "name a place where that user may write, or give it the right"
    )


def _common_options(*, hide_roots: bool) -> list[click.Parameter]:
    # What this user may not read is said by ``closed_to_us``, with what to do: click would only refuse it.
    directory = click.Path(path_type=Path, file_okay=False, readable=False)
    roots = {
        "--data-root": "Directory of the day files, instead of the setting.",
        "--archive-root": "Directory of the archive, instead of the setting.",
    }
    return [
        *(click.Option([name], type=directory, hidden=hide_roots, help=text) for name, text in roots.items()),
        env_file_option(),
        _json_option(),
    ]


def _json_option() -> click.Option:
    return click.Option(["--json", "as_json"], is_flag=True, help="Print JSON.")


def env_file_option() -> click.Option:
    """``--env-file``, of every command that reads settings."""
    return click.Option(
        ["--env-file"],
        envvar=ENV_FILE_VARIABLE,
        type=click.Path(path_type=Path, dir_okay=False, readable=False),
        help=f"Settings file. Default: {ENV_FILE_VARIABLE}, else .env in the working directory.",
    )

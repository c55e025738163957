"""The command ``hk-NAME-sim``: run a simulator, hurt it, and check a recorder against its truth file.

Exit codes: 0 done, 1 it did not work or differences were found, 2 the command line or a file or port that it names is
wrong, 3 nothing is recorded, 141 whoever read the output went away.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector import __version__
from hk_tick_collector.core.extras import how_to_install
from hk_tick_collector.sims.rest import HOST
from hk_tick_collector.sims.tail import MAX_MS, tail_ms
from hk_tick_collector.sims.truth import TruthError

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NOTHING = 0, 1, 2, 3
EXIT_PIPE = 141  # 128 + SIGPIPE
FAULT_TIMEOUT_SEC = 15
SIZE = "COALESCE(volume, ROUND(turnover / price, 9))"  # of a row of ``ticks``; a part of a share has no volume
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def printed(work: Callable[[], int]) -> int:
    """The exit code of a command's work; EXIT_PIPE when its reader had enough (``| head``)."""
    try:
        code = work()
        sys.stdout.flush()  # while a closed pipe is still ours to answer for
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is flushed into it at the end
        return EXIT_PIPE
    return code


@dataclass(frozen=True, slots=True)
class Checked:
    """What ``check`` prints as JSON: ``counts``, one of them ``stored``. Those that ``faults`` names must be 0."""

    counts: Mapping[str, int]
    faults: frozenset[str]


@dataclass(frozen=True, slots=True)
class Simulator:
    """One simulator's command.

    Simulator("schwab", "Schwab's streamer", {"cut": "break all off"}, add_options, run, check).main(["run"])
    """

    name: str  # ``schwab``: the command is ``hk-schwab-sim``
    description: str
    faults: Mapping[str, str]  # by their names, what they do
    add_options: Callable[[argparse.ArgumentParser], None]  # of ``run``
    run: Callable[[argparse.Namespace], None]
    check: Callable[[Path, Path, int], Checked]  # truth, data root, allow_tail_ms. OSError, TruthError, sqlite3.Error
    port: str = "port"  # the one that takes faults, as the command line calls it
    record: str = "tick"  # what is compared
    extra: str = ""  # that it needs

    @property
    def command(self) -> str:
        """As a shell knows it."""
        return f"hk-{self.name}-sim"

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run one command; the exit code."""
        args = self._parser().parse_args(argv)
        try:
            return printed(lambda: args.command(args))
        except ModuleNotFoundError as exc:
            if not self.extra:
                raise
            print(f"{self.command} needs {exc.name}: {how_to_install(self.extra)}", file=sys.stderr)
            return EXIT_USAGE
        except (OSError, TruthError, sqlite3.Error) as exc:
            print(f"{self.command}: {reason_of(exc)}", file=sys.stderr)
            return EXIT_USAGE

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog=self.command, description=f"{self.description}, on {HOST}.")
        parser.add_argument("--version", action="version", version=f"{self.command} {__version__}")
        commands = parser.add_subparsers(required=True, metavar="COMMAND")
        run = commands.add_parser("run", help="serve until SIGINT or SIGTERM")
        self.add_options(run)
        run.add_argument("--truth", type=Path, help=f"write every {self.record} to this file")
        run.set_defaults(command=self._run)
        fault = commands.add_parser(
            "fault",
            help="do something to a running one",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="faults:\n" + "\n".join(f"  {name:15} {text}" for name, text in self.faults.items()),
        )
        fault.add_argument("port", type=port, metavar=self.port)
        fault.add_argument("name", choices=self.faults, metavar="NAME")
        fault.set_defaults(command=self._fault)
        check = commands.add_parser("check", help=f"compare recorded {self.record}s with a truth file")
        check.add_argument("truth", type=Path)
        check.add_argument("data_root", type=Path)
        check.add_argument(
            "--allow-tail-ms",
            type=tail_ms,
            default=0,
            metavar="MS",
            help=f"{self.record}s this new may differ yet (to {MAX_MS})",
        )
        check.set_defaults(command=self._check)
        return parser

    def _run(self, args: argparse.Namespace) -> int:
        self.run(args)
        return EXIT_OK

    def _fault(self, args: argparse.Namespace) -> int:
        request = urllib.request.Request(f"http://{HOST}:{args.port}/sim/{args.name}", method="POST")
        try:
            with urllib.request.urlopen(request, timeout=FAULT_TIMEOUT_SEC):  # noqa: S310 - 127.0.0.1
                return EXIT_OK
        except OSError as exc:
            words = f"{args.name} was not done: {reason_of(exc)}; is a simulator on port {args.port}?"
            print(f"{self.command}: {words}", file=sys.stderr)
            return EXIT_FAILED

    def _check(self, args: argparse.Namespace) -> int:
        checked = self.check(args.truth, args.data_root, args.allow_tail_ms)
        if not checked.counts["stored"]:
            print(f"no {self.record} is recorded")
            return EXIT_NOTHING
        print(json.dumps(checked.counts))
        return EXIT_FAILED if any(checked.counts[name] for name in checked.faults) else EXIT_OK


def reason_of(exc: Exception) -> str:
    """What happened, with the file's name and without Python's number of it."""
    if isinstance(exc, urllib.error.URLError) and isinstance(exc.reason, OSError):
        exc = exc.reason
    if not isinstance(exc, OSError) or exc.strerror is None:
        return str(exc)
    return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror


def port(text: str) -> int:
    """An option's type: 0 to 65535."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is not from 0 to 65535")
    return number


def positive(text: str) -> float:
    """An option's type: above 0, and not without end."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def names(text: str) -> list[str]:
    """Of ``AAPL, MSFT``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def say(line: str) -> None:
    """At once: somebody waits for it."""
    print(line, flush=True)


def until_a_signal() -> None:
    """Wait for the order to stop."""
    stop = threading.Event()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def run_until_a_signal(serving: Coroutine[None, None, None]) -> None:
    """Run it on a loop of its own until the order to stop comes."""

    async def serve() -> None:
        task = asyncio.ensure_future(serving)
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(serve())


def day_files(data_root: Path, pattern: str = "2*.db") -> Iterator[tuple[Path, sqlite3.Connection]]:
    """Each recorded file with a read-only connection that is closed after it, in the order of their days."""
    for path in sorted(data_root.glob(pattern)):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
            yield path, conn

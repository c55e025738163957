"""The command ``hk-opend-sim``: run a simulated OpenD, steer it, and check a recorder against its truth file.

Exit codes: 0 done, 1 it did not work (no simulator there, fault refused, differences found), 2 the command line or a
file it names is wrong; ``check`` and ``check-books`` add 3 for no data.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hk_tick_collector import __version__
from hk_tick_collector.core.errors import ConfigError, RecorderError
from hk_tick_collector.market.symbols import check_symbols, parse_symbols
from hk_tick_collector.opend_sim import check, control, faults, opend
from hk_tick_collector.opend_sim.check_books import check_books
from hk_tick_collector.opend_sim.exchange import DEFAULT_HISTORY_TICKS, MarketConfig
from hk_tick_collector.opend_sim.firehose import MARKET_TICKS_PER_SEC
from hk_tick_collector.opend_sim.instruments import default_symbols
from hk_tick_collector.opend_sim.runner import RunOptions, run
from hk_tick_collector.opend_sim.scenario import read_scenario
from hk_tick_collector.opend_sim.simclock import hk_time_ms, time_ms
from hk_tick_collector.opend_sim.truth import TruthError
from hk_tick_collector.opend_sim.venue import VENUES, Venue
from hk_tick_collector.sims.command import port, positive, printed, reason_of
from hk_tick_collector.sims.tail import MAX_MS, tail_ms

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
DEFAULT_SYMBOLS_COUNT = 50
_LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        return printed(lambda: args.command(args))
    except ConfigError as err:
        print(f"hk-opend-sim: {err}", file=sys.stderr)
        return EXIT_USAGE
    except RecorderError as err:
        print(f"hk-opend-sim: {err}", file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hk-opend-sim", description="An OpenD for developers: any futu-api program can connect to it."
    )
    parser.add_argument("--version", action="version", version=f"hk-opend-sim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="start a simulator", formatter_class=_Help))
    ctl = commands.add_parser(
        "ctl",
        aliases=["fault"],
        help="send a command to a running simulator",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n" + faults.fault_help(),
    )
    ctl.add_argument("--control", required=True, metavar="ADDR", help="HOST:PORT or socket path the simulator printed")
    ctl.add_argument("words", nargs="+", metavar="WORD", help="a command and its parameters: skip percent=10")
    ctl.set_defaults(command=_ctl)
    _add_check(commands.add_parser("check", help="compare recorded day files with a truth file", formatter_class=_Help))
    _add_check_books(
        commands.add_parser(
            "check-books", help="compare recorded order books with a truth file of books", formatter_class=_Help
        )
    )
    return parser


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default only where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_network_options(parser.add_argument_group("network"))
    _add_market_options(parser.add_argument_group("market"))
    group = parser.add_argument_group("run")
    group.add_argument("--truth", type=Path, metavar="FILE", help="write every tick here, for hk-opend-sim check")
    group.add_argument(
        "--book-truth", type=Path, metavar="FILE", help="write every state of the books that somebody subscribed here"
    )
    group.add_argument(
        "--scenario", type=Path, metavar="FILE", help="timed faults: TIME FAULT [parameter=value] a line"
    )
    group.add_argument(
        "--clock-file",
        type=Path,
        metavar="FILE",
        help="keep the market's clock here, for programs that live in its time",
    )
    group.add_argument("--duration", type=positive, metavar="SEC", help="end by itself after so many seconds")
    group.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"], help="to stderr")
    parser.set_defaults(command=_run)


def _add_network_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--host", default="127.0.0.1", help="address to listen on")
    group.add_argument("--port", type=port, default=11111, help="port of the simulated OpenD, 0 for a free one")
    group.add_argument("--port-file", type=Path, metavar="FILE", help="write the port here when it listens")
    where = group.add_mutually_exclusive_group()
    where.add_argument("--control-port", type=port, help="take commands on this loopback port, 0 for a free one")
    where.add_argument("--control-socket", type=Path, metavar="PATH", help="take commands on this Unix socket")
    group.add_argument("--rsa-key", type=Path, metavar="FILE", help="encrypt: PKCS#1 private key of 1024 bits")
    group.add_argument("--quota", type=_count, default=opend.DEFAULT_QUOTA, help="subscriptions of the account")
    group.add_argument(
        "--right",
        default="level2",
        choices=faults.RIGHT_KINDS,
        help="quote right: of a book sf shows 40 levels, level2 10",
    )
    group.add_argument(
        "--min-hold", type=float, default=60.0, metavar="SEC", help="a subscription can be given back after this time"
    )
    group.add_argument("--no-rate-limits", action="store_true", help="do not limit calls in 30 seconds as OpenD does")
    group.add_argument(
        "--max-buffer-bytes",
        type=_count,
        default=opend.DEFAULT_MAX_BUFFER_BYTES,
        metavar="BYTES",
        help="a client that leaves more than this unread is disconnected",
    )


def _add_market_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--market", default="HK", choices=list(VENUES), help="which market trades: CN is SH and SZ")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--symbols", metavar="LIST", help="codes (HK.00700,HK.00005) or @FILE")
    which.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="play recorded day files back")
    which.add_argument("--symbols-count", type=_count, metavar="N", help="the N most traded codes")
    group.add_argument(
        "--assumed-book",
        action="store_true",
        help="with --replay: where no order book was recorded, make one of the prints; it proves nothing",
    )
    group.add_argument("--seed", type=int, default=1, help="the same seed and start make the same ticks")
    group.add_argument(
        "--start", type=_market_time, metavar="TIME", help="time of the market it is at start: 2026-11-20T09:29:50"
    )
    group.add_argument("--speed", type=positive, default=1.0, help="market seconds in a real second")
    group.add_argument("--wait-for-client", action="store_true", help="the market waits until a client subscribes")
    group.add_argument("--always-open", action="store_true", help="trade at any hour of any day")
    group.add_argument(
        "--history",
        type=_count,
        default=DEFAULT_HISTORY_TICKS,
        metavar="N",
        help="some N ticks of all symbols together were made before the start",
    )
    rhythm = group.add_mutually_exclusive_group()
    rhythm.add_argument("--rate", type=positive, metavar="R", help="a steady R ticks a second of all symbols together")
    rhythm.add_argument(
        "--activity",
        type=positive,
        default=1.0,
        metavar="X",
        help="X times the ticks of the market's own rhythm",
    )
    group.add_argument(
        "--ticks-per-push",
        type=_count,
        default=0,
        metavar="N",
        help="at most N ticks of a symbol in a push, 0 for all of one moment; exactly N with --firehose",
    )
    group.add_argument(
        "--book-merge-ms",
        type=_count,
        default=0,
        metavar="MS",
        help="push a symbol's order book at most once in so many milliseconds of the market, 0 for every state",
    )
    group.add_argument(
        "--firehose",
        type=_count,
        default=0,
        metavar="TICKS",
        help="load: make so many ticks beforehand, send them as fast as possible to who subscribes every symbol",
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--truth", type=Path, required=True, metavar="FILE", help="what hk-opend-sim run --truth wrote")
    parser.add_argument("--data-root", type=Path, required=True, metavar="DIR", help="folder of the day files")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--symbols", metavar="LIST", help="compare only these: HK.00700,HK.00005 or @FILE")
    parser.add_argument(
        "--allow-tail-ms",
        type=tail_ms,
        default=0,
        metavar="MS",
        help=f"ticks this new need not be stored yet (to {MAX_MS})",
    )
    parser.add_argument("--since-ms", type=int, metavar="MS", help="ticks before this UTC epoch time need not be there")
    parser.set_defaults(command=_check)


def _add_check_books(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--truth", type=Path, required=True, metavar="FILE", help="what hk-opend-sim run --book-truth wrote"
    )
    parser.add_argument("--data-root", type=Path, required=True, metavar="DIR", help="folder of the day files")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=_check_books)


def _check_books(args: argparse.Namespace) -> int:
    try:
        report = check_books(args.truth, args.data_root)
    except (TruthError, OSError) as err:
        raise ConfigError(f"the truth file cannot be read: {reason_of(err)}") from err
    print(report.to_json() if args.json else report.text())
    return report.exit_code


def _check(args: argparse.Namespace) -> int:
    symbols = _symbols_of_any(args.symbols) if args.symbols else None
    try:
        report = check.check(
            args.truth, args.data_root, allow_tail_ms=args.allow_tail_ms, since_ms=args.since_ms, symbols=symbols
        )
    except (TruthError, OSError) as err:
        raise ConfigError(f"the truth file cannot be read: {reason_of(err)}") from err
    print(report.to_json() if args.json else report.text())
    return report.exit_code


def _symbols_of_any(text: str) -> list[str]:
    """Symbols of one market, whichever."""
    for venue in VENUES.values():
        symbols, problems = check_symbols(text, venue.symbols)
        if not problems:
            return symbols
    return parse_symbols(text, VENUES["HK"].symbols)


def _run(args: argparse.Namespace) -> int:
    logging.basicConfig(level=args.log_level, format=_LOG_FORMAT, stream=sys.stderr)
    options = _run_options(args)
    try:
        asyncio.run(run(options))
    except KeyboardInterrupt:  # before the loop took over SIGINT
        return EXIT_OK
    except OSError as err:
        print(f"hk-opend-sim: {err}; is the disk of the truth file full?", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _run_options(args: argparse.Namespace) -> RunOptions:
    if args.firehose and args.rsa_key:
        raise ConfigError("--firehose sends prepared frames, which cannot be encrypted: leave --rsa-key out")
    if args.replay and (args.firehose or args.rate or args.always_open):
        raise ConfigError("--replay takes neither --firehose nor --rate nor --always-open: the files say what trades")
    if args.firehose and (args.rate or args.scenario):
        raise ConfigError("--firehose takes neither --rate nor --scenario")
    if args.assumed_book and not args.replay:
        raise ConfigError("--assumed-book is for --replay; an invented market has its books anyway")
    settings = opend.SimSettings(
        host=args.host,
        port=args.port,
        quota=args.quota,
        min_hold_sec=args.min_hold,
        rate_limits=not args.no_rate_limits,
        ticks_per_push=args.ticks_per_push,
        max_buffer_bytes=args.max_buffer_bytes,
        rsa_key=args.rsa_key,
        seed=args.seed,
        right=args.right,
        book_merge_ms=args.book_merge_ms,
    )
    market = VENUES[args.market].market
    if args.replay and args.market != "HK":
        raise ConfigError("--replay takes no --market: the files say which market they are of")
    return RunOptions(
        settings=settings,
        market=None if args.replay else _market_config(args, VENUES[args.market]),
        replay=tuple(args.replay or ()),
        assumed_book=args.assumed_book,
        start_ms=None if args.start is None else time_ms(args.start, market.zone),
        wait_for_client=args.wait_for_client,
        speed=args.speed,
        truth=args.truth,
        book_truth=args.book_truth,
        clock_file=args.clock_file,
        scenario=read_scenario(args.scenario, market) if args.scenario else [],
        control_port=args.control_port,
        control_socket=args.control_socket,
        port_file=args.port_file,
        duration_sec=args.duration,
        firehose_ticks=args.firehose,
    )


def _market_config(args: argparse.Namespace, venue: Venue) -> MarketConfig:
    try:
        if args.symbols:
            symbols = parse_symbols(args.symbols, venue.symbols)
        else:
            symbols = default_symbols(args.symbols_count or DEFAULT_SYMBOLS_COUNT, venue)
        if args.firehose:
            return MarketConfig(symbols, args.seed, MARKET_TICKS_PER_SEC, always_open=True, history_ticks=0)
        if args.rate:
            # The time of a steady load's ticks is measured against, so each carries its milliseconds.
            steady = MarketConfig(symbols, args.seed, args.rate, args.always_open, no_ms_share=0.0)
            return replace(steady, history_ticks=args.history)
        return MarketConfig(
            symbols, args.seed, always_open=args.always_open, activity=args.activity, history_ticks=args.history
        )
    except ValueError as err:
        raise ConfigError(str(err)) from err


def _ctl(args: argparse.Namespace) -> int:
    faults_line = " ".join(args.words)
    try:
        faults.parse_fault(args.words)
    except faults.FaultError as err:
        print(json.dumps({"ok": False, "error": str(err)}))
        return EXIT_USAGE
    answer = control.call(args.control, faults_line)
    print(json.dumps(answer))
    return EXIT_OK if answer["ok"] else EXIT_FAILED


def _market_time(text: str) -> str:
    """A time of day with its date, in whichever market."""
    try:
        hk_time_ms(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from err
    return text


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 1_000_000_000:
        raise argparse.ArgumentTypeError(f"{value} is not from 0 to 1000000000")
    return value

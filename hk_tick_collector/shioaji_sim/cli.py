"""The command ``hk-shioaji-sim``: run a simulated gateway, hurt it, and check a recorder against its truth file.

Exit codes: 0 done, 1 it did not work or differences were found, 2 the command line or a file or port that it names is
wrong, 3 nothing is recorded.
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from hk_tick_collector import __version__
from hk_tick_collector.market.tw import TW
from hk_tick_collector.records.totals import NO_TRADE
from hk_tick_collector.shioaji_sim.server import FAULTS, HOST, Exchange, start_server
from hk_tick_collector.shioaji_sim.tape import Tape, TruthError, read_truth

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NOTHING = 0, 1, 2, 3
FAULT_TIMEOUT_SEC = 15


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="hk-shioaji-sim", description="A Shioaji gateway for developers, on 127.0.0.1."
    )
    parser.add_argument("--version", action="version", version=f"hk-shioaji-sim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="serve until SIGINT or SIGTERM")
    run.add_argument("--port", type=int, default=0, help="0: any")
    run.add_argument("--codes", default="2330,2317,TXFL6", help="in the gateway's spelling, by commas")
    run.add_argument("--rate", type=float, default=20.0, help="ticks a second, of all codes")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--truth", type=Path, help="write every tick to this file")
    run.set_defaults(command=_run)
    fault = commands.add_parser(
        "fault",
        help="do something to a running one",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="faults:\n" + "\n".join(f"  {name:15} {text}" for name, text in FAULTS.items()),
    )
    fault.add_argument("port", type=int)
    fault.add_argument("name", choices=FAULTS, metavar="NAME")
    fault.set_defaults(command=_fault)
    check = commands.add_parser("check", help="compare recorded day files with a truth file")
    check.add_argument("truth", type=Path)
    check.add_argument("data_root", type=Path)
    check.set_defaults(command=_check)
    args = parser.parse_args(argv)
    try:
        code: int = args.command(args)
    except (OSError, TruthError, sqlite3.Error) as exc:
        print(f"hk-shioaji-sim: {exc}", file=sys.stderr)
        return EXIT_USAGE
    return code


def _run(args: argparse.Namespace) -> int:
    codes = [code.strip() for code in args.codes.split(",") if code.strip()]
    exchange = Exchange(Tape(codes, args.seed, args.truth), args.rate)
    server = start_server(exchange, args.port)
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    threading.Thread(target=exchange.run, daemon=True).start()
    print(f"shioaji_sim_ready url=http://{HOST}:{server.server_port}", flush=True)
    stop.wait()
    server.shutdown()
    return EXIT_OK


def _fault(args: argparse.Namespace) -> int:
    request = urllib.request.Request(f"http://{HOST}:{args.port}/sim/{args.name}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=FAULT_TIMEOUT_SEC):  # noqa: S310 - 127.0.0.1
            return EXIT_OK
    except (OSError, urllib.error.HTTPError) as exc:
        print(f"hk-shioaji-sim: {args.name} was not done: {exc}; is a simulator on port {args.port}?")
        return EXIT_FAILED


class _Trade(NamedTuple):
    """What a row and a line of the truth file have in common."""

    code: str
    day: str
    ts_ms: int
    price: float
    volume: int
    total: int


class _Stored(NamedTuple):
    trades: list[_Trade]
    trials: int
    proven: set[tuple[str, str]]  # code and day that are called so


def _check(args: argparse.Namespace) -> int:
    """Every trade that was shown, once and as it was; nothing else; and no day called proven that lacks a trade."""
    counts = compare(read_truth(args.truth), args.data_root)
    if not counts["stored"]:
        print("no tick is recorded")
        return EXIT_NOTHING
    print(json.dumps(counts))
    return EXIT_FAILED if any(counts[name] for name in ("missing", "doubled", "invented", "false_proofs")) else EXIT_OK


def compare(events: Sequence[Mapping[str, Any]], data_root: Path) -> dict[str, int]:
    """The numbers that ``check`` prints."""
    made = {_of_truth(event): event for event in events if not event["trial"]}
    shown = {trade for trade, event in made.items() if event["shown"] and not event["spoilt"]}
    stored = _read(data_root)
    there = set(stored.trades)
    lacking = {(trade.code, trade.day) for trade in made.keys() - there}
    return {
        "shown": len(shown),
        "stored": len(stored.trades),
        "missing": len(shown - there),
        "doubled": len(stored.trades) - len(there),
        "invented": len(there - made.keys()),
        "trials": stored.trials,
        "not_shown": len((made.keys() - shown) - there),
        "proven_days": len(stored.proven),
        "false_proofs": len(stored.proven & lacking),
    }


def _of_truth(event: Mapping[str, Any]) -> _Trade:
    ts_ms = event["ts_us"] // 1000
    return _Trade(event["code"], TW.trading_day(ts_ms), ts_ms, event["price"], event["volume"], event["total"])


def _read(data_root: Path) -> _Stored:
    stored = _Stored([], 0, set())
    trials = 0
    for path in sorted(data_root.glob("2*.db")):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
            for symbol, ts_ms, price, volume, total, seq in conn.execute(
                "SELECT symbol, ts_ms, price, volume, total_volume, seq FROM ticks"
            ):
                if seq is not None and seq >= NO_TRADE:
                    trials += 1
                else:
                    stored.trades.append(_Trade(_code(symbol), path.stem, ts_ms, price, volume, total))
            stored.proven.update(
                (_code(symbol), path.stem)
                for (symbol,) in conn.execute("SELECT symbol FROM coverage WHERE state = 'proven'")
            )
    return stored._replace(trials=trials)


def _code(symbol: str) -> str:
    return symbol.partition(".")[2]


if __name__ == "__main__":
    raise SystemExit(main())

"""The command ``hk-dxlink-sim``: run a simulated endpoint, hurt it, and check a recorder against its truth file.

Exit codes: 0 done, 1 it did not work or differences were found, 2 the command line or a file or port that it names is
wrong, 3 nothing is recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from hk_tick_collector import __version__
from hk_tick_collector.core.extras import how_to_install
from hk_tick_collector.dxlink_sim.server import FAULTS, HOST, Exchange, start_rest
from hk_tick_collector.dxlink_sim.tape import Tape, TruthError, read_truth

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NOTHING = 0, 1, 2, 3
FAULT_TIMEOUT_SEC = 15


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="hk-dxlink-sim", description="A dxLink endpoint for developers, on 127.0.0.1."
    )
    parser.add_argument("--version", action="version", version=f"hk-dxlink-sim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="serve until SIGINT or SIGTERM")
    run.add_argument("--port", type=int, default=0, help="of the WebSocket; 0: any")
    run.add_argument("--rest-port", type=int, default=0, help="of the token interface; 0: any")
    run.add_argument("--symbols", default="AAPL,MSFT,NVDA", help="in dxFeed's spelling, by commas")
    run.add_argument("--rate", type=float, default=20.0, help="events a second, of all symbols")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--truth", type=Path, help="write every event to this file")
    run.set_defaults(command=_run)
    fault = commands.add_parser(
        "fault",
        help="do something to a running one",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="faults:\n" + "\n".join(f"  {name:15} {text}" for name, text in FAULTS.items()),
    )
    fault.add_argument("rest_port", type=int)
    fault.add_argument("name", choices=FAULTS, metavar="NAME")
    fault.set_defaults(command=_fault)
    check = commands.add_parser("check", help="compare recorded day files with a truth file")
    check.add_argument("truth", type=Path)
    check.add_argument("data_root", type=Path)
    check.set_defaults(command=_check)
    args = parser.parse_args(argv)
    try:
        code: int = args.command(args)
    except ModuleNotFoundError as exc:
        print(f"hk-dxlink-sim needs {exc.name}: {how_to_install('dxlink')}", file=sys.stderr)
        return EXIT_USAGE
    except (OSError, TruthError, sqlite3.Error) as exc:
        print(f"hk-dxlink-sim: {exc}", file=sys.stderr)
        return EXIT_USAGE
    return code


def _run(args: argparse.Namespace) -> int:
    symbols = [symbol.strip() for symbol in args.symbols.split(",") if symbol.strip()]
    exchange = Exchange(Tape(symbols, args.seed, args.truth), args.rate)
    rest = start_rest(exchange, args.rest_port)

    def ready(port: int) -> None:
        print(f"dxlink_sim_ready ws=ws://{HOST}:{port}/realtime rest=http://{HOST}:{rest.server_port}", flush=True)

    async def serve() -> None:
        serving = asyncio.ensure_future(exchange.run(args.port, ready))
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, serving.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    asyncio.run(serve())
    return EXIT_OK


def _fault(args: argparse.Namespace) -> int:
    request = urllib.request.Request(f"http://{HOST}:{args.rest_port}/sim/{args.name}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=FAULT_TIMEOUT_SEC):  # noqa: S310 - 127.0.0.1
            return EXIT_OK
    except (OSError, urllib.error.HTTPError) as exc:
        print(f"hk-dxlink-sim: {args.name} was not done: {exc}; is a simulator on port {args.rest_port}?")
        return EXIT_FAILED


def _check(args: argparse.Namespace) -> int:
    """Every trade that was shown, once and as it was; every correction and cancel; and nothing else."""
    events = read_truth(args.truth)
    shown = [event for event in events if event["shown"]]
    trades = {
        (event["symbol"], event["index"]): event for event in shown if event["kind"] == "NEW" and not event["odd"]
    }
    made = {(event["symbol"], event["index"]) for event in events}
    rows: list[tuple[str, int, int, float, int]] = []
    amended: set[tuple[str, int]] = set()
    for path in sorted(args.data_root.glob("2*.db")):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
            rows += conn.execute("SELECT symbol, seq, ts_ms, price, volume FROM ticks")
            amended.update(conn.execute("SELECT symbol, tick_seq FROM amendments"))
    if not rows:
        print("no tick is recorded")
        return EXIT_NOTHING
    stored = {(_dx(symbol), seq): (ts_ms, price, volume) for symbol, seq, ts_ms, price, volume in rows}
    wrong = [
        key for key, event in trades.items()
        if key in stored and stored[key] != (event["time"], event["price"], event["size"])
    ]  # fmt: skip
    wanted = {(event["symbol"], event["index"]) for event in shown if event["kind"] != "NEW"}
    counts = {
        "shown": len(trades),
        "stored": len(rows),
        "missing": len(trades.keys() - stored.keys()),
        "doubled": len(rows) - len(stored),
        "invented": len(stored.keys() - made),
        "wrong": len(wrong),
        "amendments_missing": len(wanted - {(_dx(symbol), seq) for symbol, seq in amended}),
    }
    print(json.dumps(counts))
    return EXIT_FAILED if any(list(counts.values())[2:]) else EXIT_OK


def _dx(symbol: str) -> str:
    market, _, code = symbol.partition(".")
    return code.replace(".", "/") if market == "US" else code


if __name__ == "__main__":
    raise SystemExit(main())

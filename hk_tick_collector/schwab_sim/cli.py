"""The command ``hk-schwab-sim``: run a simulated streamer, hurt it, and check a recorder against its truth file.

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
from typing import Any

from hk_tick_collector import __version__
from hk_tick_collector.core.extras import how_to_install
from hk_tick_collector.schwab_sim.server import FAULTS, HOST, Exchange, start_rest
from hk_tick_collector.schwab_sim.tape import Tape, TruthError, read_truth

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NOTHING = 0, 1, 2, 3
FAULT_TIMEOUT_SEC = 15


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="hk-schwab-sim", description="Schwab's streamer for developers, on 127.0.0.1."
    )
    parser.add_argument("--version", action="version", version=f"hk-schwab-sim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="serve until SIGINT or SIGTERM")
    run.add_argument("--port", type=int, default=0, help="of the WebSocket; 0: any")
    run.add_argument("--rest-port", type=int, default=0, help="of the token interface; 0: any")
    run.add_argument("--symbols", default="AAPL,MSFT,NVDA", help="in Schwab's spelling, by commas")
    run.add_argument("--rate", type=float, default=20.0, help="trades a second, of all symbols")
    run.add_argument("--conflate-ms", type=int, default=500, help="how often the last trades are told; 0: each one is")
    run.add_argument("--total", type=int, default=0, help="volume of the day so far, of each symbol")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--truth", type=Path, help="write every trade to this file")
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
        print(f"hk-schwab-sim needs {exc.name}: {how_to_install('schwab')}", file=sys.stderr)
        return EXIT_USAGE
    except (OSError, TruthError, sqlite3.Error) as exc:
        print(f"hk-schwab-sim: {exc}", file=sys.stderr)
        return EXIT_USAGE
    return code


def _run(args: argparse.Namespace) -> int:
    symbols = [symbol.strip() for symbol in args.symbols.split(",") if symbol.strip()]
    exchange = Exchange(Tape(symbols, args.seed, args.truth, args.total), args.rate, args.conflate_ms)
    rest = start_rest(exchange, args.rest_port)

    def ready(port: int) -> None:
        print(f"schwab_sim_ready ws=ws://{HOST}:{port}/ws rest=http://{HOST}:{rest.server_port}", flush=True)

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
        print(f"hk-schwab-sim: {args.name} was not done: {exc}; is a simulator on port {args.rest_port}?")
        return EXIT_FAILED


def _check(args: argparse.Namespace) -> int:
    """Every last trade that was shown, once and as it was, and nothing else; and how much of the volume that is."""
    made = read_truth(args.truth)
    trades = {_key(trade): trade for trade in made if not trade["odd"]}
    shown = {key for key, trade in trades.items() if trade["shown"]}
    rows: list[tuple[str, int, float, int, int | None]] = []
    for path in sorted(args.data_root.glob("2*.db")):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
            rows += conn.execute("SELECT symbol, ts_ms, price, volume, total_volume FROM ticks")
    if not rows:
        print("no tick is recorded")
        return EXIT_NOTHING
    stored = {(_theirs(symbol), ts_ms, price, volume): total for symbol, ts_ms, price, volume, total in rows}
    totals: dict[object, set[int]] = {}
    for trade in made:
        totals.setdefault(_key(trade), set()).add(trade["total"])
    counts = {
        "made": len(made),
        "shown": len(shown),
        "stored": len(rows),
        "missing": len(shown - stored.keys()),
        "doubled": len(rows) - len(stored),
        "invented": len(stored.keys() - trades.keys()),
        "wrong_totals": sum(
            total is not None and key in totals and total not in totals[key] for key, total in stored.items()
        ),
    }
    print(json.dumps(counts))
    return EXIT_FAILED if any(list(counts.values())[3:]) else EXIT_OK


def _key(trade: dict[str, Any]) -> tuple[str, int, float, int]:
    return trade["symbol"], trade["time"], trade["price"], trade["size"]


def _theirs(symbol: str) -> str:
    return symbol.partition(".")[2].replace(".", "/")


if __name__ == "__main__":
    raise SystemExit(main())

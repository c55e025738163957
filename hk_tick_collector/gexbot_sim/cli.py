"""The command ``hk-gexbot-sim``: run a simulated gexbot, hurt it, and check a recorder against its truth file.

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
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from hk_tick_collector import __version__
from hk_tick_collector.gexbot_sim.pictures import SESSION_SEC, Truth, TruthError, read_truth
from hk_tick_collector.gexbot_sim.server import FAULTS, HOST, Market, start

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NOTHING = 0, 1, 2, 3
FAULT_TIMEOUT_SEC = 15


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    args = _parser().parse_args(argv)
    try:
        code: int = args.command(args)
    except (OSError, TruthError, sqlite3.Error) as exc:
        print(f"hk-gexbot-sim: {exc}", file=sys.stderr)
        return EXIT_USAGE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hk-gexbot-sim", description="A gexbot for developers, on 127.0.0.1.")
    parser.add_argument("--version", action="version", version=f"hk-gexbot-sim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="serve until SIGINT or SIGTERM")
    run.add_argument("--port", type=int, default=0, help="0: any")
    run.add_argument("--tickers", default="SPX,NDX,ES_SPX", help="by commas")
    run.add_argument("--key", default="gexbot_custom_sim", help="the one that is taken")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--strikes", type=int, default=4, help="of each picture; 400 make it as large as a real one")
    run.add_argument("--missing", type=int, default=1, help="seconds of a thousand that are not offered")
    run.add_argument("--file-seconds", type=int, default=SESSION_SEC, help="how many a day's file speaks of")
    run.add_argument("--truth", type=Path, help="write every picture that was shown to this file")
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
    check = commands.add_parser("check", help="compare recorded snapshots with a truth file")
    check.add_argument("truth", type=Path)
    check.add_argument("data_root", type=Path)
    check.set_defaults(command=_check)
    return parser


def _run(args: argparse.Namespace) -> int:
    tickers = [ticker.strip() for ticker in args.tickers.split(",") if ticker.strip()]
    market = Market(
        tickers, Truth(args.truth), args.key, args.seed, args.strikes, args.missing, args.file_seconds
    )  # fmt: skip
    server = start(market, args.port)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start())
    print(f"gexbot_sim_ready api=http://{HOST}:{server.server_port}/v2", flush=True)
    server.serve_forever(0.1)
    server.server_close()
    return EXIT_OK


def _fault(args: argparse.Namespace) -> int:
    request = urllib.request.Request(f"http://{HOST}:{args.port}/sim/{args.name}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=FAULT_TIMEOUT_SEC):  # noqa: S310 - 127.0.0.1
            return EXIT_OK
    except (OSError, urllib.error.HTTPError) as exc:
        print(f"hk-gexbot-sim: {args.name} was not done: {exc}; is a simulator on port {args.port}?")
        return EXIT_FAILED


def _check(args: argparse.Namespace) -> int:
    """Every picture of a file that was read to its end, once and as it was; nothing that was not shown; and how many of
    those that were shown live are there."""
    shown = [line for line in read_truth(args.truth) if not line["odd"]]
    rows: list[tuple[str, int, str]] = []
    copied: set[tuple[str, str]] = set()
    for path in sorted(args.data_root.glob("snapshot/*.snapshot.db")):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
            rows += conn.execute(
                "SELECT substr(symbol, 4) || '/' || package || '/' || category, ts_sec, lower(hex(digest)) "
                "FROM snapshots JOIN series USING (series_id)"
            )
            copied.update(
                (series, path.name[:8])
                for (series,) in conn.execute(
                    "SELECT substr(symbol, 4) || '/' || package || '/' || category FROM copies JOIN series "
                    "USING (series_id)"
                )
            )
    if not rows:
        print("no snapshot is recorded")
        return EXIT_NOTHING
    stored = set(rows)
    told = {(line["series"], line["second"], line["digest"]) for line in shown}
    live = {(line["series"], line["second"], line["digest"]) for line in shown if line["how"] == "live"}
    in_copies = {(line["series"], line["second"], line["digest"]) for line in shown if line["how"] == "copy"}
    counts = {
        "shown_live": len(live),
        "of_these_stored": len(live & stored),
        "stored": len(rows),
        "copies": len(copied),
        "missing_of_copies": len(in_copies - stored),
        "doubled": len(rows) - len(stored),
        "invented": len(stored - told),
    }
    print(json.dumps(counts))
    return EXIT_FAILED if any(list(counts.values())[4:]) else EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())

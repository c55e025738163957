"""The command ``hk-schwab-sim``: Schwab's streamer for developers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hk_tick_collector.schwab_sim.check_books import check_books
from hk_tick_collector.schwab_sim.depth import Depth, book_truth
from hk_tick_collector.schwab_sim.server import ACCESS_SEC, FAULTS, Exchange, start_rest
from hk_tick_collector.schwab_sim.tape import Tape, read_truth
from hk_tick_collector.sims.command import (
    SIZE,
    Checked,
    Simulator,
    day_files,
    names,
    port,
    positive,
    run_until_a_signal,
    say,
)
from hk_tick_collector.sims.rest import HOST
from hk_tick_collector.sims.tail import Tail


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    return Simulator(
        "schwab", "Schwab's streamer for developers", FAULTS, _add_options, _run, check, "rest_port", extra="schwab"
    ).main(argv)


def _add_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("--port", type=port, default=0, help="of the WebSocket; 0: any")
    run.add_argument("--rest-port", type=port, default=0, help="of the token interface; 0: any")
    run.add_argument("--symbols", default="AAPL,MSFT,NVDA", help="in Schwab's spelling, by commas")
    run.add_argument("--rate", type=positive, default=20.0, help="trades a second, of all symbols")
    run.add_argument("--conflate-ms", type=int, default=500, help="how often the last trades are told; 0: each one is")
    run.add_argument("--total", type=int, default=0, help="volume of the day so far, of each symbol")
    run.add_argument("--access-sec", type=int, default=ACCESS_SEC, help="how long an access token lasts")
    run.add_argument("--nyse", default="", help="those of them that are listed in New York; the others at Nasdaq")
    run.add_argument("--seed", type=int, default=1)


def _run(args: argparse.Namespace) -> None:
    tape = Tape(names(args.symbols), args.seed, args.truth, args.total)
    depth = Depth(tape.symbols, names(args.nyse), args.seed, book_truth(args.truth))
    exchange = Exchange(tape, args.rate, args.conflate_ms, args.access_sec, depth)
    rest = start_rest(exchange, args.rest_port)

    def ready(port: int) -> None:
        say(f"schwab_sim_ready ws=ws://{HOST}:{port}/ws rest=http://{HOST}:{rest.server_port}")

    run_until_a_signal(exchange.run(args.port, ready))


_FAULTS = frozenset({"missing", "doubled", "invented", "wrong_totals", "books_invented"})


def check(truth: Path, data_root: Path, allow_tail_ms: int = 0) -> Checked:
    """Every last trade that was shown, once and as it was, and nothing else; and how much of the volume that is. Where
    books were recorded, each was shown as it is. As it is read before the rows, the truth says what must be stored; as
    it is read after them, what may be."""
    made = read_truth(truth)
    tail = Tail.of((trade["time"] for trade in made), allow_tail_ms)
    shown = {_key(trade) for trade in made if trade["shown"] and not trade["odd"]}
    rows: list[tuple[str, int, float, float, int | None]] = []
    for _, conn in day_files(data_root):
        rows += conn.execute(f"SELECT symbol, ts_ms, price, {SIZE}, total_volume FROM ticks")  # noqa: S608 - a constant of ours
    stored = {(_theirs(symbol), ts_ms, price, volume): total for symbol, ts_ms, price, volume, total in rows}
    totals: dict[object, set[int]] = {}
    later = read_truth(truth)
    for trade in later:
        totals.setdefault(_key(trade), set()).add(trade["total"])
    strangers = stored.keys() - {_key(trade) for trade in later if not trade["odd"]}
    unsettled = sum(tail.holds(ts_ms) for _, ts_ms, _, _ in strangers)
    counts = {
        "made": len(made),
        "shown": len(shown),
        "stored": len(rows),
        "missing": sum(not tail.holds(ts_ms) for _, ts_ms, _, _ in shown - stored.keys()),
        "doubled": len(rows) - len(stored),
        "invented": len(strangers) - unsettled,
        "unsettled": unsettled,
        "wrong_totals": sum(
            total is not None and key in totals and total not in totals[key] for key, total in stored.items()
        ),
    }
    counts |= check_books(truth, data_root, allow_tail_ms)
    return Checked(counts, _FAULTS & counts.keys())


def _key(trade: dict[str, Any]) -> tuple[str, int, float, float]:
    return trade["symbol"], trade["time"], trade["price"], trade["size"]


def _theirs(symbol: str) -> str:
    return symbol.partition(".")[2].replace(".", "/")


if __name__ == "__main__":
    raise SystemExit(main())

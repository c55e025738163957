"""The command ``hk-dxlink-sim``: a dxLink endpoint for developers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hk_tick_collector.dxlink_sim.server import FAULTS, Exchange, start_rest
from hk_tick_collector.dxlink_sim.tape import Tape, read_truth
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
        "dxlink", "A dxLink endpoint for developers", FAULTS, _add_options, _run, check, "rest_port", extra="dxlink"
    ).main(argv)


def _add_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("--port", type=port, default=0, help="of the WebSocket; 0: any")
    run.add_argument("--rest-port", type=port, default=0, help="of the token interface; 0: any")
    run.add_argument("--symbols", default="AAPL,MSFT,NVDA", help="in dxFeed's spelling, by commas")
    run.add_argument("--rate", type=positive, default=20.0, help="events a second, of all symbols")
    run.add_argument("--seed", type=int, default=1)


def _run(args: argparse.Namespace) -> None:
    exchange = Exchange(Tape(names(args.symbols), args.seed, args.truth), args.rate)
    rest = start_rest(exchange, args.rest_port)

    def ready(port: int) -> None:
        say(f"dxlink_sim_ready ws=ws://{HOST}:{port}/realtime rest=http://{HOST}:{rest.server_port}")

    run_until_a_signal(exchange.run(args.port, ready))


def check(truth: Path, data_root: Path, allow_tail_ms: int = 0) -> Checked:
    """Every trade that was shown, once and as it was; every correction and cancel; and nothing else. As it is
    read before the rows, the truth says what must be stored; as it is read after them, what may be."""
    events = read_truth(truth)
    tail = Tail.of((event["time"] for event in events), allow_tail_ms)
    shown = [event for event in events if event["shown"]]
    trades = {
        (event["symbol"], event["index"]): event for event in shown if event["kind"] == "NEW" and not event["odd"]
    }
    rows: list[tuple[str, int, int, float, float]] = []
    amended: set[tuple[str, int]] = set()
    for _, conn in day_files(data_root):
        rows += conn.execute(f"SELECT symbol, seq, ts_ms, price, {SIZE} FROM ticks")  # noqa: S608 - a constant of ours
        amended.update(conn.execute("SELECT symbol, tick_seq FROM amendments"))
    stored = {(_dx(symbol), seq): (ts_ms, price, volume) for symbol, seq, ts_ms, price, volume in rows}
    wrong = [
        key for key, event in trades.items()
        if key in stored and stored[key] != (event["time"], event["price"], event["size"])
    ]  # fmt: skip
    wanted = {
        (event["symbol"], event["index"])
        for event in shown
        if event["kind"] != "NEW" and not tail.holds(event["time"])
    }  # fmt: skip
    required = {key for key, event in trades.items() if not tail.holds(event["time"])}
    strangers = stored.keys() - {(event["symbol"], event["index"]) for event in read_truth(truth)}
    unsettled = sum(tail.holds(stored[key][0]) for key in strangers)
    counts = {
        "shown": len(trades),
        "stored": len(rows),
        "missing": len(required - stored.keys()),
        "doubled": len(rows) - len(stored),
        "invented": len(strangers) - unsettled,
        "unsettled": unsettled,
        "wrong": len(wrong),
        "amendments_missing": len(wanted - {(_dx(symbol), seq) for symbol, seq in amended}),
    }
    return Checked(counts, frozenset({"missing", "doubled", "invented", "wrong", "amendments_missing"}))


def _dx(symbol: str) -> str:
    market, _, code = symbol.partition(".")
    return code.replace(".", "/") if market == "US" else code


if __name__ == "__main__":
    raise SystemExit(main())

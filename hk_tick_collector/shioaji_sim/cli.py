"""The command ``hk-shioaji-sim``: a Shioaji gateway for developers."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hk_tick_collector.market.tw import TW
from hk_tick_collector.records.totals import NO_TRADE
from hk_tick_collector.shioaji_sim.server import FAULTS, Exchange, start_server
from hk_tick_collector.shioaji_sim.tape import Tape, read_truth
from hk_tick_collector.sims.command import Checked, Simulator, day_files, names, port, positive, say, until_a_signal
from hk_tick_collector.sims.rest import HOST
from hk_tick_collector.sims.tail import Tail


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    return Simulator("shioaji", "A Shioaji gateway for developers", FAULTS, _add_options, _run, check).main(argv)


def _add_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("--port", type=port, default=0, help="0: any")
    run.add_argument(
        "--codes", default="2330,2317,TXFL6", help="in the gateway's spelling, by commas; 2330@ODD: odd lots"
    )
    run.add_argument("--rate", type=positive, default=20.0, help="ticks a second, of all codes")
    run.add_argument("--seed", type=int, default=1)


def _run(args: argparse.Namespace) -> None:
    exchange = Exchange(Tape(names(args.codes), args.seed, args.truth), args.rate)
    server = start_server(exchange, args.port)
    threading.Thread(target=exchange.run, daemon=True).start()
    say(f"shioaji_sim_ready url=http://{HOST}:{server.server_port}")
    until_a_signal()
    exchange.stop()
    server.shutdown()


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


def check(truth: Path, data_root: Path, allow_tail_ms: int = 0) -> Checked:
    """Every trade that was shown, once and as it was; nothing else; and no day called proven that lacks a trade."""
    events = read_truth(truth)
    tail = Tail.of((event["ts_us"] // 1000 for event in events), allow_tail_ms)
    stored = _read(data_root)
    counts = _compare(events, stored, read_truth(truth), tail)
    return Checked(counts, frozenset({"missing", "doubled", "invented", "false_proofs"}))


def compare(events: Sequence[Mapping[str, Any]], data_root: Path) -> dict[str, int]:
    """The numbers that ``check`` prints, of a simulator that makes nothing meanwhile."""
    return _compare(events, _read(data_root), events, Tail())


def _compare(
    events: Sequence[Mapping[str, Any]], stored: _Stored, later: Sequence[Mapping[str, Any]], tail: Tail
) -> dict[str, int]:
    """As the truth was read before the rows, it says what must be stored; ``later``, after them, what may be."""
    made = {_of_truth(event): event for event in events if not event["trial"]}
    shown = {trade for trade, event in made.items() if event["shown"] and not event["spoilt"]}
    there = set(stored.trades)
    lacking = {(trade.code, trade.day) for trade in made.keys() - there}
    strangers = there - {_of_truth(event) for event in later if not event["trial"]}
    unsettled = sum(tail.holds(trade.ts_ms) for trade in strangers)
    return {
        "shown": len(shown),
        "stored": len(stored.trades),
        "missing": sum(not tail.holds(trade.ts_ms) for trade in shown - there),
        "doubled": len(stored.trades) - len(there),
        "invented": len(strangers) - unsettled,
        "unsettled": unsettled,
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
    for path, conn in day_files(data_root):
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

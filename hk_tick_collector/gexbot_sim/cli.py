"""The command ``hk-gexbot-sim``: a gexbot for developers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hk_tick_collector.gexbot_sim.server import FAULTS, Market, start
from hk_tick_collector.gexbot_sim.snapshots import SESSION_SEC, Truth, read_truth
from hk_tick_collector.sims.command import Checked, Simulator, day_files, names, port, say, until_a_signal
from hk_tick_collector.sims.rest import HOST
from hk_tick_collector.sims.tail import Tail


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    return Simulator(
        "gexbot", "A gexbot for developers", FAULTS, _add_options, _run, check, record="snapshot"
    ).main(argv)  # fmt: skip


def _add_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("--port", type=port, default=0, help="0: any")
    run.add_argument("--tickers", default="SPX,NDX,ES_SPX", help="by commas")
    run.add_argument("--key", default="gexbot_custom_sim", help="the one that is taken")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--strikes", type=int, default=4, help="of each snapshot; 400 make it as large as a real one")
    run.add_argument("--missing", type=int, default=1, help="seconds of a thousand that are not offered")
    run.add_argument("--file-seconds", type=int, default=SESSION_SEC, help="how many a day's file speaks of")


def _run(args: argparse.Namespace) -> None:
    market = Market(
        names(args.tickers), Truth(args.truth), args.key, args.seed, args.strikes, args.missing, args.file_seconds
    )  # fmt: skip
    server = start(market, args.port)
    say(f"gexbot_sim_ready api=http://{HOST}:{server.server_port}/v2")
    until_a_signal()
    server.shutdown()
    server.server_close()


def check(truth: Path, data_root: Path, allow_tail_ms: int = 0) -> Checked:
    """Every snapshot of a file that was read to its end, once and as it was; nothing that was not shown; and how many
    of those that were shown live are there. As it is read before the rows, the truth says what must be stored; as it is
    read after them, what may be."""
    live, in_copies = (_shown(truth, how) for how in ("live", "copy"))
    tail = Tail.of((second * 1000 for _, second, _ in live | in_copies), allow_tail_ms)
    rows: list[tuple[str, int, str]] = []
    copied: set[tuple[str, str]] = set()
    for path, conn in day_files(data_root, "snapshot/*.snapshot.db"):
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
    stored = set(rows)
    strangers = stored - _shown(truth, "live", "copy")
    unsettled = sum(tail.holds(second * 1000) for _, second, _ in strangers)
    counts = {
        "shown_live": len(live),
        "of_these_stored": len(live & stored),
        "stored": len(rows),
        "copies": len(copied),
        "missing_of_copies": sum(not tail.holds(second * 1000) for _, second, _ in in_copies - stored),
        "doubled": len(rows) - len(stored),
        "invented": len(strangers) - unsettled,
        "unsettled": unsettled,
    }
    return Checked(counts, frozenset({"missing_of_copies", "doubled", "invented"}))


def _shown(truth: Path, *ways: str) -> set[tuple[str, int, str]]:
    """What can be stored of it, by series and second."""
    lines = (line for line in read_truth(truth) if not line["odd"] and line["how"] in ways)
    return {(line["series"], line["second"], line["digest"]) for line in lines}


if __name__ == "__main__":
    raise SystemExit(main())

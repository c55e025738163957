"""Random episodes from the command line.

python -m tests.episodes                 60 episodes, some of them those of every check
python -m tests.episodes --count 500     as every night
python -m tests.episodes --seed 17 -v    one, or several, with everything they did
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections import Counter
from pathlib import Path

from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from tests.episodes.episode import plan_of, run_plan
from tests.episodes.verdict import digest_of, judge_outcome


def main() -> int:
    """Exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.episodes", description=__doc__)
    parser.add_argument("--seed", type=int, nargs="+", help="run these alone")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=60, help="how many seeds")
    parser.add_argument("--keep", type=Path, help="leave the day files here")
    parser.add_argument("-v", "--verbose", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO if arguments.verbose else logging.CRITICAL, format="%(message)s")
    seeds = arguments.seed or range(arguments.first, arguments.first + arguments.count)
    calendar = TradingCalendar(HK)
    promises: Counter[str] = Counter()
    states: Counter[str] = Counter()
    broken_seeds = 0
    for seed in seeds:
        plan = plan_of(seed)
        with tempfile.TemporaryDirectory() as scratch:
            root = arguments.keep / str(seed) if arguments.keep else Path(scratch)
            root.mkdir(parents=True, exist_ok=True)
            verdict = judge_outcome(run_plan(plan, root, calendar), calendar)
            if arguments.verbose:
                print(f"  stored {digest_of(root)}")
        states += verdict.states
        promises.update(broken.promise for broken in verdict.broken)
        if verdict.broken or arguments.verbose:
            print(plan)
            for broken in verdict.broken:
                print(f"  BROKEN {broken}")
        broken_seeds += bool(verdict.broken)
    print(f"{len(seeds)} episodes, {broken_seeds} with a broken promise {dict(promises)}; symbol-days {dict(states)}")
    return 1 if broken_seeds else 0


sys.exit(main())

"""Reading HKEX's Daily Quotations: time and memory by the size of the page.

    python -m benchmarks.daily_quotations

The pages are made up, of the known form, with as many codes as their size needs and one busy code in 500. Each is read
in a process that does nothing else: its memory should hang on the busiest code, not on the page.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import rig
from hk_tick_collector.quality.daily_quotations import DailyQuotations

SIZES_MB, SHORT_SIZES_MB = (10, 50, 100), (1,)
MOST_TRADES, BUSY_EVERY = 200_000, 500
COLUMNS = ("page MB", "codes", "trades", "CPU s", "trades/s", "peak MiB")
READ = "import sys; from benchmarks.daily_quotations import read_page; read_page(sys.argv[1])"


def make_page(path: Path, size_bytes: int, most_trades: int = MOST_TRADES) -> None:
    """A page of that size or a little more."""
    draw, number = random.Random(1), 0
    with path.open("w", encoding="ascii") as file:
        file.write("<pre>DATE : 20 NOV 2026\n\nCODE  NAME OF STOCK    SALES RECORD\n")
        while file.tell() < size_bytes:
            busy = number % BUSY_EVERY == 0
            number += 1
            file.write(f"{number:6d} STOCK {number:<10d} < U12,000-75.10 >[")
            for n in range(most_trades if busy else min(int(draw.paretovariate(0.6) * 20), most_trades // 10)):
                file.write(
                    f" {draw.choice(('', '', '', 'Y', 'D'))}{draw.randrange(1, 300) * 100:,}-{75 + draw.random():.2f}"
                )
                file.write("\n" + " " * 24 if n % 6 == 5 else "")
            file.write(" ]/-//[ 800-75.15 ]< U9,600-75.20 >\n")
        file.write("-" * 80 + "\n")


def read_page(path: str) -> None:
    """Read it to its end; prints codes, trades, CPU seconds and the highest memory of this process in MiB."""
    begun_sec, codes, trades = time.process_time(), 0, 0
    page = DailyQuotations(Path(path))
    for listed in page.listed(lambda _symbol: True):
        codes, trades = codes + 1, trades + len(listed.trades)
    page.close()
    print(codes, trades, time.process_time() - begun_sec, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main(argv: list[str] | None = None) -> int:
    parser = rig.parser(str(__doc__).splitlines()[0])
    args = parser.parse_args(argv)
    rig.print_machine()
    rows: list[list[object]] = []
    with rig.workspace(args.keep) as directory:
        for size_mb in SHORT_SIZES_MB if args.short else SIZES_MB:
            path = directory / "d261120e.htm"
            make_page(path, size_mb * 1_000_000)
            done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
            codes, trades, took_sec, peak_mib = map(float, done.stdout.split())
            rows.append([size_mb, int(codes), int(trades), took_sec, round(trades / took_sec), peak_mib])
    print(rig.table(COLUMNS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

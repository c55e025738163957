"""A sink: every tick into a CSV file, each once, whichever process dies when.

python csv_sink.py DATA_ROOT FILE.csv

Beside the file stands its position: how many bytes of it are good, and where to read on. It is replaced after the rows
are on disk, so what was written behind it comes again and is cut off first. When a day file was exchanged the sink ends
and names a position to go on at: put it in place of the second word of that file.
"""

import csv
import os
import sys
from pathlib import Path

from hk_tick_collector.store.follow import follow
from hk_tick_collector.store.position import ROW, Position, PositionLost


def main(root: Path, target: Path) -> None:
    """Append for ever, from where the last process ended."""
    kept = target.with_suffix(".position")
    good_bytes, text = kept.read_text().split() if kept.exists() else ("0", str(Position()))
    with target.open("a", newline="") as file:
        file.truncate(int(good_bytes))
        sink = csv.writer(file)
        if good_bytes == "0":
            sink.writerow(ROW)
        for batch, position in follow(root, Position.parse(text)):
            sink.writerows(batch.rows)
            file.flush()
            os.fsync(file.fileno())
            new = kept.with_suffix(".new")
            new.write_text(f"{os.fstat(file.fileno()).st_size} {position}")
            new.replace(kept)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except PositionLost as exc:
        raise SystemExit(f"{exc} (go on at {exc.onward})") from None

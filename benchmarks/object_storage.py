"""A day's archive to a bucket and back, by the installed commands, through a real S3-compatible server on this machine.

    python -m benchmarks.object_storage [--ticks 5000000]

SeaweedFS, the server of the tests, shares the cores with the commands. CPU is that of the command (user and system)
with its start. ``verify`` has the day file beside it, so every row of the copy is held against the file's. Floors, in
this process: the same bytes fetched and hashed (SHA-256), and their Parquet read into memory with nothing checked.
Exit codes: 0 measured, 1 a command failed, or did not find what was sent.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import rig
from benchmarks.ticks import TickSource, store
from hk_tick_collector.store.layout import archive_dir
from tests.harness import BIN, clean_env
from tests.s3_server import BUCKET, S3Server, s3_server

DAY = "20251120"
PREFIX = "hk/bench"
WANTED_TICKS, WANTED_SEC = 5_000_000, {"archive": 30, "verify --from": 60, "restore --from": 30}
COLUMNS = ("step", "CPU s", "seconds", "us of CPU a tick", "peak MiB", "wanted s")

Row = tuple[str, float, float, float, int | None, int | None]


def measure(directory: Path, server: S3Server, ticks: int) -> list[Row]:
    """The rows of the table. AssertionError when a command fails or finds something else than what was sent."""
    root, rows = directory / "HK", list[Row]()
    root.mkdir()
    store(root, TickSource(DAY, ticks), ticks)
    env = clean_env(directory / "home", DATA_ROOT=root, **server.environment)
    place = f"s3://{BUCKET}/{PREFIX}"

    def command(name: str, *arguments: str | Path) -> None:
        used = rig.run_command([BIN / "hk-tickctl", *arguments, "--json"], env)
        wanted = WANTED_SEC.get(name) if ticks == WANTED_TICKS else None
        rows.append((name, used.cpu_sec, used.wall_sec, used.cpu_sec / ticks * 1e6, used.peak_mib, wanted))
        told = json.loads(used.told)
        (day,) = told if isinstance(told, list) else [told]
        assert day["rows"] == ticks, used.told

    def floor(name: str, work: Callable[[], object]) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        rows.append((f"floor: {name}", cpu, wall, cpu / ticks * 1e6, None, None))

    command("archive", "archive", DAY)
    command("archive --to", "archive", DAY, "--to", place)
    command("verify --from", "verify", DAY, "--from", place)
    command("restore --from", "restore", DAY, "--from", place, "--into", directory / "back")
    (parquet,) = archive_dir(root).rglob("*.parquet")
    fetched = directory / "fetched"
    floor("fetch and hash", lambda: fetch(server, parquet.relative_to(archive_dir(root)), fetched))
    assert fetched.read_bytes() == parquet.read_bytes()
    floor("read Parquet", lambda: pq.read_table(fetched))
    return rows


def fetch(server: S3Server, name: Path, target: Path) -> None:
    """The copy's file as it lies in the bucket, hashed as it comes, which is the least that a check can do."""
    digest, answer = hashlib.sha256(), server.client().get_object(BUCKET, f"{PREFIX}/{name}")
    try:
        with target.open("wb") as file:
            for block in answer.stream(1 << 20):
                digest.update(block)
                file.write(block)
    finally:
        answer.close()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--ticks", type=int, default=WANTED_TICKS)
    parser.add_argument("--short", action="store_true", help="3,000 ticks: shows that it works, figures are rough")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="object-storage-") as name, s3_server(Path(name) / "s3") as server:
        rig.print_machine()
        try:
            rows = measure(Path(name), server, 3_000 if given.short else given.ticks)
        except AssertionError as exc:
            return rig.exit_code([str(exc)])
    print(rig.table(COLUMNS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

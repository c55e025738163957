"""The kept files of every schema version (``keep.py``) under the program of today: read as they are, verified against
their own manifests, restored, migrated in place, killed at every step of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hk_tick_collector.archive import atomic, pack, restore, verify
from hk_tick_collector.archive.contents import DayFileTicks, differing
from hk_tick_collector.core.errors import StoreError, StoreUnavailable
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.manifest import PARQUET, SQLITE, load_manifest, manifest_path, parquet_path
from hk_tick_collector.days.schema import VERSION_KEY
from hk_tick_collector.days.tree import hive_path
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.query.engine import Engine
from hk_tick_collector.records.columns import BY_NAME, NAMES, SCHEMA_VERSION, names_of
from hk_tick_collector.records.tick import of_one_kind
from hk_tick_collector.store import companions, reader
from hk_tick_collector.store.companions import LiveFile
from hk_tick_collector.store.connect import SqliteOptions, open_day_file
from hk_tick_collector.store.salvage import salvage
from hk_tick_collector.store.tracks import stored_tracks
from hk_tick_collector.store.writer import DayFileWriter
from tests.migration.keep import DAY, MADE_AT_MS, VERSIONS, day_ticks, later_ticks
from tests.stored import iter_ticks
from tests.tickctl import record_day, tickctl, tickctl_json

ALL = sorted(int(path.name) for path in VERSIONS.iterdir())
OLD = [version for version in ALL if version < SCHEMA_VERSION]
Row = dict[str, Any]


class Kept:
    """A copy of a version's files."""

    def __init__(self, version: int, directory: Path) -> None:
        self.version = version
        self.root = directory / f"version{version}"
        shutil.copytree(VERSIONS / str(version), self.root)
        self.rows: list[Row] = json.loads((self.root / "rows.json").read_text())
        (self.root / "rows.json").unlink()

    @property
    def db(self) -> Path:
        return self.root / f"{DAY}.db"

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    @property
    def expected(self) -> list[Row]:
        """As a reader of today shows them: columns of later versions are there and empty."""
        absent = {name: json.loads(BY_NAME[name].default or "null") for name in NAMES}
        return [{**absent, **row} for row in self.rows]

    def bring_back(self, target: Path, kinds: tuple[str, ...] = (PARQUET, SQLITE)) -> restore.Restored:
        """Restore the day from the archive, or from its files of these kinds."""
        path = manifest_path(self.archive, DAY)
        claim = json.loads(path.read_text())
        claim["files"] = [file for file in claim["files"] if file["kind"] in kinds]
        path.write_text(json.dumps(claim))
        target.mkdir(exist_ok=True)
        return restore.restore_day(self.archive, DAY, target, now_ms=MADE_AT_MS)


@pytest.fixture
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    return Kept(request.param, tmp_path)


every_version = pytest.mark.parametrize("kept", ALL, indirect=True, ids="version {}".format)
older_versions = pytest.mark.parametrize("kept", OLD, indirect=True, ids="version {}".format)


def sorted_rows(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: repr(sorted(row.items())))


def rows_in(db: Path) -> list[Row]:
    """All columns that the file has, by SQLite alone."""
    with contextlib.closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn:
        conn.row_factory = sqlite3.Row
        return [dict(row) for row in conn.execute("SELECT * FROM ticks ORDER BY rowid")]


def of_arrow(table: pa.Table) -> list[Row]:
    columns = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in table.columns]
    return pa.table(columns, names=table.column_names).to_pylist()


def version_in(db: Path) -> int:
    with contextlib.closing(sqlite3.connect(db)) as conn:
        return int(conn.execute("PRAGMA user_version").fetchone()[0])


def files_under(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_files_of_every_version_up_to_ours_are_kept() -> None:
    assert list(range(SCHEMA_VERSION + 1)) == ALL
    for version in ALL:
        rows = json.loads((VERSIONS / str(version) / "rows.json").read_text())
        assert set(rows[0]) == set(names_of(version)), "the kept rows have the columns of their version"


# -- read as they are --------------------------------------------------------------------------------------------------


@every_version
def test_a_day_file_is_read_as_it_is(kept: Kept) -> None:
    before = files_under(kept.root)
    day = Catalog(kept.root, kept.root / "no archive").day(DAY)
    assert sorted_rows(of_arrow(pa.Table.from_batches(day.batches()))) == sorted_rows(kept.expected)
    assert [tick.seq for tick in iter_ticks(kept.db)] == [row["seq"] for row in kept.rows]
    assert sum(day.rows_by_symbol().values()) == len(kept.rows)
    assert stored_tracks(kept.root, ["HK.00700", "HK.00005"], 1)["HK.00700"].last_seq == kept.rows[7]["seq"]
    reader.gaps(kept.db)
    assert files_under(kept.root) == before, "reading changed a file or left one"


@every_version
def test_a_packed_or_parquet_archive_is_read_as_it_is(kept: Kept, tmp_path: Path) -> None:
    before = files_under(kept.root)
    day = Catalog(tmp_path / "empty", kept.archive).day(DAY)
    assert sorted_rows(of_arrow(pa.Table.from_batches(day.batches()))) == sorted_rows(kept.expected)
    assert of_arrow(day.ticks(["HK.00005"], ("seq", "venue"))) == [
        {"seq": row["seq"], "venue": row["venue"]}
        for row in sorted(kept.expected, key=lambda row: (row["ts_ms"], row["seq"] is None, row["seq"]))
        if row["symbol"] == "HK.00005"
    ]
    assert files_under(kept.root) == before


@every_version
def test_the_archive_holds_what_its_manifest_claims_and_what_the_day_file_has(kept: Kept) -> None:
    check = verify.check_day(kept.archive, DAY, kept.db)
    assert check.problems == ()
    assert (check.fine, check.rows, check.formats) == (True, len(kept.rows), (PARQUET, SQLITE))


@every_version
def test_a_damaged_archive_of_any_version_is_found(kept: Kept) -> None:
    path = manifest_path(kept.archive, DAY)
    path.write_text(path.read_text().replace('"rows": 8', '"rows": 7'))
    assert not verify.check_day(kept.archive, DAY, None).fine


@every_version
def test_the_commands_read_it(kept: Kept) -> None:
    answer = tickctl_json("query", "SELECT count(*) AS n, count(venue) AS told FROM ticks", data_root=kept.root)
    assert [row["n"] for row in answer] == [len(kept.rows)]
    exported = tickctl("export", "csv", "--day", DAY, "--output", kept.root / "out.csv", data_root=kept.root)
    assert exported.returncode == 0, exported.stderr
    assert (kept.root / "out.csv").read_text().count("\n") == 1 + len(kept.rows)


def test_a_question_over_archives_of_all_versions(tmp_path: Path) -> None:
    data, archive = tmp_path / "data", tmp_path / "archive"
    old = Kept(1, tmp_path)
    shutil.copytree(old.archive, archive)
    record_day(data, "20261119", count=10)
    with atomic.only_job(archive):
        pack.archive_day(data, archive, "20261119", (PARQUET,), made_at_ms=MADE_AT_MS)
    (data / "20261119.db").unlink()
    catalog = Catalog(data, archive)
    with Engine([catalog.day(name) for name in catalog.days()]) as engine:
        result = engine.run("SELECT trading_day, count(*), count(bid_price) FROM ticks GROUP BY 1 ORDER BY 1")
        assert [tuple(row.values()) for batch in result.batches for row in batch.to_pylist()] == [
            ("20261119", 30, 0),
            (DAY, len(old.rows), 0),
        ]


@pytest.mark.parametrize("version", [version for version in ALL if version])
def test_what_waits_in_a_spill_comes_back(version: int, tmp_path: Path) -> None:
    kept = Kept(version, tmp_path)
    spill = SpillQueue(kept.root / "waiting")
    spill.open()
    assert spill.peek(100) == of_one_kind(later_ticks(version))
    spill.close()


# -- restored ----------------------------------------------------------------------------------------------------------


@every_version
def test_a_packed_day_file_comes_back_as_it_was(kept: Kept, tmp_path: Path) -> None:
    done = kept.bring_back(tmp_path / "back", (SQLITE,))
    assert (done.action, done.rows) == ("restored", len(kept.rows))
    assert rows_in(tmp_path / "back" / f"{DAY}.db") == kept.rows
    assert version_in(tmp_path / "back" / f"{DAY}.db") == kept.version


@every_version
def test_a_day_file_out_of_parquet_is_of_todays_version(kept: Kept, tmp_path: Path) -> None:
    done = kept.bring_back(tmp_path / "back", (PARQUET,))
    assert (done.action, done.rows) == ("restored", len(kept.rows))
    assert sorted_rows(rows_in(tmp_path / "back" / f"{DAY}.db")) == sorted_rows(kept.expected)
    assert version_in(tmp_path / "back" / f"{DAY}.db") == SCHEMA_VERSION


@every_version
def test_an_archive_is_joined_to_a_file_of_today(kept: Kept, tmp_path: Path) -> None:
    target = tmp_path / "target"
    writer = DayFileWriter(target)
    writer.write(later_ticks(SCHEMA_VERSION))
    writer.close()
    done = kept.bring_back(target)
    assert (done.action, done.added_rows) == ("joined", len(kept.rows))
    stored = rows_in(target / f"{DAY}.db")
    assert len(stored) == len(kept.rows) + 3
    came_later = {(tick.symbol, tick.seq) for tick in later_ticks(SCHEMA_VERSION)}
    of_the_archive = [row for row in stored if (row["symbol"], row["seq"]) not in came_later]
    assert sorted_rows(of_the_archive) == sorted_rows(kept.expected)


def test_what_was_told_of_symbols_and_later_of_trades_is_archived_with_the_day(tmp_path: Path) -> None:
    kept = Kept(SCHEMA_VERSION, tmp_path)
    told = (reader.symbol_rows(kept.db), reader.amendments(kept.db))
    assert [len(rows) for rows in told] == [1, 1]
    kept.bring_back(tmp_path / "back", (PARQUET,))
    db = tmp_path / "back" / f"{DAY}.db"
    assert (reader.symbol_rows(db), reader.amendments(db)) == told
    with contextlib.closing(sqlite3.connect(db)) as conn:
        conn.executescript("DELETE FROM symbols; DELETE FROM amendments;")
    manifest = load_manifest(kept.archive, DAY)
    assert manifest is not None
    assert not pack.fits(manifest, db, kept.archive)
    problems = verify.compare_with_day_file(verify.count(DayFileTicks(db)), manifest, db)
    assert [problem.split(" of ")[0] for problem in problems] == ["the symbols", "the amendments"]
    for _ in range(2):
        kept.bring_back(tmp_path / "back", (PARQUET,))
        assert (reader.symbol_rows(db), reader.amendments(db)) == told


# -- migrated ----------------------------------------------------------------------------------------------------------


@older_versions
def test_the_recorder_migrates_a_file_in_place_and_goes_on(kept: Kept) -> None:
    writer = DayFileWriter(kept.root)
    result = writer.write(later_ticks(SCHEMA_VERSION))
    assert (result.inserted_rows, result.ignored_rows) == (3, 0)
    assert writer.write(day_ticks(kept.version)[:12]).inserted_rows == 0, "they are stored already"
    writer.close()
    assert version_in(kept.db) == SCHEMA_VERSION
    assert rows_in(kept.db)[: len(kept.rows)] == kept.expected
    with contextlib.closing(sqlite3.connect(kept.db)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        told = conn.execute("SELECT (SELECT COUNT(*) FROM symbols), (SELECT COUNT(*) FROM amendments)").fetchone()
        assert told == ((0, 0) if kept.version < 2 else (1, 1)), "version 2 brought the tables"


@older_versions
def test_the_archive_of_before_still_is_the_archive_of_the_migrated_file(kept: Kept) -> None:
    manifest = load_manifest(kept.archive, DAY)
    assert manifest is not None
    open_day_file(kept.db, SqliteOptions()).close()
    assert differing(verify.count(DayFileTicks(kept.db)).symbols, manifest.symbols) == []
    if kept.version:
        assert verify.check_day(kept.archive, DAY, kept.db).problems == ()
        assert pack.fits(manifest, kept.db, kept.archive)


@older_versions
def test_migrate_says_what_it_did(kept: Kept) -> None:
    (done,) = tickctl_json("migrate", data_root=kept.root)
    assert (done["from_version"], done["to_version"], done["result"]) == (kept.version, SCHEMA_VERSION, "migrated")
    assert rows_in(kept.db) == kept.expected


@every_version
def test_salvage_takes_all_of_it(kept: Kept, tmp_path: Path) -> None:
    report = salvage(kept.db, tmp_path / f"{DAY}.db")
    assert (report.clean, report.copied_rows) == (True, len(kept.rows))
    assert sorted_rows(rows_in(tmp_path / f"{DAY}.db")) == sorted_rows(kept.expected)
    assert salvage(kept.db, tmp_path / f"{DAY}.db").copied_rows == 0, "a second time changes nothing"
    for told in (reader.symbol_rows, reader.amendments):
        assert told(tmp_path / f"{DAY}.db") == told(kept.db)


class _Mortal(LiveFile):
    """Kills its process instead of running the statement behind the last one that is left."""

    left = 0

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        _Mortal.left -= 1
        if _Mortal.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(*arguments)


def migrate_and_die(db: Path, statements: int) -> int:
    """Open the file in a process that is killed behind so many statements; how the process ended."""
    child = os.fork()
    if not child:
        _Mortal.left = statements
        with mock.patch.object(companions, "LiveFile", _Mortal):
            open_day_file(db, SqliteOptions())
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@older_versions
def test_killed_at_every_statement_of_the_migration_no_row_is_lost(kept: Kept, tmp_path: Path) -> None:
    ends = []
    for statements in range(200):
        db = tmp_path / f"killed{statements}" / f"{DAY}.db"
        db.parent.mkdir()
        shutil.copy(kept.db, db)
        end = migrate_and_die(db, statements)
        assert version_in(db) in (kept.version, SCHEMA_VERSION)
        open_day_file(db, SqliteOptions()).close()
        assert version_in(db) == SCHEMA_VERSION
        assert rows_in(db) == kept.expected
        ends.append(end)
        if end == 0:
            break
    assert ends[-1] == 0
    assert set(ends[:-1]) == {-9}
    assert len(ends) > 10, "it was killed in the middle: one column alone takes more statements than that"


@older_versions
def test_a_migration_of_which_the_log_was_cut_anywhere_is_done_or_not(kept: Kept, tmp_path: Path) -> None:
    """As after a power failure: the write-ahead log ends in any of its pages."""
    conn = open_day_file(kept.db, SqliteOptions())
    database, log = kept.db.read_bytes(), kept.db.with_name(f"{kept.db.name}-wal").read_bytes()
    conn.close()
    seen = set()
    for size_bytes in [*range(0, len(log), 4096 + 24), len(log)]:
        db = tmp_path / f"cut{size_bytes}" / f"{DAY}.db"
        db.parent.mkdir()
        db.write_bytes(database)
        db.with_name(f"{db.name}-wal").write_bytes(log[:size_bytes])
        seen.add(version_in(db))
        open_day_file(db, SqliteOptions()).close()
        assert (version_in(db), rows_in(db)) == (SCHEMA_VERSION, kept.expected)
    assert seen == {kept.version, SCHEMA_VERSION}


# -- of a later version ------------------------------------------------------------------------------------------------


@pytest.fixture
def newer(tmp_path: Path) -> Kept:
    """What a newer program left: one column more, and its version."""
    kept = Kept(SCHEMA_VERSION, tmp_path)
    with contextlib.closing(sqlite3.connect(kept.db)) as conn:
        conn.execute("ALTER TABLE ticks ADD COLUMN of_tomorrow TEXT")
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    return kept


NEWER = rf"newer recorder \(schema version {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}\); install"


def test_a_newer_day_file_is_refused_by_writers_and_readers_and_never_set_aside(newer: Kept, tmp_path: Path) -> None:
    before = files_under(newer.root)
    catalog = Catalog(newer.root, tmp_path / "no archive")
    actions = {
        "write": lambda: DayFileWriter(newer.root).write(later_ticks(SCHEMA_VERSION)),
        "scan": lambda: list(catalog.day(DAY).batches()),
        "coverage": lambda: reader.coverage(newer.db),
        "salvage into": lambda: salvage(VERSIONS / "1" / f"{DAY}.db", newer.db),
        "archive": lambda: pack.archive_day(newer.root, tmp_path / "new", DAY, (PARQUET,), made_at_ms=MADE_AT_MS),
    }
    for name, action in actions.items():
        with pytest.raises(StoreUnavailable, match=NEWER):
            pytest.fail(f"{name} gave {action()!r}")
    report = salvage(newer.db, tmp_path / f"{DAY}.db")
    assert "newer recorder" in str(report.problem)
    assert not (tmp_path / f"{DAY}.db").exists()
    assert files_under(newer.root) == before


def test_the_commands_say_that_a_file_is_of_a_newer_version(newer: Kept) -> None:
    shutil.rmtree(newer.archive)
    done = tickctl("query", "SELECT count(*) FROM ticks", data_root=newer.root)
    assert done.returncode == 1
    assert "was made by a newer recorder (schema version" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("key", ["schema_version", "source_schema_version"])
def test_an_archive_of_a_later_version_is_refused(key: str, tmp_path: Path) -> None:
    kept = Kept(SCHEMA_VERSION, tmp_path)
    path = manifest_path(kept.archive, DAY)
    claim = json.loads(path.read_text())
    path.write_text(json.dumps({**claim, key: SCHEMA_VERSION + 1}))
    before = files_under(kept.root)
    sentence = rf"{DAY}\.json: the day was archived by a newer program .* install the newer version"
    (problem,) = verify.check_day(kept.archive, DAY, kept.db).problems
    assert problem.endswith("install the newer version to read it")
    with pytest.raises(StoreUnavailable, match=sentence):
        kept.bring_back(tmp_path / "back")
    with pytest.raises(StoreUnavailable, match=sentence), atomic.only_job(kept.archive):
        pack.archive_day(kept.root, kept.archive, DAY, (PARQUET,), made_at_ms=MADE_AT_MS)
    assert {name: text for name, text in files_under(kept.root).items() if "lock" not in name} == before


def test_a_parquet_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    kept = Kept(SCHEMA_VERSION, tmp_path)
    path = parquet_path(kept.archive, DAY)
    table = pq.read_table(path)
    table = table.replace_schema_metadata({VERSION_KEY: str(SCHEMA_VERSION + 1)})
    pq.write_table(table, path)
    with pytest.raises(StoreError, match="install the newer version"):
        list(Catalog(tmp_path / "empty", kept.archive).day(DAY).batches())
    assert path == hive_path(kept.archive / "ticks", DAY)

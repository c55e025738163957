"""Schema, migration by version, and the translation of SQLite's errors, by real files in real trouble."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import RowRefused, StoreBusy, StoreCorrupt, StoreUnavailable
from hk_tick_collector.records.columns import SCHEMA_VERSION, names_of
from hk_tick_collector.records.tick import MORE_COLUMNS, Tick
from hk_tick_collector.store import connect
from hk_tick_collector.store.connect import SqliteOptions, Step, bring_up_to_date, identify, open_day_file, translate
from hk_tick_collector.store.writer import DayFileWriter
from tests.unit.store_ticks import DAY, query, table_row, tick, ticks

LEGACY_SQL = """
CREATE TABLE ticks (market TEXT NOT NULL, symbol TEXT NOT NULL, ts_ms INTEGER NOT NULL, price REAL, volume INTEGER,
  turnover REAL, direction TEXT, seq INTEGER, tick_type TEXT, push_type TEXT, provider TEXT, trading_day TEXT NOT NULL,
  recv_ts_ms INTEGER NOT NULL, inserted_at_ms INTEGER NOT NULL);
"""
NEXT = SCHEMA_VERSION + 1
LEGACY_ROW = table_row(tick(1))[:14]


def make_legacy(path: Path, *rows: tuple[object, ...], extra_sql: str = "") -> None:
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.executescript(LEGACY_SQL + extra_sql)
        conn.executemany(f"INSERT INTO ticks VALUES ({','.join('?' * 14)})", rows)
        conn.commit()


@pytest.fixture
def db(tmp_path):
    return tmp_path / f"{DAY}.db"


def opened(path, **options):
    return contextlib.closing(open_day_file(path, SqliteOptions(**options)))


def test_new_file_has_the_published_schema(db):
    with opened(db) as conn:
        names = [row[1] for row in conn.execute("PRAGMA table_info(ticks)")]
        types = [row[2] for row in conn.execute("PRAGMA table_info(ticks)")]
        not_null = [row[1] for row in conn.execute("PRAGMA table_info(ticks)") if row[3]]
        indexes = dict(conn.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'ticks'"))
        assert conn.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert conn.execute("PRAGMA application_id").fetchone()[0].to_bytes(4, "big") == b"HKTK"
    assert " ".join(names) == (
        "market symbol ts_ms price volume turnover direction seq tick_type push_type provider trading_day "
        "recv_ts_ms inserted_at_ms push_data_type opend_recv_ts_ms type_sign occurrence "
        "ts_ns_part total_volume venue conditions bid_price ask_price"
    )
    assert " ".join(types) == (
        "TEXT TEXT INTEGER REAL INTEGER REAL TEXT INTEGER TEXT TEXT TEXT TEXT INTEGER INTEGER "
        "TEXT INTEGER TEXT INTEGER INTEGER INTEGER TEXT TEXT REAL REAL"
    )
    assert not_null == ["market", "symbol", "ts_ms", "trading_day", "recv_ts_ms", "inserted_at_ms", "occurrence"]
    assert set(indexes) == {"uniq_ticks_symbol_seq", "uniq_ticks_symbol_ts_price_vol_turnover"}
    assert indexes["uniq_ticks_symbol_seq"].endswith("(symbol, seq) WHERE seq IS NOT NULL")
    assert indexes["uniq_ticks_symbol_ts_price_vol_turnover"].endswith(
        "(symbol, ts_ms, price, volume, turnover, occurrence) WHERE seq IS NULL"
    )


def test_new_file_has_tables_that_say_how_complete_it_is(db):
    with opened(db) as conn:
        tables = {
            table: " ".join(row[1] for row in conn.execute(f"PRAGMA table_info({table})"))
            for table in ("coverage", "gaps")
        }
        keys = {
            table: [row[1] for row in sorted(conn.execute(f"PRAGMA table_info({table})"), key=lambda r: r[5]) if row[5]]
            for table in tables
        }
    assert tables["coverage"].startswith(
        "symbol first_counter last_counter stored_ticks missing_ticks holes head_proven verified_counter "
        "verified_until_ms first_ts_ms last_ts_ms state reason updated_at_ms"
    )
    assert tables["gaps"] == (
        "trading_day symbol gap_start_ts_ms gap_end_ts_ms gap_sec detected_at_ms reason meta_json missing_ticks state"
    )
    assert keys == {"coverage": ["symbol"], "gaps": ["symbol", "gap_start_ts_ms", "gap_end_ts_ms"]}


def test_migrated_file_has_the_columns_and_indexes_of_a_new_one(db, tmp_path):
    make_legacy(
        db,
        LEGACY_ROW,
        extra_sql="CREATE UNIQUE INDEX uniq_ticks_symbol_ts_price_vol_turnover "
        "ON ticks (symbol, ts_ms, price, volume, turnover) WHERE seq IS NULL;",
    )
    shapes = []
    for path in (db, tmp_path / "20261123.db"):
        with opened(path) as conn:
            columns = {
                table: [row[1:] for row in conn.execute(f"PRAGMA table_info({table})")]
                for table in ("ticks", "coverage", "gaps", "readings", "replays", "symbols", "amendments")
            }
            indexes = {
                row[1]: [part[2] for part in conn.execute(f"PRAGMA index_info({row[1]})")]
                for row in conn.execute("PRAGMA index_list(ticks)")
            }
            shapes.append((columns, indexes))
    assert shapes[0] == shapes[1]


def test_columns_are_those_of_tick():
    assert sorted(connect.COLUMNS) == sorted((*Tick._fields, "inserted_at_ms", "market", "provider", *MORE_COLUMNS))
    assert sorted(connect.ROW_COLUMNS) == sorted(connect.COLUMNS)


def test_options_reach_the_connection(db):
    with opened(db, busy_timeout_ms=1234, synchronous="FULL", wal_autocheckpoint=77) as conn:
        pragmas = ("journal_mode", "synchronous", "wal_autocheckpoint", "busy_timeout", "page_size", "cache_size")
        values = [conn.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    assert values == ["wal", 2, 77, 1234, 4096, -16384]


@pytest.mark.parametrize("options", [{"journal_mode": "OFF"}, {"journal_mode": "x; DROP"}, {"synchronous": "MAYBE"}])
def test_options_that_lose_data_or_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match="is not one of"):
        SqliteOptions(**options)


def test_files_are_closed_to_others(db):
    with opened(db) as conn:
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("COMMIT")
        for path in db.parent.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0, path


def test_file_of_an_earlier_recorder_keeps_its_rows(db):
    make_legacy(db, LEGACY_ROW)
    with opened(db) as conn:
        assert identify(conn, db) == SCHEMA_VERSION
    assert query(db, "SELECT * FROM ticks") == [(*LEGACY_ROW, None, None, None, 0, *(None for _ in MORE_COLUMNS))]
    writer = DayFileWriter(db.parent)
    result = writer.write([tick(1), tick(2)])  # the first is the row that was there
    writer.close()
    assert (result.inserted_rows, result.ignored_rows) == (1, 1)


def test_legacy_rows_that_repeat_are_kept_and_the_file_called_broken(db):
    make_legacy(db, LEGACY_ROW, LEGACY_ROW)
    with pytest.raises(StoreCorrupt, match="cannot be migrated"):
        open_day_file(db, SqliteOptions())
    assert query(db, "SELECT COUNT(*) FROM ticks") == [(2,)]
    assert query(db, "PRAGMA user_version") == [(0,)]
    assert len(query(db, "PRAGMA table_info(ticks)")) == 14


def test_steps_run_in_order_and_once(db):
    make_legacy(db, LEGACY_ROW)
    steps = (
        *connect.MIGRATIONS,
        Step(NEXT, "CREATE TABLE extra (a);\nINSERT INTO extra VALUES (2);"),
        Step(NEXT + 1, "UPDATE extra SET a = a * 10;"),
    )
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as conn:
        bring_up_to_date(conn, db, steps)
        bring_up_to_date(conn, db, steps)
        assert conn.execute("SELECT a FROM extra").fetchall() == [(20,)]
        assert conn.execute("PRAGMA user_version").fetchone() == (NEXT + 1,)
        assert conn.execute("SELECT COUNT(*) FROM ticks").fetchone() == (1,)


def test_the_steps_add_up_to_the_columns_of_this_version():
    added = [column.split()[0] for step in connect.MIGRATIONS for table, column in step.adds if table == "ticks"]
    assert (*names_of(0), *added) == connect.COLUMNS
    assert [step.version for step in connect.MIGRATIONS] == list(range(1, SCHEMA_VERSION + 1))


def test_a_file_of_this_version_is_migrated_to_the_next_one_and_not_called_broken(db):
    writer = DayFileWriter(db.parent)
    writer.write([tick(1)])
    writer.close()
    added = (("ticks", "lot_kind TEXT"), ("coverage", "seen_by TEXT"), ("coverage", "state TEXT"), ("absent", "a"))
    steps = (*connect.MIGRATIONS, Step(NEXT, adds=added))
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as conn:
        assert identify(conn, db, steps) == SCHEMA_VERSION
        bring_up_to_date(conn, db, steps)
        assert identify(conn, db, steps) == NEXT
        assert conn.execute("SELECT seq, lot_kind FROM ticks").fetchall() == [(tick(1).seq, None)]
        assert conn.execute("SELECT symbol, seen_by FROM coverage").fetchall() == [(tick(1).symbol, None)]
        conn.execute("ALTER TABLE ticks DROP COLUMN lot_kind")
        with pytest.raises(StoreCorrupt, match="of another kind"):
            identify(conn, db, steps)


def test_later_steps_also_run_on_a_new_file(db):
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as conn:
        bring_up_to_date(conn, db, (*connect.MIGRATIONS, Step(NEXT, "CREATE TABLE extra (a);")))
        assert conn.execute("SELECT COUNT(*) FROM extra").fetchone() == (0,)


def test_a_step_that_fails_changes_nothing(db):
    make_legacy(db, LEGACY_ROW)
    steps = (*connect.MIGRATIONS, Step(NEXT, "CREATE TABLE extra (a);\nINSERT INTO nowhere VALUES (1);"))
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as conn:
        with pytest.raises(sqlite3.OperationalError):
            bring_up_to_date(conn, db, steps)
        assert not conn.in_transaction
    assert query(db, "PRAGMA user_version") == [(0,)]
    assert query(db, "SELECT name FROM sqlite_master WHERE type = 'table'") == [("ticks",)]


def test_newer_file_is_refused_and_left_alone(db):
    with opened(db) as conn:
        conn.execute("PRAGMA user_version = 99")
    before = db.read_bytes()
    with pytest.raises(StoreUnavailable, match=rf"version 99, this one knows {SCHEMA_VERSION}\).*install"):
        open_day_file(db, SqliteOptions())
    assert db.read_bytes() == before


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("CREATE TABLE ticks (a, b);", "of another kind"),
        ("CREATE TABLE other (a);", "no ticks table"),
        ("PRAGMA user_version = 1;", "no ticks table"),
        (f"{LEGACY_SQL} PRAGMA user_version = 1;", "of another kind"),
        (
            LEGACY_SQL.replace("inserted_at_ms INTEGER NOT NULL", "inserted_at_ms INTEGER NOT NULL, x"),
            "of another kind",
        ),
        ("CREATE TABLE ticks (a); PRAGMA application_id = 42;", "belongs to another program"),
    ],
)
def test_foreign_files_are_called_so_and_not_touched(db, sql, message):
    with contextlib.closing(sqlite3.connect(db)) as conn:
        conn.executescript(sql)
    before = db.read_bytes()
    with pytest.raises(StoreCorrupt, match=message) as caught:
        open_day_file(db, SqliteOptions())
    assert str(db) in str(caught.value)
    assert db.read_bytes() == before


def test_a_directory_in_the_place_of_the_file(db):
    db.mkdir()
    with pytest.raises(StoreCorrupt, match="is a directory"):
        open_day_file(db, SqliteOptions())


def real_errors(tmp_path):
    """(error of ours, exception) for situations made with real files."""
    db = tmp_path / "real.db"
    with opened(db) as first, contextlib.closing(sqlite3.connect(db, timeout=0, isolation_level=None)) as second:
        first.execute("BEGIN IMMEDIATE")
        yield StoreBusy, lambda: second.execute("BEGIN IMMEDIATE")
        first.execute("ROLLBACK")
        first.execute("PRAGMA max_page_count = 1")
        yield StoreUnavailable, lambda: first.execute("CREATE TABLE full AS SELECT randomblob(100000) AS x")
        yield RowRefused, lambda: first.execute("INSERT INTO ticks (market) VALUES (NULL)")
        yield RowRefused, lambda: first.execute("SELECT ?", (1 << 63,))
        yield RowRefused, lambda: first.execute("SELECT ?", ({},))
        yield RowRefused, lambda: first.execute("SELECT ?", ("\ud800",))
        yield RowRefused, lambda: first.execute("SELECT ?, ?", (1,))
        yield RowRefused, lambda: first.execute("SELECT zeroblob(2000000000)")
        yield StoreCorrupt, lambda: first.execute("SELECT * FROM absent")
        yield StoreCorrupt, lambda: first.execute("SELECT absent FROM ticks")
        yield StoreCorrupt, lambda: first.execute("INSERT INTO ticks (absent) VALUES (1)")
        yield StoreUnavailable, lambda: first.execute("SELEKT 1")
        reading = first.execute("SELECT * FROM sqlite_master")
        reading.fetchone()
        yield StoreBusy, lambda: first.execute("DROP TABLE ticks")
        reading.close()
    with contextlib.closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as readonly:
        yield StoreUnavailable, lambda: readonly.execute("DELETE FROM ticks")
    yield StoreUnavailable, lambda: sqlite3.connect("file:/nonexistent/x.db?mode=rw", uri=True)
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"no database at all " * 500)
    with contextlib.closing(sqlite3.connect(garbage)) as conn:
        yield StoreCorrupt, lambda: conn.execute("SELECT * FROM sqlite_master")


@pytest.mark.parametrize("with_code", [True, False], ids=["error code", "message only, as through ADBC"])
def test_errors_get_their_meaning(tmp_path, with_code):
    seen = set()
    for expected, provoke in real_errors(tmp_path):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - its kind is what is tested
            provoke()
        bare = caught.value
        if not with_code and isinstance(bare, sqlite3.Error):
            bare = type(bare)(*bare.args)
            assert not hasattr(bare, "sqlite_errorcode")
        error = translate(bare, tmp_path / "x.db")
        assert type(error) is expected, f"{bare!r} became {error!r}"
        assert str(tmp_path / "x.db") in str(error)
        seen.add(expected)
    assert seen == {StoreBusy, StoreUnavailable, StoreCorrupt, RowRefused}


def test_truncated_and_overwritten_files_are_corrupt(db):
    writer = DayFileWriter(db.parent)
    writer.write(ticks(3000))
    writer.close()
    whole = db.read_bytes()
    db.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreCorrupt):
        DayFileWriter(db.parent).write(ticks(3000, first=5000))
    db.write_bytes(b"\0" * 4096 + whole[4096:])
    with pytest.raises(StoreCorrupt):
        DayFileWriter(db.parent).write(ticks(1, first=9000))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EROFS, errno.EMFILE, errno.ENOMEM])
@pytest.mark.parametrize("call", ["is_dir", "exists", "mkdir"])
def test_whatever_the_disk_answers_to_the_opening_of_a_file_is_waited_for(tmp_path, monkeypatch, number, call):
    def refuses(self, *_, **__):
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, call, refuses)
    with pytest.raises(StoreUnavailable, match=os.strerror(number)):
        open_day_file(tmp_path / "new" / f"{DAY}.db", SqliteOptions())


def test_an_orphaned_wal_that_cannot_be_looked_at_is_waited_for(db, monkeypatch):
    def refuses(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(connect, "move_companions", refuses)
    db.with_name(f"{db.name}-wal").write_bytes(b"committed rows")
    with pytest.raises(StoreUnavailable, match="Permission denied"):
        open_day_file(db, SqliteOptions())


def test_a_file_that_cannot_be_looked_at_was_not_replaced(tmp_path, monkeypatch, caplog):
    """A disk that does not answer says nothing about the file: the batch is written again, to the same file."""
    writer = DayFileWriter(tmp_path)
    writer.write(ticks(3))

    def stale(_):
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr("hk_tick_collector.store.open_files._mark", stale)
        with pytest.raises(StoreUnavailable, match="Stale file handle"):
            writer.write(ticks(6))
    assert writer.write(ticks(6)).inserted_rows == 3
    assert "day_file_replaced" not in caplog.text
    writer.close()

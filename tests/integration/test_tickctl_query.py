"""The built ``hk-tickctl query``, ``ticks``, ``bars`` and ``top`` on recorded days, live and archived, and beside a
recorder that writes."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import resource
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hk_tick_collector.cli.main import main
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.columns import names_of
from hk_tick_collector.store.writer import DayFileWriter
from tests.archived_day import archive_day
from tests.harness import BIN, Recorder, Simulator, clean_env, ended, wait_until
from tests.tickctl import SYMBOLS, day_ticks, record_day, tickctl, tickctl_json
from tests.ticks import DAY, make_tick

OLD_DAY = "20261119"
COUNT = 600
SYMBOL = "HK.00700"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archived day and a live one; the first has a symbol that the second has not."""
    data_root = tmp_path_factory.mktemp("root") / "data"
    data_root.mkdir()
    record_day(data_root, OLD_DAY, symbols=(*SYMBOLS, "HK.01810"), count=COUNT)
    archive_day(data_root, data_root / "_archive", OLD_DAY)
    record_day(data_root, DAY, count=COUNT)
    return data_root


def stored(root: Path, symbol: str = SYMBOL) -> list[sqlite3.Row]:
    """The live day's ticks of a symbol as SQLite has them."""
    with closing(sqlite3.connect(root / f"{DAY}.db")) as conn:
        conn.row_factory = sqlite3.Row
        return conn.execute("SELECT * FROM ticks WHERE symbol = ? ORDER BY ts_ms, seq", (symbol,)).fetchall()


@pytest.mark.parametrize("symbol", ["700", "HK.00700"])
def test_ticks_of_the_newest_day_are_those_stored(root: Path, symbol: str) -> None:
    rows = tickctl_json("ticks", symbol, "--time", "ms", data_root=root)
    assert rows == [dict(row) for row in stored(root)]


def test_a_day_reads_alike_live_and_archived(tmp_path: Path) -> None:
    data_root = tmp_path / "data"
    record_day(data_root, count=300)
    commands: list[tuple[object, ...]] = [
        ("ticks", "5,700", "--from", "10:00", "--to", "10:40", "--exclude-odd-lots", "--format", "jsonl"),
        ("bars", SYMBOL, "--interval", "5m", "--include-odd-lots", "--format", "csv"),
        ("query", "SELECT * FROM ticks ORDER BY symbol, seq", "--format", "csv"),
        ("query", "SELECT symbol, state, stored_ticks FROM coverage ORDER BY 1", "--json"),
        ("top", "--by", "volatility", "--json"),
    ]
    live = [tickctl(*command, data_root=data_root) for command in commands]
    archive_day(data_root, data_root / "_archive")
    for command, before in zip(commands, live, strict=True):
        after = tickctl(*command, data_root=data_root)
        assert (after.returncode, after.stdout) == (0, before.stdout), command
        assert len(after.stdout) > 100, command


def test_ticks_over_days_narrowed_by_time_type_and_number(root: Path) -> None:
    rows = tickctl_json(
        "ticks", SYMBOL, "--days", "..", "--from", "10:00", "--to", "10:20", "--type", "odd_lot,AUCTION",
        "--columns", "trading_day,ts_ms,tick_type,seq", "--time", "hk", data_root=root,
    )  # fmt: skip
    assert {row["trading_day"] for row in rows} == {OLD_DAY, DAY}
    assert {row["tick_type"] for row in rows} == {"ODD_LOT", "AUCTION"}
    assert all("10:00:00.000" <= row["ts_ms"][11:23] < "10:20:00.000" for row in rows)
    assert list(rows[0]) == ["trading_day", "ts_ms", "tick_type", "seq"]
    wanted = [
        row["seq"]
        for row in stored(root)
        if row["tick_type"] in ("ODD_LOT", "AUCTION")
        and day_start_ms(DAY) + 36_000_000 <= row["ts_ms"] < day_start_ms(DAY) + 37_200_000
    ]
    assert [row["seq"] for row in rows if row["trading_day"] == DAY] == wanted
    last = tickctl_json("ticks", SYMBOL, "--days", f"{OLD_DAY}..", "--last", COUNT + 2, data_root=root)
    assert [row["trading_day"] for row in last] == [OLD_DAY] * 2 + [DAY] * COUNT
    of_each = tickctl_json("ticks", SYMBOL, "5", "--last", 2, data_root=root)
    assert [row["symbol"] for row in of_each] == [SYMBOL] * 2 + ["HK.00005"] * 2
    prices = tickctl_json("ticks", SYMBOL, "--price-only", "--exclude-auctions", data_root=root)
    assert {row["tick_type"] for row in prices} == {"AUTO_MATCH", "INTER_AUTO_MATCH"}
    instant = tickctl_json("ticks", SYMBOL, "--from", "2026-11-19T10:30", "--to", "2026-11-20T09:40", data_root=root)
    assert {row["trading_day"] for row in instant} == {OLD_DAY, DAY}


def test_a_table_shows_hong_kong_time_with_milliseconds(root: Path) -> None:
    done = tickctl("ticks", SYMBOL, "--last", "2", data_root=root)
    newest = stored(root)[-1]
    moment = datetime.fromtimestamp((newest["ts_ms"] + 28_800_000) / 1000, UTC)
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["symbol", "ts_ms", "(HKT)", "price", "volume", "turnover", "direction", "tick_type", "seq"]
    assert len(lines) == 2
    assert f"{moment:%Y-%m-%d %H:%M:%S}.{newest['ts_ms'] % 1000:03d}" in lines[1]
    assert lines[1].rstrip().endswith(str(newest["seq"]))


def test_bars_and_what_they_are_made_of(root: Path) -> None:
    bars = tickctl_json("bars", SYMBOL, "--interval", "10m", "--time", "ms", data_root=root)
    ticks = [row for row in stored(root) if row["tick_type"] != "ODD_LOT"]
    start_ms = bars[3]["start_ms"]
    members = [row for row in ticks if start_ms <= row["ts_ms"] < start_ms + 600_000]
    assert bars[3]["open"] == members[0]["price"]
    assert bars[3]["close"] == members[-1]["price"]
    assert bars[3]["high"] == max(row["price"] for row in members)
    assert bars[3]["volume"] == sum(row["volume"] for row in members)
    assert sum(bar["tick_count"] for bar in bars) == len(ticks)
    assert (bars[0]["start_ms"] + 28_800_000) % 600_000 == 0
    without = tickctl_json("bars", SYMBOL, "--interval", "10m", "--exclude-auctions", data_root=root)
    assert sum(bar["tick_count"] for bar in without) == sum(row["tick_type"] != "AUCTION" for row in ticks)
    with_odd = tickctl_json("bars", SYMBOL, "--interval", "10m", "--include-odd-lots", data_root=root)
    assert sum(bar["volume"] for bar in with_odd) == sum(row["volume"] for row in stored(root))


def test_bars_fill_continuous_trading(tmp_path: Path) -> None:
    writer = DayFileWriter(tmp_path)
    at = {name: day_start_ms(OLD_DAY) + minutes * 60_000 for name, minutes in (("open", 571), ("cas", 968))}
    day = "20251119"  # over, whatever the day of the test
    at = {name: ts_ms - day_start_ms(OLD_DAY) + day_start_ms(day) for name, ts_ms in at.items()}
    ticks = [
        make_tick(1, ts_ms=at["open"], trading_day=day, price=10.0),
        make_tick(2, ts_ms=at["cas"] + 12_000, trading_day=day, price=11.0, tick_type="AUCTION"),
    ]
    writer.write(ticks)
    writer.close()
    done = tickctl_json("bars", SYMBOL, "--interval", "1m", "--fill", "forward", "--time", "hk", data_root=tmp_path)
    starts = [bar["start_ms"][11:16] for bar in done]
    assert starts[0] == "09:31"
    assert starts[-2:] == ["15:59", "16:08"]
    assert not [start for start in starts if "12:00" <= start < "13:00"]
    assert len(starts) == 149 + 180 + 1
    narrowed = tickctl_json(
        "bars", SYMBOL, "--fill", "forward", "--from", "09:31", "--to", "09:35", "--time", "hk", data_root=tmp_path
    )
    assert [bar["start_ms"][11:16] for bar in narrowed] == ["09:31", "09:32", "09:33", "09:34"]


def test_query_says_what_it_loaded(root: Path) -> None:
    sql = "SELECT trading_day, sum(volume) AS v FROM ticks WHERE symbol = 'HK.00700' GROUP BY 1 ORDER BY 1"
    done = tickctl("query", sql, "--json", data_root=root)
    assert done.returncode == 0, done.stderr
    assert f"read {3 * COUNT:,} ticks of {DAY} (columns symbol, volume, trading_day)" in done.stderr
    rows = json.loads(done.stdout)
    assert [row["trading_day"] for row in rows] == [OLD_DAY, DAY]
    assert rows[1]["v"] == sum(row["volume"] for row in stored(root))
    narrowed = tickctl("query", sql, "--day", OLD_DAY, "--symbols", "700", "--format", "csv", data_root=root)
    assert narrowed.stdout.splitlines()[1:] == [f"{OLD_DAY},{rows[0]['v']}"]
    assert "loaded" not in narrowed.stderr


def test_top_orders_by_what_is_asked(root: Path) -> None:
    rows = tickctl_json("top", "--days", OLD_DAY, "-n", "2", data_root=root)
    everything = tickctl_json("top", "--days", OLD_DAY, data_root=root)
    assert rows == everything[:2]
    assert len(everything) == 4
    assert [row["turnover"] for row in everything] == sorted((row["turnover"] for row in everything), reverse=True)
    by_volatility = tickctl_json("top", "--by", "volatility", "--days", "..", data_root=root)
    assert {row["symbol"]: row["days"] for row in by_volatility} == {**dict.fromkeys(SYMBOLS, 2), "HK.01810": 1}


def test_every_format_in_a_file(root: Path, tmp_path: Path) -> None:
    wanted = tickctl_json("ticks", SYMBOL, data_root=root)
    for name in ("t.csv", "t.json", "t.jsonl", "t.parquet", "t.arrow"):
        done = tickctl("ticks", SYMBOL, "-o", tmp_path / name, data_root=root)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert f"{COUNT:,} rows -> {tmp_path / name}" in done.stderr
    assert json.loads((tmp_path / "t.json").read_text()) == wanted
    assert [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()] == wanted
    rows = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text())))
    assert [(row["seq"], float(row["price"]), row["ts_ms"]) for row in rows] == [
        (str(row["seq"]), row["price"], row["ts_ms"]) for row in wanted
    ]
    with pa.ipc.open_file(tmp_path / "t.arrow") as opened:
        arrow = opened.read_all()
    for table in (pq.read_table(tmp_path / "t.parquet"), arrow):
        assert table.column("seq").to_pylist() == [row["seq"] for row in wanted]
        assert table.schema.field("ts_ms").type == pa.timestamp("ms", tz="UTC")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.arrow", "t.csv", "t.json", "t.jsonl", "t.parquet"]


@pytest.mark.parametrize("format_name", ["parquet", "arrow"])
def test_binary_into_a_pipe(root: Path, format_name: str) -> None:
    done = subprocess.run(
        [BIN / "hk-tickctl", "ticks", SYMBOL, "--format", format_name, "--data-root", root],
        env=clean_env(root / ".." / "home"), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pq.read_table(io.BytesIO(done.stdout)) if format_name == "parquet" else pa.ipc.open_stream(done.stdout)
    read = table if format_name == "parquet" else table.read_all()
    assert read.num_rows == COUNT


def test_an_existing_file_is_kept_unless_forced(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "t.csv"
    target.write_text("mine")
    refused = tickctl("ticks", SYMBOL, "-o", target, data_root=root)
    assert (refused.returncode, target.read_text()) == (2, "mine")
    assert "--force" in refused.stderr
    assert tickctl("ticks", SYMBOL, "-o", target, "--force", data_root=root).returncode == 0
    assert len(target.read_text().splitlines()) == COUNT + 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ticks", "AAPL"), 2, "not an HK stock code"),
        (("ticks", "99999"), 3, "HK.00005"),
        (("ticks", "1811", "--days", OLD_DAY), 3, "near to it are HK.01810"),
        (("ticks", "1810"), 3, f"it has some on {OLD_DAY}"),
        (("bars", "1810"), 3, f"it has some on {OLD_DAY}"),
        (("ticks", SYMBOL, "--day", "20261118"), 3, f"{OLD_DAY} to {DAY}"),
        (("ticks", SYMBOL, "--day", "20991231"), 3, "future"),
        (("ticks", SYMBOL, "--day", "20261332"), 2, "is not a day"),
        (("ticks", SYMBOL, "--days", f"{DAY}..{OLD_DAY}"), 2, "is not a range"),
        (("ticks", SYMBOL, "--from", "15:00"), 3, "from 15:00"),
        (("ticks", SYMBOL, "--from", "10:00", "--to", "09:00"), 2, "nothing lies between"),
        (("ticks", SYMBOL, "--from", "half past nine"), 2, "is not a time"),
        (("ticks", SYMBOL, "--from", "2026-11-18T10:00", "--to", "2026-11-18T11:00"), 3, "no recorded day lies"),
        (("ticks", SYMBOL, "--type", "OVERSEAS"), 3, "of type OVERSEAS"),
        (("ticks", SYMBOL, "--type", "NONSENSE"), 2, "AUTO_MATCH"),
        (("ticks", SYMBOL, "--columns", "price,nope"), 2, "no such column: nope"),
        (("ticks", SYMBOL, "--json", "--format", "csv"), 2, "exclude each other"),
        (("ticks", SYMBOL, "-o", "/nowhere/at/all.csv"), 2, "/nowhere/at does not exist: make it first"),
        (("ticks", SYMBOL, "-o", "ticks.xlsx"), 2, "names no format"),
        (("ticks",), 2, "SYMBOL"),
        (("bars", SYMBOL, "--interval", "5d"), 2, "interval"),
    ],
)
def test_what_is_wrong_is_said(
    root: Path, arguments: tuple[object, ...], code: int, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended_with:  # in this process, for there are many
        main([*map(str, arguments), "--data-root", str(root)])
    shown, errors = capfd.readouterr()
    assert (ended_with.value.code, "error" in shown) == (code, "--json" in arguments), errors
    assert words in errors


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ticks", "99999"), 3, "HK.00005"),
        (("query", "SELECT prise FROM ticks"), 2, "prise"),
        (("query", "COPY ticks TO 'x'"), 2, "one SELECT"),
        (("query", "SELECT 1", "--days", "20261118"), 3, "20261118"),
        (("top", "--symbols", "99999"), 3, "no ticks"),
        (("top", "--by", "beauty"), 2, "beauty"),
    ],
)
def test_what_is_wrong_ends_the_command(root: Path, arguments: tuple[object, ...], code: int, words: str) -> None:
    done = tickctl(*arguments, data_root=root)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_one_unknown_symbol_among_others_is_only_a_note(root: Path) -> None:
    done = tickctl("ticks", "700", "1810", "--columns", "symbol", "--format", "csv", data_root=root)
    assert done.returncode == 0
    assert set(done.stdout.split()) == {"symbol", SYMBOL}
    assert "HK.01810 has no ticks" in done.stderr


def test_an_empty_answer_is_an_answer(root: Path) -> None:
    done = tickctl("query", "SELECT symbol, price FROM ticks WHERE price < 0", data_root=root)
    assert (done.returncode, done.stdout.split()) == (0, ["symbol", "price"])
    assert tickctl_json("query", "SELECT 1 AS a WHERE false", data_root=root) == []


@pytest.mark.parametrize("kind", ["half a Parquet file", "a foreign Parquet file", "half a day file", "a foreign file"])
def test_a_damaged_file_is_named(tmp_path: Path, kind: str) -> None:
    data_root = tmp_path / "data"
    record_day(data_root, count=2000)
    path = data_root / f"{DAY}.db"
    if "Parquet" in kind:
        path = archive_day(data_root, data_root / "_archive")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if "half" in kind else b"not what its name says" * 500)
    if kind == "a foreign Parquet file":
        pq.write_table(pa.table({"price": [1.0]}), path)
    for arguments in (("ticks", SYMBOL), ("query", "SELECT sum(turnover) FROM ticks")):
        done = tickctl(*arguments, data_root=data_root)
        assert (done.returncode, done.stdout) == (1, ""), (arguments, done)
        assert path.name in done.stderr
        assert "hk-tickctl salvage copies what can be read" in done.stderr, "what to do"
        assert "Traceback" not in done.stderr


def on_a_terminal(*arguments: object, root: Path) -> tuple[int, str]:
    """Run the command with a terminal as standard output; exit code and all that was shown."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [BIN / "hk-tickctl", *map(str, arguments), "--data-root", root], env=clean_env(root / ".." / "home"),
        stdout=slave, stderr=slave, stdin=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        code = process.wait(30)
    os.close(master)
    return code, shown.decode()


def test_a_terminal_gets_a_part_and_no_binary(root: Path) -> None:
    code, shown = on_a_terminal("ticks", SYMBOL, root=root)
    assert code == 0
    assert "the first 100 rows" in shown
    assert shown.count(SYMBOL) == 100
    code, shown = on_a_terminal("ticks", SYMBOL, "--all", root=root)
    assert (code, shown.count(SYMBOL)) == (0, COUNT)
    code, shown = on_a_terminal("ticks", SYMBOL, "--format", "parquet", root=root)
    assert (code, "binary" in shown) == (2, True)


@pytest.mark.parametrize("format_name", ["table", "csv", "parquet"])
def test_a_reader_that_has_enough_ends_it(tmp_path: Path, format_name: str) -> None:
    data_root = tmp_path / "data"
    record_day(data_root, count=8000)
    command = [BIN / "hk-tickctl", "query", "SELECT a.* FROM ticks a, range(20)", "--format", format_name]
    with subprocess.Popen(
        [*command, "--data-root", data_root], env=clean_env(tmp_path / "home"), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10)
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(60) == 141, errors
    assert "Traceback" not in errors
    assert "Exception" not in errors


def test_a_full_disk_leaves_nothing_behind(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "ticks.csv"
    target.parent.mkdir()
    done = subprocess.run(
        [BIN / "hk-tickctl", "ticks", SYMBOL, "-o", target, "--data-root", root], env=clean_env(tmp_path / "home"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert str(target) in done.stderr
    assert "Traceback" not in done.stderr
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("stage", ["query", "file"])
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "told to stop; nothing half done is left")],
    ids=["SIGINT", "SIGTERM"],
)
def test_an_interrupt_leaves_nothing_behind(
    root: Path, tmp_path: Path, stage: str, number: int, code: int, words: str
) -> None:
    target = tmp_path / "out" / "rows.csv"
    target.parent.mkdir()
    temp = tmp_path / "temp"
    temp.mkdir()
    endless = "FROM range(10000000) a, range(10000000) b"
    sql = f"SELECT * {endless}" if stage == "file" else f"SELECT count(*) {endless} WHERE (a.range * b.range) % 7 = 3"
    process = subprocess.Popen(
        [BIN / "hk-tickctl", "query", sql, "-o", target, "--data-root", root],
        env=clean_env(tmp_path / "home", TMPDIR=temp), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:

        def is_at_work() -> bool:
            assert process.poll() is None, process.stderr and process.stderr.read()
            if stage == "query":
                return any(temp.iterdir())
            return any(path.stat().st_size for path in target.parent.iterdir())

        wait_until(is_at_work, "the query runs")
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, errors.strip()) == (code, f"hk-tickctl: {words}")
    assert list(target.parent.iterdir()) == []
    assert list(temp.iterdir()) == []


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Recorder]:
    """A recorder that writes about 1,000 ticks a second."""
    symbols = ",".join(SYMBOLS)
    simulator = Simulator(tmp_path / "sim", "--symbols", symbols, "--always-open", "--rate", "1000")
    with ended(simulator):
        recorder = Recorder(tmp_path / "data", simulator.port, symbols)
        with ended(recorder):
            wait_until(lambda: recorder.rows() > 2000, "2000 rows")
            yield recorder
            assert recorder.stop() == 0, recorder.output


def test_beside_a_recorder_that_writes(busy: Recorder) -> None:
    root = busy.data_root
    seen: dict[str, Any] = {}
    for _ in range(2):
        before = busy.rows()
        rows = tickctl_json(
            "query", "SELECT count(*) AS n, count(DISTINCT (symbol, seq)) AS d FROM ticks", data_root=root
        )
        assert before <= rows[0]["n"] == rows[0]["d"]
        ticks = tickctl_json("ticks", SYMBOL, "--columns", "seq,ts_ms,price", data_root=root)
        now = {row["seq"]: row for row in ticks}
        assert {seq: now[seq] for seq in seen} == seen  # nothing changes or goes away
        assert len(now) > len(seen)
        seen = now
        bars = tickctl_json(
            "bars", SYMBOL, "--interval", "1s", "--include-odd-lots", "--include-off-exchange", data_root=root
        )
        assert sum(bar["tick_count"] for bar in bars) >= len(seen)
        (leader, *_) = tickctl_json("top", "--by", "ticks", data_root=root)
        assert leader["ticks"] >= len(seen)
    assert "ERROR" not in busy.output


def test_a_file_of_an_earlier_recorder_reads_too(tmp_path: Path) -> None:
    ticks = day_ticks(SYMBOL, 50)
    with closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn:
        conn.execute(f"CREATE TABLE ticks ({', '.join(names_of(0))})")
        for tick in ticks:
            row = {**tick._asdict(), "market": "HK", "provider": "futu", "inserted_at_ms": tick.recv_ts_ms}
            conn.execute(
                f"INSERT INTO ticks VALUES ({', '.join('?' * len(names_of(0)))})",
                [row[name] for name in names_of(0)],
            )
        conn.commit()
    assert len(tickctl_json("ticks", SYMBOL, data_root=tmp_path)) == 50
    (row,) = tickctl_json(
        "query", "SELECT count(*) AS n, sum(volume) AS v, max(type_sign) AS s FROM ticks", data_root=tmp_path
    )
    assert row == {"n": 50, "v": sum(tick.volume or 0 for tick in ticks), "s": None}
    assert tickctl("ticks", "5", data_root=tmp_path).returncode == 3


@pytest.mark.parametrize("format_name", ["json", "jsonl"])
def test_sequences_as_strings_for_readers_that_round(root: Path, format_name: str) -> None:
    """A reader that takes every number for a double, as jq did until 1.7, gets each sequence exactly."""
    exact = [row["seq"] for row in stored(root)]
    for option, is_exact in (("number", False), ("string", True)):
        done = tickctl("ticks", SYMBOL, "--format", format_name, "--big-ints", option, data_root=root)
        text = done.stdout if format_name == "json" else f"[{','.join(done.stdout.splitlines())}]"
        seqs = [int(row["seq"]) for row in json.loads(text, parse_int=float)]
        assert (seqs == exact) == is_exact
    assert [row["volume"] for row in json.loads(text)] == [row["volume"] for row in stored(root)]


def test_csv_keeps_sequences_when_it_is_read_as_documented(tmp_path: Path) -> None:
    """One tick without a sequence makes floats of the column, unless pandas is told otherwise."""
    ticks = [make_tick(1), make_tick(2, seq=None), make_tick(3)]
    writer = DayFileWriter(tmp_path)
    writer.write(ticks)
    writer.close()
    text = tickctl("ticks", SYMBOL, "--format", "csv", data_root=tmp_path).stdout
    exact = [tick.seq for tick in ticks if tick.seq is not None]
    table = pd.read_csv(io.StringIO(text), dtype={"seq": "Int64", "occurrence": "Int64"})
    assert table["seq"].dropna().tolist() == exact
    assert pd.read_csv(io.StringIO(text))["seq"].dropna().tolist() != exact


@pytest.mark.parametrize("content", [bytes(300_000), b"SQLite format 3\0" + bytes(5000), None])
def test_a_file_that_is_no_day_file_leaves_the_good_days_alone(tmp_path: Path, content: bytes | None) -> None:
    """Zeros, a damaged header, a good database of another program: named, left out, and the exit code tells."""
    record_day(tmp_path, DAY, count=10)
    bad = tmp_path / "20261118.db"
    if content is None:
        with closing(sqlite3.connect(bad)) as conn:
            conn.execute("CREATE TABLE other (a)")
    else:
        bad.write_bytes(content)
    for command, expected in {
        ("query", "SELECT count(*) AS n FROM ticks", "--json"): '"n": 30',
        ("top", "--days", "20261101..", "--json"): SYMBOL,
        ("gaps", "--days", "20261118.."): f"no open gaps on {DAY}\n",
        ("ticks", "700", "--days", "..", "--json"): SYMBOL,
        ("bars", "700", "--days", "..", "--json"): SYMBOL,
        ("export", "csv", "-o", str(tmp_path / "out")): "30 ticks in 1 file",
    }.items():
        done = tickctl(*command, data_root=tmp_path)
        assert (done.returncode, expected in done.stdout) == (1, True), (command, done.stdout, done.stderr)
        assert done.stderr.count("20261118 is left out: ") == 1
        assert str(bad) in done.stderr
        alone = [part for part in command if part not in ("--days", "..", "20261101..", "20261118..")]
        done = tickctl(*alone, "--days", "20261118", data_root=tmp_path)
        assert (done.returncode, str(bad) in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize("symbols", ["", "NONSENSE"])
def test_who_reads_needs_no_list_of_symbols(root: Path, tmp_path: Path, symbols: str) -> None:
    for command in (("ticks", "700", "--last", 1), ("gaps",), ("query", "SELECT 1"), ("verify",)):
        done = tickctl(*command, DATA_ROOT=root, FUTU_SYMBOLS=symbols)
        assert "FUTU_SYMBOLS" not in done.stderr
        assert done.returncode in (0, 1), done.stderr
    done = tickctl("ticks", "700", DATA_ROOT=root, FUTU_SYMBOLS=symbols, FUTU_PORT="x")
    assert (done.returncode, "FUTU_PORT" in done.stderr) == (2, True), "every other mistake is told"


def test_no_rows_are_explained_where_a_symbol_is_to_blame(root: Path) -> None:
    done = tickctl("query", "SELECT * FROM ticks", "--symbols", "99999", data_root=root)
    assert (done.returncode, "HK.99999 has no ticks on" in done.stderr) == (0, True), done.stderr
    for sql in ("SELECT * FROM ticks WHERE symbol = '700'", "SELECT * FROM ticks WHERE symbol IN ('00700')"):
        done = tickctl("query", sql, data_root=root)
        assert (done.returncode, "hint: symbols are written 'HK.00700'" in done.stderr) == (0, True)
    for sql in ("count(*) FROM ticks WHERE symbol = '0700.HK'", "symbol = 'HK.700' FROM ticks"):
        done = tickctl("query", f"SELECT {sql}", data_root=root)
        assert (done.returncode, "hint: " in done.stderr) == (0, True), "an answer with a row is as wrong"
    assert "hint" not in tickctl("query", f"SELECT * FROM ticks WHERE symbol = '{SYMBOL}'", data_root=root).stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("ticks", "99999"), 3),
        (("restore", "20200101"), 3),
        (("archive", "20260101"), 3),
        (("export", "csv", "-o", "/proc/x"), 1),
    ],
)
def test_an_error_is_json_where_json_was_asked_for(root: Path, command: tuple[str, ...], code: int) -> None:
    done = tickctl(*command, "--json", data_root=root)
    assert done.returncode == code
    error_json = json.loads(done.stdout)
    assert error_json["exit_code"] == code
    assert f"hk-tickctl: {error_json['error']}\n" in done.stderr

"""Snapshots read as a user reads them: the Python API on files and on a server, HTTP page by page, an export."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from hk_tick_collector.cli.screen_sources import RemoteSource
from hk_tick_collector.client import errors
from hk_tick_collector.client.api import Recordings
from hk_tick_collector.client.default import connect, local
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.store.layout import snapshot_file
from tests.harness import ended
from tests.serving import ApiServer, add_key
from tests.snapshots import DAY, FLOW, NDX, OPEN_SEC, SPX, copied, filled, record, snapshot
from tests.tickctl import tickctl, tickctl_json

SECONDS = range(30)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    live = [snapshot(SPX, second) for second in SECONDS if second % 3]
    flow = [snapshot(FLOW, second) for second in SECONDS]
    other = [snapshot(SPX, 4, "copy", "told otherwise")]
    rows = [*live, *filled(SPX, (0, 3, 6)), *other, *flow, *filled(NDX, (1, 2))]
    seconds = [second for second in SECONDS if second % 3 or second in (0, 3, 6)]
    directory = tmp_path_factory.mktemp("snapshots") / "US"
    return record(directory, rows, [copied(SPX, seconds), copied(NDX, (1, 2))])


@pytest.fixture(scope="module")
def keys(root: Path) -> dict[str, str]:
    path = root.parent / "keys.json"
    return {
        "all": add_key(path, "all"),
        "ndx": add_key(path, "ndx", symbols=("US.NDX",)),
        "sql": add_key(path, "sql", scopes=["sql"]),
        "sql of ndx": add_key(path, "sql-of-ndx", symbols=("US.NDX",), scopes=["sql"]),
        "sql of none": add_key(path, "sql-of-none", symbols=("US.RUT",), scopes=["sql"]),
    }


@pytest.fixture(scope="module")
def server(root: Path, keys: dict[str, str]) -> Iterator[ApiServer]:
    with ended(made := ApiServer(root.parent / "api", root, API_KEYS_FILE=root.parent / "keys.json")):
        yield made


@pytest.fixture(scope="module")
def all_key(keys: dict[str, str]) -> str:
    return keys["all"]


@pytest.fixture(scope="module", params=["local", "remote"])
def recordings(request: pytest.FixtureRequest, root: Path) -> Iterator[Recordings]:
    if request.param == "local":
        yield local(root)
        return
    server, key = request.getfixturevalue("server"), request.getfixturevalue("all_key")
    with connect(server.url, key=key) as made:
        yield made


def seconds(table: Any) -> list[int]:
    return [int(moment.timestamp()) - OPEN_SEC for moment in table.column("ts_ms").to_pylist()]


def test_one_picture_a_second_comes_in_order_and_live_goes_first(recordings: Recordings) -> None:
    with pytest.warns(errors.IncompleteData, match="orderflow/orderflow: the source's own file of the day was not"):
        whole = recordings.load("US.SPX", DAY, kind="snapshot")
    assert whole.num_rows == 23 + 30
    table = recordings.load("US.SPX", DAY, kind="snapshot", series="classic/gex_full")
    assert seconds(table) == [second for second in SECONDS if second % 3 or second in (0, 3, 6)]
    of_4 = table.slice(seconds(table).index(4), 1).to_pylist()[0]
    assert (of_4["origin"], json.loads(of_4["body"])["says"]) == ("live", "")


def test_every_snapshot_of_a_second_can_be_had(recordings: Recordings) -> None:
    table = recordings.load("US.NDX, US.SPX", DAY, kind="snapshot", series="classic/gex_full", every=True, bodies=False)
    assert table.num_rows == 24 + 2
    assert seconds(table).count(4) == 2
    assert "body" not in table.column_names


def test_a_stretch_begins_with_its_first_second_and_ends_before_its_last(recordings: Recordings) -> None:
    start, end = (datetime.fromtimestamp(OPEN_SEC + second, UTC) for second in (3, 7))
    table = recordings.load("US.SPX", start=start, end=end, kind="snapshot", series="classic/gex_full")
    assert seconds(table) == [3, 4, 5, 6]


def test_what_is_proven_can_be_required(recordings: Recordings) -> None:
    assert recordings.load("US.NDX", DAY, kind="snapshot", require="proven").num_rows == 2
    with pytest.raises(errors.NotProven, match="orderflow"):
        recordings.load("US.SPX", DAY, kind="snapshot", require="proven")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"series": "classic"}, errors.BadQuestion, "no series"),
        ({"series": "state/gamma_zero"}, errors.UnknownSymbol, "no snapshots of"),
        ({"columns": "price"}, errors.BadQuestion, "for ticks"),
        ({"as_of": 0}, errors.BadQuestion, "as_of is for ticks"),
        ({"symbols": "US.AAPL"}, errors.UnknownSymbol, "US.AAPL"),
        ({"day": "20261124"}, errors.NoData, "no snapshots"),
    ],
)
def test_a_question_without_a_meaning_says_so(
    recordings: Recordings, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    asked = {"symbols": "US.SPX", "day": DAY, **options}
    with pytest.raises(error, match=words):
        recordings.load(asked.pop("symbols"), asked.pop("day"), kind="snapshot", **asked)


def ask(server: ApiServer, key: str, **asked: Any) -> httpx.Response:
    with server.client(key) as client:
        return client.get("/v1/snapshots", params={"symbols": "all", "day": DAY, **asked})


@pytest.mark.parametrize("limit", [1, 7, 30])
def test_pages_are_one_state_of_the_file_whatever_is_stored_meanwhile(
    server: ApiServer, all_key: str, root: Path, limit: int
) -> None:
    whole = ask(server, all_key).json()
    first = ask(server, all_key, limit=limit).json()
    record(root, [snapshot(SPX, 100 + limit), snapshot(FLOW, 2, "copy", f"later {limit}")])
    rows = first["data"]
    cursor = first["next"]
    while cursor:
        page = ask(server, all_key, limit=limit, cursor=cursor).json()
        rows += page["data"]
        cursor = page["next"]
    assert rows == whole["data"]
    assert rows == sorted(rows, key=lambda row: (row["ts_ms"], row["snapshot_no"]))
    assert whole["coverage"]["state"] == "unproven"


def test_a_cursor_of_another_file_is_refused(server: ApiServer, all_key: str, root: Path) -> None:
    cursor = ask(server, all_key, limit=5).json()["next"]
    path = snapshot_file(root, DAY)
    kept = path.read_bytes()
    path.unlink()
    record(root, [snapshot(SPX, second, says="another file") for second in range(200)])
    gone = ask(server, all_key, limit=5, cursor=cursor)
    path.write_bytes(kept)
    assert (gone.status_code, gone.json()["type"]) == (410, "/problems/cursor-gone")


def test_a_key_of_some_symbols_reads_no_others(server: ApiServer, keys: dict[str, str]) -> None:
    key = keys["ndx"]
    assert {row["symbol"] for row in ask(server, key).json()["data"]} == {"US.NDX"}
    assert ask(server, key, symbols="US.SPX").status_code == 403


def test_a_page_of_large_bodies_is_short(server: ApiServer, all_key: str, tmp_path: Path, root: Path) -> None:
    large = [snapshot(NDX, 1000 + second, large=200_000) for second in range(200)]
    record(root, large)
    page = ask(server, all_key, symbols="US.NDX").json()
    rest = ask(server, all_key, symbols="US.NDX", cursor=page["next"]).json()
    assert len(page["data"]) + len(rest["data"]) == 202
    assert rest["next"] is None


def test_an_export_holds_every_snapshot(root: Path, tmp_path: Path) -> None:
    done = tickctl("export", "parquet", "--kind", "snapshot", "-o", tmp_path / "out", data_root=root)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "out" / "market=US" / f"day={DAY}" / "snapshots.parquet")
    assert {"live", "copy"} == set(table.column("origin").to_pylist())
    done = tickctl("export", "csv", "--kind", "snapshot", "-o", tmp_path / "csv", "--symbols", "US.SPX", data_root=root)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "csv" / f"{DAY}.snapshots.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["symbol"] for row in rows} == {"US.SPX"}
    again = tickctl("export", "csv", "--kind", "snapshot", "-o", tmp_path / "csv", data_root=root)
    assert "--force" in again.stderr
    wrong = tickctl("export", "sqlite", "--kind", "snapshot", "-o", tmp_path / "x", data_root=root)
    assert (wrong.returncode, "parquet or csv" in wrong.stderr) == (2, True)


def test_the_command_tells_the_grid_and_a_snapshot(root: Path) -> None:
    report = tickctl_json("snapshots", "--days", DAY, data_root=root, code=1)
    by_name = {(grid["symbol"], grid["package"]): grid for grid in report["series"]}
    assert by_name["US.SPX", "orderflow"]["not_offered"] is None
    assert report["state"] == "unproven"
    snapshot = tickctl_json("snapshots", "US.SPX", "--days", DAY, "--at", "09:30:03", data_root=root)
    assert (snapshot["ts_sec"], snapshot["origin"]) == (OPEN_SEC + 3, "copy")
    nothing = tickctl("snapshots", "US.SPX", "--days", DAY, "--at", "09:00", data_root=root)
    assert nothing.returncode == 3


IN_SQL = "SELECT symbol, count(*) AS n FROM {} WHERE category = 'gex_full' AND ts_ms < '{}' GROUP BY 1 ORDER BY 1"


def test_sql_over_http_reads_them_and_a_key_of_some_symbols_no_others(server: ApiServer, keys: dict[str, str]) -> None:
    sql = IN_SQL.format("all_snapshots", "2026-11-27 09:30:30")
    told = {}
    for name in ("sql", "sql of ndx", "sql of none"):
        with server.client(keys[name]) as client:
            told[name] = client.post("/v1/sql", json={"sql": sql, "day": DAY})
    assert told["sql"].json()["data"] == [{"symbol": "US.NDX", "n": 2}, {"symbol": "US.SPX", "n": 24}]
    assert told["sql of ndx"].json()["data"] == [{"symbol": "US.NDX", "n": 2}]
    assert (told["sql of none"].status_code, told["sql of none"].json()["type"]) == (403, "/problems/forbidden")
    assert told["sql"].json()["coverage"]["state"] == "unproven"
    assert "of ticks" in told["sql"].json()["warnings"][0]


def test_the_command_reads_them_in_sql(root: Path) -> None:
    sql = IN_SQL.format("snapshots", "2026-11-27 09:30:30")
    assert tickctl_json("query", sql, data_root=root) == [{"symbol": "US.NDX", "n": 2}, {"symbol": "US.SPX", "n": 23}]
    only = tickctl("query", sql, "--symbols", "US.SPX", "--days", "last", data_root=root)
    assert (only.returncode, only.stderr) == (0, "")
    unknown = tickctl("query", sql, "--symbols", "US.RUT", data_root=root)
    assert unknown.returncode == 0
    assert "US.RUT is not recorded on these days; recorded are US.NDX" in unknown.stderr
    nothing = tickctl("query", sql, "--days", "20261124", data_root=root)
    assert (nothing.returncode, "nothing is recorded of 20261124" in nothing.stderr) == (3, True), nothing.stderr
    assert tickctl_json("query", "SELECT count(*) AS n FROM ticks", data_root=root) == [{"n": 0}]


def test_how_series_go_is_told_to_whoever_may_read_them(server: ApiServer, keys: dict[str, str]) -> None:
    told: dict[str, list[str]] = {}
    for name in ("all", "ndx", "sql"):
        with server.client(keys[name]) as client:
            answer = client.get("/v1/snapshots/series")
        told[name] = [row["symbol"] for row in answer.json()["data"]] if answer.status_code == 200 else []
        assert (answer.status_code == 403) is (name == "sql")
    assert told == {"all": ["US.NDX", "US.SPX", "US.SPX"], "ndx": ["US.NDX"], "sql": []}


def test_a_data_root_whose_snapshots_cannot_be_read_hides_no_other_ones_series(tmp_path: Path) -> None:
    roots = [record(tmp_path / name, [snapshot(SPX, 9)]) for name in ("US", "US2")]
    snapshot_file(roots[1], DAY).write_bytes(b"no database" * 1000)
    settings = {"API_ANONYMOUS": 1, "DATA_ROOTS": ",".join(map(str, roots))}
    with ended(server := ApiServer(tmp_path, roots[0], **settings)), server.client() as client:
        answer = client.get("/v1/snapshots/series").json()
        assert ([row["root"] for row in answer["data"]], answer["unreadable"]) == ([0], [1])
        assert RemoteSource(server.url, None).snapshot_series() is not None
        snapshot_file(roots[0], DAY).write_bytes(b"no database" * 1000)
        answer = client.get("/v1/snapshots/series")
        assert (answer.status_code, answer.json()["type"]) == (500, "/problems/store-damaged")


def test_the_screen_says_that_the_first_data_root_s_snapshots_cannot_be_read(tmp_path: Path) -> None:
    roots = [record(tmp_path / name, [snapshot(SPX, 9)]) for name in ("US", "US2")]
    snapshot_file(roots[0], DAY).write_bytes(b"no database" * 1000)
    settings = {"API_ANONYMOUS": 1, "DATA_ROOTS": ",".join(map(str, roots))}
    with (
        ended(server := ApiServer(tmp_path, roots[0], **settings)),
        pytest.raises(RecorderError, match="cannot read the snapshots of its first data root"),
    ):
        RemoteSource(server.url, None).snapshot_series()

"""``hk-tick-api`` as users run it, over recorded days: routes, formats, pages, keys, errors."""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.serve.api import questions
from hk_tick_collector.serve.api.app import create_app
from hk_tick_collector.serve.keys import edited, named
from hk_tick_collector.serve.settings import ServeSettings
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import ended, wait_until
from tests.serving import BEFORE, GAPPY, ApiServer, add_key, record_roots
from tests.tickctl import record_day, tickctl_json
from tests.ticks import DAY, make_tick


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("api")
    record_roots(directory)
    return directory


@pytest.fixture(scope="module")
def keys(place: Path) -> dict[str, str]:
    path = place / "keys.json"
    return {
        "all": add_key(path, "all"),
        "one": add_key(path, "one", symbols=["HK.00700"]),
        "hook": add_key(path, "hook", scopes=["hook:ml-trade"]),
        "old": add_key(path, "old", expires_at_ms=1),
        "gone": add_key(path, "gone"),
    }


@pytest.fixture(scope="module")
def server(place: Path, keys: dict[str, str]) -> Iterator[ApiServer]:
    assert keys
    running = ApiServer(place, place / "HK", API_KEYS_FILE=place / "keys.json", API_ANONYMOUS=1)
    with ended(running):
        yield running
        assert running.stop() == 0, running.output
        assert "Traceback" not in running.output
        assert not re.search(r"hktk_\w{8}_", running.output)


@pytest.fixture(scope="module")
def client(server: ApiServer) -> Iterator[httpx.Client]:
    with server.client() as http:
        yield http


def ok(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["type"]) == (status, f"/problems/{slug}"), document
    assert response.headers["content-type"] == "application/problem+json"
    assert document["status"] == status
    assert document["hint"]
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def stored(place: Path, day: str, symbols: list[str]) -> pa.Table:
    root = place / "HK"
    return Catalog(root, root / "_archive").day(day).ticks(symbols)


@pytest.mark.parametrize("day", [DAY, BEFORE])
def test_ticks_are_those_that_are_stored(client: httpx.Client, place: Path, day: str) -> None:
    answer = ok(client.get("/v1/ticks", params={"symbols": "700,5", "day": day}))
    table = stored(place, day, ["HK.00005", "HK.00700"])
    wanted = table.set_column(2, "ts_ms", table["ts_ms"].cast(pa.int64()))
    rows = []
    for row in wanted.to_pylist():
        shown = dict(row)
        shown["seq"] = str(shown["seq"])
        rows.append({**shown, **{n: _ms(shown[n]) for n in ("recv_ts_ms", "inserted_at_ms", "opend_recv_ts_ms")}})
    assert answer["data"] == rows
    assert answer["next"] is None
    assert answer["coverage"]["state"] == "proven"
    assert answer["coverage"]["proven"] == 2


def _ms(moment: Any) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


@pytest.mark.parametrize("format_name", ["ndjson", "csv", "arrow", "parquet"])
def test_every_format_holds_the_same_rows(client: httpx.Client, place: Path, format_name: str) -> None:
    response = client.get("/v1/ticks", params={"symbols": "700", "day": DAY, "format": format_name})
    assert response.status_code == 200, response.text
    wanted = stored(place, DAY, ["HK.00700"])
    coverage = json.loads(response.headers["hk-coverage"])
    assert coverage["state"] == "proven"
    if format_name == "arrow":
        table = pa.ipc.open_stream(response.content).read_all()
        assert table.cast(wanted.schema).equals(wanted)
        assert json.loads(table.schema.metadata[b"hk_ticks.coverage"])["state"] == "proven"
    elif format_name == "parquet":
        table = pq.read_table(io.BytesIO(response.content))
        assert table["seq"].to_pylist() == wanted["seq"].to_pylist()
        assert table["ts_ms"].to_pylist() == wanted["ts_ms"].to_pylist()
    elif format_name == "csv":
        frame = pd.read_csv(io.BytesIO(response.content), dtype={"seq": "int64"})
        assert frame["seq"].tolist() == wanted["seq"].to_pylist()
        assert frame["price"].tolist() == wanted["price"].to_pylist()
    else:
        frame = pl.read_ndjson(io.BytesIO(response.content))
        assert frame["seq"].cast(pl.Int64).to_list() == wanted["seq"].to_pylist()


def test_reading_processes_do_without_pandas(server: ApiServer) -> None:
    """A third of a second and 85 MiB of each."""
    with server.client() as client:
        ok(client.get("/v1/ticks", params={"symbols": "700", "day": DAY}))
    children = [path.read_text() for path in Path(f"/proc/{server.proc.pid}/task").glob("*/children")]
    loaded = [Path(f"/proc/{pid}/maps").read_text() for pid in " ".join(children).split()]
    assert any("pyarrow" in maps for maps in loaded)
    assert not [maps for maps in loaded if "pandas" in maps]


def test_polars_pandas_and_duckdb_read_what_they_are_given(server: ApiServer, tmp_path: Path) -> None:
    with server.client() as client:
        arrow = client.get(
            "/v1/ticks",
            params={"symbols": "700", "day": DAY},
            headers={"Accept": "application/vnd.apache.arrow.stream"},
        )
        parquet = client.get("/v1/ticks", params={"symbols": "700", "day": DAY, "format": "parquet"})
    assert pl.read_ipc_stream(io.BytesIO(arrow.content)).height == 1000
    (tmp_path / "ticks.parquet").write_bytes(parquet.content)
    counted = duckdb.sql(f"SELECT count(*), max(seq) FROM '{tmp_path}/ticks.parquet'").fetchall()[0]
    assert counted[0] == 1000
    frame = pd.read_parquet(tmp_path / "ticks.parquet", dtype_backend="pyarrow")
    assert frame["seq"].max() == counted[1]


def test_curl_reads_and_is_told_where_it_goes_on(server: ApiServer) -> None:
    done = subprocess.run(
        ["curl", "-sS", "--compressed", "-D", "-", f"{server.url}/v1/ticks?symbols=700&day={DAY}&limit=3&format=csv"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    head, _, body = done.stdout.replace("\r", "").partition("\n\n")
    assert len(body.splitlines()) == 4
    assert re.search(r"^hk-next: c1\.", head, re.MULTILINE)
    assert "content-encoding: gzip" in head


def pages(client: httpx.Client, path: str, **params: Any) -> Iterator[dict[str, Any]]:
    while True:
        page = ok(client.get(path, params=params))
        yield page
        if page["next"] is None:
            return
        params["cursor"] = page["next"]


@pytest.mark.parametrize("limit", [1, 307, 1000, 1500])
def test_pages_hold_every_row_once(client: httpx.Client, limit: int) -> None:
    params = {"symbols": "700,5", "start": GAPPY, "end": "20261121", "fields": "symbol,trading_day,seq"}
    whole = ok(client.get("/v1/ticks", params={**params, "limit": 100_000}))["data"]
    if limit == 1:
        params["end"] = "2026-11-18T01:31:00Z"
        whole = ok(client.get("/v1/ticks", params=params))["data"]
    rows = [row for page in pages(client, "/v1/ticks", **params, limit=limit) for row in page["data"]]
    assert rows == whole
    assert len(whole) > limit


def test_pages_of_bars(client: httpx.Client) -> None:
    params = {"symbols": "700,5", "day": f"{BEFORE}..{DAY}", "interval": "10m"}
    whole = ok(client.get("/v1/bars", params=params))["data"]
    rows = [row for page in pages(client, "/v1/bars", **params, limit=5) for row in page["data"]]
    assert rows == whole
    assert len(whole) > 20


def test_all_pages_are_of_one_state(tmp_path: Path) -> None:
    """While the recorder writes on: rows that came later, of any symbol and any time, are in no page."""
    root = tmp_path / "HK"
    writer = DayFileWriter(root)
    writer.write([make_tick(n) for n in range(1, 41, 2)], [])
    running = ApiServer(tmp_path, root, API_ANONYMOUS=1)
    try:
        with running.client() as client:
            rows = []
            params: dict[str, Any] = {"symbols": "700", "day": DAY, "limit": 3}
            for turn in range(10):
                page = ok(client.get("/v1/ticks", params=params))
                rows += page["data"]
                writer.write([make_tick(2 * turn + 2), make_tick(100 + turn)], [])
                if page["next"] is None:
                    break
                params["cursor"] = page["next"]
            assert [int(row["seq"]) & 0xFFFFFFFF for row in rows] == list(range(1, 41, 2))
            writer.close()
            assert ok(client.get("/v1/ticks", params={"symbols": "700", "day": DAY}))["as_of"]["at_ms"]
            again = ok(client.get("/v1/ticks", params={"symbols": "700", "day": DAY, "limit": 1}))
            (root / f"{DAY}.db").unlink()
            record_day(root, DAY, count=5)
            gone = client.get("/v1/ticks", params={"symbols": "700", "day": DAY, "cursor": again["next"]})
            problem(gone, 410, "cursor-gone")
    finally:
        running.end()


def test_a_cursor_is_of_its_question(client: httpx.Client) -> None:
    params = {"symbols": "700", "day": DAY, "limit": 5}
    cursor = ok(client.get("/v1/ticks", params=params))["next"]
    other = client.get("/v1/ticks", params={**params, "symbols": "5", "cursor": cursor})
    assert "another query" in problem(other, 400, "bad-cursor")["detail"]
    assert len(ok(client.get("/v1/ticks", params={**params, "limit": 9, "cursor": cursor}))["data"]) == 9


def test_newest_ticks(client: httpx.Client, place: Path) -> None:
    answer = ok(client.get("/v1/ticks/latest", params={"symbols": "700,5", "n": 3}))
    assert [row["symbol"] for row in answer["data"]] == ["HK.00005"] * 3 + ["HK.00700"] * 3
    seqs = [str(seq) for seq in stored(place, DAY, ["HK.00700"])["seq"].to_pylist()[-3:]]
    assert [row["seq"] for row in answer["data"][3:]] == seqs
    assert answer["as_of"]["position"].startswith("v2~")
    whole = ok(client.get("/v1/ticks", params={"symbols": "700", "day": DAY}))["data"]
    assert answer["data"][3:] == whole[-3:]  # written by another hand, the same to the letter
    arrow = client.get("/v1/ticks/latest", params={"symbols": "700", "n": 3, "format": "arrow"})
    table = pa.ipc.open_stream(arrow.content).read_all()
    assert table["seq"].to_pylist() == stored(place, DAY, ["HK.00700"])["seq"].to_pylist()[-3:]


def test_bars_are_those_of_the_command(client: httpx.Client, place: Path) -> None:
    wanted = tickctl_json("bars", "700", "--day", DAY, "--interval", "30m", data_root=place / "HK")
    bars = ok(client.get("/v1/bars", params={"symbols": "700", "day": DAY, "interval": "30m"}))["data"]
    assert [row["close"] for row in bars] == [row["close"] for row in wanted]
    assert [row["turnover"] for row in bars] == [row["turnover"] for row in wanted]
    assert all(row["end_ms"] - row["start_ms"] == 1_800_000 and row["is_final"] for row in bars)
    filled = ok(client.get("/v1/bars", params={"symbols": "700", "day": DAY, "interval": "30m", "fill": "session"}))
    assert len(filled["data"]) > len(bars)


def test_what_is_missing_is_in_the_answer(client: httpx.Client) -> None:
    coverage = ok(client.get("/v1/ticks", params={"symbols": "5,700", "day": GAPPY}))["coverage"]
    assert (coverage["state"], coverage["missing_ticks"]) == ("missing", 2)
    assert [line["symbol"] for line in coverage["not_proven"]] == ["HK.00005"]
    refused = client.get("/v1/ticks", params={"symbols": "5", "day": GAPPY, "require": "proven"})
    assert problem(refused, 409, "not-proven")["coverage"]["missing_ticks"] == 2
    assert ok(client.get("/v1/ticks", params={"symbols": "700", "day": GAPPY, "require": "proven"}))["data"]
    gaps = ok(client.get(f"/v1/days/{GAPPY}/gaps"))["data"]
    assert sum(gap["missing_ticks"] for gap in gaps) == 2


def test_days(client: httpx.Client) -> None:
    lines = {line["day"]: line for line in ok(client.get("/v1/days"))["data"]}
    assert {day: (line["is_archived"], line["grade"]) for day, line in lines.items()} == {
        GAPPY: (False, "D"), BEFORE: (True, "A"), DAY: (False, "B"),
    }  # fmt: skip
    assert ok(client.get("/v1/days/last"))["day"] == DAY
    assert ok(client.get(f"/v1/days/{DAY}/symbols"))["data"][0] == {
        "symbol": "HK.00005", "rows": 1000, "name": None,
    }  # fmt: skip
    assert len(ok(client.get(f"/v1/days/{DAY}/coverage"))["data"]) == 3
    assert ok(client.get(f"/v1/days/{BEFORE}/certificate"))["grade"] == "A"
    page = client.get(f"/v1/days/{DAY}/certificate", params={"format": "html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    top = ok(client.get(f"/v1/days/{DAY}/top", params={"by": "ticks", "limit": 2}))["data"]
    assert [row["ticks"] for row in top] == [1000, 1000]
    problem(client.get("/v1/days/20200101"), 404, "no-data")


def test_an_archived_file_as_it_is(client: httpx.Client, place: Path) -> None:
    path = f"/v1/days/{BEFORE}/file"
    whole = client.get(path)
    file = next((place / "HK/_archive").rglob("ticks.parquet"))
    assert whole.content == file.read_bytes()
    part = client.get(path, headers={"Range": "bytes=4-9"})
    assert (part.status_code, part.content) == (206, whole.content[4:10])
    etag = whole.headers["etag"]
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 304
    assert client.get(path, headers={"Range": "bytes=4-9", "If-Range": '"other"'}).status_code == 200
    problem(client.get(f"/v1/days/{DAY}/file"), 404, "no-data")


def test_calendar_status_metrics_health(client: httpx.Client) -> None:
    ok(client.get("/v1/ticks", params={"symbols": "700", "day": DAY, "limit": 1}))  # so that it is counted
    calendar = ok(client.get("/v1/calendar", params={"first": "20261224", "days": 3}))
    assert [line["kind"] for line in calendar["data"]] == ["half", "closed", "closed"]
    status = ok(client.get("/v1/status"))
    assert (status["verdict"], status["roots"][0]["day"]["trading_day"]) == ("problem", DAY)
    assert status["roots"][0]["problems"][0].startswith("no recorder runs")
    ok(client.get("/v1/ticks", params={"symbols": "700", "day": DAY}))
    text = client.get("/v1/metrics").text
    assert 'hk_api_requests_total{route="/v1/ticks",status="200"}' in text
    assert ok(client.get("/v1/healthz")) == {"ok": True}


def test_words_of_an_earlier_server(client: httpx.Client) -> None:
    newest = ok(client.get("/api/v1/ticks/realtime", params={"symbols": "HK.00700", "limit": 100}))
    assert (newest["success"], newest["metadata"]["record_count"], len(newest["data"])) == (True, 100, 100)
    params = {"symbols": "HK.00700", "start_time": "2026-11-19T00:00:00Z", "end_time": "2026-11-20T00:00:00Z"}
    ticks = ok(client.get("/api/v1/ticks/historical", params=params))
    hours = ok(client.get("/api/v1/ticks/historical", params={**params, "interval": "1h"}))
    assert len(ticks["data"]) == 1000
    assert [row["timestamp"] for row in hours["data"]] == ["2026-11-19T01:00:00.000Z", "2026-11-19T02:00:00.000Z"]
    ids = {answer["metadata"]["query_id"] for answer in (newest, ticks, hours)}
    assert len(ids) == 3
    assert all(answer["metadata"]["response_time_ms"] > 0 for answer in (newest, ticks, hours))
    assert ok(client.get("/api/v1/status"))["roots"]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"start": "2026-11-20T09:30:00"}, "start"),
        ({"start": "2026-11-20T09:30:00", "tz": "Mars/Olympus"}, "start"),
        ({"start": "2026-11-20T10:00Z", "end": "2026-11-20T09:00Z"}, "end"),
        ({"day": DAY, "start": "2026-11-20T09:30Z"}, "day"),
        ({"day": "20261131"}, "day"),
        ({"limit": 0}, "limit"),
        ({"limit": 10**30}, "limit"),
        ({"format": "xml"}, "format"),
        ({"fields": "price,password"}, "fields"),
        ({"symbols": "700,HK.@@"}, "symbols"),
        ({"symbols": ",".join(str(n) for n in range(1, 52))}, "symbols"),
        ({"symbols": "US.AAPL"}, "symbols"),
        ({"simbols": "700"}, "simbols"),
        ({"start": "1795138200"}, "looks like seconds"),
        ({"start": "99999999999999"}, "start"),
        ({"start": "4102444800000"}, None),  # the year 2100
        ({"as_of": -1}, "as_of"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(client: httpx.Client, params: dict[str, Any], field: str | None) -> None:
    response = client.get("/v1/ticks", params={"symbols": "700", **params})
    if field is None:
        problem(response, 404, "no-data")
        return
    assert field in str(problem(response, 400, "bad-parameter")), response.text


def _with_patterns(kind: type[BaseModel]) -> set[str]:
    """Parameters whose text has to match a pattern, of this set and of all that are made of it."""
    named = {
        name for name, info in kind.model_fields.items() if any(hasattr(rule, "pattern") for rule in info.metadata)
    }
    return named.union(*map(_with_patterns, kind.__subclasses__()))


def test_every_form_is_told_in_words() -> None:
    """A regular expression is no answer for whoever wrote 5min."""
    needed = _with_patterns(questions.Query)
    assert {"symbols", "day", "interval"} <= needed
    assert needed <= set(questions.FORMS)


@pytest.mark.parametrize(
    ("path", "params", "words"),
    [
        ("bars", {"symbols": "700", "interval": "5min"}, "a number and s, m or h, as in 5m"),
        ("bars", {"symbols": "700", "start": "half past nine"}, "2026-11-20T09:30:00+08:00, UTC epoch milliseconds"),
        ("days/Friday/coverage", {}, "one day: 20261120, 2026-11-20, today, yesterday or last"),
        ("days/20261120..20261124/coverage", {}, "one day: 20261120"),
        ("ticks", {"symbols": "700", "day": "Friday"}, "a range 20261120..20261124"),
        ("calendar", {"first": "2026-11-20"}, "20261120"),
    ],
)
def test_who_writes_another_form_is_told_the_right_one(
    client: httpx.Client, path: str, params: dict[str, str], words: str
) -> None:
    (error,) = problem(client.get(f"/v1/{path}", params=params), 400, "bad-parameter")["errors"]
    assert error["message"].startswith("is not of the form that is meant: ")
    assert words in error["message"]
    assert "pattern" not in error["message"]


def test_a_time_on_the_markets_clock_is_taken_when_it_says_so(client: httpx.Client) -> None:
    params = {"symbols": "700", "end": "2026-11-20T09:31:00", "start": "2026-11-20T09:30:00", "tz": "Asia/Hong_Kong"}
    local = ok(client.get("/v1/ticks", params=params))["data"]
    zoned = "/v1/ticks?symbols=700&start=2026-11-20T09:30:00+08:00&end=2026-11-20T01:31:00Z"  # a + that became a blank
    assert local == ok(client.get(zoned))["data"]
    assert len(local) == 12


def test_symbols_that_are_not_recorded(client: httpx.Client) -> None:
    alone = problem(client.get("/v1/ticks", params={"symbols": "99", "day": DAY}), 404, "unknown-symbol")
    assert "HK.00099 has no ticks" in alone["detail"]
    among = ok(client.get("/v1/ticks", params={"symbols": "700,99", "day": DAY}))
    assert "HK.00099 has no ticks" in among["warnings"][0]
    problem(client.get("/v1/ticks/latest", params={"symbols": "99"}), 404, "unknown-symbol")
    problem(client.get("/v1/bars", params={"symbols": "99"}), 404, "unknown-symbol")


def test_all_symbols_of_one_day(client: httpx.Client) -> None:
    response = client.get("/v1/ticks", params={"symbols": "all", "day": DAY, "format": "arrow"})
    assert pa.ipc.open_stream(response.content).read_all().num_rows == 3000


def test_text_for_people(client: httpx.Client) -> None:
    params = {"symbols": "700", "day": DAY, "limit": 1, "fields": "ts_ms,price", "time": "hk", "prices": "text"}
    (row,) = ok(client.get("/v1/ticks", params=params))["data"]
    assert row == {"time": "2026-11-20 09:30:00.001", "ts_ms": 1795138200001, "price": str(row["price"])}


def test_kinds_of_trades_and_what_was_known(client: httpx.Client) -> None:
    params = {"symbols": "700", "day": DAY}
    kinds = {
        types: {row["tick_type"] for row in ok(client.get("/v1/ticks", params={**params, "types": types}))["data"]}
        for types in ("price", "odd_lots", "price,odd_lots")
    }
    assert kinds["odd_lots"] == {"ODD_LOT"}
    assert kinds["price"] == {"AUTO_MATCH", "INTER_AUTO_MATCH", "AUCTION"}
    assert kinds["price,odd_lots"] == kinds["price"] | kinds["odd_lots"]
    assert ok(client.get("/v1/ticks", params={**params, "as_of": 1_795_140_000_000}))["data"] == []


# Keys


def test_keys_and_their_rights(server: ApiServer, keys: dict[str, str]) -> None:
    with server.client(keys["one"]) as client:
        assert ok(client.get("/v1/ticks", params={"symbols": "700", "day": DAY}))["data"]
        problem(client.get("/v1/ticks", params={"symbols": "700,5", "day": DAY}), 403, "forbidden")
        problem(client.get("/v1/ticks/latest", params={"symbols": "5"}), 403, "forbidden")
        everything = ok(client.get("/v1/ticks", params={"symbols": "all", "day": DAY}))["data"]
        assert {row["symbol"] for row in everything} == {"HK.00700"}
        assert [row["symbol"] for row in ok(client.get(f"/v1/days/{DAY}/symbols"))["data"]] == ["HK.00700"]
        problem(client.get(f"/v1/days/{BEFORE}/file"), 403, "forbidden")
    for name, status, slug in (("hook", 403, "forbidden"), ("old", 401, "unauthorized")):
        with server.client(keys[name]) as client:
            problem(client.get("/v1/days"), status, slug)
    with server.client("hktk_aaaaaaaa_" + "A" * 43) as client:
        assert "www-authenticate" in client.get("/v1/days").headers


def test_a_key_for_some_symbols_is_told_of_no_others(
    server: ApiServer, client: httpx.Client, keys: dict[str, str]
) -> None:
    whole = {line["day"]: line for line in ok(client.get("/v1/days"))["data"]}
    with server.client(keys["one"]) as narrow:
        for day, named in ((GAPPY, "missing"), (BEFORE, None), (DAY, None)):
            rows = {row["symbol"]: row["rows"] for row in ok(client.get(f"/v1/days/{day}/symbols"))["data"]}
            line = ok(narrow.get(f"/v1/days/{day}"))
            assert (line["rows"], line["symbols"], line["missing_ticks"]) == (rows["HK.00700"], 1, 0)
            assert line["content_hash"] is None
            assert line in ok(narrow.get("/v1/days"))["data"]
            certificate = ok(narrow.get(f"/v1/days/{day}/certificate"))
            assert certificate["stored_ticks"] == rows["HK.00700"] < whole[day]["rows"]
            assert (certificate["grade"], certificate["missing_ticks"]) == (line["grade"], 0)
            assert f"{whole[day]['rows']:,}" not in certificate["sentence"]
            assert "HK.00005" not in json.dumps(certificate), named
            (short,) = (info for info in ok(narrow.get("/v1/recorded"))["data"] if info["trading_day"] == day)
            assert (short["stored_ticks"], short["symbols"], short["missing_ticks"]) == (rows["HK.00700"], 1, 0)
    assert whole[GAPPY]["missing_ticks"] > 0


def test_a_parameter_that_would_be_passed_over_is_refused(client: httpx.Client) -> None:
    for path in ("ticks", "ticks/latest", "bars", "coverage"):
        refusal = problem(client.get(f"/v1/{path}?symbols=700&symbols=5"), 400, "bad-parameter")
        assert refusal["errors"] == [
            {"field": "symbols", "message": "is given twice; several values are separated by commas"}
        ]
    refusal = problem(client.post("/v1/bars?interval=5m", json={"symbols": "700", "day": DAY}), 400, "bad-parameter")
    assert refusal["errors"][0]["field"] == "interval"
    problem(client.get("/v1/days?limit=1&limit=2"), 400, "bad-parameter")


def test_a_data_root_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    server = ApiServer(tmp_path, tmp_path / "disk" / "HK", API_ANONYMOUS=1)
    with ended(server), server.client() as client:
        assert "data_root_missing" in server.output
        paths = ("ticks?symbols=700", "ticks/latest?symbols=700", "bars?symbols=700", "days", "recorded")
        for path in paths:
            refusal = problem(client.get(f"/v1/{path}"), 503, "store-unreadable")
            assert str(tmp_path) not in json.dumps(refusal)
        assert client.get("/v1/healthz").status_code == 503
        record_day(tmp_path / "disk" / "HK", DAY, symbols=["HK.00700"])
        assert client.get("/v1/healthz").status_code == 200
        for path in paths:
            assert ok(client.get(f"/v1/{path}"))["data"]


def test_a_key_that_is_taken_back_is_refused_at_once(server: ApiServer, place: Path, keys: dict[str, str]) -> None:
    with server.client(keys["gone"]) as client:
        assert client.get("/v1/days").status_code == 200
        with edited(place / "keys.json") as keys_there:
            keys_there.remove(named(keys_there, "gone"))
        wait_until(lambda: client.get("/v1/status").status_code == 401, "the key is refused", 10)


def test_a_key_never_leaves(server: ApiServer, keys: dict[str, str]) -> None:
    secret = keys["all"].split("_", 2)[2]
    with server.client() as client:
        for response in (
            client.get("/v1/ticks", params={"symbols": "700", "key": keys["all"]}),
            client.get(f"/v1/{keys['all']}"),
            client.get("/v1/metrics"),
        ):
            if "/v1/hktk" not in str(response.url):
                assert secret not in response.text
    assert secret not in server.output


# What it is


def test_the_document_is_true(client: httpx.Client) -> None:
    """Stored, so that a change of the API is seen. Write it anew: python -m tests.integration.test_api"""
    answer = ok(client.get("/openapi.json"))
    assert answer == json.loads(OPENAPI.read_text()), "the API changed: python -m tests.integration.test_api"


def test_the_page_works_without_a_network(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert "GET" in page.text
    assert "/v1/ticks/latest" in page.text
    assert not re.search(r"(src|href)=['\"]?(https?:)?//", page.text)
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "429" in client.get("/problems/rate-limited").text


OPENAPI = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"


def write_document() -> None:
    """The stored copy."""
    text = json.dumps(create_app(ServeSettings()).openapi(), indent=1, ensure_ascii=False)
    OPENAPI.write_text(text + "\n")


if __name__ == "__main__":
    write_document()

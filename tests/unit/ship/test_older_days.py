"""Days that have no file here any more, read from ClickHouse by the server, to the same bytes."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from hk_tick_collector.clickhouse import older as older_days
from hk_tick_collector.clickhouse.connection import ClickHouse, EngineAway
from hk_tick_collector.clickhouse.copy import market_there, recorders
from hk_tick_collector.clickhouse.older import Older
from hk_tick_collector.core.errors import CopiesUnavailable
from hk_tick_collector.serve.api import jobs
from hk_tick_collector.serve.api.roots import Roots
from hk_tick_collector.serve.keys import ANONYMOUS
from hk_tick_collector.serve.problems import Problem
from hk_tick_collector.ship.partition import Partition
from hk_tick_collector.ship.state import State
from hk_tick_collector.store.layout import archive_dir, day_file
from hk_tick_collector.store.writer import DayFileWriter
from tests.clickhouse import ClickHouseServer
from tests.harness import BIN, clean_env, ended
from tests.redis_server import free_port
from tests.serving import ApiServer
from tests.unit.ship.test_ship import catalog, keeper_of, live_of
from tests.unit.store_ticks import DAY, ticks

BEFORE = "20261119"


class Out:
    """What a reading process would send."""

    def __init__(self) -> None:
        self.status = 0
        self.body: Any = io.BytesIO()

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status

    def json(self) -> Any:
        return json.loads(self.body.getvalue())


@pytest.fixture
def shipped(root: Path, writer: DayFileWriter, engine: ClickHouse, tmp_path: Path) -> ClickHouse:
    """Two days here, and their copies there."""
    writer.write([*ticks(40, day=BEFORE), *ticks(20, day=BEFORE, symbol="HK.00005")])
    writer.write(ticks(30, first=101))
    writer.close()
    state = State(tmp_path / "ship")
    live_of(root, engine, state).step()
    assert keeper_of(root, engine, state).look() == len(catalog(root).days())
    state.close()
    return engine


@pytest.fixture
def api(root: Path, shipped: ClickHouse, tmp_path: Path) -> Iterator[httpx.Client]:
    url = f"{shipped.address.url.replace('http', 'clickhouse')}/{shipped.database}"
    server = ApiServer(tmp_path / "api", root, API_ANONYMOUS=1, API_CLICKHOUSE_URL=url)
    with ended(server), server.client() as client:
        yield client


def asked(client: httpx.Client, path: str, **parameters: str) -> httpx.Response:
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer


def sums(root: Path, engine: ClickHouse) -> Any:
    sql = "SELECT trading_day, symbol, count(*), sum(volume) FROM ticks GROUP BY 1, 2 ORDER BY 1, 2"
    roots, out = Roots([(root, archive_dir(root))], older=Older(lambda: engine)), Out()
    jobs.run(
        roots, {"job": "sql", "sql": sql, "day": f"{BEFORE}..{DAY}", "limit": 100, "format": "json"}, ANONYMOUS, out
    )
    return out.json()["data"]


def test_the_server_answers_from_there_as_it_did_from_the_file(
    api: httpx.Client, root: Path, shipped: ClickHouse
) -> None:
    ranges = {"symbols": "700,5", "day": f"{BEFORE}..{DAY}"}

    def answers() -> list[Any]:
        return [
            *(asked(api, "/v1/ticks", **ranges, format=form).content for form in ("csv", "ndjson")),
            pa.ipc.open_stream(asked(api, "/v1/ticks", **ranges, format="arrow").content).read_all().to_pylist(),
            asked(api, "/v1/bars", symbols="700", day=BEFORE, interval="1m").json()["data"],
            asked(api, f"/v1/days/{BEFORE}/symbols").json(),
            asked(api, f"/v1/days/{BEFORE}/coverage").json(),
            asked(api, f"/v1/days/{BEFORE}/gaps").json(),
            sums(root, shipped),
        ]

    assert asked(api, f"/v1/days/{BEFORE}").json()["in_clickhouse"] is False
    here = answers()
    day_file(root, BEFORE).unlink()
    assert answers() == here
    line = asked(api, f"/v1/days/{BEFORE}").json()
    assert (line["in_clickhouse"], line["has_day_file"], line["is_archived"], line["rows"]) == (True, False, False, 60)
    assert [row["day"] for row in asked(api, "/v1/days").json()["data"]] == [BEFORE, DAY]
    assert asked(api, f"/v1/days/{BEFORE}/certificate").json()["stored_ticks"] == 60
    paged: list[Any] = []
    more: dict[str, str] = {}
    while True:
        page = asked(api, "/v1/ticks", **ranges, limit="25", **more).json()
        paged += page["data"]
        if page["next"] is None:
            break
        more = {"cursor": page["next"]}
    assert len(paged) == 90
    assert paged == asked(api, "/v1/ticks", **ranges).json()["data"]


def test_pages_end_when_the_copy_is_another_one(root: Path, shipped: ClickHouse) -> None:
    day_file(root, BEFORE).unlink()
    roots = Roots([(root, archive_dir(root))], older=Older(lambda: shipped))
    question = {"job": "ticks", "symbols": "700", "day": BEFORE, "limit": 10}
    out = Out()
    jobs.run(roots, question, ANONYMOUS, out)
    shipped.run(
        f"INSERT INTO {shipped.database}.ticks SELECT * REPLACE (seq + 1000 AS seq) FROM {shipped.database}.ticks "
        f"WHERE trading_day = '{BEFORE}' LIMIT 1"
    )
    with pytest.raises(Problem) as raised:
        jobs.run(roots, {**question, "cursor": out.json()["next"]}, ANONYMOUS, Out())
    assert raised.value.slug == "cursor-gone"


def test_while_nobody_is_there_days_with_a_file_are_read(
    root: Path, shipped: ClickHouse, server: ClickHouseServer
) -> None:
    day_file(root, BEFORE).unlink()
    asks: list[int] = []

    def nobody() -> ClickHouse:
        asks.append(1)
        return ClickHouse(shipped.address._replace(url=f"http://127.0.0.1:{free_port()}"))

    roots, out = Roots([(root, archive_dir(root))], older=Older(nobody)), Out()
    jobs.run(roots, {"job": "ticks", "symbols": "700", "day": DAY}, ANONYMOUS, out)
    assert len(out.json()["data"]) == 30
    assert out.json()["warnings"] == ["days without a file were not looked for: ClickHouse does not answer"]
    with pytest.raises(Problem) as raised:
        jobs.run(roots, {"job": "ticks", "symbols": "700", "day": BEFORE}, ANONYMOUS, Out())
    assert raised.value.slug == "store-unreadable"  # and not that it was not recorded
    assert "127.0.0.1" not in raised.value.detail
    assert len(asks) == 1


def test_what_was_known_of_it_counts_until_it_answers_again(
    root: Path, shipped: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    day_file(root, BEFORE).unlink()
    now_sec = [0.0]
    older = Older(lambda: shipped, "A", monotonic=lambda: now_sec[0])
    assert [catalog_there.days() for catalog_there in older([catalog(root)])] == [[BEFORE]]
    now_sec[0] += older_days.LOOK_SEC
    database = shipped.address.database
    shipped.address = shipped.address._replace(database="nowhere")
    assert [catalog_there.days() for catalog_there in older([catalog(root)])] == [[BEFORE]]
    assert older.reason == ""
    shipped.address = shipped.address._replace(database=database)
    assert Older(lambda: shipped, "B")([catalog(root)]) == []


def test_what_was_known_of_it_counts_while_a_day_is_replaced_there(
    root: Path, shipped: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two questions about one day it is dropped, for a moment."""
    now_sec = 0.0
    older = Older(lambda: shipped, monotonic=lambda: now_sec)
    day_file(root, BEFORE).unlink()
    (known,) = older([catalog(root)])
    assert known.archived_days() == [BEFORE]

    def replacing(engine: ClickHouse) -> dict[str, str]:
        for day in (BEFORE, DAY):
            Partition(engine, day, "A").drop("ticks")
        return recorders(engine)

    monkeypatch.setattr(older_days, "recorders", replacing)
    now_sec += older_days.LOOK_SEC
    (still_known,) = older([catalog(root)])
    assert still_known.archived_days() == [BEFORE]
    with pytest.raises(EngineAway, match=f"{BEFORE} of A in the table ticks is being replaced"):
        market_there(shipped, "A", BEFORE)


def test_days_with_a_file_are_listed_while_the_others_cannot_be_asked_for(root: Path, shipped: ClickHouse) -> None:
    day_file(root, BEFORE).unlink()
    roots = Roots([(root, archive_dir(root))], older=Older(lambda: shipped))
    question, database = {"job": "days", "limit": 10}, shipped.address.database

    def listed() -> list[tuple[str, str]]:
        out = Out()
        jobs.run(roots, question, ANONYMOUS, out)
        return [(line["day"], line["state"]) for line in out.json()["data"]]

    assert listed() == [(BEFORE, "over"), (DAY, "over")]
    shipped.address = shipped.address._replace(database="nowhere")
    assert listed() == [(BEFORE, "away"), (DAY, "over")]
    with pytest.raises(CopiesUnavailable):
        jobs.run(roots, {"job": "day", "day": BEFORE}, ANONYMOUS, Out())
    shipped.address = shipped.address._replace(database=database)
    assert listed() == [(BEFORE, "over"), (DAY, "over")]


def test_a_password_file_that_others_may_read_starts_no_server(root: Path, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret-word\n")
    password.chmod(0o644)
    url = "clickhouse://hk@127.0.0.1:1/hk"
    for more, told in (
        ({"API_CLICKHOUSE_URL": url, "API_CLICKHOUSE_PASSWORD_FILE": password}, f"chmod 600 {password}"),
        ({"API_CLICKHOUSE_URL": "clickhouse://hk:s3cret-word@127.0.0.1/hk"}, "API_CLICKHOUSE_URL"),
    ):
        done = subprocess.run(
            [BIN / "hk-tick-api", "--check-config"], env=clean_env(tmp_path, DATA_ROOT=root, **more),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 78
        assert told in done.stderr
        assert "s3cret-word" not in done.stderr + done.stdout

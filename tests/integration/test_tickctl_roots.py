"""DATA_ROOTS: the built commands read several recorders' data roots as one market, and say where they cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.core.facts import HeadProven, Verified
from hk_tick_collector.store.writer import DayFileWriter
from tests.tickctl import CONFIRMED_MS, SYMBOLS, day_start_ms, day_ticks, record_day, tickctl, tickctl_json
from tests.ticks import DAY

FIRST = SYMBOLS[0]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two twins that lost different ticks of the first symbol, and a shard with a symbol of its own."""
    base = tmp_path_factory.mktemp("roots")
    record_day(base / "a", count=200, lost=range(50, 60))
    record_day(base / "b", count=200, lost=range(150, 155))
    record_day(base / "shard", symbols=["HK.09999"], count=30)
    return {name: base / name for name in ("a", "b", "shard")}


@pytest.fixture(scope="module")
def listed(roots: dict[str, Path]) -> dict[str, Any]:
    return {"DATA_ROOT": roots["a"], "DATA_ROOTS": ",".join(map(str, roots.values()))}


def test_reading_commands_see_one_market(listed: dict[str, Any], tmp_path: Path) -> None:
    alone = tickctl_json("day", DAY, "--no-write", data_root=listed["DATA_ROOT"], code=1)
    assert alone["missing_ticks"] == 10
    day = tickctl_json("day", DAY, **listed)
    assert (day["missing_ticks"], day["grade"], day["proven_symbols"]) == (0, "A", len(SYMBOLS) + 1)
    assert day["stored_ticks"] == 200 * len(SYMBOLS) + 30
    assert not (listed["DATA_ROOT"] / "_reports").exists()  # it speaks of more than this root
    assert tickctl_json("gaps", "--days", DAY, **listed) == []
    sql = "SELECT symbol, count(*) AS n, count(DISTINCT seq) AS different FROM ticks GROUP BY 1 ORDER BY 1"
    counted = tickctl_json("query", sql, "--days", DAY, **listed)
    every = sorted([*SYMBOLS, "HK.09999"])
    assert [(row["symbol"], row["n"]) for row in counted] == [
        (symbol, 30 if symbol == "HK.09999" else 200) for symbol in every
    ]
    assert all(row["n"] == row["different"] for row in counted)
    ticks = tickctl("ticks", FIRST, "--days", DAY, "--output", tmp_path / "ticks.csv", **listed)
    assert ticks.returncode == 0, ticks.stderr
    assert len((tmp_path / "ticks.csv").read_text().splitlines()) == 201
    exported = tickctl("export", "parquet", "-o", tmp_path / "tree", "--days", DAY, **listed)
    assert exported.returncode == 0, exported.stderr


def test_what_is_of_one_root_alone_says_so(listed: dict[str, Any]) -> None:
    page = tickctl("day", DAY, "--html", **listed)
    assert page.returncode == 2
    assert "--data-root" in page.stderr
    absent = tickctl("gaps", DATA_ROOTS=f"{listed['DATA_ROOTS']},/nowhere", DATA_ROOT=listed["DATA_ROOT"])
    assert (absent.returncode, "/nowhere does not exist: correct DATA_ROOTS" in absent.stderr) == (3, True)
    archived = tickctl("archive", DAY, **listed)
    assert "this works on one data root" in archived.stderr
    verified = tickctl_json("verify", **listed)
    assert [row["data_root"] for row in verified] == [str(listed["DATA_ROOT"])]
    status = tickctl_json("status", code=1, **listed)
    assert [Path(root["data_root"]).name for root in status["roots"]] == ["a", "b", "shard"]


def test_a_contradiction_is_named_and_ends_with_1(roots: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    writer = DayFileWriter(other)
    ticks = [tick._replace(price=1.0) if n == 20 else tick for n, tick in enumerate(day_ticks(FIRST, 200))]
    confirmed_ms = day_start_ms(DAY) + CONFIRMED_MS
    writer.write(ticks, [HeadProven(FIRST, DAY, 1), Verified(FIRST, DAY, 200, confirmed_ms)])
    writer.close()
    settings = {"DATA_ROOT": roots["a"], "DATA_ROOTS": f"{roots['a']},{other}"}
    told = tickctl("ticks", FIRST, "--days", DAY, "--json", **settings)
    assert told.returncode == 1
    assert all(word in told.stderr for word in (FIRST, str(roots["a"]), str(other), "told otherwise"))
    fine = tickctl("ticks", SYMBOLS[1], "--days", DAY, "--json", **settings)
    assert (fine.returncode, fine.stderr) == (0, "")

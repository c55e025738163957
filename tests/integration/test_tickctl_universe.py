"""``hk-tickctl universe`` with a simulated OpenD, recorded days, and a recorder that is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hk_tick_collector.cli.common import App
from hk_tick_collector.cli.universe import _check_moves, _may_take_away, _next_day
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.watch import shards
from hk_tick_collector.watch.universe import RankingFailed
from tests.harness import Recorder, Simulator, ended
from tests.tickctl import record_day, tickctl, tickctl_json

RECORDED = ("HK.00005", "HK.00700", "HK.09988")


@pytest.fixture(scope="module")
def opend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    simulator = Simulator(tmp_path_factory.mktemp("opend"), "--symbols-count", 30, "--history", 300)
    with ended(simulator):
        yield simulator


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    for day in ("20261119", "20261120"):
        record_day(root, day, count=200)
    return root


def settings(opend: Simulator, symbols: str) -> dict[str, Any]:
    return {"FUTU_HOST": "127.0.0.1", "FUTU_PORT": opend.port, "FUTU_SYMBOLS": symbols}


def test_a_list_is_chosen_written_and_the_recorder_takes_it(opend: Simulator, data: Path) -> None:
    symbols = data.parent / "symbols.txt"
    symbols.write_text("HK.00005\n")
    recorder = Recorder(data, opend.port, f"@{symbols}")
    with ended(recorder):
        recorder.wait_for("futu_subscribed symbols=1 ")
        chosen = tickctl_json(
            "universe", "--limit", 12, "--keep", 5, "--write", symbols, "--reload", data_root=data,
            **settings(opend, f"@{symbols}"),
        )  # fmt: skip
        count = len(chosen["members"])
        assert 8 <= count <= 12
        recorder.wait_for(f"futu_subscribed symbols={count} ")
    listed = [line.partition(" ")[0] for line in symbols.read_text().splitlines()[1:]]
    assert listed == [member["symbol"] for member in chosen["members"]]
    assert listed[0] == "HK.00005"
    members = {member["symbol"]: member for member in chosen["members"]}
    assert members["HK.00005"]["reason"] == "keep"
    assert members["HK.00700"]["ranks"]["ticks"] <= 3, "as it was recorded"
    assert any(member["score"]["is_snapshot"] for member in members.values()), "never recorded: by OpenD's turnover"


def test_a_list_that_is_longer_than_the_quota_is_said(data: Path) -> None:
    """It is the account's; that of another shard's account is not known here."""
    simulator = Simulator(data.parent / "small", "--symbols-count", 30, "--history", 300, "--quota", 5)
    with ended(simulator):
        told = settings(simulator, "HK.00005")
        kept = ("--keep", "1,2,3,5,11,16,700,9988")
        done = tickctl("universe", "--limit", 8, *kept, data_root=data, **told)
        assert (done.returncode, done.stderr.strip()) == (
            0,
            "OpenD's quota is 5: 3 symbols of the list would not be recorded: lower --limit to 5, or leave it out",
        )
        divided = tickctl(
            "universe", "--limit", 6, "--shards", 2, "--keep", "5,700,9988,1,2,3,11", data_root=data, **told
        )
        assert "1 symbol of the longest list, if its account has this quota, would not be" in divided.stderr
        assert tickctl("universe", "--limit", 5, data_root=data, **told).stderr == ""


def test_a_list_that_the_recorder_would_not_read_is_said(data: Path) -> None:
    symbols = data.parent / "symbols.txt"
    words = ("universe", "--recorded-only", "--limit", 3, "--keep", "5,700,9988", "--write", symbols, "--reload")
    done = tickctl(*words, data_root=data, FUTU_SYMBOLS="HK.00005")
    assert (done.returncode, f"set FUTU_SYMBOLS=@{symbols}" in done.stderr) == (1, True), done.stderr
    done = tickctl(*words, data_root=data, FUTU_SYMBOLS=f"@{symbols}")
    assert (done.returncode, "no recorder works" in done.stderr) == (0, True), done.stderr


def test_members_of_an_index_and_of_a_watch_list_are_kept(opend: Simulator, data: Path) -> None:
    chosen = tickctl_json(
        "universe", "--limit", 14, "--keep", "9988,index:HSTECH,watchlist:favourites", data_root=data,
        **settings(opend, "HK.00005"),
    )  # fmt: skip
    kept = [member["symbol"] for member in chosen["members"] if member["reason"] == "keep"]
    assert kept[0] == "HK.09988"
    assert len(kept) == 5, "the index has five, this one among them, and the list three of the same"
    for words, text in (
        ("index:DAX", "index:HSI or index:HSCEI"),
        ("plate:HK.BK9", "no plate BK9"),
        ("watchlist:none", "no group none"),
    ):
        done = tickctl("universe", "--keep", words, data_root=data, **settings(opend, "HK.00005"))
        assert (done.returncode in (1, 2), text in done.stderr) == (True, True), done.stderr


def test_the_first_list_is_written_where_the_settings_name_it(data: Path) -> None:
    symbols = data.parent / "new" / "symbols.txt"
    symbols.parent.mkdir()
    words = ("universe", "--recorded-only", "--limit", 3, "--keep", "5,700,9988", "--write", symbols, "--reload")
    done = tickctl(*words, data_root=data, FUTU_SYMBOLS=f"@{symbols}")
    assert (done.returncode, "no recorder works" in done.stderr) == (0, True), done.stderr
    symbols.write_text("nonsense!\n")
    done = tickctl(*words, data_root=data, FUTU_SYMBOLS=f"@{symbols}")
    assert (done.returncode, "nonsense" in done.stderr or "FUTU_SYMBOLS" in done.stderr) == (2, True), done.stderr


def test_a_list_is_divided_over_recorders_and_held_against_its_plan(data: Path) -> None:
    symbols = data.parent / "symbols.txt"
    words = ("universe", "--recorded-only", "--keep", "5,700,9988", "--shards", 4, "--write", symbols)
    missing = tickctl("universe", "--check", symbols, data_root=data)
    assert (missing.returncode, "there is no plan" in missing.stderr) == (3, True)
    done = tickctl(*words, "--limit", 2, data_root=data)
    assert (done.returncode, "3 symbols for" in done.stdout) == (0, True), done.stdout + done.stderr
    lists = [symbols.with_name(f"symbols.{number}.txt") for number in (1, 2, 3, 4)]
    codes = [[line.split()[0] for line in path.read_text().splitlines()[1:]] for path in lists]
    assert sorted(code for listed in codes for code in listed) == ["HK.00005", "HK.00700", "HK.09988"]
    fine = tickctl("universe", "--check", symbols, data_root=data)
    assert (fine.returncode, "each in exactly one list" in fine.stdout) == (0, True), fine.stdout + fine.stderr
    lists[0].write_text(lists[0].read_text() + codes[1][0] + "\n")
    double = tickctl("universe", "--check", symbols, data_root=data)
    assert (double.returncode, "is in 2 lists: shards 1, 2" in double.stdout) == (1, True)
    few = tickctl(*words[:-3], 2, *words[-2:], "--limit", 1, data_root=data)
    assert few.returncode == 2
    told = tickctl(*words, "--limit", 2, "--reload", data_root=data)
    assert (told.returncode, "systemctl reload" in told.stderr) == (2, True)


def test_without_a_source_recorded_symbols_are_ranked(data: Path) -> None:
    done = tickctl("universe", "--recorded-only", "--limit", 2, "--by", "ticks", data_root=data)
    assert (done.returncode, "1 symbol of 2" in done.stdout) == (0, True), done.stdout + done.stderr
    assert not (data / "universe").exists(), "only shown"
    explained = tickctl("universe", "--recorded-only", "--limit", 2, "--explain", "9988", data_root=data)
    assert (explained.returncode, "is not chosen" in explained.stdout) == (1, True)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--recorded-only",), 2, "needs --limit"),
        (("--recorded-only", "--limit", "2", "--reload"), 2, "needs --write"),
        (("--recorded-only", "--limit", "2", "--by", "beauty"), 2, "turnover, ticks, volatility"),
        (("--recorded-only", "--limit", "2", "--keep", "nonsense!"), 2, "--keep"),
        (("--recorded-only", "--limit", "1", "--keep", "1,2"), 2, "raise --limit"),
        (("--limit", "2"), 1, "OpenD"),
    ],
)
def test_what_cannot_be_chosen_is_refused(data: Path, words: tuple[str, ...], code: int, text: str) -> None:
    done = tickctl("universe", *words, data_root=data, FUTU_HOST="127.0.0.1", FUTU_PORT=1, FUTU_SYMBOLS="HK.00005")
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr


def at(day: str, hour: int, minute: int = 0) -> App:
    now_ms = day_start_ms(day) + (hour * 60 + minute) * 60_000
    return cast(App, SimpleNamespace(market=HK, calendar=TradingCalendar(HK), now_ms=now_ms))


def test_nothing_is_taken_away_while_its_day_is_recorded() -> None:
    friday, saturday = "20261120", "20261121"
    assert [_may_take_away(at(friday, hour)) for hour in (7, 9, 12, 15, 17, 23)] == [
        True,
        False,
        False,
        False,
        True,
        True,
    ]
    assert _may_take_away(at(saturday, 11))
    assert [_next_day(at(friday, hour)) for hour in (7, 10, 18)] == [friday, "20261123", "20261123"]
    assert _next_day(at(saturday, 11)) == "20261123"


def test_no_symbol_moves_between_recorders_while_its_day_is_recorded() -> None:
    def plan(first: str, second: str, moved: tuple[str, ...] = ()) -> shards.Plan:
        return shards.Plan("20261120", 9, (shards.Shard(1, 1.0, (first,)), shards.Shard(2, 1.0, (second,))), moved)

    before = plan("HK.00005", "HK.00700")
    for after in (plan("HK.00700", "HK.00005", ("HK.00005", "HK.00700")), plan("HK.00005", "HK.09988")):
        with pytest.raises(RankingFailed, match="mid-session"):
            _check_moves(at("20261120", 10), after, before)
        _check_moves(at("20261120", 18), after, before)
    _check_moves(at("20261120", 10), before, before)
    _check_moves(at("20261120", 10), before, None)

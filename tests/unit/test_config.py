"""The settings: defaults, precedence, every wrong value at once, misspelt keys."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hk_tick_collector.app.config import ConfigErrors, Settings, load_settings, setting_table
from hk_tick_collector.app.config_sources import MAX_ENV_FILE_BYTES, set_twice
from hk_tick_collector.core.errors import ConfigError
from tests.nights import examples

SYMBOLS = {"FUTU_SYMBOLS": "HK.00700"}

# Typed by hand from the requirements, on purpose not derived from the class: a changed default has to be meant.
DEFAULTS = {
    "FUTU_HOST": "127.0.0.1",
    "FUTU_PORT": 11111,
    "FUTU_RSA_KEY_FILE": None,
    "RECONNECT_MIN_DELAY": 1.0,
    "RECONNECT_MAX_DELAY": 60.0,
    "SOURCE": "futu",
    "MARKET": "HK",
    "SIERRA_DIR": None,
    "SIERRA_MULTIPLIER": (),
    "SIERRA_TICK_SIZE": (),
    "DXLINK_SECRETS_FILE": None,
    "DXLINK_URL": None,
    "DXLINK_API": "https://api.tastyworks.com",
    "DXLINK_VENUES": (),
    "DXLINK_HISTORY": False,
    "GEXBOT_KEY_FILE": None,
    "GEXBOT_SERIES": (("classic", "gex_full"),),
    "GEXBOT_API": "https://api.gex.bot/v2",
    "GEXBOT_COPY_DAYS": 5,
    "GEXBOT_COPIES_PER_HOUR": 60,
    "SCHWAB_SECRETS_FILE": None,
    "SCHWAB_TOKEN_FILE": None,
    "SCHWAB_CALLBACK": "https://127.0.0.1:8182",
    "SCHWAB_API": "https://api.schwabapi.com",
    "SHIOAJI_URL": "http://127.0.0.1:8080",
    "SHIOAJI_SECRETS_FILE": None,
    "BOOK_SYMBOLS": (),
    "BOOK_BROKERS": False,
    "DATA_ROOT": Path("/data/sqlite/HK"),
    "ARCHIVE_ROOT": None,
    "ARCHIVE_FORMAT": "parquet",
    "RETAIN_DAYS": 0,
    "SEED_RECENT_DB_DAYS": 3,
    "BATCH_SIZE": 500,
    "MAX_WAIT_MS": 1000,
    "MAX_QUEUE_SIZE": 20000,
    "PERSIST_RETRY_BACKOFF_SEC": 0.1,
    "PERSIST_RETRY_BACKOFF_MAX_SEC": 5.0,
    "BACKFILL_N": 1000,
    "FUTU_POLL_ENABLED": True,
    "FUTU_POLL_INTERVAL_SEC": 3.0,
    "FUTU_POLL_NUM": 100,
    "FUTU_POLL_STALE_SEC": 10.0,
    "FUTU_POLL_TRADING_ONLY": True,
    "RESTARTS_DIR": None,
    "CHECK_INTERVAL_SEC": 5.0,
    "WATCHDOG_STALL_SEC": 180.0,
    "WATCHDOG_UPSTREAM_WINDOW_SEC": 60.0,
    "WATCHDOG_QUEUE_THRESHOLD_ROWS": 100,
    "WATCHDOG_RECOVERY_MAX_FAILURES": 3,
    "DRIFT_WARN_SEC": 120.0,
    "HEALTH_INTERVAL_SEC": 60.0,
    "STOP_FLUSH_TIMEOUT_SEC": 60.0,
    "SQLITE_BUSY_TIMEOUT_MS": 5000,
    "SQLITE_JOURNAL_MODE": "WAL",
    "SQLITE_SYNCHRONOUS": "NORMAL",
    "SQLITE_WAL_AUTOCHECKPOINT": 1000,
    "LOG_LEVEL": "INFO",
    "PERSIST_SUMMARY_INTERVAL_SEC": 5.0,
    "PERSIST_HEARTBEAT_INTERVAL_SEC": 30.0,
    "METRICS_PORT": 0,
    "METRICS_HOST": "127.0.0.1",
    "METRICS_PER_SYMBOL": False,
}


@pytest.fixture(autouse=True)
def _in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no .env of the developer is read."""
    empty = tmp_path / "cwd"
    empty.mkdir()
    monkeypatch.chdir(empty)


def problems_of(env_text: str | None = None, **environ: str) -> list[tuple[str, str]]:
    """What load_settings finds, as (key, text)."""
    if env_text is not None:
        Path(".env").write_text(env_text, encoding="utf-8")
    with pytest.raises(ConfigErrors) as caught:
        load_settings(None, environ)
    return [(problem.key, problem.text) for problem in caught.value.problems]


def one_problem(env_text: str | None = None, **environ: str) -> tuple[str, str]:
    problems = problems_of(env_text, **environ)
    assert len(problems) == 1, problems
    return problems[0]


def value(key: str, loaded: Settings) -> object:
    attribute = next(info.attribute for info in setting_table() if info.key == key)
    return getattr(loaded, attribute)


# --- values and where they come from ---


def test_defaults_are_the_documented_ones() -> None:
    loaded = load_settings(None, SYMBOLS)
    assert {info.key for info in setting_table()} == {*DEFAULTS, "FUTU_SYMBOLS"}
    assert {key: value(key, loaded) for key in DEFAULTS} == DEFAULTS
    assert loaded.futu_symbols == ("HK.00700",)


def test_sierra_chart_needs_its_directory_and_takes_rules_by_symbol(tmp_path: Path) -> None:
    given = {"SOURCE": "sierra", "MARKET": "CME", "FUTU_SYMBOLS": "CME.ESZ26"}
    with pytest.raises(ConfigErrors, match="SOURCE=sierra needs SIERRA_DIR"):
        load_settings(None, given)
    given["SIERRA_DIR"] = str(tmp_path)
    loaded = load_settings(None, {**given, "SIERRA_TICK_SIZE": "0.25, CME.6E*=0.00005"})
    assert [(rule.pattern, rule.value) for rule in loaded.sierra_tick_size] == [("*", 0.25), ("CME.6E*", 0.00005)]
    with pytest.raises(ConfigErrors, match=r"SIERRA_MULTIPLIER.*not a number above zero"):
        load_settings(None, {**given, "SIERRA_MULTIPLIER": "none"})


def test_books_are_of_a_list_or_of_the_first_of_the_ticks(tmp_path: Path) -> None:
    given = {"FUTU_SYMBOLS": "700,5,388"}
    assert load_settings(None, {**given, "BOOK_SYMBOLS": "first 2"}).book_symbols == ("HK.00700", "HK.00005")
    assert load_settings(None, {**given, "BOOK_SYMBOLS": "9988, 5"}).book_symbols == ("HK.09988", "HK.00005")
    with pytest.raises(ConfigErrors, match="BOOK_SYMBOLS"):
        load_settings(None, {**given, "BOOK_SYMBOLS": "frist 2x"})
    sierra = {"SOURCE": "sierra", "MARKET": "CME", "FUTU_SYMBOLS": "CME.ESZ26", "SIERRA_DIR": str(tmp_path)}
    with pytest.raises(ConfigErrors, match="SOURCE=sierra has no order books"):
        load_settings(None, {**sierra, "BOOK_SYMBOLS": "CME.ESZ26"})


def test_broker_queues_are_of_books_in_hong_kong() -> None:
    given = {"FUTU_SYMBOLS": "HK.00700", "BOOK_SYMBOLS": "700"}
    assert load_settings(None, {**given, "BOOK_BROKERS": "1"}).book_brokers
    with pytest.raises(ConfigErrors, match="BOOK_SYMBOLS chooses them"):
        load_settings(None, {"FUTU_SYMBOLS": "HK.00700", "BOOK_BROKERS": "1"})
    american = {"MARKET": "US", "FUTU_SYMBOLS": "US.AAPL", "BOOK_SYMBOLS": "US.AAPL", "BOOK_BROKERS": "1"}
    with pytest.raises(ConfigErrors, match="SOURCE=futu MARKET=US has no broker queues"):
        load_settings(None, american)


def test_source_and_market_may_be_written_in_either_case() -> None:
    loaded = load_settings(None, {**SYMBOLS, "SOURCE": "FUTU", "MARKET": "hk"})
    assert (loaded.source, loaded.market) == ("futu", "HK")
    assert loaded.spec.name == "futu HK"


@pytest.mark.parametrize(
    ("key", "wrong", "pattern"),
    [
        ("SOURCE", "fut", r"SOURCE=fut is unknown: there is (\w+, )*futu"),
        ("MARKET", "MOON", r"MARKET=MOON is unknown: SOURCE=futu offers CN, HK or US$"),
    ],
)
def test_a_source_or_market_that_there_is_not(key: str, wrong: str, pattern: str) -> None:
    wrong_key, text = one_problem(**SYMBOLS, **{key: wrong})
    assert wrong_key == key
    assert re.match(pattern, text), text


def test_a_market_that_is_not_offered_makes_no_symbol_wrong() -> None:
    """One mistake, one sentence: what is right in a market that nobody knows?"""
    wrong_key, _ = one_problem(FUTU_SYMBOLS="US.AAPL", MARKET="MOON")
    assert wrong_key == "MARKET"


@pytest.mark.parametrize(
    ("market", "symbols"),
    [("US", "US.AAPL,US.BRK.B US..DJI"), ("CN", "SH.600519,SZ.000001"), ("HK", "HK.00700,5")],
)
def test_each_market_has_symbols_of_its_own(market: str, symbols: str) -> None:
    loaded = load_settings(None, {"FUTU_SYMBOLS": symbols, "MARKET": market})
    assert len(loaded.futu_symbols) == len(re.split("[, ]", symbols))


@pytest.mark.parametrize(("market", "other"), [("US", "HK.00700"), ("HK", "US.AAPL"), ("CN", "HK.00700")])
def test_a_symbol_of_another_market_is_refused_by_name(market: str, other: str) -> None:
    key, text = one_problem(FUTU_SYMBOLS=other, MARKET=market)
    assert key == "FUTU_SYMBOLS"
    assert other in text
    assert f"market {other[:2]} is not recorded" in text


@pytest.mark.parametrize("key", ["SOURCE", "MARKET"])
def test_a_long_word_is_not_repeated_whole(key: str) -> None:
    wrong_key, text = one_problem(**SYMBOLS, **{key: "x" * 5000})
    assert wrong_key == key
    assert len(text) < 200


def test_default_types_are_the_annotated_ones() -> None:
    loaded = load_settings(None, SYMBOLS)
    assert type(loaded.watchdog_stall_sec) is float
    assert type(loaded.batch_rows) is int


def test_every_field_speaks_for_itself() -> None:
    for info in setting_table():
        assert info.about.endswith("."), info
        assert info.allowed, info
        assert info.key == info.key.upper()


def test_dot_env_of_the_working_directory_is_read() -> None:
    Path(".env").write_text("FUTU_SYMBOLS=HK.00005\nBATCH_SIZE=7\n")
    loaded = load_settings(None, {})
    assert loaded.futu_symbols == ("HK.00005",)
    assert loaded.batch_rows == 7


def test_named_file_replaces_dot_env(tmp_path: Path) -> None:
    Path(".env").write_text("BATCH_SIZE=7\n")
    other = tmp_path / "other.env"
    other.write_text("FUTU_SYMBOLS=HK.00005\n")
    assert load_settings(other, {}).batch_rows == 500


def test_environment_wins_over_file() -> None:
    Path(".env").write_text("FUTU_SYMBOLS=HK.00005\nFUTU_PORT=22222\nBATCH_SIZE=7\n")
    loaded = load_settings(None, {"FUTU_PORT": "33333"})
    assert (loaded.futu_port, loaded.batch_rows) == (33333, 7)


def test_wrong_value_in_the_file_does_not_matter_if_the_environment_wins() -> None:
    Path(".env").write_text("FUTU_PORT=nonsense\n")
    assert load_settings(None, {**SYMBOLS, "FUTU_PORT": "33333"}).futu_port == 33333


@pytest.mark.parametrize("empty", ["", "  "])
def test_empty_counts_as_not_given(empty: str) -> None:
    Path(".env").write_text(f"FUTU_PORT=22222\nBATCH_SIZE={empty}\nLOG_LEVEL=''\n")
    loaded = load_settings(None, {**SYMBOLS, "FUTU_PORT": empty, "MAX_WAIT_MS": empty})
    assert (loaded.futu_port, loaded.batch_rows, loaded.max_wait_ms, loaded.log_level) == (22222, 500, 1000, "INFO")


def test_process_environment_is_not_read_behind_the_callers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUTU_PORT", "33333")
    assert load_settings(None, SYMBOLS).futu_port == 11111


def test_file_forms_export_quotes_comments_dollar_and_bom() -> None:
    lines = [
        "\ufeff# a comment",
        "export FUTU_SYMBOLS='HK.00700, HK.00005'  # two",
        "",
        'DATA_ROOT="/data/$HOME"',
        "BATCH_SIZE = 8 # rows",
    ]
    Path(".env").write_text("\n".join(lines), encoding="utf-8")
    loaded = load_settings(None, {"HOME": "/nowhere"})
    assert loaded.futu_symbols == ("HK.00700", "HK.00005")
    assert loaded.data_root == Path("/data/$HOME")
    assert loaded.batch_rows == 8


@pytest.mark.parametrize("text", ["1", "true", "TRUE", "yes", " Yes "])
def test_true_forms(text: str) -> None:
    assert load_settings(None, {**SYMBOLS, "FUTU_POLL_ENABLED": text}).futu_poll_enabled is True


@pytest.mark.parametrize("text", ["0", "false", "False", "no", "NO"])
def test_false_forms(text: str) -> None:
    assert load_settings(None, {**SYMBOLS, "FUTU_POLL_ENABLED": text}).futu_poll_enabled is False


def test_choices_in_any_case() -> None:
    environ = {**SYMBOLS, "LOG_LEVEL": "debug", "SQLITE_JOURNAL_MODE": "wal", "SQLITE_SYNCHRONOUS": "Full"}
    loaded = load_settings(None, environ)
    assert (loaded.log_level, loaded.sqlite_journal_mode, loaded.sqlite_synchronous) == ("DEBUG", "WAL", "FULL")


def test_relative_paths_start_where_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("HK.00700\nHK.00005 # HSBC\n")
    env_file = tmp_path / "recorder.env"
    env_file.write_text("FUTU_SYMBOLS=@list.txt\nDATA_ROOT=ticks\n")
    loaded = load_settings(env_file, {})
    assert loaded.futu_symbols == ("HK.00700", "HK.00005")
    assert loaded.data_root == tmp_path / "ticks"
    assert load_settings(env_file, {"DATA_ROOT": "ticks"}).data_root == Path.cwd() / "ticks"


def test_env_file_given_relative_still_gives_absolute_paths() -> None:
    Path("sub").mkdir()
    Path("sub/.env").write_text("FUTU_SYMBOLS=5\nDATA_ROOT=ticks\n")
    assert load_settings(Path("sub/.env"), {}).data_root == Path.cwd() / "sub" / "ticks"


def test_home_directory_in_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load_settings(None, {**SYMBOLS, "DATA_ROOT": "~/ticks"}).data_root == Path("/home/somebody/ticks")


def test_frozen() -> None:
    loaded = load_settings(None, SYMBOLS)
    with pytest.raises(ValidationError, match="frozen"):
        loaded.batch_rows = 1  # type: ignore[misc]


def test_settings_by_attribute_for_tests_of_others(tmp_path: Path) -> None:
    made = Settings(futu_symbols=["HK.00700"], data_root=tmp_path, batch_rows=3)
    assert (made.futu_symbols, made.data_root, made.batch_rows) == (("HK.00700",), tmp_path, 3)
    with pytest.raises(ValidationError, match="batch_size"):
        Settings(futu_symbols=["HK.00700"], batch_size=3)  # type: ignore[call-arg]


# --- wrong values ---


def test_every_wrong_value_at_once() -> None:
    problems = problems_of(
        "FUTU_PORT=70000\nBATCH_SIZE=many\nFUTU_SYMBOLS=US.AAPL HK.AAPL\nFUTU_POL_NUM=3\nno equals sign\n",
        LOG_LEVEL="loud",
        MAX_WAIT_MS="0",
    )
    assert sorted(key for key, _ in problems) == sorted(
        [".env", "FUTU_POL_NUM", "FUTU_PORT", "FUTU_SYMBOLS", "FUTU_SYMBOLS", "BATCH_SIZE", "MAX_WAIT_MS", "LOG_LEVEL"]
    )


def test_the_error_is_a_config_error_with_one_line_a_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(None, {"FUTU_PORT": "0", "BATCH_SIZE": "0"})
    assert len(str(caught.value).splitlines()) == 3


def test_a_problem_names_key_value_source_limits_and_remedy() -> None:
    key, text = one_problem("FUTU_PORT=70000\n", **SYMBOLS)
    assert key == "FUTU_PORT"
    assert "FUTU_PORT='70000'" in text
    assert "from .env" in text
    assert "from 1 to 65535" in text
    assert "default 11111" in text
    assert "from the environment" in one_problem(**SYMBOLS, FUTU_PORT="x")[1]


@pytest.mark.parametrize(
    ("key", "wrong", "words"),
    [
        ("FUTU_HOST", "127.0.0.1:11111", "no port"),
        ("FUTU_HOST", "tcp://opend", "host name"),
        ("FUTU_HOST", "two words", "host name"),
        ("FUTU_PORT", "0", "1 to 65535"),
        ("FUTU_PORT", "11.5", "whole number"),
        ("BATCH_SIZE", "-1", "1 to 100000"),
        ("BACKFILL_N", "1001", "0 to 1000"),
        ("FUTU_POLL_NUM", "1001", "1 to 1000"),
        ("RECONNECT_MIN_DELAY", "nan", "a number from"),
        ("RECONNECT_MAX_DELAY", "inf", "a number from"),
        ("DRIFT_WARN_SEC", "2m", "seconds"),
        ("FUTU_POLL_ENABLED", "maybe", "true"),
        ("FUTU_POLL_TRADING_ONLY", "2", "true"),
        ("SQLITE_JOURNAL_MODE", "OFF", "WAL, DELETE, TRUNCATE or PERSIST"),
        ("SQLITE_SYNCHRONOUS", "OFF", "NORMAL, FULL or EXTRA"),
        ("SQLITE_WAL_AUTOCHECKPOINT", "0", "pages"),
        ("LOG_LEVEL", "TRACE", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
        ("WATCHDOG_RECOVERY_MAX_FAILURES", "0", "1 to 100"),
    ],
)
def test_wrong_value(key: str, wrong: str, words: str) -> None:
    found_key, text = one_problem(**{**SYMBOLS, key: wrong})
    assert found_key == key
    assert repr(wrong) in text
    assert words in text


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("FUTU_HOST", "opend-1.lan"),
        ("FUTU_HOST", "h"),
        ("FUTU_PORT", "65535"),
        ("BACKFILL_N", "0"),
        ("BACKFILL_N", "1000"),
        ("FUTU_POLL_STALE_SEC", "0"),
        ("SEED_RECENT_DB_DAYS", "0"),
        ("RECONNECT_MIN_DELAY", "0.05"),
    ],
)
def test_values_at_their_limits(key: str, good: str) -> None:
    assert str(value(key, load_settings(None, {**SYMBOLS, key: good}))) in (good, f"{good}.0")


def test_long_values_are_cut_in_messages() -> None:
    assert len(one_problem(**SYMBOLS, FUTU_PORT="9" * 5000)[1]) < 300


def test_control_characters_do_not_break_the_line() -> None:
    assert "\n" not in one_problem('FUTU_HOST="a\\nb"\n', **SYMBOLS)[1]


def test_symbols_are_required() -> None:
    key, text = one_problem()
    assert key == "FUTU_SYMBOLS"
    assert "not set" in text
    assert "HK.00700" in text


def test_symbols_that_are_only_separators() -> None:
    assert one_problem(FUTU_SYMBOLS=" , ,")[0] == "FUTU_SYMBOLS"


def test_each_wrong_symbol_is_named() -> None:
    problems = problems_of(FUTU_SYMBOLS="HK.00700,US.AAPL,SH.600000")
    assert [key for key, _ in problems] == ["FUTU_SYMBOLS"] * 2
    assert "US.AAPL" in problems[0][1]
    assert "SH.600000" in problems[1][1]


def test_missing_symbols_file_is_named(tmp_path: Path) -> None:
    key, text = one_problem(FUTU_SYMBOLS=f"@{tmp_path}/none.txt")
    assert key == "FUTU_SYMBOLS"
    assert f"{tmp_path}/none.txt" in text


def test_data_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    key, text = one_problem(**SYMBOLS, DATA_ROOT=str(tmp_path / "file"))
    assert key == "DATA_ROOT"
    assert "not a directory" in text


def test_data_root_need_not_exist(tmp_path: Path) -> None:
    assert load_settings(None, {**SYMBOLS, "DATA_ROOT": str(tmp_path / "new")}).data_root == tmp_path / "new"


def test_data_root_that_the_system_cannot_look_up() -> None:
    assert "cannot be reached (File name too long)" in one_problem(**SYMBOLS, DATA_ROOT="/" + 300 * "x")[1]


def test_home_directory_that_nobody_knows() -> None:
    assert "write the full path" in one_problem(**SYMBOLS, DATA_ROOT="~no-such-user-here/x")[1]


# --- values that do not go together ---


@pytest.mark.parametrize(
    ("given", "also"),
    [
        ({"RECONNECT_MIN_DELAY": "61"}, "RECONNECT_MAX_DELAY=60"),
        ({"RECONNECT_MAX_DELAY": "0.5"}, "RECONNECT_MIN_DELAY=1"),
        ({"PERSIST_RETRY_BACKOFF_SEC": "6"}, "PERSIST_RETRY_BACKOFF_MAX_SEC=5"),
        ({"BATCH_SIZE": "20001"}, "MAX_QUEUE_SIZE=20000"),
        ({"MAX_QUEUE_SIZE": "499"}, "BATCH_SIZE=500"),
        ({"WATCHDOG_QUEUE_THRESHOLD_ROWS": "20001"}, "MAX_QUEUE_SIZE=20000"),
        ({"CHECK_INTERVAL_SEC": "180"}, "WATCHDOG_STALL_SEC=180"),
        ({"MAX_WAIT_MS": "60000", "WATCHDOG_STALL_SEC": "60"}, "WATCHDOG_STALL_SEC=60"),
        ({"SQLITE_BUSY_TIMEOUT_MS": "180000"}, "WATCHDOG_STALL_SEC=180"),
    ],
)
def test_order_rules(given: dict[str, str], also: str) -> None:
    text = one_problem(**SYMBOLS, **given)[1]
    key, wrong = next(iter(given.items()))
    assert f"{key}={wrong}" in text
    assert also in text
    assert " raise " in text


@pytest.mark.parametrize(
    "given",
    [
        {"RECONNECT_MIN_DELAY": "60"},
        {"BATCH_SIZE": "20000"},
        {"CHECK_INTERVAL_SEC": "179.9"},
        {"SQLITE_BUSY_TIMEOUT_MS": "179999"},
    ],
)
def test_order_rules_at_their_limits(given: dict[str, str]) -> None:
    load_settings(None, {**SYMBOLS, **given})


def test_order_rules_are_checked_beside_other_problems_and_all_of_them() -> None:
    problems = problems_of(
        FUTU_PORT="x", MAX_QUEUE_SIZE="50", BATCH_SIZE="60", WATCHDOG_STALL_SEC="1", CHECK_INTERVAL_SEC="2"
    )
    assert sorted(key for key, _ in problems) == [
        "BATCH_SIZE",
        "CHECK_INTERVAL_SEC",
        "FUTU_PORT",
        "FUTU_SYMBOLS",
        "MAX_WAIT_MS",
        "SQLITE_BUSY_TIMEOUT_MS",
        "WATCHDOG_QUEUE_THRESHOLD_ROWS",
    ]


def test_a_wrong_value_is_not_compared() -> None:
    assert one_problem(**SYMBOLS, MAX_QUEUE_SIZE="none")[0] == "MAX_QUEUE_SIZE"


# --- misspelt keys ---


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("FUTU_SYMBOL", "FUTU_SYMBOLS"),
        ("FUTU_PRT", "FUTU_PORT"),
        ("FUTU_POLL_INTERVAL", "FUTU_POLL_INTERVAL_SEC"),
        ("WATCHDOG_STALL_SECS", "WATCHDOG_STALL_SEC"),
        ("SQLITE_JOURNALMODE", "SQLITE_JOURNAL_MODE"),
        ("RECONNECT_MAX_DELAY_SEC", "RECONNECT_MAX_DELAY"),
        ("futu_port", "FUTU_PORT"),
    ],
)
def test_misspelt_key_in_file_and_environment(misspelt: str, meant: str) -> None:
    for key, text in (one_problem(f"{misspelt}=1\n", **SYMBOLS), one_problem("", **SYMBOLS, **{misspelt: "1"})):
        assert key == misspelt
        assert f"did you mean {meant}?" in text


@pytest.mark.parametrize("misspelt", ["DATA_ROT", "BATCHSIZE", "MAX_QEUE_SIZE", "POLL_INTERVAL_SEC", "LOGLEVEL"])
def test_ordinary_names_are_checked_in_the_file_only(misspelt: str) -> None:
    load_settings(None, {**SYMBOLS, misspelt: "1"})
    assert "did you mean" in one_problem(f"{misspelt}=1\n", **SYMBOLS)[1]


def test_unknown_key_with_our_prefix_in_the_file() -> None:
    key, text = one_problem("SQLITE_MMAP=1\n", **SYMBOLS)
    assert key == "SQLITE_MMAP"
    assert "not a setting" in text
    assert "docs/configuration.md" in text


def test_foreign_keys_are_left_alone() -> None:
    Path(".env").write_text("TELEGRAM_TOKEN=x\nTZ=UTC\nHOME=/x\n")
    environ = {"SQLITE_HISTORY": "/x", "SQLITE_TMPDIR": "/x", "FUTU_HOME": "/x", "DATA_DIR": "/x", "PATH": "/bin"}
    load_settings(None, {**SYMBOLS, **environ})


def test_the_value_of_an_unknown_key_is_never_shown() -> None:
    assert "hunter2" not in one_problem("FUTU_PASSWORD=hunter2\n", **SYMBOLS)[1]


def test_a_key_in_file_and_environment_is_reported_once() -> None:
    """systemd's EnvironmentFile= puts the same file into the environment."""
    one_problem("FUTU_PRT=1\n", **SYMBOLS, FUTU_PRT="1")


# --- the file itself ---


def test_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_settings(tmp_path / "none.env", SYMBOLS)
    assert "none.env cannot be read: No such file" in str(caught.value)


def test_directory_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="cannot be read"):
        load_settings(tmp_path, SYMBOLS)


def test_a_file_without_end_or_size_is_refused(tmp_path: Path) -> None:
    """A device would be read for ever, and a file by mistake, such as a day file, into memory."""
    with pytest.raises(ConfigErrors, match=r"zero cannot be read: neither a file nor a pipe that ends; give"):
        load_settings(Path("/dev/zero"), SYMBOLS)
    large = tmp_path / "large.env"
    large.write_bytes(b"# " + b"x" * MAX_ENV_FILE_BYTES)
    with pytest.raises(ConfigErrors, match=r"large\.env cannot be read: larger than 1 MiB"):
        load_settings(large, SYMBOLS)


def test_a_pipe_is_read_as_a_file() -> None:
    """``--env-file <(decrypt settings)``: the shell gives a pipe's name."""
    reading, writing = os.pipe()
    try:
        os.write(writing, b"FUTU_SYMBOLS=HK.00005\n")
        os.close(writing)
        assert load_settings(Path(f"/dev/fd/{reading}"), {}).symbols == ("HK.00005",)
        assert set_twice(Path(f"/dev/fd/{reading}")) == []
    finally:
        os.close(reading)


def test_a_key_on_several_lines_is_told_with_its_lines_and_without_its_values(tmp_path: Path) -> None:
    Path(".env").write_text("FUTU_SYMBOLS=HK.00700\n\n# the example's\nFUTU_PORT=1\n\nFUTU_SYMBOLS=HK.00005\n")
    assert load_settings(None, {}).symbols == ("HK.00005",)
    assert set_twice(None) == [".env sets FUTU_SYMBOLS on lines 1, 6: the last one counts"]
    assert set_twice(tmp_path / "none.env") == set_twice(tmp_path) == []


def test_file_that_is_no_text() -> None:
    Path(".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigErrors, match="not UTF-8"):
        load_settings(None, SYMBOLS)


@pytest.mark.parametrize("line", ["FUTU_PORT", "FUTU_PORT 11111", "DATA_ROOT='open quote", "=5"])
def test_line_that_is_no_key_and_value_is_named_by_number_and_not_shown(line: str) -> None:
    key, text = one_problem(f"# first\n{line}\n", **SYMBOLS)
    assert key == ".env"
    assert ".env line 2 is not KEY=value" in text
    assert line not in text


# --- RSA key file ---


@cache
def good_key() -> str:
    """Made when a test wants it: a second that gathering tests need not take."""
    return RSA.generate(1024).export_key("PEM", pkcs=1).decode()


def test_rsa_key_file(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(good_key().encode().replace(b"\n", b"\r\n"))
    loaded = load_settings(None, {**SYMBOLS, "FUTU_RSA_KEY_FILE": str(path)})
    assert loaded.futu_rsa_key_file == path
    assert "key.pem" not in repr(loaded)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("-----BEGIN PRIVATE KEY-----\nMII=\n-----END PRIVATE KEY-----\n", "PKCS#1"),
        ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nMII=\n", "passphrase"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII=\n-----END RSA PRIVATE KEY-----\n", "cut off or damaged"),
        (lambda: good_key()[:400], "cut off or damaged"),
        (lambda: good_key().replace("\n", " "), "joined"),
        (lambda: "\ufeff" + good_key(), "before its first line"),
        (lambda: RSA.generate(2048).export_key("PEM", pkcs=1).decode(), "2048 bits and OpenD takes 1024"),
    ],
    ids=["absent", "PKCS#8", "passphrase", "empty", "cut", "one line", "BOM", "2048"],
)
def test_rsa_key_file_that_futu_cannot_use(tmp_path: Path, content: str | Callable[[], str] | None, words: str) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_text(content if isinstance(content, str) else content())
    key, text = one_problem(**SYMBOLS, FUTU_RSA_KEY_FILE=str(path))
    assert key == "FUTU_RSA_KEY_FILE"
    assert words in text
    assert "MII" not in text


def test_a_key_given_instead_of_its_path_is_not_printed() -> None:
    text = one_problem(**SYMBOLS, FUTU_RSA_KEY_FILE="-----BEGIN RSA PRIVATE KEY-----MIIsecret")[1]
    assert "secret" not in text


# --- whatever else somebody may write ---


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.text(max_size=80),
    key=st.sampled_from([info.key for info in setting_table()]),
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
)
def test_any_input_gives_settings_or_config_errors(content: str, key: str, text: str) -> None:
    Path(".env").write_text(f"{content}\n{key}={text}\n", encoding="utf-8", errors="surrogatepass")
    problems: list[tuple[str, str]] = []
    try:
        assert load_settings(None, {**SYMBOLS, key: text}).futu_symbols
    except ConfigErrors as error:
        problems += error.problems
    assert all(problem.startswith(named) for named, problem in problems)

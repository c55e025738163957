"""Every setting of the recorder: its name, type, default, limits and meaning, in one frozen place.

``load_settings`` reads the environment and a ``.env`` file once, at start. It either gives a ``Settings`` in which
every value is usable, or raises ``ConfigErrors`` with all that is wrong at once. ``docs/configuration.md`` and
``.env.example`` are written from this file by ``scripts/config_docs.py``.

Names: an attribute is the key in lower case with its unit as the last word, so a few differ from the key
(``BATCH_SIZE`` is ``batch_rows``); the table in ``docs/configuration.md`` has both.

Order of precedence: environment, then file, then default. An empty value counts as not given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from hk_tick_collector.app.config_model import (
    HOST_PATTERN,
    Directory,
    OptionalDirectory,
    OptionalPath,
    SettingInfo,
    SettingsModel,
    as_written,
    info_of,
    lower,
    read_model,
    setting,
    table_of,
    upper,
)
from hk_tick_collector.app.config_providers import source_problems
from hk_tick_collector.app.config_sources import OWN_PREFIXES, ConfigErrors, Problem
from hk_tick_collector.app.config_values import (
    book_symbols_value,
    dxlink_address,
    https_address,
    rules_value,
    series_value,
    shioaji_address,
    symbols_value,
    usable_metrics_port,
    usable_rsa_key,
    venues_value,
)
from hk_tick_collector.sources import registry
from hk_tick_collector.sources.dxlink.spec import TASTYTRADE
from hk_tick_collector.sources.dxlink.symbols import Venue
from hk_tick_collector.sources.gexbot.series import SeriesName
from hk_tick_collector.sources.gexbot.spec import API as GEXBOT_API
from hk_tick_collector.sources.schwab.spec import API as SCHWAB_API
from hk_tick_collector.sources.shioaji.spec import GATEWAY
from hk_tick_collector.sources.sierra.naming import Rule
from hk_tick_collector.sources.source import SourceSpec, choose, listed
from hk_tick_collector.store.connect import SqliteOptions

__all__ = [
    "OWN_PREFIXES", "ConfigErrors", "Problem", "SettingInfo", "Settings", "load_settings", "load_settings_and_sources",
    "order_rule_texts", "setting_table", "shown_value",
]  # fmt: skip

_connection = partial(setting, "Connection to OpenD")
_recording = partial(setting, "What is recorded, and where")
_queue = partial(setting, "Queue and batches")
_pulls = partial(setting, "Backfill and poll")
_watchdog = partial(setting, "Watchdog, health and stop")
_sqlite = partial(setting, "SQLite")
_logs = partial(setting, "Logs")
_metrics = partial(setting, "Metrics")


ArchiveFormat = Literal["parquet", "sqlite", "both"]
JournalMode = Literal["WAL", "DELETE", "TRUNCATE", "PERSIST"]
Synchronous = Literal["NORMAL", "FULL", "EXTRA"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class Settings(SettingsModel):
    """The recorder's settings, checked and frozen. Made by ``load_settings``; tests may give attributes by name.

    The text under an attribute is what ``docs/configuration.md`` says about it.
    """

    futu_host: str = _connection(
        "FUTU_HOST", "127.0.0.1", "a host name or an IPv4 address, no port", pattern=HOST_PATTERN
    )
    """Where OpenD listens."""
    futu_port: int = _connection("FUTU_PORT", 11111, ge=1, le=65535)
    """OpenD's API port (`api_port` in its own settings)."""
    futu_rsa_key_file: Annotated[OptionalPath, AfterValidator(usable_rsa_key)] = _connection(
        "FUTU_RSA_KEY_FILE", None, "empty, or the path of a PKCS#1 private key without a passphrase", repr=False
    )
    """Key for an encrypted connection: the same RSA private key as OpenD's own `rsa_private_key`. Empty: no
    encryption, which OpenD accepts from its own machine."""
    reconnect_min_delay_sec: float = _connection("RECONNECT_MIN_DELAY", 1, "seconds", ge=0.05, le=3600)
    """Wait before the first new attempt to connect; doubled after each failure."""
    reconnect_max_delay_sec: float = _connection("RECONNECT_MAX_DELAY", 60, "seconds", ge=0.05, le=3600)
    """Upper limit of the wait between attempts to connect."""

    source: Annotated[str, BeforeValidator(lower)] = _recording("SOURCE", "futu", listed(registry.PROVIDERS))
    """Where the ticks come from. `futu` is Futu OpenD, `sierra` the files of Sierra Chart (docs/sierra.md), `dxlink` a
    dxLink endpoint such as TastyTrade's (docs/dxlink.md), `schwab` Schwab's streamer (docs/schwab.md), `shioaji`
    SinoPac's gateway to Taiwan (docs/shioaji.md). `gexbot` records no ticks but snapshots of levels from option chains,
    one a second (docs/gexbot.md)."""
    market: Annotated[str, BeforeValidator(upper)] = _recording(
        "MARKET", "HK", f"a market that the source offers: {listed(spec.market for spec in registry.OFFERED)}"
    )
    """The market that is recorded: `HK` Hong Kong, `US` United States, `CN` Shanghai and Shenzhen (docs/markets.md),
    `CME` futures of CME Group, `TW` Taiwan. A data root holds the days of one market: with another one the recorder
    refuses to start (exit code 78)."""
    sierra_dir: OptionalDirectory = _recording("SIERRA_DIR", None, "empty, or a directory")
    """With `SOURCE=sierra`: Sierra Chart's data directory, whose growing `.scid` files are followed, and never written
    to."""
    sierra_multiplier: Annotated[tuple[Rule, ...], BeforeValidator(rules_value)] = _recording(
        "SIERRA_MULTIPLIER", (), "numbers above zero such as 0.01, or CME.6E*=0.0001 for some symbols, by commas"
    )
    """With `SOURCE=sierra`: the price is the number in the file times this. The last rule that matches a symbol
    applies; empty: 1."""
    sierra_tick_size: Annotated[tuple[Rule, ...], BeforeValidator(rules_value)] = _recording(
        "SIERRA_TICK_SIZE", (), "numbers above zero such as 0.25, or CME.6E*=0.00005 for some symbols, by commas"
    )
    """With `SOURCE=sierra`: prices are multiples of this, and ticks with other prices go to the quarantine. Written in
    the same form; empty: prices are taken as they are."""
    dxlink_secrets_file: OptionalPath = _recording(
        "DXLINK_SECRETS_FILE", None, "empty, or the path of a file that others may not read", repr=False
    )
    """With `SOURCE=dxlink`: the file with `client_secret=` and `refresh_token=` of TastyTrade, or with `token=` of the
    endpoint that `DXLINK_URL` names (docs/dxlink.md). A systemd credential with the file's name takes precedence."""
    dxlink_url: Annotated[str | None, AfterValidator(dxlink_address)] = _recording(
        "DXLINK_URL", None, "empty, or an address such as wss://HOST/realtime"
    )
    """With `SOURCE=dxlink`: the endpoint to connect to. Empty: TastyTrade says where."""
    dxlink_api: Annotated[str, AfterValidator(dxlink_address)] = _recording(
        "DXLINK_API", TASTYTRADE, "the address of TastyTrade's REST interface"
    )
    """With `SOURCE=dxlink`: where tokens come from."""
    dxlink_venues: Annotated[tuple[Venue, ...], BeforeValidator(venues_value)] = _recording(
        "DXLINK_VENUES", (), "empty, or roots with their exchange as in LBR=XCME, by commas"
    )
    """With `SOURCE=dxlink`: on which of CME Group's exchanges a root trades, where it is not known."""
    dxlink_history: bool = _recording("DXLINK_HISTORY", False)
    """With `SOURCE=dxlink`: also fetch the day's trades from before the start, and those of breaks. The account must be
    entitled to them; TastyTrade promises history for bars only (docs/dxlink.md)."""
    gexbot_key_file: OptionalPath = _recording(
        "GEXBOT_KEY_FILE", None, "empty, or the path of a file that others may not read", repr=False
    )
    """With `SOURCE=gexbot`: the file with `key=`, the key of the account (docs/gexbot.md). A systemd credential with
    the file's name takes precedence."""
    gexbot_series: Annotated[tuple[SeriesName, ...], BeforeValidator(series_value), Field(min_length=1)] = _recording(
        "GEXBOT_SERIES", (SeriesName("classic", "gex_full"),), "such as classic/gex_full, state/gamma_zero, by commas"
    )
    """With `SOURCE=gexbot`: which series of snapshots of each symbol are recorded. Each takes one request a second."""
    gexbot_api: Annotated[str, AfterValidator(https_address)] = _recording(
        "GEXBOT_API", GEXBOT_API, "the address of gexbot's REST interface"
    )
    """With `SOURCE=gexbot`: where requests go."""
    gexbot_copy_days: int = _recording("GEXBOT_COPY_DAYS", 5, "trading days", ge=0, le=90)
    """With `SOURCE=gexbot`: for each of this many newest finished trading days, gexbot's own file is fetched once. It
    proves the recorded day and fills its gaps. This needs the Quant subscription; 0: none is fetched."""
    gexbot_copies_per_hour: int = _recording("GEXBOT_COPIES_PER_HOUR", 60, "files", ge=1, le=3600)
    """With `SOURCE=gexbot`: at most this many files are fetched in an hour."""
    schwab_secrets_file: OptionalPath = _recording(
        "SCHWAB_SECRETS_FILE", None, "empty, or the path of a file that others may not read", repr=False
    )
    """With `SOURCE=schwab`: the file with `client_id=` and `client_secret=` of your application at Schwab
    (docs/schwab.md). A systemd credential with the file's name takes precedence."""
    schwab_token_file: OptionalPath = _recording(
        "SCHWAB_TOKEN_FILE", None, "empty, or the path of a file that the recorder may write to", repr=False
    )
    """With `SOURCE=schwab`: the file with the login, which `hk-tickctl schwab login` makes and the recorder renews."""
    schwab_callback: Annotated[str, AfterValidator(https_address)] = _recording(
        "SCHWAB_CALLBACK", "https://127.0.0.1:8182", "an address"
    )
    """With `SOURCE=schwab`: the callback address of your application, as it is registered."""
    schwab_api: Annotated[str, AfterValidator(https_address)] = _recording(
        "SCHWAB_API", SCHWAB_API, "the address of Schwab's REST interface"
    )
    """With `SOURCE=schwab`: where tokens and the streamer's address come from; only tests use another."""
    shioaji_url: Annotated[str, AfterValidator(shioaji_address)] = _recording(
        "SHIOAJI_URL", GATEWAY, "the address of a gateway: http on this machine, https elsewhere"
    )
    """With `SOURCE=shioaji`: where `shioaji server start` listens."""
    shioaji_secrets_file: OptionalPath = _recording(
        "SHIOAJI_SECRETS_FILE", None, "empty, or the path of a file that others may not read", repr=False
    )
    """With `SOURCE=shioaji` and a gateway on another machine: the file with `api_key=` and `secret_key=`, which the
    gateway then asks for (docs/shioaji.md). The file is read anew for each request. A systemd credential with the
    file's name takes precedence."""
    futu_symbols: Annotated[tuple[str, ...], BeforeValidator(symbols_value)] = _recording(
        "FUTU_SYMBOLS",
        ...,
        "stock codes of the market such as HK.00700,HK.00005, or @path of a file with one code a line",
    )
    """The stocks to record, separated by commas or blanks. `@path` reads a regular file of at most 1 MB: one code a
    line, comments after `#`. In Hong Kong a bare number is filled up: `5` is `HK.00005`."""
    book_symbols: Annotated[tuple[str, ...], BeforeValidator(book_symbols_value)] = _recording(
        "BOOK_SYMBOLS",
        (),
        "empty, stock codes or @path as FUTU_SYMBOLS, or `first 100` for the first 100 of FUTU_SYMBOLS",
    )
    """Stocks whose order books are recorded as well, in files of their own (docs/books.md). Empty: none. Each takes a
    subscription of its own from the quota, and ticks go first. SIGHUP reads it again, unless it was empty at the
    start: then a change needs a restart."""
    book_brokers: bool = _recording("BOOK_BROKERS", False)
    """Record the broker queues of the stocks in `BOOK_SYMBOLS` as well (docs/books.md#broker-queues): which brokers
    stand in line at which price level. Hong Kong only. Each takes one more subscription, behind ticks and books."""
    data_root: Directory = _recording("DATA_ROOT", Path("/data/sqlite/HK"), "a directory the recorder may write to")
    """Directory of the day files (`YYYYMMDD.db`, the market's trading day), and of `_spill/`, `_quarantine/`,
    `_reports/` and, unless `ARCHIVE_ROOT` is elsewhere, `_archive/`."""
    archive_root: OptionalDirectory = _recording("ARCHIVE_ROOT", None, "empty, or a directory")
    """Where `hk-tickctl` puts archived days. Empty: `_archive/` in `DATA_ROOT`. Another disk keeps an archive when the
    disk of the day files fails."""
    archive_format: ArchiveFormat = _recording("ARCHIVE_FORMAT", "parquet")
    """Archive format: `parquet` for research, `sqlite` for the day file itself, compressed, or `both`."""
    retain_days: int = _recording("RETAIN_DAYS", 0, "trading days", ge=0, le=100_000)
    """The end-of-day job keeps the day files of this many newest trading days with a file, and deletes an older one
    once its archive, read back at that moment, holds exactly the same. 0: no day file is ever deleted."""
    seed_recent_db_days: int = _recording("SEED_RECENT_DB_DAYS", 3, "days", ge=0, le=31)
    """At start the last sequence of each symbol is read from this many of the newest day files, and from today's."""

    batch_rows: int = _queue("BATCH_SIZE", 500, "rows", ge=1, le=100_000)
    """This many rows are committed at once, without waiting for more; of a backlog, up to eight times as many."""
    max_wait_ms: int = _queue("MAX_WAIT_MS", 1000, "milliseconds", ge=1, le=60_000)
    """Longest time a row waits for its batch, as an upper bound: a quiet market is committed every 30 ms."""
    max_queue_rows: int = _queue("MAX_QUEUE_SIZE", 20_000, "rows", ge=1, le=1_000_000)
    """Most rows held in memory; further rows go to the spill on disk."""
    persist_retry_backoff_sec: float = _queue("PERSIST_RETRY_BACKOFF_SEC", 0.1, "seconds", ge=0.01, le=60)
    """Wait before a batch that could not be written is tried again; doubled after each failure."""
    persist_retry_backoff_max_sec: float = _queue("PERSIST_RETRY_BACKOFF_MAX_SEC", 5, "seconds", ge=0.01, le=600)
    """Upper limit of the wait between two attempts to write."""

    backfill_rows: int = _pulls("BACKFILL_N", 1000, "rows", ge=0, le=1000)
    """Newest ticks fetched of each symbol after every connect, so that a break leaves no hole; 0 turns it off. OpenD
    gives 1000 at most."""
    futu_poll_enabled: bool = _pulls("FUTU_POLL_ENABLED", True)
    """Ask OpenD for the newest ticks of symbols that went quiet."""
    futu_poll_interval_sec: float = _pulls("FUTU_POLL_INTERVAL_SEC", 3, "seconds", ge=0.1, le=3600)
    """Time between two rounds of the poll."""
    futu_poll_rows: int = _pulls("FUTU_POLL_NUM", 100, "rows", ge=1, le=1000)
    """Ticks asked for by one poll of one symbol."""
    futu_poll_stale_sec: float = _pulls("FUTU_POLL_STALE_SEC", 10, "seconds", ge=0, le=3600)
    """A symbol without a push for this long is polled."""
    futu_poll_trading_only: bool = _pulls("FUTU_POLL_TRADING_ONLY", True)
    """Poll and backfill in trading hours only, closing auction included (until 16:15, half days 12:15); 0: at any
    hour."""

    restarts_dir: OptionalDirectory = _watchdog("RESTARTS_DIR", None, "empty, or a directory")
    """Where the API leaves requests to restart the feed, which the recorder looks for every two seconds. The API writes
    there, the recorder only reads. Empty: under systemd `restarts` in the state directory of the programs that serve
    (`/var/lib/hk-tick-serve`); elsewhere no restart can be asked for."""
    check_interval_sec: float = _watchdog("CHECK_INTERVAL_SEC", 5, "seconds", ge=0.05, le=600)
    """Time between two checks of the connection and its subscriptions, and between two looks of the watchdog."""
    watchdog_stall_sec: float = _watchdog("WATCHDOG_STALL_SEC", 180, "seconds", ge=0.1, le=86_400)
    """When rows wait and none is committed for this long, the watchdog dumps all stacks and replaces the writer."""
    watchdog_upstream_window_sec: float = _watchdog("WATCHDOG_UPSTREAM_WINDOW_SEC", 60, "seconds", ge=0.1, le=86_400)
    """The feed counts as active when a tick came within this time."""
    watchdog_queue_threshold_rows: int = _watchdog("WATCHDOG_QUEUE_THRESHOLD_ROWS", 100, "rows", ge=1, le=1_000_000)
    """A backlog below this is no stall."""
    watchdog_recovery_max_failures: int = _watchdog("WATCHDOG_RECOVERY_MAX_FAILURES", 3, "recoveries", ge=1, le=100)
    """After this many failed recoveries in a row the recorder gives up with exit code 1, so that systemd starts it
    anew."""
    drift_warn_sec: float = _watchdog("DRIFT_WARN_SEC", 120, "seconds", ge=0.1, le=86_400)
    """Warn when the times of ticks differ from the machine's clock by more than this."""
    health_interval_sec: float = _watchdog("HEALTH_INTERVAL_SEC", 60, "seconds", ge=0.1, le=3600)
    """Time between two `health` lines."""
    stop_flush_timeout_sec: float = _watchdog("STOP_FLUSH_TIMEOUT_SEC", 60, "seconds", ge=0.1, le=3600)
    """Longest time a stop waits for the queue to be committed; what is left then goes to the spill."""

    sqlite_busy_timeout_ms: int = _sqlite("SQLITE_BUSY_TIMEOUT_MS", 5000, "milliseconds", ge=1, le=600_000)
    """Longest wait for another process's lock on a day file."""
    sqlite_journal_mode: Annotated[JournalMode, BeforeValidator(upper)] = _sqlite("SQLITE_JOURNAL_MODE", "WAL")
    """Only WAL lets others read while the recorder writes. MEMORY and OFF are refused: a crash in the middle of a write
    would damage the file."""
    sqlite_synchronous: Annotated[Synchronous, BeforeValidator(upper)] = _sqlite("SQLITE_SYNCHRONOUS", "NORMAL")
    """With NORMAL a power cut may cost the newest commits but never damages a WAL file; FULL keeps those as well, for
    one disk flush per batch. OFF is refused: it can damage the file."""
    sqlite_wal_autocheckpoint_pages: int = _sqlite("SQLITE_WAL_AUTOCHECKPOINT", 1000, "pages", ge=1, le=1_000_000)
    """Length of the WAL at which it is copied back into the day file; a page has 4 KiB."""

    log_level: Annotated[LogLevel, BeforeValidator(upper)] = _logs("LOG_LEVEL", "INFO")
    """Least severe level that is logged. DEBUG adds a line for each batch (`persist_ticks`)."""
    persist_summary_interval_sec: float = _logs("PERSIST_SUMMARY_INTERVAL_SEC", 5, "seconds", ge=0.1, le=3600)
    """Time between two `persist_summary` lines."""
    persist_heartbeat_interval_sec: float = _logs("PERSIST_HEARTBEAT_INTERVAL_SEC", 30, "seconds", ge=0.1, le=3600)
    """Time between two `persist_loop_heartbeat` lines."""

    metrics_port: Annotated[int, AfterValidator(usable_metrics_port)] = _metrics("METRICS_PORT", 0, ge=0, le=65535)
    """Port of the Prometheus endpoint `/metrics`; 0: none. It needs the extra `metrics` (docs/monitoring.md)."""
    metrics_host: str = _metrics(
        "METRICS_HOST", "127.0.0.1", "a host name or an IPv4 address, no port", pattern=HOST_PATTERN
    )
    """Address of this machine on which the endpoint listens. It has no password: leave it on the loopback address, or
    let a firewall say who may ask."""
    metrics_per_symbol: bool = _metrics("METRICS_PER_SYMBOL", False)
    """Also count pushed ticks by symbol: one more series for each."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """What is to be recorded, whatever the source: the setting has the name of the first one."""
        return self.futu_symbols

    @property
    def spec(self) -> SourceSpec:
        """What the source gives on this market."""
        spec = choose(self.source, self.market, registry.OFFERED).spec
        assert spec is not None  # ``load_settings`` refuses any other pair
        return spec

    @property
    def sqlite(self) -> SqliteOptions:
        """How day files are opened for writing, by the recorder and by whoever writes beside it."""
        return SqliteOptions(
            busy_timeout_ms=self.sqlite_busy_timeout_ms,
            journal_mode=self.sqlite_journal_mode,
            synchronous=self.sqlite_synchronous,
            wal_autocheckpoint=self.sqlite_wal_autocheckpoint_pages,
        )


@dataclass(frozen=True)
class _OrderRule:
    """``low`` may not be above ``high``, given in other units perhaps."""

    low: str
    high: str
    why: str
    below: bool = False  # equal is wrong, too
    low_unit_in_high_units: float = 1.0  # 0.001 for milliseconds against seconds

    def problems(self, right: Mapping[str, Any]) -> Iterator[Problem]:
        """Nothing if the rule holds, or if one of the two values is wrong by itself."""
        if self.low not in right or self.high not in right:
            return
        low, high = right[self.low] * self.low_unit_in_high_units, right[self.high]
        if low > high or (low == high and self.below):
            low_key, high_key = info_of(Settings, self.low).key, info_of(Settings, self.high).key
            text = self.text(f"{low_key}={as_written(right[self.low])}", f"{high_key}={as_written(high)}")
            yield Problem(low_key, f"{text}; lower {low_key} or raise {high_key}")

    def text(self, low: str, high: str) -> str:
        """The rule as a sentence about ``low`` and ``high``."""
        return f"{low} must {'be below' if self.below else 'not be above'} {high}: {self.why}"


_ORDER_RULES = (
    _OrderRule("reconnect_min_delay_sec", "reconnect_max_delay_sec", "the delay grows from the one to the other"),
    _OrderRule(
        "persist_retry_backoff_sec", "persist_retry_backoff_max_sec", "the wait grows from the one to the other"
    ),
    _OrderRule("batch_rows", "max_queue_rows", "a batch must fit into the queue"),
    _OrderRule("watchdog_queue_threshold_rows", "max_queue_rows", "no backlog could reach it and no stall be seen"),
    _OrderRule("check_interval_sec", "watchdog_stall_sec", "the watchdog looks more than once before it acts", True),
    _OrderRule("max_wait_ms", "watchdog_stall_sec", "a batch still filling is not a stall", True, 0.001),
    _OrderRule("sqlite_busy_timeout_ms", "watchdog_stall_sec", "waiting for a lock is not a stall", True, 0.001),
)


def setting_table() -> list[SettingInfo]:
    """All settings in the order of the documents."""
    return table_of(Settings)


def order_rule_texts() -> list[str]:
    """The rules between two settings, one sentence each, keys in backquotes."""
    return [
        rule.text(f"`{info_of(Settings, rule.low).key}`", f"`{info_of(Settings, rule.high).key}`")
        for rule in _ORDER_RULES
    ]


def load_settings(env_file: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings from ``environ`` over ``env_file`` over defaults.

    ``env_file`` None means ``.env`` in the working directory if there is one; a named file must exist. Raises
    ``ConfigErrors`` with every problem found: unreadable file or line, misspelt key, wrong value, values that do not
    go together.
    """
    return load_settings_and_sources(env_file, environ)[0]


def load_settings_and_sources(env_file: Path | None, environ: Mapping[str, str]) -> tuple[Settings, dict[str, str]]:
    """As ``load_settings``, and for each key where its value comes from: a file's path, ``the environment``,
    ``default``."""
    read = read_model(Settings, env_file, environ)
    problems = read.problems
    for rule in _ORDER_RULES:
        problems += rule.problems(read.right)
    problems += source_problems(read.right)
    if problems or read.settings is None:
        raise ConfigErrors(problems)
    return read.settings, dict(read.sources)


def shown_value(settings: SettingsModel, info: SettingInfo) -> str:
    """The value as it stands in a .env file; of a secret only whether there is one."""
    value = getattr(settings, info.attribute)
    return "(hidden)" if info.hidden and value is not None else as_written(value)

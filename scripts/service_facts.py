"""What the shell scripts need to know from Python: the service's settings and what the market does.

Prints ``key=value`` lines. The calendar's come always, the settings' only with ``--env-file``:

    hk_day            the trading day, YYYYMMDD: in Hong Kong, or in the market of --env-file
    phase             what the market does now, e.g. morning, lunch, closed
    phase_age_sec     for how long
    continuous        1 in continuous trading, when ticks must come
    recording         1 while ticks may come (in Hong Kong 09:00 to 16:15, half days 12:15)
    last_session_day  the newest trading day whose recording has begun
    end_of_day        when the end-of-day job is to run, as systemd's OnCalendar= has it
    universe          likewise, when symbols are to be chosen
    data_root, archive_root (empty: inside data_root), sqlite_journal_mode, sqlite_busy_timeout_ms,
    stop_flush_timeout_sec
    internet          1 where the source is spoken to beyond private networks
    credential        a file of secrets that the service is handed by systemd (empty: none)

Exit codes: 0 printed, 2 usage, 78 the settings are wrong (the reasons are on standard error).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from hk_tick_collector.app.config import Settings, load_settings
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hours import CONTINUOUS, DayKind
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.sources.addresses import LOOPBACK

EXIT_CONFIG = 78
AFTER_RECORDING_MS = 15 * 60_000
AFTER_END_OF_DAY_MS = AFTER_RECORDING_MS + 60 * 60_000


def main() -> int:
    """Print the facts; returns the exit code."""
    parser = argparse.ArgumentParser(description="Print settings and market facts as key=value lines.")
    parser.add_argument("--env-file", type=Path, help="also print the settings of this file")
    parser.add_argument("--now-ms", type=int, help="UTC epoch milliseconds to take for now")
    args = parser.parse_args()
    now_ms = int(time.time() * 1000) if args.now_ms is None else args.now_ms
    try:
        # The service reads its settings from this file alone, so the caller's environment does not count here either.
        settings = None if args.env_file is None else load_settings(args.env_file, {})
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        return EXIT_CONFIG
    facts = market_facts(now_ms, market_of(None if settings is None else settings.market))
    if settings is not None:
        facts.update(setting_facts(settings))
    for key, value in facts.items():
        if not str(value).isprintable():
            # A line break would make two lines here, and two in a unit file.
            print(f"{key.upper()} holds a character that is not printable: {value!r}", file=sys.stderr)
            return EXIT_CONFIG
    for key, value in facts.items():
        print(f"{key}={value}")
    return 0


def market_facts(now_ms: int, market: Market) -> dict[str, object]:
    """The calendar's answers about an instant."""
    calendar = TradingCalendar(market)
    day = market.trading_day(now_ms)
    phase = calendar.phase(now_ms)
    kind = calendar.day_kind(day)
    begun = calendar.is_trading_day(day) and now_ms >= market.recording_window(day, kind)[0]
    return {
        "hk_day": day,
        "phase": phase,
        "phase_age_sec": (now_ms - market.span_at(now_ms, kind).start_ms) // 1000,
        "continuous": int(phase in CONTINUOUS),
        "recording": int(calendar.is_recording(now_ms)),
        "last_session_day": day if begun else calendar.previous_trading_day(day),
        "end_of_day": on_calendar(market, day, AFTER_RECORDING_MS),
        "universe": on_calendar(market, day, AFTER_END_OF_DAY_MS),
    }


def on_calendar(market: Market, day: str, after_ms: int) -> str:
    """So long after recording ends on a whole day, ``Mon..Fri 16:30 Asia/Hong_Kong``. On a half day it is late and does
    no harm."""
    ends_ms = market.no_more_ticks_ms(day, DayKind.WHOLE) + after_ms
    return f"Mon..Fri {market.zone.clock(ends_ms)[:5]} {market.zone.name}"


# Sources that are asked over the internet, and the setting that names their file of secrets.
CREDENTIAL_OF = {
    "dxlink": "dxlink_secrets_file",
    "gexbot": "gexbot_key_file",
    "schwab": "schwab_secrets_file",
    "shioaji": "shioaji_secrets_file",
}


def setting_facts(settings: Settings) -> dict[str, object]:
    """Where the service has its files, and how it opens them."""
    return {
        "data_root": settings.data_root,
        "archive_root": "" if settings.archive_root is None else settings.archive_root,
        "sqlite_journal_mode": settings.sqlite_journal_mode.lower(),
        "sqlite_busy_timeout_ms": settings.sqlite_busy_timeout_ms,
        "stop_flush_timeout_sec": settings.stop_flush_timeout_sec,
        "internet": int(settings.source in CREDENTIAL_OF and not _is_here(settings)),
        "credential": getattr(settings, CREDENTIAL_OF.get(settings.source, ""), None) or "",
    }


def _is_here(settings: Settings) -> bool:
    """Is the source another program of this machine?"""
    return settings.source == "shioaji" and urlsplit(settings.shioaji_url).hostname in LOOPBACK


if __name__ == "__main__":
    sys.exit(main())

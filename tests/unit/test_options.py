"""Every box's options are filled from the settings by one rule, and none is forgotten."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from hk_tick_collector.app.config import load_settings
from hk_tick_collector.core.options import from_setting, options_of
from hk_tick_collector.health.watchdog import WatchdogOptions
from hk_tick_collector.ingest.worker import WorkerOptions
from hk_tick_collector.sources.options import FeedOptions


def test_each_option_has_the_value_of_its_setting() -> None:
    """With a value of its own for each setting, a mix-up of two would show."""
    keys = {
        "BATCH_SIZE": 11, "MAX_WAIT_MS": 12, "PERSIST_RETRY_BACKOFF_SEC": 13, "PERSIST_RETRY_BACKOFF_MAX_SEC": 14,
        "WATCHDOG_STALL_SEC": 31, "WATCHDOG_UPSTREAM_WINDOW_SEC": 16, "WATCHDOG_QUEUE_THRESHOLD_ROWS": 17,
        "WATCHDOG_RECOVERY_MAX_FAILURES": 18, "CHECK_INTERVAL_SEC": 19, "BACKFILL_N": 20, "RECONNECT_MIN_DELAY": 21,
        "RECONNECT_MAX_DELAY": 22, "FUTU_POLL_ENABLED": 0, "FUTU_POLL_INTERVAL_SEC": 24, "FUTU_POLL_NUM": 25,
        "FUTU_POLL_STALE_SEC": 26, "FUTU_POLL_TRADING_ONLY": 1, "FUTU_SYMBOLS": "HK.00700",
    }  # fmt: skip
    settings = load_settings(None, {key: str(value) for key, value in keys.items()})
    assert options_of(WorkerOptions, settings) == WorkerOptions(11, 0.012, 13.0, 14.0)
    assert options_of(WatchdogOptions, settings) == WatchdogOptions(31.0, 16.0, 17, 18, 19.0)
    assert options_of(FeedOptions, settings) == FeedOptions(
        ("HK.00700",), 20, 21.0, 22.0, 19.0, False, 24.0, 25, 26.0, True
    )


def test_an_option_without_a_setting_is_an_error_and_none_has_a_default_of_its_own() -> None:
    @dataclass(frozen=True)
    class Box:
        no_such_setting: int
        other: float = from_setting("batch_rows", factor=2)

    with pytest.raises(AttributeError):
        options_of(Box, load_settings(None, {"FUTU_SYMBOLS": "5"}))
    with pytest.raises(TypeError, match="other"):
        Box(1)  # type: ignore[call-arg]
    assert len(fields(FeedOptions)) == 10

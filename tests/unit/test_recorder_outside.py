"""The recorder as seen from outside: which unit is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from hk_tick_collector.watch.recorder import unit_of


@pytest.mark.parametrize(
    ("env_file", "unit"),
    [
        (None, "hk-tick-collector"),
        ("/opt/futu_tick_downloader/.env", "hk-tick-collector"),
        ("/opt/futu_tick_downloader/US.env", "hk-tick-collector@US"),
        ("us-1.env", "hk-tick-collector@us-1"),
        ("settings", "hk-tick-collector"),
        ("my own.env", "hk-tick-collector"),  # no name that the installation allows
        (f"{'x' * 33}.env", "hk-tick-collector"),
        ("-x.env", "hk-tick-collector"),
    ],
)
def test_the_settings_file_names_the_unit(env_file: str | None, unit: str) -> None:
    assert unit_of(None if env_file is None else Path(env_file)) == unit

"""The recorder's process does without pandas: the SDK's import and the trading calendar leave it out."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from hk_tick_collector.core.logline import event
from hk_tick_collector.market import calendar
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.sessions import DayKind
from tests.harness import clean_env

NOV_2026_MS = 1_795_138_200_000


def run(code: str, home: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean_env(home), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_sdk_and_a_warm_calendar_bring_no_pandas(tmp_path: Path) -> None:
    code = (
        "import sys; import hk_tick_collector.feed.sdk; from hk_tick_collector.app import daemon\n"
        "from hk_tick_collector.market.calendar import TradingCalendar\n"
        f"c = TradingCalendar(); c.warm({NOV_2026_MS}); print(c.day_kind('20261224'), c.day_kind('20261225'))\n"
        "print([name for name in ('pandas', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    assert run(code, tmp_path).splitlines() == ["half closed", "[]"]


def test_the_sdk_still_gets_pandas_when_it_uses_it(tmp_path: Path) -> None:
    code = (
        "import hk_tick_collector.feed.sdk, futu.quote.quote_response_handler as handler\n"
        "import sys; before = 'pandas' in sys.modules\n"
        "frame = handler.pd.DataFrame([[1]], columns=['a'])\n"
        "import pandas; print(before, isinstance(frame, pandas.DataFrame), frame.a[0])"
    )
    assert run(code, tmp_path) == "False True 1"


def test_pandas_that_is_there_already_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import pandas as real, hk_tick_collector.feed.sdk, pandas; print(pandas is real, pandas.DataFrame is not None)"
    )
    assert run(code, tmp_path) == "True True"


def test_a_calendar_read_apart_is_the_same_as_one_read_here() -> None:
    apart, here = TradingCalendar(), TradingCalendar()
    apart.warm(NOV_2026_MS)
    for day in ("20251224", "20251225", "20260217", "20260401", "20261120", "20261121", "20271231"):
        assert apart.day_kind(day) is here.day_kind(day)
    assert apart.day_kind("20261231") is DayKind.HALF


@pytest.mark.parametrize("command", [["false"], ["echo", "no json"], ["echo", "[1]"], ["no-such-program-at-all"]])
def test_when_the_other_process_fails_the_calendar_is_read_here(
    command: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    genuine = subprocess.run
    monkeypatch.setattr(calendar.subprocess, "run", lambda _, **options: genuine(command, **options))
    table = TradingCalendar()
    with caplog.at_level(logging.WARNING):
        table.warm(NOV_2026_MS)
    assert table.day_kind("20261224") is DayKind.HALF
    assert str(event("calendar_read_here")).split()[0] in caplog.text

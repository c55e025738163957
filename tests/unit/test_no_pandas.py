"""The recorder's process does without pandas: the SDK's import and the trading calendar leave it out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness import clean_env


def run(code: str, home: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean_env(home), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_sdk_and_the_calendar_bring_no_pandas(tmp_path: Path) -> None:
    code = (
        "import sys; import hk_tick_collector.sources.futu.sdk; from hk_tick_collector.app import daemon\n"
        "from hk_tick_collector.market.calendar import TradingCalendar\n"
        "from hk_tick_collector.market.hk import HK\n"
        "c = TradingCalendar(HK); print(c.day_kind('20261224'), c.day_kind('20261225'))\n"
        "print([name for name in ('pandas', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    assert run(code, tmp_path).splitlines() == ["half closed", "[]"]


def test_the_sdk_still_gets_pandas_when_it_uses_it(tmp_path: Path) -> None:
    code = (
        "import hk_tick_collector.sources.futu.sdk, futu.quote.quote_response_handler as handler\n"
        "import sys; before = 'pandas' in sys.modules\n"
        "frame = handler.pd.DataFrame([[1]], columns=['a'])\n"
        "import pandas; print(before, isinstance(frame, pandas.DataFrame), frame.a[0])"
    )
    assert run(code, tmp_path) == "False True 1"


def test_pandas_that_is_there_already_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import pandas as real, hk_tick_collector.sources.futu.sdk, pandas; "
        "print(pandas is real, pandas.DataFrame is not None)"
    )
    assert run(code, tmp_path) == "True True"

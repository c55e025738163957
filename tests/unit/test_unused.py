"""The recorder's process does without pandas and ciphers: the SDK's import and the trading calendar leave them out.
Programs that give Arrow lists do without pandas, and without threads for linear algebra."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hk_tick_collector.core.unused import THREADS
from tests.harness import clean_env


def run(code: str, home: Path, cwd: Path | None = None, **more_env: str) -> str:
    env = clean_env(home)
    env.pop(THREADS, None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env | more_env, cwd=cwd, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_sdk_and_the_calendar_bring_no_pandas(tmp_path: Path) -> None:
    code = (
        "import sys; import hk_tick_collector.sources.futu.sdk; from hk_tick_collector.app import daemon\n"
        "from hk_tick_collector.market.calendar import TradingCalendar\n"
        "from hk_tick_collector.market.hk import HK\n"
        "c = TradingCalendar(HK); print(c.day_kind('20261224'), c.day_kind('20261225'))\n"
        "print([name for name in ('pandas', 'numpy', 'pyarrow', 'cffi', 'Crypto.Cipher') if name in sys.modules])"
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


def test_the_sdk_still_gets_ciphers_when_it_uses_them(tmp_path: Path) -> None:
    code = (
        "import hk_tick_collector.sources.futu.sdk, sys, futu.common.conn_mng as connections\n"
        "import futu.common.sys_config as config; before = 'Crypto.Cipher' in sys.modules\n"
        "key = b'0123456789abcdef'; coded = connections.AES.new(key, connections.AES.MODE_ECB).encrypt(key)\n"
        "from Crypto.Cipher import AES; from Crypto.PublicKey import RSA\n"
        "print(before, coded == AES.new(key, AES.MODE_ECB).encrypt(key), config.RSA.generate is RSA.generate)"
    )
    assert run(code, tmp_path) == "False True True"


def test_a_key_brings_the_ciphers_before_there_is_a_connection(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from Crypto.PublicKey import RSA\n"
        "key = Path('key'); key.write_bytes(RSA.generate(1024).export_key())\n"
        "from hk_tick_collector.sources.futu import sdk; sdk.configure(key)\n"
        "print('Crypto.Cipher.AES' in sys.modules, 'Crypto.Cipher.PKCS1_v1_5' in sys.modules)"
    )
    assert run(code, tmp_path, cwd=tmp_path) == "True True"


def test_arrow_given_a_list_brings_no_pandas_to_a_program(tmp_path: Path) -> None:
    code = (
        "import sys; import pyarrow as pa; from hk_tick_collector.core.unused import without_unused\n"
        "with without_unused(): print(pa.array([1, 2]).to_pylist())\n"
        "print('pandas' in sys.modules)"
    )
    assert run(code, tmp_path).splitlines() == ["[1, 2]", "False"]


@pytest.mark.parametrize(("given", "in_it", "after"), [(None, "1", None), ("2", "2", "2")])
def test_numpy_in_a_program_starts_no_threads_unless_they_are_asked_for(
    tmp_path: Path, given: str | None, in_it: str, after: str | None
) -> None:
    code = (
        "import os; from hk_tick_collector.core.unused import THREADS, without_unused\n"
        "with without_unused():\n"
        "    import numpy\n"
        "    print(len(os.listdir('/proc/self/task')), os.environ.get(THREADS))\n"
        "print(os.environ.get(THREADS))"
    )
    threads = {} if given is None else {THREADS: given}
    expected = min(int(in_it), len(os.sched_getaffinity(0)))
    assert run(code, tmp_path, **threads).splitlines() == [f"{expected} {in_it}", str(after)]

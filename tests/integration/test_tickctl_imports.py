"""What the built ``hk-tickctl`` imports: a question that no column answers loads none of the large libraries."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hk_tick_collector.cli.main import COMMANDS
from tests.scid_files import run_of, write_scid
from tests.tickctl import SYMBOLS, record_day, tickctl
from tests.ticks import DAY

LARGE = ("pyarrow", "duckdb", "futu", "pandas", "numpy")
NOTHING: set[str] = set()
ARROW = {"pyarrow", "numpy"}
SQL = {*ARROW, "duckdb"}
NOBODY_LISTENS = 1

# Every command: how it is run, and what it loads of LARGE, nothing less and nothing more.
LOADED: tuple[tuple[str, tuple[str, ...], set[str]], ...] = (
    ("status", (), NOTHING),
    ("logs", ("--file", "{tmp}/recorder.log"), NOTHING),
    ("doctor", (), {"futu"}),
    ("config", (), NOTHING),
    ("schwab", ("status",), NOTHING),
    ("sources", (), NOTHING),
    ("day", (DAY,), NOTHING),
    ("day", (DAY, "--recount"), ARROW),
    ("gaps", ("--days", "..", "--state", "all"), NOTHING),
    ("facts", (DAY,), SQL),
    ("audit", (DAY, "--against-kline"), {"futu"}),
    ("repair", (DAY, "--dry-run"), NOTHING),
    ("symbols", (), {"futu"}),
    ("top", (), SQL),
    ("universe", ("--recorded-only", "--limit", "2"), SQL),
    ("ticks", (SYMBOLS[0], "--last", "3"), ARROW),
    ("bars", (SYMBOLS[0],), ARROW),
    ("book", (SYMBOLS[0],), NOTHING),
    ("snapshots", (), NOTHING),
    ("query", ("SELECT count(*) FROM ticks",), SQL),
    ("export", ("csv", "--output", "{tmp}/csv"), ARROW),
    ("archive", (DAY, "--archive-root", "{tmp}/another"), ARROW),
    ("verify", (DAY, "--archive-root", "{tmp}/archive"), ARROW),
    ("restore", (DAY, "--archive-root", "{tmp}/archive"), ARROW),
    ("retain", ("--keep-days", "20", "--dry-run"), ARROW),
    ("eod", (), ARROW),
    ("salvage", ("{data}/" + DAY + ".db", "--into", "{tmp}/salvaged"), NOTHING),
    ("vacuum", (DAY,), ARROW),
    ("compare", ("{data}", "{tmp}/twin"), ARROW),
    ("merge", ("{data}", "{tmp}/twin", "--into", "{tmp}/merged"), ARROW),
    ("import", ("sierra", "{tmp}/ESZ26_FUT_CME.scid", "--data-root", "{tmp}/cme"), NOTHING),
    ("migrate", ("--dry-run",), NOTHING),
    ("serve", ("--data-root", "{data}", "--anonymous", "--port", "{taken}"), NOTHING),
    ("keys", ("list", "--keys-file", "{tmp}/keys.json"), NOTHING),
    ("alert", ("list",), NOTHING),
    ("ship", ("verify",), ARROW),
)
SCHWAB = {"SOURCE": "schwab", "MARKET": "US", "SCHWAB_SECRETS_FILE": "/none", "SCHWAB_TOKEN_FILE": "/none"}
ON_A_TERMINAL = {"screen"}  # says so and ends elsewhere


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp = tmp_path_factory.mktemp("imports")
    record_day(tmp / "data", count=60, lost=(7,))
    (tmp / "twin").mkdir()
    shutil.copy(tmp / "data" / f"{DAY}.db", tmp / "twin")
    assert tickctl("archive", DAY, "--archive-root", tmp / "archive", data_root=tmp / "data").returncode == 0
    (tmp / "recorder.log").write_text("2026-11-20T01:30:00.000Z INFO health ok\n")
    write_scid(tmp / "ESZ26_FUT_CME.scid", run_of(1_795_190_400_000_000, 5))
    return tmp


def test_every_command_is_tried() -> None:
    assert {name for name, _, _ in LOADED} == set(COMMANDS) - ON_A_TERMINAL


@pytest.mark.parametrize(("name", "arguments", "wanted"), LOADED)
def test_a_command_loads_what_it_uses(place: Path, name: str, arguments: tuple[str, ...], wanted: set[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [word.format(tmp=place, data=place / "data", taken=taken.getsockname()[1]) for word in arguments]
        data_root = (
            None
            if "--data-root" in words or name in ("keys", "alert", "compare", "merge", "schwab", "ship")
            else place / "data"
        )
        done = tickctl(
            name, *words, data_root=data_root, PYTHONPROFILEIMPORTTIME=1,
            FUTU_SYMBOLS="US.AAPL" if name == "schwab" else ",".join(SYMBOLS),
            FUTU_HOST="127.0.0.1", FUTU_PORT=NOBODY_LISTENS, ALERT_DIR=place / "alert",
            SHIP_URL=f"http://127.0.0.1:{NOBODY_LISTENS}", **({"DATA_ROOT": place / "data"} if name == "ship" else {}),
            **(SCHWAB if name == "schwab" else {}),
        )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    nothing_there = {"alert": 2, "book": 3, "schwab": 3, "snapshots": 3}  # no outbox, no login, nothing recorded
    assert done.returncode in (0, 1, nothing_there.get(name)), done.stdout + done.stderr[-2000:]
    assert _loaded(done.stderr) == wanted
    if wanted == NOTHING and name not in (
        "alert",
        "repair",
        "serve",
        "status",
    ):  # these have a loop, or the recorder's module of one
        assert not re.search(r"^import time:.*\| +asyncio$", done.stderr, re.MULTILINE), "it runs no loop"


OF_SOURCE: dict[str, dict[str, object]] = {
    "source": {"FUTU_SYMBOLS": SYMBOLS[0]},  # OpenD's
    "sierra": {"SOURCE": "sierra", "MARKET": "CME", "SIERRA_DIR": "/", "FUTU_SYMBOLS": "CME.ESZ26"},
}


@pytest.mark.parametrize("checks", OF_SOURCE)
def test_doctor_loads_the_checks_of_its_source_alone(tmp_path: Path, checks: str) -> None:
    done = tickctl("doctor", "--offline", data_root=tmp_path, PYTHONVERBOSE=1, **OF_SOURCE[checks])
    loaded = set(re.findall(r"^import 'hk_tick_collector\.cli\.doctor_(\w+)'", done.stderr, re.MULTILINE))
    assert loaded == {"local", "serving", "copies", checks}, done.stdout
    assert ("import 'futu'" in done.stderr) == (checks == "source")


# The help of each command in a process of its own, forked from one that has imported the console script's module alone.
HELP_OF_EACH = """
import os, sys
from hk_tick_collector.cli.start import main
for name in sys.argv[2:]:
    sys.stdout.flush()
    if os.fork() == 0:
        large, sys.argv = sys.argv[1].split(","), ["hk-tickctl", name, "--help"]
        try:
            code = main()
        except SystemExit as exc:
            code = exc.code
        print("\\n::", name, code, *(module for module in large if module in sys.modules), flush=True)
        os._exit(0)
    os.wait()
"""


def test_help_of_every_command_loads_nothing() -> None:
    command = [sys.executable, "-I", "-c", HELP_OF_EACH, ",".join(LARGE), *COMMANDS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    told = re.findall(r"^:: (.*)$", done.stdout, re.MULTILINE)
    assert told == [f"{name} 0" for name in COMMANDS], done.stdout[-2000:] + done.stderr[-2000:]


def _loaded(told: str) -> set[str]:
    """The large ones by what Python says of its imports; an import that came to nothing has no parts."""
    return {name for name in LARGE if re.search(rf"^import time:.*\| +{name}\.\w", told, re.MULTILINE)}

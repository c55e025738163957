"""What the built ``hk-tickctl`` imports: a question that no column answers loads none of the large libraries."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from hk_tick_collector.cli.main import COMMANDS
from tests.harness import clean_env
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


# Each command in a process of its own, forked from one that has imported the console script's module alone: which
# modules it has in the end.
FORKING = """
import json, os, sys, traceback
from hk_tick_collector.cli.start import main
for line in sys.stdin:
    asked = json.loads(line)
    if os.fork() == 0:
        for stream, number in ((asked["out"], 1), (asked["err"], 2)):
            os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.argv = ["hk-tickctl", *asked["words"]]
        try:
            code = main()
        except SystemExit as exc:
            code = exc.code
        except BaseException:
            traceback.print_exc()
            code = 1
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with open(asked["modules"], "w") as file:
            json.dump({"code": code or 0, "modules": list(sys.modules)}, file)
        os._exit(0)
    os.wait()
    print("done", flush=True)
"""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    output: str
    errors: str
    modules: set[str]


@dataclass(frozen=True)
class Forking:
    """The process that commands are forked from."""

    process: subprocess.Popen[str]
    directory: Path

    def run(self, words: Sequence[object], **settings: object) -> Done:
        places = {name: self.directory / name for name in ("out", "err", "modules")}
        places["modules"].unlink(missing_ok=True)
        environment = clean_env(self.directory / "home", **settings)
        asked = {"words": words, "environment": environment, **places}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked, default=str) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"
        told = json.loads(places["modules"].read_text())
        return Done(told["code"], places["out"].read_text(), places["err"].read_text(), set(told["modules"]))


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forking]:
    command = [sys.executable, "-I", "-c", FORKING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Forking(process, tmp_path_factory.mktemp("forking"))


def test_every_command_is_tried() -> None:
    assert {name for name, _, _ in LOADED} == set(COMMANDS) - ON_A_TERMINAL


@pytest.mark.parametrize(("name", "arguments", "wanted"), LOADED)
def test_a_command_loads_what_it_uses(
    place: Path, forking: Forking, name: str, arguments: tuple[str, ...], wanted: set[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [word.format(tmp=place, data=place / "data", taken=taken.getsockname()[1]) for word in arguments]
        if "--data-root" not in words and name not in ("keys", "alert", "compare", "merge", "schwab", "ship"):
            words += ["--data-root", str(place / "data")]
        done = forking.run(
            [name, *words], FUTU_SYMBOLS="US.AAPL" if name == "schwab" else ",".join(SYMBOLS),
            FUTU_HOST="127.0.0.1", FUTU_PORT=NOBODY_LISTENS, ALERT_DIR=place / "alert",
            SHIP_URL=f"http://127.0.0.1:{NOBODY_LISTENS}", **({"DATA_ROOT": place / "data"} if name == "ship" else {}),
            **(SCHWAB if name == "schwab" else {}),
        )  # fmt: skip
    assert "Traceback" not in done.errors, done.errors[-2000:]
    nothing_there = {"alert": 2, "book": 3, "schwab": 3, "snapshots": 3}  # no outbox, no login, nothing recorded
    assert done.code in (0, 1, nothing_there.get(name)), done.output + done.errors[-2000:]
    # An import that came to nothing has no parts.
    assert {large for large in LARGE if any(module.startswith(f"{large}.") for module in done.modules)} == wanted
    if wanted == NOTHING and name not in (
        "alert",
        "repair",
        "serve",
        "status",
    ):  # these have a loop, or the recorder's module of one
        assert "asyncio" not in done.modules, "it runs no loop"


OF_SOURCE: dict[str, dict[str, object]] = {
    "source": {"FUTU_SYMBOLS": SYMBOLS[0]},  # OpenD's
    "sierra": {"SOURCE": "sierra", "MARKET": "CME", "SIERRA_DIR": "/", "FUTU_SYMBOLS": "CME.ESZ26"},
}


@pytest.mark.parametrize("checks", OF_SOURCE)
def test_doctor_loads_the_checks_of_its_source_alone(tmp_path: Path, forking: Forking, checks: str) -> None:
    done = forking.run(["doctor", "--offline", "--data-root", tmp_path], **OF_SOURCE[checks])
    loaded = {module for module in done.modules if module.startswith("hk_tick_collector.cli.doctor_")}
    wanted = {f"hk_tick_collector.cli.doctor_{part}" for part in ("local", "serving", "copies", checks)}
    assert loaded == wanted, done.output
    assert ("futu" in done.modules) == (checks == "source")


# The help of each command in a process of its own, forked from one that has imported what each of them begins with.
HELP_OF_EACH = """
import os, sys
import hk_tick_collector.cli.main, hk_tick_collector.cli.stretch
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

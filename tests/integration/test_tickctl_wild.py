"""Whatever a file or OpenD says, ``hk-tickctl`` prints it printable, and writes inside its target only.

A day file of an earlier recorder holds symbols that no security has: escape sequences, paths, line breaks.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import sqlite3
import subprocess
import time
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest

from hk_tick_collector.health.statusfile import RecorderStatus, process_space
from hk_tick_collector.market.symbols import file_name
from hk_tick_collector.store import layout
from tests.harness import BIN, clean_env
from tests.tickctl import record_day, tickctl, tickctl_json
from tests.ticks import DAY

WILD = (
    "HK./../../../escaped",
    "HK.\x1b[2J\x1b]0;owned\x07",
    "HK.a\nb",
    "HK.\u202e00700",
    "HK.\x9b31m",
    "HK." + "9" * 300,
)
SYMBOLS = (*WILD, "HK.00700")
EVIL_WORDS = "\x1b]0;owned\x07 no right \x9b31m\r\n\u202e" + "x" * 100
# What rich puts around its own texts: colours, and the way back to the beginning of a bar of progress.
_OURS = re.compile(r"\x1b\[(?:[0-9;]*m|2K|1A|\?25[lh])|\r")

COMMANDS = (
    ("status",),
    ("day", DAY, "--no-write", "--all"),
    ("day", DAY, "--no-write", "--recount", "--all"),
    ("gaps",),
    ("top", "--days", DAY),
    ("query", "SELECT symbol, count(*) FROM ticks GROUP BY symbol"),
    ("query", "--format", "csv", "SELECT DISTINCT symbol FROM ticks"),
    ("query", "--format", "jsonl", "SELECT DISTINCT symbol FROM ticks"),
    ("ticks", "\x1b[2J"),
    ("export", "csv", "--days", DAY, "--output", "/proc/\x1b[2J"),
    ("verify", "\x1b[2J"),
    ("\x1b[2J",),
)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wild") / "HK"
    record_day(root, DAY, symbols=SYMBOLS, count=40, lost=(7,), proven=False)
    status = RecorderStatus(
        os.getpid(), "1.0", process_space(), 1, 1, "alert", reason=EVIL_WORDS, market_hk="\x1b[2J",
        refused_symbols={"HK.00005": EVIL_WORDS}, symbols_refused=1, last_alert_at_ms=1, last_alert_reason=EVIL_WORDS,
    )  # fmt: skip
    layout.replace_file(layout.status_file(root), json.dumps(asdict(status)).encode())
    return root


def fresh_status(root: Path) -> None:
    """As the recorder writes it every two seconds."""
    path = layout.status_file(root)
    fields = json.loads(path.read_text())
    layout.replace_file(path, json.dumps({**fields, "written_at_ms": time.time_ns() // 1_000_000}).encode())


def assert_printable(text: str) -> None:
    odd = {sign for sign in text if not sign.isprintable() and sign not in "\n\t"}
    assert not odd, f"{odd} in {text!r}"


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda words: " ".join(words[:2]).encode("unicode_escape").decode())
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_nothing_raw_goes_into_a_pipe(data_root: Path, arguments: tuple[str, ...], as_json: bool) -> None:
    if as_json and "--format" in arguments:
        pytest.skip("--json and --format exclude each other")
    fresh_status(data_root)
    done = tickctl(*arguments, *(["--json"] if as_json else []), data_root=data_root)
    assert "Traceback" not in done.stderr
    assert_printable(done.stderr)
    if arguments[0] != "query":  # rows into a pipe are data, and stay what they are
        assert_printable(done.stdout)
    if as_json and done.stdout:
        assert json.loads(done.stdout)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda words: " ".join(words[:2]).encode("unicode_escape").decode())
def test_nothing_raw_reaches_a_terminal(data_root: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    fresh_status(data_root)
    shown = on_a_terminal([str(BIN / "hk-tickctl"), *arguments, "--data-root", str(data_root)], tmp_path)
    assert "Traceback" not in shown
    assert shown
    assert_printable(_OURS.sub("", shown))


def on_a_terminal(command: list[str], directory: Path) -> str:
    """What the terminal of a person would get, with the line ends of its driver taken back."""
    master, slave = pty.openpty()
    env = {**clean_env(directory / "home"), "TERM": "xterm", "COLUMNS": "160", "LINES": "60"}
    process = subprocess.Popen(command, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + 60
    try:
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while time.monotonic() < deadline:
                if select.select([master], [], [], 1.0)[0]:
                    data = os.read(master, 65536)
                    if not data:
                        break
                    shown += data
        assert process.wait(60) in (0, 1, 2, 3), shown
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(60)
        os.close(master)
    return shown.decode("utf-8").replace("\r\n", "\n")


@pytest.mark.parametrize("form", ["csv", "futu-zip"])
def test_an_export_stays_inside_its_target_whatever_a_symbol_is(data_root: Path, tmp_path: Path, form: str) -> None:
    target = tmp_path / "a" / "b" / "c" / "out"
    target.mkdir(parents=True)
    arguments = ["--split-symbols"] if form == "csv" else []
    done = tickctl("export", form, "--days", DAY, *arguments, "--output", target, data_root=data_root)
    assert done.returncode == 0, done.stderr
    assert_printable(done.stdout + done.stderr)
    made = [path for path in tmp_path.rglob("*") if path.is_file() and "home" not in path.parts]
    assert all(target in path.parents for path in made), made
    if form == "csv":
        names = {path.stem for path in made}
    else:
        with zipfile.ZipFile(made[0]) as archive:
            names = {name.removesuffix(".csv") for name in archive.namelist()}
    assert len(names) == len(SYMBOLS)
    assert "HK.00700" in names
    assert not any(set(name) & set("/\\\n\x1b") or ".." in name for name in names)


def test_names_of_files_are_apart_short_and_go_nowhere() -> None:
    odd = [*WILD, "..", ".", "", "/", "\0", "\udfff", "%", "%25", "HK.9" * 100, "HK.9" * 101]
    names = [file_name(symbol) for symbol in odd]
    assert len(set(names)) == len(odd)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9%]{1,120}", name), name
    for symbol in ("HK.00700", "US.BRK.B", "SH.600519", "CME.ESZ26"):
        assert file_name(symbol) == symbol
    assert file_name("US..DJI") == "US%2E%2EDJI"


def test_top_survives_an_amount_that_no_trade_has(tmp_path: Path) -> None:
    """An earlier recorder stored what OpenD sent."""
    root = tmp_path / "HK"
    record_day(root, DAY, symbols=("HK.00700", "HK.00005"), count=50)
    with contextlib.closing(sqlite3.connect(layout.day_file(root, DAY))) as conn, conn:
        conn.execute("UPDATE ticks SET turnover = 1e300 WHERE symbol = 'HK.00005' AND rowid % 7 = 0")
        conn.execute("UPDATE ticks SET price = 1e300 WHERE symbol = 'HK.00005' AND rowid % 9 = 0")
    for arguments in (("top", "--days", DAY), ("bars", "5", "--day", DAY), ("ticks", "5", "--day", DAY)):
        done = tickctl(*arguments, data_root=root)
        assert done.returncode == 0, done.stderr
    assert tickctl_json("top", "--days", DAY, data_root=root)

"""``scripts/demo.sh`` as a user sees it: started, watched, interrupted, broken. Nothing of it may be left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import runpy
import select
import shlex
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Process, clean_env, ended, wait_until
from tests.scratch_tree import ROOT, copy_tree, make_venv

DEMO = ROOT / "scripts" / "demo.py"
Start = Callable[[int], Process]


def demo_env(tmp_path: Path) -> dict[str, str]:
    """A scratch directory of the test's own, and settings of the user that must not get into the demo."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    return clean_env(
        tmp_path / "home", TMPDIR=tmp_path / "tmp", FUTU_HOST="203.0.113.1", FUTU_PORT="1", DATA_ROOT="/nowhere",
        FUTU_SYMBOLS="HK.00700",
    )  # fmt: skip


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(seconds)`` runs the demo's Python part on this test's interpreter; gone with its children afterwards."""
    with contextlib.ExitStack() as stack:

        def starter(seconds: int) -> Process:
            demo = Process([sys.executable, DEMO, "--seconds", str(seconds)], demo_env(tmp_path))
            stack.enter_context(ended(demo))
            stack.callback(kill_children_named_in, demo)
            return demo

        yield starter


def children_of(demo: Process) -> list[int]:
    return [int(pid) for pid in re.findall(r"\(pid (\d+)\)", demo.output)]


def kill_children_named_in(demo: Process) -> None:
    for pid in children_of(demo):
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def assert_clean_end(demo: Process) -> None:
    assert "Traceback" not in demo.output
    assert not [pid for pid in children_of(demo) if is_running(pid)], demo.output


def written_file(demo: Process) -> Path:
    match = re.search(r"^The file:\n  (\S+\.db)$", demo.output, re.MULTILINE)
    assert match, demo.output
    return Path(match[1])


def test_without_a_terminal_a_line_a_second_then_the_proof(start: Start, tmp_path: Path) -> None:
    demo = start(4)
    assert demo.wait() == 0, demo.output
    assert_clean_end(demo)
    lines = [line for line in demo.lines if line.startswith("demo sec=")]
    seconds = [int(line.split()[1].removeprefix("sec=")) for line in lines]
    assert len(seconds) == 5
    assert seconds == sorted(seconds), "as late as the machine is"
    assert seconds[-1] >= 4
    assert "\x1b" not in demo.output
    last = dict(word.split("=", 1) for word in lines[-1].split()[1:])
    assert last["health"] == "ok"
    assert float(last["live_rows_per_sec"]) > 5
    assert 0 <= float(last["newest_age_sec"]) < 30
    assert int(last["queue"]) < 500

    path = written_file(demo)
    assert path.is_relative_to(tmp_path / "tmp")
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        rows, symbols = conn.execute("SELECT COUNT(*), COUNT(DISTINCT symbol) FROM ticks").fetchone()
        live = conn.execute("SELECT COUNT(*) FROM ticks WHERE push_type = 'push'").fetchone()[0]
    assert symbols == 20
    assert int(last["live_rows"]) <= live
    freshness = re.search(r"^  lag_sec  rows\n  (-?[\d.]+) +(\d+)$", demo.output, re.MULTILINE)
    assert freshness
    assert int(freshness[2]) == rows
    assert -2 < float(freshness[1]) < 60


def test_the_commands_it_prints_can_be_typed(start: Start) -> None:
    demo = start(1)
    assert demo.wait() == 0, demo.output
    typed = next(line.strip() for line in demo.lines if line.startswith("  sqlite3 "))
    *_, uri, sql = shlex.split(typed)
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as conn:
        rows = conn.execute(sql).fetchone()[1]
    check = shlex.split(next(line for line in demo.lines if "hk-opend-sim check" in line))
    done = subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"stored {rows}, matched {rows}" in done.stdout
    next_steps = [shlex.split(line) for line in demo.lines if "/hk-tickctl " in line]
    assert [words[1] for words in next_steps] == ["day", "ticks", "serve"]
    day, ticks = (
        subprocess.run(words, capture_output=True, text=True, timeout=60, check=False) for words in next_steps[:2]
    )
    assert Path(re.findall(r"written: (\S+\.html)", day.stderr)[0]).is_file(), day.stdout
    # How many are proven after a second is OpenD's pace: one needs a pull that confirms it.
    said = day.stdout + day.stderr
    assert re.search(r"^symbols +\d+ proven, 0 with missing ticks, \d+ unproven$", day.stdout, re.MULTILINE), said
    assert day.returncode == 0, day.stdout + day.stderr
    assert len(re.findall("HK.00700", ticks.stdout)) == 5, ticks.stdout + ticks.stderr
    in_python = next(line for line in demo.lines if " -c 'import hk_tick_collector" in line)
    assert '"\'"' not in in_python, "no quotation mark within another one, to be read and retyped"
    loaded = subprocess.run(shlex.split(in_python), capture_output=True, text=True, timeout=60, check=False)
    assert loaded.stdout.startswith("pyarrow.Table"), loaded.stderr
    removal = shlex.split(demo.lines[-1])
    assert removal[:2] == ["rm", "-r"]
    assert subprocess.run(removal, timeout=30, check=False).returncode == 0
    assert not written_file(demo).exists()


def test_the_show_begins_when_every_symbol_was_answered(start: Start, tmp_path: Path) -> None:
    """What was traded before a symbol's first push comes with that answer alone: a shorter show could not be whole."""
    demo = start(1)
    demo.wait_for("demo sec=")
    (log,) = (tmp_path / "tmp").glob("*/recorder.log")
    assert re.search(r"backfill_done symbols=20 failed=0 ", log.read_text())
    assert demo.wait() == 0, demo.output
    assert "Yes: all " in demo.output
    assert_clean_end(demo)


def test_an_answer_that_failed_or_was_lost_with_the_connection_is_waited_for(tmp_path: Path) -> None:
    watcher = runpy.run_path(str(DEMO))["Watcher"](tmp_path)
    told = []
    for words in (
        "futu_connected host=127.0.0.1",
        "backfill_done symbols=20 failed=3 fetched=5000 accepted=5000 took_sec=1.0",
        "backfill_done symbols=3 failed=0 fetched=900 accepted=900 took_sec=0.2",
        'futu_disconnected reason="the connection is gone"',
        "backfill_done symbols=20 failed=0 fetched=6000 accepted=100 took_sec=1.0",
    ):
        watcher.read_log([f"2026-11-27T09:30:00.000+08:00 INFO {words}"])
        told.append(watcher.answered_symbols)
    assert told == [0, 17, 20, 0, 20]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_show_early_with_the_same_ending(start: Start, number: int) -> None:
    demo = start(600)
    demo.wait_for("demo sec=[1-9]")
    demo.signal(number)
    assert demo.wait() == 0, demo.output
    assert_clean_end(demo)
    assert "Yes: all " in demo.output
    assert written_file(demo).is_file()


@pytest.mark.parametrize("moment", ["Scratch directory", "Simulated OpenD on", "Recorder "])
def test_a_signal_before_there_are_rows_leaves_nothing(start: Start, tmp_path: Path, moment: str) -> None:
    demo = start(600)
    demo.wait_for(moment)
    demo.signal(signal.SIGINT)
    code = demo.wait()
    assert_clean_end(demo)
    if code == 0:  # the rows were faster than the signal
        assert "Yes: all " in demo.output
    else:
        assert code == 130, demo.output
        assert "stopped, no process is left" in demo.output
        assert not list((tmp_path / "tmp").iterdir())


def test_a_second_signal_ends_at_once(start: Start) -> None:
    demo = start(600)
    demo.wait_for("demo sec=")
    simulator = children_of(demo)[0]
    os.kill(simulator, signal.SIGSTOP)  # it cannot end by itself before the second signal
    demo.signal(signal.SIGINT)
    demo.signal(signal.SIGTERM)  # another one, since two of a kind may become one
    os.kill(simulator, signal.SIGCONT)
    assert demo.wait() == 130, demo.output
    assert_clean_end(demo)
    assert "what was recorded is in " in demo.output


@pytest.mark.parametrize(("which", "name"), [(0, "simulator"), (1, "recorder")])
def test_a_part_that_dies_is_named_and_fails_it(start: Start, which: int, name: str) -> None:
    demo = start(600)
    demo.wait_for("demo sec=")
    os.kill(children_of(demo)[which], signal.SIGKILL)
    assert demo.wait() == 1
    assert f"FAILED: the {name} was killed by SIGKILL. Its last lines:" in demo.output
    assert_clean_end(demo)


def test_a_row_that_is_missing_or_changed_fails_it(start: Start, tmp_path: Path) -> None:
    demo = start(600)
    demo.wait_for("demo sec=[1-9]")
    (path,) = (tmp_path / "tmp").glob("*/data/*.db")
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as conn, conn:
        newest = "SELECT rowid FROM ticks WHERE push_type = 'push' AND push_data_type = 'REALTIME' ORDER BY rowid DESC"
        conn.execute(f"DELETE FROM ticks WHERE rowid IN ({newest} LIMIT 2)")
        conn.execute(f"UPDATE ticks SET price = price + 1 WHERE rowid IN ({newest} LIMIT 1)")
    demo.signal(signal.SIGINT)
    assert demo.wait() == 1
    assert "FAILED: what is stored is not what was made (exit code 1)" in demo.output
    assert "  missing 2, extra 0, wrong 1, duplicate 0;" in demo.output
    assert "Yes: all " not in demo.output
    assert_clean_end(demo)


def test_output_that_nobody_reads_any_more_ends_it(tmp_path: Path) -> None:
    command = [sys.executable, str(DEMO), "--seconds", "600"]
    with subprocess.Popen(command, env=demo_env(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        output = ""
        try:
            for line in demo.stdout:
                output += line.decode()
                if "demo sec=" in output:
                    break
            demo.stdout.close()
            assert demo.wait(90) == 1
            assert demo.stderr.read() == b""
            pids = [int(pid) for pid in re.findall(r"\(pid (\d+)\)", output)]
            assert len(pids) == 2
            assert not any(map(is_running, pids))
        finally:
            demo.terminate()


def test_drawn_in_place_on_a_terminal(tmp_path: Path) -> None:
    # A terminal throws away what it has not shown yet when Ctrl-C is typed: type it behind the whole picture.
    whole = r"(?s)4 of 30 s.*?\x1b\[J"
    text, code = on_a_terminal([sys.executable, str(DEMO), "--seconds", "30", "--plain"], demo_env(tmp_path), whole)
    assert code == 0, text
    assert text.count("\x1b[?25l") == 1
    assert text.index("\x1b[?25l") < text.rindex("\x1b[?25h") < text.index("How fresh is the file")
    pictures = re.split(r"\x1b\[\d+A", text.partition("\x1b[?25h")[0])
    assert len(pictures) >= 4
    heights = [int(up) for up in re.findall(r"\x1b\[(\d+)A", text)]
    assert heights == [picture.count("\x1b[K") for picture in pictures[:-1]], "each picture covers the one before"
    plain = re.sub(r"\x1b\[\??\d*[A-Za-z]", "", pictures[-1]).replace("^C", "")
    assert max(map(len, plain.splitlines())) < 100
    assert re.search(r"health +ok: OpenD ready, 20 of 20 symbols subscribed", plain)
    assert re.search(r"rows stored +\d+: \d+ backfilled, \d+ live", plain)
    assert re.search(r"newest tick +-?[\d.]+ s old; from OpenD's receipt to its row \d+ ms", plain)
    assert len(re.findall(r"^  HK\.\d{5} +\d+ +[\d.]+ +[\d.]+\r$", plain, re.MULTILINE)) >= 5
    page = (ROOT / "docs/rehearsal.md").read_text(encoding="utf-8")
    shown = page.partition("```text\n")[2].partition("```")[0]
    assert shown.startswith("hk-tick-collector on a simulated market: ")
    assert labels_of(shown) == labels_of(plain), "the page shows the same picture"
    assert "Traceback" not in text


def test_on_a_terminal_it_is_the_live_screen_and_the_ending_is_the_same(tmp_path: Path) -> None:
    drawn = r"(?s)simulated market: .*HK\.\d{5}.*futu_connected|health"
    text, code = on_a_terminal([sys.executable, str(DEMO), "--seconds", "30"], demo_env(tmp_path), drawn)
    assert code == 0, text
    picture, _, ending = text.partition("\x1b[?1049l")  # the terminal as it was
    assert "(q ends it)" in picture
    assert "\x1b[?25h" in text, "the cursor is there again"
    assert "Yes: all " in ending
    assert "Traceback" not in text


def labels_of(picture: str) -> list[str]:
    """What begins the lines of the picture: its figures, and the head of the table."""
    return [label for label in re.findall(r"^  (\S+(?: \S+)?) {2,}\S", picture, re.MULTILINE) if "HK." not in label]


def on_a_terminal(command: list[str], env: dict[str, str], until: str) -> tuple[str, int]:
    """Run on a terminal of 24 lines and 100 columns, type Ctrl-C when ``until`` is seen; output and exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, {**env, "TERM": "xterm"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    output = b""
    deadline = time.monotonic() + 60
    typed = False
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    output += os.read(terminal, 65536)
                except OSError:  # the other end is closed
                    break
            if not typed and re.search(until, output.decode(errors="replace")):
                os.write(terminal, b"\x03")
                typed = True
        else:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(terminal)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return output.decode(), code


# --- the shell part -------------------------------------------------------------------------------------------------


def shell(tree: Path, tmp_path: Path, *arguments: str, **settings: object) -> Process:
    env = {**demo_env(tmp_path), "PYTHON": sys.executable, **{key: str(value) for key, value in settings.items()}}
    return Process(["bash", tree / "scripts" / "demo.sh", *arguments], env)


def test_help_and_usage_cost_nothing(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    with ended(helped := shell(tree, tmp_path, "--help")):
        assert helped.wait() == 0
        assert "Usage: bash scripts/demo.sh [--seconds N] [--plain]" in helped.output
    for arguments in (["--seconds"], ["--seconds", "0"], ["--seconds=1.5"], ["--seconds", "ten"], ["--fast"]):
        with ended(wrong := shell(tree, tmp_path, *arguments)):
            assert wrong.wait() == 2, arguments
            assert wrong.lines[0].startswith("demo.sh: "), arguments
    assert not (tree / ".venv").exists()


def test_the_script_runs_the_demo_and_passes_ctrl_c_on(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    make_venv(tree)
    with ended(demo := shell(tree, tmp_path, "--seconds", "600")):
        try:
            demo.wait_for("demo sec=[1-9]")
            demo.signal(signal.SIGINT)
            assert demo.wait() == 0, demo.output
        finally:
            kill_children_named_in(demo)
        assert_clean_end(demo)
        assert "installing" not in demo.output
        assert "Yes: all " in demo.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_installation_takes_its_processes_along(tmp_path: Path, number: int) -> None:
    tree = copy_tree(tmp_path / "tree")
    slow = tmp_path / "slow-python"
    pid_file = tmp_path / "pid"
    # An interpreter whose venv module hangs in a process that it has started.
    slow.write_text(
        f'#!/bin/bash\n[[ $2 == -m ]] || exec {sys.executable} "$@"\nsleep 600 &\necho $! >{pid_file}\nwait\n'
    )
    slow.chmod(0o755)
    with ended(demo := shell(tree, tmp_path, PYTHON=slow)):
        pid = int(wait_until(lambda: pid_file.is_file() and pid_file.read_text().strip(), "the installation runs"))
        try:
            demo.signal(number)
            assert demo.wait() == 128 + number
            wait_until(lambda: not is_running(pid), "the installation's process is gone")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert demo.lines[-1] == "demo.sh: stopped during the installation; nothing was started"
        assert not list((tmp_path / "tmp").iterdir()), "no log is left"


def test_an_environment_that_cannot_be_made_is_said_once_and_clearly(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    with ended(absent := shell(tree, tmp_path, PYTHON="python-that-is-not-there")):
        assert absent.wait() == 69
        (line,) = absent.lines
        assert line.startswith(
            "demo.sh: python-that-is-not-there not found. On Debian and Ubuntu: sudo apt-get install"
        )
    (tree / ".venv").write_text("in the way")
    with ended(blocked := shell(tree, tmp_path)):
        assert blocked.wait() == 69
        assert blocked.lines[-1] == "demo.sh: .venv could not be made; the reason is above."
        assert "Traceback" not in blocked.output

"""Log lines: both forms, the word ERROR, journald detection, and streams that break."""

from __future__ import annotations

import io
import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from hk_tick_collector.app.logs import OWN_LOGGER, configure_logging, is_journal

LOG = logging.getLogger(f"{OWN_LOGGER}.test")
OPERATORS_GREP = re.compile(r"health|persist_summary|persist_loop_heartbeat|WATCHDOG|sqlite_busy|ERROR|Traceback")
PLAIN_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) (\S+)")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger(OWN_LOGGER)
    before = (root.handlers[:], root.level, own.level)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    own.setLevel(before[2])


def configure(level: str, stream: TextIO, under_journald: bool) -> None:
    logging.getLogger().handlers[:] = []  # pytest's own raise what ours must not
    configure_logging(level, stream, under_journald)


def lines(*records: tuple[int, str], journald: bool, level: str = "DEBUG") -> list[str]:
    stream = io.StringIO()
    configure(level, stream, journald)
    for record_level, text in records:
        LOG.log(record_level, text)
    return stream.getvalue().splitlines()


# --- the two forms ---


def test_plain_line_has_utc_time_level_and_message_word() -> None:
    stream = io.StringIO()
    configure("INFO", stream, under_journald=False)
    record = LOG.makeRecord(LOG.name, logging.INFO, __file__, 1, "health queue=%d", (3,), None)
    record.created = 1_795_138_200.1239  # 2026-11-20 09:30:00.1239 in Hong Kong
    LOG.handle(record)
    assert stream.getvalue() == "2026-11-20T01:30:00.123Z INFO health queue=3\n"


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.DEBUG, "<7>"),
        (logging.INFO, "<6>"),
        (logging.INFO + 5, "<6>"),
        (logging.WARNING, "<4>"),
        (logging.ERROR, "<3>"),
        (logging.CRITICAL, "<2>"),
    ],
)
def test_journald_line_begins_with_priority_then_message_word(level: int, priority: str) -> None:
    (line,) = lines((level, "health queue=0"), journald=True)
    assert line.startswith(f"{priority}health queue=0")


@pytest.mark.parametrize("journald", [False, True])
@pytest.mark.parametrize("level", [logging.ERROR, logging.CRITICAL])
def test_the_word_error_is_in_every_line_of_an_error(level: int, journald: bool) -> None:
    (line,) = lines((level, "store_failed reason=disk_full"), journald=journald)
    assert "ERROR" in line
    assert "store_failed reason=disk_full" in line


@pytest.mark.parametrize("journald", [False, True])
def test_the_word_error_is_in_no_other_line(journald: bool) -> None:
    assert "ERROR" not in "".join(lines((logging.WARNING, "drift"), (logging.INFO, "health"), journald=journald))


def test_plain_error_says_its_level_once() -> None:
    (line,) = lines((logging.ERROR, "store_failed"), journald=False)
    assert line.endswith("Z ERROR store_failed")


@pytest.mark.parametrize("journald", [False, True])
def test_traceback(journald: bool) -> None:
    stream = io.StringIO()
    configure("INFO", stream, journald)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        LOG.exception("persist_failed rows=5")
    written = stream.getvalue().splitlines()
    assert "persist_failed rows=5" in written[0]
    assert "ERROR" in written[0]
    assert written[1].endswith("Traceback (most recent call last):")
    assert written[-1].endswith("second")
    if journald:
        assert all(line.startswith("<3>") for line in written)


def test_foreign_text_cannot_choose_its_own_priority() -> None:
    assert lines((logging.INFO, "strange\n<0>forged"), journald=True) == ["<6>strange", "<6><0>forged"]


def test_level_error_stands_in_the_first_of_several_lines() -> None:
    assert lines((logging.ERROR, "first\nsecond"), journald=True) == ["<3>first level=ERROR", "<3>second"]


@pytest.mark.parametrize("journald", [False, True])
def test_the_operators_grep_finds_its_lines(journald: bool) -> None:
    log_lines = lines(
        (logging.INFO, "health connected=True"),
        (logging.INFO, "persist_summary rows=1"),
        (logging.ERROR, "spill_refused rows=1"),
        (logging.INFO, "futu_connected"),
        journald=journald,
    )
    assert [bool(OPERATORS_GREP.search(line)) for line in log_lines] == [True, True, True, False]


# --- levels and handlers ---


def test_level_applies_to_our_own_loggers() -> None:
    assert len(lines((logging.DEBUG, "a"), (logging.INFO, "b"), journald=True, level="INFO")) == 1
    assert len(lines((logging.DEBUG, "a"), (logging.INFO, "b"), journald=True, level="DEBUG")) == 2
    assert lines((logging.WARNING, "a"), journald=True, level="ERROR") == []


def test_other_packages_are_heard_from_warning_up() -> None:
    stream = io.StringIO()
    configure("DEBUG", stream, under_journald=True)
    logging.getLogger("someone.else").info("chatter")
    logging.getLogger("someone.else").warning("trouble")
    assert stream.getvalue() == "<4>trouble\n"


def test_second_call_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging("INFO", first, under_journald=True)
    configure_logging("INFO", second, under_journald=False)
    LOG.info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_python_warnings_become_log_lines() -> None:
    stream = io.StringIO()
    configure("INFO", stream, under_journald=True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old call", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old call" in stream.getvalue()


def test_standard_error_is_the_default(capfd: pytest.CaptureFixture[str]) -> None:
    code = "from hk_tick_collector.app.logs import configure_logging; import logging\n"
    code += "configure_logging('INFO'); logging.getLogger('hk_tick_collector').info('health')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, env=without_journal())
    out, err = capfd.readouterr()
    assert out == ""
    assert PLAIN_LINE.fullmatch(err.strip())


def test_lines_of_many_threads_stay_whole() -> None:
    stream = io.StringIO()
    configure("INFO", stream, under_journald=True)

    def write(number: int) -> None:
        for _ in range(200):
            LOG.info("word thread=%d end", number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    written = stream.getvalue().splitlines()
    assert len(written) == 800
    assert all(re.fullmatch(r"<6>word thread=\d end", line) for line in written)


# --- journald or not ---


def without_journal() -> dict[str, str]:
    return {key: text for key, text in os.environ.items() if key != "JOURNAL_STREAM"}


def test_is_journal_compares_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "other").open("w") as other:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(stream, environ)
        assert not is_journal(other, environ)
        assert not is_journal(stream, {})
        assert not is_journal(stream, {"JOURNAL_STREAM": ""})
        assert not is_journal(stream, {"JOURNAL_STREAM": "nonsense"})


def test_is_journal_of_streams_without_a_file() -> None:
    assert not is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:1"})
    closed = tempfile.TemporaryFile("w")  # noqa: SIM115 - it is about a closed one
    closed.close()
    assert not is_journal(closed, {"JOURNAL_STREAM": "1:1"})


CHILD = "from hk_tick_collector.app.logs import configure_logging; import logging\n" + textwrap.dedent(
    """
    configure_logging("INFO")
    for number in range(3):
        logging.getLogger("hk_tick_collector.x").info("health n=%d", number)
    print("reached the end", flush=True)
    """
)


def test_journald_is_recognised_by_a_process_of_its_own() -> None:
    """As systemd does it: standard error is a socket, its device and inode are in the environment."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        status = os.fstat(theirs.fileno())
        environ = {**without_journal(), "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        subprocess.run(
            [sys.executable, "-c", CHILD], stderr=theirs, stdout=subprocess.DEVNULL, env=environ, check=True, timeout=30
        )
        theirs.close()
        ours.settimeout(60)
        assert ours.makefile().read() == "<6>health n=0\n<6>health n=1\n<6>health n=2\n"


def test_inherited_variable_with_another_stream_is_not_believed() -> None:
    environ = {**without_journal(), "JOURNAL_STREAM": "8:12345"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, env=environ, timeout=30, check=True
    )
    assert len(done.stderr.splitlines()) == 3
    assert all(PLAIN_LINE.match(line) for line in done.stderr.splitlines())


# --- streams that break ---


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_reader_that_went_away_changes_neither_the_run_nor_the_exit_code(kind: str) -> None:
    if kind == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        ours, theirs = socket.socketpair()
        ours.close()
        writer = theirs.detach()
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            stderr=writer,
            stdout=subprocess.PIPE,
            env=without_journal(),
            timeout=30,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stdout) == (0, b"reached the end\n")


def test_full_disk_is_no_error_for_the_caller() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            stderr=full,
            stdout=subprocess.PIPE,
            env=without_journal(),
            timeout=30,
            check=False,
        )
    assert done.stdout == b"reached the end\n"


def test_closed_stream_is_no_error_for_the_caller() -> None:
    stream = io.StringIO()
    configure("INFO", stream, under_journald=False)
    stream.close()
    LOG.info("health")
    LOG.error("health %d", "not a number")


def test_arguments_that_do_not_fit_give_a_line_that_says_so() -> None:
    stream = io.StringIO()
    configure("INFO", stream, under_journald=True)
    LOG.info("health queue=%d", "many")
    LOG.info("health after")
    first, second = stream.getvalue().splitlines()
    assert first.startswith("<3>log_line_unreadable logger=hk_tick_collector.test")
    assert "health queue=%d" in first
    assert "error=TypeError" in first
    assert "ERROR" in first
    assert second == "<6>health after"


def test_message_object_that_cannot_be_shown() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    stream = io.StringIO()
    configure("INFO", stream, under_journald=True)
    LOG.info(Broken())
    assert "log_line_unreadable" in stream.getvalue()
    assert "text=Broken error=RuntimeError" in stream.getvalue()


def test_text_that_the_stream_cannot_encode() -> None:
    raw = io.BytesIO()
    configure("INFO", io.TextIOWrapper(raw, encoding="ascii"), under_journald=True)
    LOG.info("health name=騰訊")
    LOG.info("health after")
    first, second = raw.getvalue().decode("ascii").splitlines()
    assert "log_line_unreadable" in first
    assert r"u9a30" in first
    assert second == "<6>health after"

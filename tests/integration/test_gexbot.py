"""The recorder on a simulated gexbot, with its faults: snapshots of now, and the file of a day that is over."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.forked import parent
from tests.harness import BIN, ForkedRecorder, Process, clean_env, ended, wait_until

SYMBOLS = "US.SPX,US.ES_SPX"
SECONDS = 600  # that a day's file speaks of
KEY = "gexbot_custom_sim"


class Gexbot(Process):
    """``hk-gexbot-sim run`` with a truth file."""

    def __init__(self, directory: Path) -> None:
        self.truth = directory / "truth.jsonl"
        command = [BIN / "hk-gexbot-sim", "run", "--truth", self.truth, "--file-seconds", str(SECONDS)]
        super().__init__(command, clean_env(directory / "home"))
        self.api = self.wait_for(r"gexbot_sim_ready api=(\S+)").group(1)
        self.port = self.api.split(":")[2].split("/")[0]

    def do(self, name: str) -> None:
        subprocess.run([BIN / "hk-gexbot-sim", "fault", self.port, name], check=True, timeout=60)

    def waiting(self) -> int:
        """Oddities that nobody was shown yet."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/sim/waiting", timeout=30) as answer:
            return int(json.load(answer))

    def asked(self) -> dict[str, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/sim/state", timeout=30) as answer:
            state_json: dict[str, int] = json.load(answer)
        return state_json


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gexbot")
    (made / "key").write_text(f"key={KEY}\n")
    (made / "key").chmod(0o600)
    return made


@pytest.fixture(scope="module")
def gexbot(place: Path) -> Iterator[Gexbot]:
    with ended(made := Gexbot(place)):
        yield made


def settings(place: Path, gexbot: Gexbot, **more: object) -> dict[str, str]:
    given: dict[str, object] = {
        "SOURCE": "gexbot", "MARKET": "US", "FUTU_SYMBOLS": SYMBOLS, "DATA_ROOT": place / "US",
        "GEXBOT_API": gexbot.api, "GEXBOT_KEY_FILE": place / "key", "GEXBOT_COPY_DAYS": 1,
        "FUTU_POLL_TRADING_ONLY": 0, "CHECK_INTERVAL_SEC": 0.2, "RECONNECT_MIN_DELAY": 0.2, "RECONNECT_MAX_DELAY": 1,
    }  # fmt: skip
    return clean_env(place / "home", **{**given, **more})


def answers(place: Path, sql: str) -> list[tuple[str, int]]:
    """Of all files; of one that was only just made, none."""
    stored_rows: list[tuple[str, int]] = []
    for path in sorted((place / "US").glob("snapshot/*.snapshot.db")):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn, suppress(sqlite3.OperationalError):
            stored_rows += conn.execute(sql)
    return stored_rows


def stored(place: Path) -> Counter[str]:
    """Snapshots that were seen live, by symbol."""
    stored_rows: Counter[str] = Counter()
    for symbol, rows in answers(place, "SELECT symbol, count(*) FROM readable WHERE origin = 'live' GROUP BY symbol"):
        stored_rows[symbol] += rows
    return stored_rows


def copies(place: Path) -> int:
    return len(answers(place, "SELECT * FROM copies"))


def quarantined(recorder: Process, gexbot: Gexbot, place: Path, oddity: str, words: str) -> None:
    """Shown until it is kept there: an answer that comes too late is not read."""

    def there() -> bool:
        texts = [path.read_text() for path in (place / "US" / "_quarantine" / "snapshots").glob("*.jsonl")]
        if any(words in text for text in texts):
            return True
        assert recorder.proc.poll() is None, recorder.output
        if not gexbot.waiting():
            gexbot.do(oddity)
        return False

    wait_until(there, oddity)


def test_snapshots_and_whole_days_are_stored_once_through_all_faults(place: Path, gexbot: Gexbot) -> None:
    gexbot.do("cut_file")
    with ended(recorder := ForkedRecorder(settings(place, gexbot))):
        recorder.wait_for(r"gexbot_subscribed symbols=2 wanted=2 refused=0")
        wait_until(lambda: len(stored(place)) == 2, "snapshots of both")
        recorder.wait_for(r"gexbot_copy_failed .*error=\"?the day's file ends early")
        recorder.wait_for(r"gexbot_copied .*rejected=0")
        for oddity, words in (
            ("nan", "NaN is no number"), ("garbage", "no UTF-8 text"), ("half", "no JSON object"),
            ("other_ticker", "nobody asked for ticker"),
        ):  # fmt: skip
            quarantined(recorder, gexbot, place, oddity, words)
        gexbot.do("twice")
        before = stored(place)
        wait_until(lambda: stored(place).total() > before.total() + 2, "it goes on")
        assert recorder.stop() == 0
        assert "disconnected" not in recorder.output  # none of these cost the connection
        assert KEY not in recorder.output
        assert "very-secret" not in recorder.output
    # What ended early is asked for again by the next process; what was read to its end is not.
    first = {name: times for name, times in gexbot.asked().items() if name.startswith("hist/")}
    with ended(recorder := ForkedRecorder(settings(place, gexbot))):
        wait_until(lambda: copies(place) == 2, "both files")
        recorder.stop()
    again = {name: times for name, times in gexbot.asked().items() if name.startswith("hist/")}
    assert sum(again.values()) == sum(first.values()) + 1
    checked = subprocess.run(
        [BIN / "hk-gexbot-sim", "check", gexbot.truth, place / "US"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    counts = json.loads(checked.stdout)
    assert counts["copies"] == 2
    assert counts["of_these_stored"] > 0  # not all: an answer may have come too late


def test_who_says_no_is_left_alone_and_the_log_says_until_when(place: Path, gexbot: Gexbot) -> None:
    with ended(recorder := ForkedRecorder(settings(place, gexbot, GEXBOT_COPY_DAYS=0))):
        recorder.wait_for("gexbot_subscribed")
        gexbot.do("busy")
        recorder.wait_for(r"gexbot_disconnected .*left alone \(429\); not asked again before [\d:]{8} UTC")
        recorder.wait_for(r"gexbot_connect_failed .*left alone \(429\); not asked again before")
        asked = sum(gexbot.asked().values())
        gexbot.do("accept")
        assert sum(gexbot.asked().values()) == asked
        assert recorder.stop() == 0


def test_slow_and_stale_answers_store_nothing_and_cost_no_connection(place: Path, gexbot: Gexbot) -> None:
    def asked() -> int:
        return sum(gexbot.asked().values())

    with ended(recorder := ForkedRecorder(settings(place, gexbot, GEXBOT_COPY_DAYS=0))):
        recorder.wait_for("gexbot_subscribed")
        for fault, end in (("stale", "fresh"), ("slow", "fast")):
            gexbot.do(fault)
            before, asked_before = stored(place).total(), asked()
            wait_until(lambda: asked() > asked_before + 8, f"questions while it is {fault}")  # noqa: B023
            assert stored(place).total() <= before + 4, "two series: what was under way, and one snapshot of each"
            gexbot.do(end)
            before = stored(place).total()
            wait_until(lambda: stored(place).total() > before + 2, f"snapshots after {fault}")  # noqa: B023
        assert recorder.stop() == 0
        assert not recorder.find("gexbot_disconnected|Traceback")


def test_who_answers_nothing_is_given_up_and_asked_again_until_it_answers(place: Path, gexbot: Gexbot) -> None:
    with ended(recorder := ForkedRecorder(settings(place, gexbot, GEXBOT_COPY_DAYS=0))):
        recorder.wait_for("gexbot_subscribed")
        gexbot.do("mute")
        recorder.wait_for("gexbot_disconnected reason=.*given no snapshot for 30 s", timeout_sec=120)
        recorder.wait_for('gexbot_connect_failed .*error="gexbot ', timeout_sec=60)
        gexbot.do("fast")
        before = stored(place).total()
        wait_until(lambda: stored(place).total() > before + 2, "snapshots after the silence")
        assert recorder.stop() == 0
        assert not recorder.find("Traceback")


def test_another_key_is_tried_at_once_after_a_refused_one(place: Path, gexbot: Gexbot) -> None:
    (place / "key").write_text("key=gexbot_custom_wrong\n")
    with ended(recorder := ForkedRecorder(settings(place, gexbot, GEXBOT_COPY_DAYS=0))):
        recorder.wait_for(r"refused the key \(401\); not asked again before")
        before = stored(place).total()
        (place / "key.new").write_text(f"key={KEY}\n")
        (place / "key.new").chmod(0o600)
        (place / "key.new").rename(place / "key")
        wait_until(lambda: stored(place).total() > before, "snapshots with the new key")
        assert recorder.stop() == 0
        assert "gexbot_custom" not in recorder.output


def test_doctor_tries_each_step(place: Path, gexbot: Gexbot) -> None:
    def doctor(**more: object) -> dict[str, dict[str, str]]:
        done = parent("doctor").run(["doctor", "--json"], settings(place, gexbot, **more), 120)
        return {check["name"]: check for check in json.loads(done.stdout)["checks"]}

    fine = doctor()
    assert [fine[name]["result"] for name in ("gexbot_key", "gexbot_tickers", "gexbot_snapshot", "gexbot_copy")] == [
        "ok"
    ] * 4
    gexbot.do("no_file")
    gexbot.do("revoke")
    bad = doctor(FUTU_SYMBOLS="US.SPX,US.SPQ")
    gexbot.do("file")
    gexbot.do("accept")
    assert "did you mean SPX?" in bad["gexbot_tickers"]["found"]
    assert bad["gexbot_snapshot"]["result"] == "skipped"

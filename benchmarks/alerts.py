"""How soon an alert is in the outbox and at its target, and how soon after a day its digest comes.

    python -m benchmarks.alerts

A simulated OpenD, the recorder, ``hk-tick-alert``, and a webhook in this process. Each round starts the recorder and
``hk-tick-alert`` anew, because a rule that fires four times in half an hour is reported as flapping. It then kills the
recorder at a random moment, which makes ``recorder_down`` fire at once (``for_sec = 0``), and measures from the kill
until the letter is in ``outbox.db`` and until the webhook has it.

Floors: the time to the next look (half of LOOK_SEC on average, all of it at most), which nothing that looks from
outside can beat; that time plus the time that a letter waits for others and that a sender sleeps; and a letter that is
posted to the same webhook by hand.

The digest: ``hk-tick-alert`` over a recorded day, with a clock (libfaketime) that runs into the moment it is due.

Exit code 1: a letter came later than wanted.
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks import rig
from hk_tick_collector.alert.desk import DIGEST_AFTER_MS, LOOK_SEC
from hk_tick_collector.alert.outbox import GROUP_MS
from hk_tick_collector.alert.post import POLL_SEC
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.opend_sim.simclock import hk_time_ms
from tests.called import SECRET, Called
from tests.harness import BIN, BuiltRecorder, Process, Simulator, at_market_time, clean_env, ended
from tests.tickctl import record_day

AIM_OUTBOX_SEC, AIM_SENT_SEC, AIM_DIGEST_SEC = 5.0, 10.0, 300.0
STEP_SEC = 0.005
DEADLINE_SEC = 120.0
DAY, BEFORE_DUE = "20261120", "2026-11-20T16:19:50"
FILE = """
[[targets]]
name = "desk"
webhook = "{url}"
secret = "{secret}"
[deadman]
url = "{url}"
every_sec = 5
[rules.recorder_down]
for_sec = 0
"""


@dataclass(frozen=True, slots=True)
class Told:
    """Seconds until the letter was in the outbox, and until the webhook had it; from the same beginning."""

    outbox_sec: float
    sent_sec: float


def moment(condition: Callable[[], object], what: str) -> float:
    """``time.monotonic()`` when it became true, to STEP_SEC. AssertionError after the deadline."""
    deadline = time.monotonic() + DEADLINE_SEC
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {DEADLINE_SEC:g} s: {what}")
        time.sleep(STEP_SEC)
    return time.monotonic()


def alert(directory: Path, root: Path, called: Called, **settings: object) -> Process:
    """``hk-tick-alert`` with an outbox of its own."""
    directory.mkdir(parents=True)
    file = directory / "alerts.toml"
    file.write_text(FILE.format(url=called.url, secret=SECRET))
    file.chmod(0o640)
    given = {"DATA_ROOT": root, "ALERT_FILE": file, "ALERT_DIR": directory / "alert", **settings}
    return Process([BIN / "hk-tick-alert"], clean_env(directory / "home", **given))


def letters(directory: Path, kind: str) -> int:
    """How many are in the outbox, sent or not."""
    with closing(sqlite3.connect(f"file:{directory / 'alert' / 'outbox.db'}?mode=ro", uri=True)) as conn:
        found: int = conn.execute("SELECT COUNT(*) FROM letters WHERE kind = ?", (kind,)).fetchone()[0]
    return found


def measure_death(directory: Path, simulator: Simulator, called: Called, phase_sec: float) -> Told:
    """From the kill of a recorder, ``phase_sec`` after the first sign that all was well."""
    root, pings, known = directory / "data", called.pings, len(called.letters)
    recorder = BuiltRecorder(root, simulator.port, "HK.00700")
    with ended(recorder):
        recorder.wait_for("persist_summary")
        program = alert(directory / "desk", root, called)
        with ended(program):
            moment(lambda: called.pings > pings, "a sign that all is well")
            time.sleep(phase_sec)
            died_sec = time.monotonic()
            recorder.proc.kill()
            outbox_sec = moment(lambda: letters(directory / "desk", "event"), "the letter in the outbox")
            sent_sec = moment(lambda: len(called.letters) > known, "the letter at the webhook")
    return Told(outbox_sec - died_sec, sent_sec - died_sec)


def measure_digest(directory: Path, called: Called) -> Told:
    """From the end of a day whose digest is due while this runs."""
    root, known = directory / "HK", len(called.letters)
    record_day(root, DAY)
    over_ms = TradingCalendar(HK).no_more_ticks_ms(DAY)
    assert hk_time_ms(BEFORE_DUE) < over_ms + DIGEST_AFTER_MS
    ahead_sec = time.time() - time.monotonic()
    clock = at_market_time(BEFORE_DUE)
    over_sec = over_ms / 1000 - int(str(clock["FAKETIME"])) - ahead_sec  # on the monotonic clock of here
    program = alert(directory / "desk", root, called, **clock)
    with ended(program):
        program.wait_for("hk-tick-alert: ")
        outbox_sec = moment(lambda: letters(directory / "desk", "digest"), "the digest in the outbox")
        sent_sec = moment(
            lambda: any(letter["kind"] == "digest" for letter in called.letters[known:]), "the digest at the webhook"
        )
    return Told(outbox_sec - over_sec, sent_sec - over_sec)


def post_by_hand(called: Called) -> float:
    """Seconds for one letter that nobody had to notice first."""
    began_sec = time.monotonic()
    httpx.post(called.url, json={"text": "floor"}, timeout=60).raise_for_status()
    return time.monotonic() - began_sec


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = rig.parser(str(__doc__).splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which the recorder is killed")
    args = parser.parse_args(argv)
    rig.print_machine()
    phases = random.Random(args.seed)
    with rig.workspace(args.keep) as directory, Called() as called:
        simulator = Simulator(directory / "sim", "--symbols", "HK.00700", "--rate", "20", "--always-open")
        with ended(simulator):
            deaths = [
                measure_death(directory / f"round-{number}", simulator, called, phases.uniform(0, LOOK_SEC))
                for number in range(1 if args.short else args.rounds)
            ]
        digest = measure_digest(directory / "digest", called)
        by_hand_sec = [post_by_hand(called) for _ in range(5)]
    rows = rows_of(deaths, digest, by_hand_sec)
    print(rig.table(["measured", "p50 s", "max s", "wanted s"], rows))
    late = [f"{name}: {most_sec:.1f} s, wanted {aim:g}" for name, _, most_sec, aim in rows if aim and most_sec > aim]
    return rig.exit_code(late)


def rows_of(deaths: list[Told], digest: Told, by_hand_sec: list[float]) -> list[tuple[str, float, float, float | None]]:
    """Rows of the table: what is measured, median, most, and what is wanted."""
    outbox, sent = [one.outbox_sec for one in deaths], [one.sent_sec for one in deaths]
    look_sec, rest_sec = LOOK_SEC, GROUP_MS / 1000
    middle_sec, most_sec = look_sec / 2 + rest_sec + POLL_SEC / 2, look_sec + rest_sec + POLL_SEC
    return [
        ("fault to outbox", statistics.median(outbox), max(outbox), AIM_OUTBOX_SEC),
        ("floor: the next look", look_sec / 2, look_sec, None),
        ("fault to sent", statistics.median(sent), max(sent), AIM_SENT_SEC),
        ("floor: look, wait for others, sender", middle_sec, most_sec, None),
        ("floor: a letter posted by hand", statistics.median(by_hand_sec), max(by_hand_sec), None),
        ("end of day to digest in outbox", digest.outbox_sec, digest.outbox_sec, AIM_DIGEST_SEC + AIM_OUTBOX_SEC),
        ("end of day to digest sent", digest.sent_sec, digest.sent_sec, AIM_DIGEST_SEC + AIM_SENT_SEC),
    ]


if __name__ == "__main__":
    sys.exit(main())

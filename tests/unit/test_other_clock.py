"""The other clock of tests' processes changes what they are shown, and not what they cost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.harness import clean_env, other_clock

OFFSET_SEC = -1_000_000
# One thread holds Python's lock in a call that never lets go of it; another waits for it all the time.
WAITS_FOR_THE_LOCK = """\
import json, threading, time

def wait():
    begun.set()
    while not is_over:
        pass
    waited.append(time.thread_time())

begun, waited, is_over = threading.Event(), [], False
waiter = threading.Thread(target=wait)
waiter.start()
begun.wait()
held_sec = -time.thread_time()
sum(range(30_000_000))
held_sec += time.thread_time()
is_over = True
waiter.join()
print(json.dumps({"held_sec": held_sec, "waited_sec": waited[0], "now_sec": time.time()}))
"""


def test_who_waits_for_pythons_lock_does_not_spin(tmp_path: Path) -> None:
    def told(**settings: object) -> dict[str, float]:
        command = [sys.executable, "-c", WAITS_FOR_THE_LOCK]
        done = subprocess.run(command, env=clean_env(tmp_path, **settings), capture_output=True, text=True, check=True)
        cost: dict[str, float] = json.loads(done.stdout)
        return cost

    here, there = told(), told(**other_clock(FAKETIME=OFFSET_SEC))
    assert there["now_sec"] - here["now_sec"] < OFFSET_SEC / 2
    assert there["waited_sec"] < there["held_sec"] / 4

"""The container's health check: does the recorder answer, does its event loop turn, and what does it say of itself?

Reads the recorder's own metrics endpoint (METRICS_PORT). Healthy: the persist worker lives, the loop turned within
``MAX_LOOP_AGE_SEC``, and the status is not ``alert`` (``docs/runbook/operations.md``). A closed market and a quiet one
are healthy; an open market without ticks, or without OpenD, is not.

Exit codes: 0 healthy, 1 not; one line on standard output says why. Standard library alone: it runs every half minute.
"""

from __future__ import annotations

import os
import re
import sys
import time
import urllib.error
import urllib.request

MAX_LOOP_AGE_SEC = 30.0
TIMEOUT_SEC = 4.0
PREFIX = "hk_tick_collector_"


def main() -> int:
    """Ask, judge, say. The environment names the port, as it does for the recorder."""
    url = f"http://127.0.0.1:{os.environ.get('METRICS_PORT') or '9810'}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SEC) as answer:
            problem = judge(answer.read().decode(), time.time())
    except (OSError, urllib.error.URLError) as exc:
        problem = f"{url} does not answer: {exc}"
    sys.stdout.write(f"{problem or 'healthy'}\n")
    return 1 if problem else 0


def judge(text: str, now_sec: float) -> str | None:
    """What is wrong according to the metrics in ``text``; None when nothing is."""
    values = dict(re.findall(rf"^{PREFIX}(\S+) (\S+)$", text, re.MULTILINE))
    try:
        loop_age_sec = now_sec - float(values["loop_beat_timestamp_seconds"])
        worker_alive = float(values["worker_alive"])
        alert = float(values['health_status{status="alert"}'])
    except (KeyError, ValueError) as exc:
        return f"metric missing or no number: {exc}"
    if loop_age_sec > MAX_LOOP_AGE_SEC:
        return f"the event loop has not turned for {loop_age_sec:.0f} s"
    if not worker_alive:
        return "the persist worker is dead"
    return "status=alert: the health line in the log has the reason" if alert else None


if __name__ == "__main__":
    sys.exit(main())

"""Asking for a restart of a feed: what is taken is done, so nothing is taken that the recorder would pass over."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from hk_tick_collector.serve.api import facts
from hk_tick_collector.serve.api.roots import Roots
from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.problems import Problem
from hk_tick_collector.store import restarts
from tests.clock import ManualClock
from tests.ticks import BASE_MS
from tests.unit.client.days import store

KEY = Key("abcdefgh", "night", ("restart",))


@pytest.mark.parametrize(
    ("asked_sec", "done_sec", "wait_sec"),
    [(None, None, 0), (59, None, 1), (60, 58, 2), (60, 60, 0), (-7200, 58, 2), (-7200, None, 0)],
)
def test_the_minute_is_counted_from_when_the_recorder_did_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_sec: int | None, done_sec: int | None, wait_sec: int
) -> None:
    """The recorder looks every two seconds, and counts from then on; a clock may have been put back."""
    root, directory, clock = tmp_path / "HK", tmp_path / "restarts", ManualClock(BASE_MS)
    store(root, [])
    if asked_sec is not None:
        restarts.leave(directory, root, "night", BASE_MS - asked_sec * 1000)
    done_ms = None if done_sec is None else BASE_MS - done_sec * 1000
    status = SimpleNamespace(takes_restarts=1, restarted_at_ms=done_ms)
    monkeypatch.setattr(facts.watch, "look", lambda *_: SimpleNamespace(is_fresh=True, status=status))
    roots = Roots([(root, tmp_path / "archive")], clock)
    if not wait_sec:
        assert facts.restart(directory, roots, "HK", KEY) == {"source": "HK", "asked_at_ms": BASE_MS}
        assert restarts.newest(directory, root) == restarts.Restart("night (abcdefgh)", BASE_MS)
        return
    with pytest.raises(Problem) as told:
        facts.restart(directory, roots, "HK", KEY)
    assert (told.value.slug, told.value.headers["Retry-After"]) == ("rate-limited", str(wait_sec))

"""What a reader of the live channel brings: cursors and tickets that are late, foreign, or changed on the way."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from hk_tick_collector.serve.keys import ANONYMOUS, KeyLimits
from hk_tick_collector.serve.live import shared
from hk_tick_collector.serve.live.hub import Hub, News
from hk_tick_collector.serve.live.question import Subscription, subscription
from hk_tick_collector.serve.live.shared import Live
from hk_tick_collector.serve.problems import Problem
from hk_tick_collector.serve.settings import ServeSettings
from hk_tick_collector.store.position import Place, Position
from hk_tick_collector.store.signals import with_number

CURSOR = str(Position("20261119", (Place("20261120", 1234, 5, 6, 7),)))


def asked(tmp_path: Path, since: str, roots: int = 1) -> Subscription:
    return subscription({"since": since}, [Hub(tmp_path / str(n), News()) for n in range(roots)], ANONYMOUS)


@pytest.mark.parametrize("cursor", [CURSOR, with_number(CURSOR, 42)])
def test_a_cursor_that_was_changed_on_the_way_is_refused(tmp_path: Path, cursor: str) -> None:
    assert asked(tmp_path, cursor).after_signal == (42 if cursor != CURSOR else None)
    for n in range(len(cursor)):
        changed = cursor[:n] + ("7" if cursor[n] != "7" else "8") + cursor[n + 1 :]
        with pytest.raises(Problem) as refused:
            asked(tmp_path, changed)
        assert refused.value.slug == "bad-cursor"
        assert refused.value.hint == "begin with now or day"


def test_a_cursor_of_a_server_with_other_data_roots_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="it is of 2 data roots; served here: 1"):
        asked(tmp_path, f"{CURSOR},{CURSOR}")
    with pytest.raises(Problem, match="it is of 1 data root; served here: 2"):
        asked(tmp_path, CURSOR, roots=2)


def test_a_cursor_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    unchecked = CURSOR.replace("v2", "v1").rpartition("~")[0]
    assert asked(tmp_path, unchecked).since == asked(tmp_path, CURSOR).since
    assert asked(tmp_path, "now,s0").after_signal == 0


def test_more_readers_than_a_key_or_the_server_may_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "MAX_CONNECTIONS", 3)
    live = Live(ServeSettings(data_root=tmp_path))
    other = replace(ANONYMOUS, id="other", limits=KeyLimits(live_connections=2))
    with ExitStack() as held:
        for key in (other, other):
            held.enter_context(live.connected(key))
        with pytest.raises(Problem, match="the key other may have 2 live connections") as refused:
            held.enter_context(live.connected(other))
        assert refused.value.kind.status == 429
        held.enter_context(live.connected(ANONYMOUS))
        with pytest.raises(Problem, match="3 readers are connected") as refused:
            held.enter_context(live.connected(ANONYMOUS))
        assert (refused.value.kind.status, refused.value.headers["Retry-After"]) == (503, "1")
    assert live.connections.total() == 0


def test_a_ticket_is_for_one_connection_of_one_page_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Live(ServeSettings(data_root=tmp_path))
    page = "https://page.example"
    for origin in (None, "https://other.example", f"{page}:8443"):
        foreign = live.new_ticket(ANONYMOUS, page)
        for given in (origin, page):  # who tries it elsewhere uses it up
            with pytest.raises(Problem, match="the ticket is not known, was used, or its time is over"):
                live.of_ticket(foreign, given)
    monkeypatch.setattr(shared, "TICKET_SEC", 0.0)
    late = live.new_ticket(ANONYMOUS, page)
    with pytest.raises(Problem, match="its time is over"):
        live.of_ticket(late, page)
    monkeypatch.undo()
    good = live.new_ticket(ANONYMOUS, page)
    assert live.of_ticket(good, page) == ANONYMOUS
    with pytest.raises(Problem, match="was used"):
        live.of_ticket(good, page)

"""The rule itself, over evidence of all kinds: when a symbol's day is proven, and what a verdict never says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hk_tick_collector.core.evidence import BY_TOTAL, NO_COUNTER
from hk_tick_collector.core.facts import NO_SEQUENCE, NO_TICK, NUMBERS_SKIPPED, UNREAD_TICK
from hk_tick_collector.store.verdict import MISSING, PROVEN, Evidence, Verdict, judge

COUNTS = (None, NUMBERS_SKIPPED, UNREAD_TICK, NO_SEQUENCE)
BY_VOLUME = f"{NO_COUNTER}; {BY_TOTAL}"


def days(*distrusts: str | None) -> Iterator[tuple[Evidence, Verdict]]:
    """Days of every kind, and what is said of each."""
    for in_gaps, lost, at_most in (([], 0, None), ([], 1, None), ([(5, 6)], 1, None), ([(11, 12)], 1, 2), ([], 0, 2)):
        for ranges, surplus, unsequenced, why, head, newest, distrust, interrupted in itertools.product(
            ([], [(3, 10)], [(1, 4), (7, 10)], [(1, 10)]), (0, 1, -1), (0, 2), (None, "quota"), (None, 1, 3),
            (None, NO_TICK, 2, 10, 12), distrusts, (False, True),
        ):  # fmt: skip
            evidence = Evidence(
                ranges, surplus, unsequenced, lost, in_gaps, at_most, why, head, newest, distrust, interrupted
            )
            yield evidence, judge(evidence)


def is_proof(evidence: Evidence) -> bool:
    """Every tick has a counter of its own, one follows the other from the day's first to the last that OpenD had."""
    if evidence.lost_gaps or evidence.at_most is not None or evidence.not_subscribed or evidence.interrupted:
        return False
    if evidence.distrust or evidence.surplus_ticks or evidence.unsequenced_ticks:
        return False
    if not evidence.ranges:
        return evidence.head_counter is None and evidence.verified_counter == NO_TICK
    (first, last), *others = evidence.ranges
    newest = evidence.verified_counter
    return not others and evidence.head_counter == first and newest is not None and first <= newest <= last


def test_a_day_is_proven_by_counters_when_they_leave_nothing_open_and_never_else() -> None:
    judged = list(days(*COUNTS))
    assert [evidence for evidence, verdict in judged if (verdict.state == PROVEN) != is_proof(evidence)] == []
    assert sum(verdict.state == PROVEN for _, verdict in judged) > 2


def test_no_verdict_contradicts_itself() -> None:
    for evidence, verdict in days(*COUNTS, NO_COUNTER, BY_VOLUME):
        assert (verdict.reason is None) == (verdict.state == PROVEN), evidence
        assert (verdict.state == MISSING) == bool(verdict.missing_ticks or evidence.lost_gaps), evidence
        assert verdict.unlisted_ticks <= verdict.missing_ticks, evidence
        assert bool(verdict.unlisted) == bool(verdict.unlisted_ticks), evidence
        if verdict.expected_ticks is not None:
            assert verdict.expected_ticks == evidence.stored_ticks + verdict.missing_ticks, evidence


def test_every_doubt_of_a_day_is_said() -> None:
    for evidence, verdict in days(*COUNTS, NO_COUNTER):
        doubts = (evidence.not_subscribed, evidence.distrust)
        assert all(doubt in (verdict.reason or "") for doubt in doubts if doubt is not None), evidence
        if verdict.missing_at_most is not None:
            assert f"up to {verdict.missing_at_most} tick" in (verdict.reason or ""), evidence

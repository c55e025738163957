"""What readers are told of completeness where several recorders have a symbol: never more than the day would say."""

from __future__ import annotations

from hk_tick_collector.serve.live.facts import DISAGREE, facts_of
from hk_tick_collector.store.reader import CoverageRow, Notes
from tests.unit.store_ticks import DAY

SYMBOL = "HK.00700"


def proven(symbol: str = SYMBOL) -> CoverageRow:
    return CoverageRow(symbol, 1, 10, 10, 0, None, 1, 10, 9, 0, 9, "proven", None, 0, 0, 1, None)


def test_who_is_contradicted_is_not_proven_though_the_other_one_notes_nothing_or_cannot_be_read() -> None:
    for noted in (
        [Notes([proven()], []), Notes([proven()], [])],
        [Notes([proven()], []), Notes([], [])],
        [Notes([proven()], [])],  # the other data root does not answer
    ):
        facts = facts_of(DAY, noted, {SYMBOL})
        assert (facts[DAY, SYMBOL]["state"], facts[DAY, SYMBOL]["reason"]) == ("unproven", DISAGREE)
    assert facts_of(DAY, [Notes([proven()], [])], {"HK.00005"})[DAY, SYMBOL]["state"] == "proven"

"""What a source gives to tell by whether ticks are missing, and what may be called proven by it.

The words stand in the column ``evidence`` of ``coverage``, in certificates and in ``--json``: they never change.
"""

from __future__ import annotations

from enum import StrEnum

NO_COUNTER = "no counter in this market"
# Stands beside it where volume is held against its running total: both together say by what a day is judged.
BY_TOTAL = "volume is held against its running total"
# What a day that is proven by EvidenceLevel.REPLAY can be called.
EQUAL_TO_COPY = (
    "equal to the imported file, which was the same when it was read again; not that the exchange told no more"
)


class EvidenceLevel(StrEnum):
    """From the strongest to none. A day is ``proven`` only by one of the first three."""

    COUNTER = "counter"  # numbers count the symbol's ticks of the day: which are missing, and how many
    RUNNING_TOTAL = "running_total"  # the day's volume so far, told with each trade: how much of it is missing
    REPLAY = "replay"  # a second, complete copy of the day is held against the first
    ID = "id"  # each tick has a name of its own: what is a repeat
    NONE = "none"  # content alone; a day says ``id``, for a name that ticks lack proves as little


# What is said beside a day that is judged by another level than counters: that there are no gaps says little there.
WITHOUT_COUNTERS = {
    EvidenceLevel.RUNNING_TOTAL: (
        "without counters, by the running total of volume: how much is missing is known, in how many trades is not"
    ),
    EvidenceLevel.REPLAY: f"without counters: {EQUAL_TO_COPY}",
    EvidenceLevel.ID: "without counters, and unproven: a tick that is missing there leaves no gap",
}

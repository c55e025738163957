"""The hours of CME Group's electronic markets (CME, CBOT, NYMEX, COMEX), Chicago time.

Source: CME Group, Globex trading hours: from 17:00 of the day before until 16:00, an hour's pause every day. On the
days of early closing that the exchange's holiday schedule gives, trading halts at 12:00 and the next day begins at
17:00. Single products differ (grains, livestock), which is left out: the hours here hold every one of them.
"""

from __future__ import annotations

from hk_tick_collector.market.hours import Hours, Phase, hm

DAY_STARTS_MS = hm(-7)  # 17:00 of the day before

HOURS = (
    Hours(
        "00010101",
        whole=((DAY_STARTS_MS, Phase.REGULAR), (hm(16), Phase.PAUSE)),
        half=((DAY_STARTS_MS, Phase.REGULAR), (hm(12), Phase.PAUSE)),
    ),
)

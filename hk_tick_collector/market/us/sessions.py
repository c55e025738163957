"""The hours of US stocks as OpenD's session ALL gives them, New York time.

Source: Futu's help pages on US trading hours: overnight 20:00-04:00, before the market 04:00-09:30, regular
09:30-16:00, after it 16:00-20:00. A day of early closing ends at 13:00 and after-hours trading at 17:00. The overnight
session belongs to the day that follows; there is none before a holiday.
"""

from __future__ import annotations

from hk_tick_collector.market.hours import Hours, Phase, Rows, hm

DAY_STARTS_MS = hm(-4)  # 20:00 of the day before

_UNTIL_CLOSE: Rows = ((DAY_STARTS_MS, Phase.OVERNIGHT), (hm(4), Phase.PRE_MARKET), (hm(9, 30), Phase.REGULAR))

HOURS = (
    Hours(
        "00010101",
        whole=(*_UNTIL_CLOSE, (hm(16), Phase.POST_MARKET)),
        half=(*_UNTIL_CLOSE, (hm(13), Phase.POST_MARKET), (hm(17), Phase.CLOSED)),
    ),
)

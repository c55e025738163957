"""The hours of Taiwan's markets, Taipei time, wide enough for every product.

Sources: TWSE and TPEx: orders from 08:30, opening call 09:00, continuous since 2020-03-23 until 13:25, closing call
13:30 (single stocks to 13:33), fixed-price trading until 14:30. TAIFEX: 08:45 to 13:45, and after hours 15:00 to 05:00
(some products from 17:25), which belongs to the next trading day: Friday's night is Monday's. Before 2020 stocks were
matched in calls all day, in the same hours.
"""

from __future__ import annotations

from hk_tick_collector.market.hours import Hours, Phase, Rows, hm

DAY_STARTS_MS = hm(-9)  # 15:00 of the day before
NIGHT_ENDS_MS = hm(5)

_DAY: Rows = (
    (DAY_STARTS_MS, Phase.OVERNIGHT),
    (NIGHT_ENDS_MS, Phase.PAUSE),
    (hm(8, 30), Phase.PRE_OPEN_AUCTION),
    (hm(9), Phase.REGULAR),
    (hm(13, 25), Phase.CLOSING_AUCTION),
    (hm(13, 45), Phase.POST_CLOSE),
    (hm(14, 30), Phase.CLOSED),
)

HOURS = (
    # There are no half days.
    Hours("00010101", whole=_DAY, half=_DAY, opening_match_ms=hm(8, 45), closing_match_after_ms=hm(0, 5)),
)

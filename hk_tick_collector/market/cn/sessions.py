"""The hours of the Shanghai and Shenzhen stock markets.

Sources: both exchanges' trading rules (opening auction 09:15-09:25, continuous trading 09:30-11:30 and 13:00-14:57,
closing auction 14:57-15:00, trading at the closing price 15:05-15:30). There are no half days.
"""

from __future__ import annotations

from hk_tick_collector.market.hours import Hours, Phase, Rows, hm

_WHOLE: Rows = (
    (hm(9, 15), Phase.PRE_OPEN_AUCTION),
    (hm(9, 25), Phase.PRE_OPEN_WAIT),
    (hm(9, 30), Phase.MORNING),
    (hm(11, 30), Phase.LUNCH),
    (hm(13), Phase.AFTERNOON),
    (hm(14, 57), Phase.CLOSING_AUCTION),
    (hm(15), Phase.POST_CLOSE),
    (hm(15, 30), Phase.CLOSED),
)

HOURS = (Hours("00010101", whole=_WHOLE, half=_WHOLE),)

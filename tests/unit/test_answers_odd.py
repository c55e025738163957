"""What OpenD answers is taken for what it can be: no count below nothing, no time that no clock has."""

from __future__ import annotations

import math

import pytest

from hk_tick_collector.sources.futu import answers, sdk
from hk_tick_collector.sources.futu.markets import HK

from futu.common.pb import GetGlobalState_pb2, Qot_GetSecuritySnapshot_pb2, Qot_GetSubInfo_pb2  # isort: skip


def test_a_quota_below_nothing_is_none() -> None:
    """The last of the list were left out: a slice up to -7."""
    info = Qot_GetSubInfo_pb2.S2C(totalUsedQuota=-1, remainQuota=-7)
    subscriptions = answers.read_subscriptions(info, 4, HK, only_own=True)
    assert (subscriptions.remain_quota, subscriptions.used_quota) == (0, 0)


@pytest.mark.parametrize(("time", "read"), [(1_795_138_200, 1_795_138_200), (2**62, 0), (-5, 0), (0, 0)])
def test_a_time_of_opends_that_no_clock_has_is_none(time: int, read: int) -> None:
    state = GetGlobalState_pb2.S2C(time=time, marketHK=3, qotLogined=True)
    assert answers.read_global_state(state, sdk.NAMES, HK).opend_time_sec == read


@pytest.mark.parametrize("odd", [math.nan, math.inf, -1.0, 1e300])
def test_a_snapshot_of_odd_numbers_can_be_read(odd: float) -> None:
    answer = Qot_GetSecuritySnapshot_pb2.S2C()
    basic = answer.snapshotList.add().basic
    basic.security.market, basic.security.code = 1, "00700"
    basic.updateTimestamp = basic.hpVolume = odd
    (snapshot,) = answers.read_snapshots(answer, HK).values()
    assert (snapshot.updated_at_ms, snapshot.volume) == (0, 0)

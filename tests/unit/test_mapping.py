"""Every rule of the mapping, on real protobuf messages, on documented real rows, and on arbitrary input."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import RejectCode, TickRejected
from hk_tick_collector.market.hk import HK as HK_MARKET
from hk_tick_collector.records.tick import RejectedTick, Tick, seq_counter, seq_epoch_sec
from hk_tick_collector.records.views import without_sequences
from hk_tick_collector.sources.futu import mapping, sdk  # noqa: F401 (sdk makes HOME before futu is imported)
from hk_tick_collector.sources.futu.mapping import TickMapper
from hk_tick_collector.sources.futu.markets import CN as FUTU_CN
from hk_tick_collector.sources.futu.markets import US as FUTU_US
from hk_tick_collector.sources.plausible import PlausibleDays

from futu.common.constant import PushDataType, TickerDirect, TickerType  # isort: skip
from futu.common.pb import Qot_Common_pb2  # isort: skip

DATA = Path(__file__).parent.parent / "data"
HK = ZoneInfo("Asia/Hong_Kong")
RECV_MS = 1_795_138_200_500
EPOCH_SEC = 1_795_138_200  # 2026-11-20 09:30:00 in Hong Kong


def message(**fields: object) -> Qot_Common_pb2.Ticker:
    base = {
        "time": "2026-11-20 09:30:00.123",
        "sequence": EPOCH_SEC << 32 | 7,
        "dir": 1,
        "price": 382.4,
        "volume": 100,
        "turnover": 38240.0,
        "recvTime": EPOCH_SEC + 0.25,
        "type": 1,
        "typeSign": 32,
        "pushDataType": 1,
        "timestamp": EPOCH_SEC + 0.123,
    }
    base.update(fields)
    return Qot_Common_pb2.Ticker(**{name: value for name, value in base.items() if value is not None})


def map_one(mapper: TickMapper | None = None, recv_ts_ms: int = RECV_MS, **fields: object) -> Tick:
    rejected: list[RejectedTick] = []
    ticks = (mapper or TickMapper()).map_all("HK.00700", [message(**fields)], "push", recv_ts_ms, rejected)
    if rejected:
        raise TickRejected(rejected[0].code, rejected[0].reason)
    return ticks[0]


def test_all_fields_of_a_push() -> None:
    assert map_one() == Tick(
        symbol="HK.00700",
        ts_ms=EPOCH_SEC * 1000 + 123,
        price=382.4,
        volume=100,
        turnover=38240.0,
        direction="BUY",
        seq=EPOCH_SEC << 32 | 7,
        tick_type="AUTO_MATCH",
        push_type="push",
        trading_day="20261120",
        recv_ts_ms=RECV_MS,
        push_data_type="REALTIME",
        opend_recv_ts_ms=EPOCH_SEC * 1000 + 250,
        type_sign=" ",
    )


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("2026-11-20 09:30:00.123", 123),
        ("2026-11-20 09:30:00:123", 123),
        ("2026-11-20 09:30:00", 0),
        ("2026-11-20 09:30:00.5", 500),
        ("2026-11-20 09:30:00.123456", 123),
        ("2026-11-20T09:30:00.123", 123),
        ("20261120093000", 0),
        ("093000", 0),
        ("09:30:00", 0),
        ("09:30:00.250", 250),
    ],
)
def test_every_documented_time_form(text: str, expected_ms: int) -> None:
    tick = map_one(time=text)
    assert tick.ts_ms == EPOCH_SEC * 1000 + expected_ms
    assert tick.trading_day == "20261120"


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "2026-13-01 09:30:00", "2026-11-20 25:00:00", "1970-01-01 00:00:00", "1795138200123",
        "2026-11-20 09:30:00.12x", "2026-11-20 09:30:00X123", "2026-11-20 09:30", "٢٠٢٦-11-20 09:30:00",
        "2026-11-20 09:30:00.١٢٣", "2026-11-20 09:30:00.+12", "2026-11-20 09:30:00.1_2",
    ],
)  # fmt: skip
def test_unreadable_times_are_refused_by_name(text: str) -> None:
    mapper = TickMapper()
    map_one(mapper)  # the second is known now, so the quick way is tried first
    with pytest.raises(TickRejected, match="time "):
        map_one(mapper, time=text)


def test_time_without_a_date_takes_it_from_a_witness_never_from_the_wall_clock() -> None:
    yesterday = EPOCH_SEC - 86_400
    tick = map_one(time="160812", timestamp=None, sequence=yesterday << 32 | 9)
    assert tick.trading_day == "20261119"
    with pytest.raises(TickRejected, match="has no date"):
        map_one(time="160812", timestamp=None, sequence=None)


def test_fourteen_digits_are_local_time_not_epoch() -> None:
    assert datetime.fromtimestamp(map_one(time="20261120160812").ts_ms / 1000, tz=UTC).year == 2026


@pytest.fixture
def other_time_zone(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.__setitem__("TZ", before)
    time.tzset()


@pytest.mark.parametrize("other_time_zone", ["UTC", "America/New_York", "Asia/Hong_Kong"], indirect=True)
def test_process_time_zone_changes_nothing(other_time_zone: None) -> None:
    assert map_one().ts_ms == EPOCH_SEC * 1000 + 123
    assert map_one(time="093000").ts_ms == EPOCH_SEC * 1000


def test_day_is_the_hong_kong_date_across_utc_midnight() -> None:
    new_year_ms = 1_798_732_800_000
    late = map_one(None, new_year_ms, time="2026-12-31 23:59:59.999", timestamp=None)
    early = map_one(None, new_year_ms, time="2027-01-01 00:00:00.000", timestamp=None)
    assert (late.trading_day, early.trading_day) == ("20261231", "20270101")
    assert early.ts_ms - late.ts_ms == 1


@pytest.mark.parametrize("price", [math.nan, math.inf, -1.0])
def test_impossible_prices_are_refused(price: float) -> None:
    with pytest.raises(TickRejected, match="price"):
        map_one(price=price)


def test_negative_volume_and_nan_turnover_are_refused() -> None:
    with pytest.raises(TickRejected, match="volume -5 "):
        map_one(volume=-5)
    with pytest.raises(TickRejected, match="turnover"):
        map_one(turnover=math.nan)


def test_hp_volume_stands_in_for_an_absent_volume() -> None:
    assert map_one(volume=None, hpVolume=700.0).volume == 700
    with pytest.raises(TickRejected, match="hpVolume"):
        map_one(volume=None, hpVolume=0.5)


@pytest.mark.parametrize("sequence", [0, None, -3])
def test_no_sequence_is_null_and_counted(sequence: int | None) -> None:
    mapper = TickMapper()
    assert map_one(mapper, sequence=sequence).seq is None
    assert mapper.stats.no_sequence_rows == 1


def test_unknown_enum_values_keep_their_number() -> None:
    mapper = TickMapper()
    tick = map_one(mapper, type=99, dir=77, pushDataType=55)
    assert (tick.tick_type, tick.direction, tick.push_data_type) == ("TYPE_99", "DIRECTION_77", None)
    assert mapper.stats.unknown_enum_rows == 2


def test_enum_names_are_the_sdks() -> None:
    for number, name in mapping.TICK_TYPES.items():
        assert TickerType.to_string2(number) == name
    for number, name in mapping.DIRECTIONS.items():
        assert TickerDirect.to_string2(number) == name
    for number, name in mapping.PUSH_DATA_TYPES.items():
        assert PushDataType.to_string2(number) == name
    assert set(mapping.TICK_TYPES) == set(Qot_Common_pb2.TickerType.values())


def test_witnesses_are_counted_and_move_nothing() -> None:
    mapper = TickMapper()
    eight_hours_sec = 8 * 3600
    tick = map_one(mapper, timestamp=EPOCH_SEC + eight_hours_sec, sequence=EPOCH_SEC - 60 << 32 | 7)
    assert tick.ts_ms == EPOCH_SEC * 1000 + 123
    assert mapper.stats.timestamp_disagree_rows == 1
    assert mapper.stats.sequence_disagree_rows == 1
    map_one(mapper, sequence=EPOCH_SEC - 2 << 32 | 8)  # as seen in one documented row
    assert mapper.stats.sequence_disagree_rows == 1


@pytest.mark.parametrize(("ahead_ms", "disagrees"), [(-5_001, 1), (-5_000, 0), (5_000, 0), (5_001, 1)])
def test_a_witness_may_be_five_seconds_off_and_no_more(ahead_ms: int, disagrees: int) -> None:
    """Both ways, either witness. 09:30:00 is the sequence's second, the tick's time lies ``ahead_ms`` behind it."""
    mapper = TickMapper()
    moment = datetime.fromtimestamp(EPOCH_SEC + ahead_ms / 1000, HK)
    text = moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{ahead_ms % 1000:03d}"
    map_one(mapper, time=text, sequence=EPOCH_SEC << 32 | 7, timestamp=None)
    map_one(mapper, time=text, sequence=None, timestamp=float(EPOCH_SEC))
    assert (mapper.stats.sequence_disagree_rows, mapper.stats.timestamp_disagree_rows) == (disagrees, disagrees)


def test_a_time_in_the_future_stays_where_it_is() -> None:
    """Moving rows that look 8 h ahead moved good rows: the string is taken at its word."""
    assert map_one(time="2026-11-20 17:30:00.000", timestamp=None).ts_ms == (EPOCH_SEC + 8 * 3600) * 1000


def test_one_bad_tick_costs_one_tick() -> None:
    rejected: list[RejectedTick] = []
    messages = [message(sequence=EPOCH_SEC << 32 | n) for n in range(100)]
    messages[41].time = "??"
    mapper = TickMapper()
    ticks = mapper.map_all("HK.00700", messages, "push", RECV_MS, rejected)
    assert len(ticks) == 99
    assert [(r.symbol, r.raw["time"]) for r in rejected] == [("HK.00700", "??")]
    assert (mapper.stats.mapped_rows, mapper.stats.rejected_rows) == (99, 1)


def test_equal_trades_of_one_view_without_sequences_stay_apart() -> None:
    messages = [message(sequence=None), message(sequence=None, price=1.0), message(sequence=None), message()]
    mapper = TickMapper()
    for _ in range(2):
        ticks = mapper.map_all("HK.00700", messages, "push", RECV_MS, [])
        told = [(tick.price, tick.seq is None, tick.occurrence) for tick in ticks]
        assert told == [(382.4, False, 0), (1.0, True, 0), (382.4, True, 1), (382.4, True, 2)]


def test_a_tick_is_numbered_behind_all_of_its_view_that_may_be_taken_for_it() -> None:
    """The definite ones come first: with a sequence, then with milliseconds."""
    whole, fine = "2026-11-20 09:30:00", "2026-11-20 09:30:00.437"
    view = [message(time=whole, sequence=None), message(time=fine, sequence=None), message(time=whole)]
    ticks = TickMapper().map_all("HK.00700", view, "push", RECV_MS, [])
    assert [(tick.ts_ms % 1000, tick.seq is None, tick.occurrence) for tick in ticks] == [
        (0, False, 0), (437, True, 1), (0, True, 2),
    ]  # fmt: skip
    sold = message(sequence=None, dir=2)
    ticks = TickMapper().map_all("HK.00700", [message(sequence=None), sold], "push", RECV_MS, [])
    assert [tick.occurrence for tick in ticks] == [0, 0]


def test_sequences_are_left_out_on_their_day_only() -> None:
    ticks = TickMapper().map_all("HK.00700", [message(), message()], "push", RECV_MS, [])
    later = ticks[1]._replace(trading_day="20261123")
    seq = ticks[0].seq
    assert [tick.seq for tick in without_sequences([ticks[0], later], ticks[0].trading_day)] == [None, seq]
    assert [tick.seq for tick in without_sequences([ticks[0], later])] == [None, None]


def test_invalid_utf8_in_a_time_costs_one_tick() -> None:
    wire = bytearray(message().SerializeToString())
    wire[wire.index(b"2026")] = 0xFF
    rejected: list[RejectedTick] = []
    assert TickMapper().map_all("HK.00700", [Qot_Common_pb2.Ticker.FromString(bytes(wire))], "push", 1, rejected) == []
    assert rejected[0].raw["time"] == "\\xff026-11-20 09:30:00.123"


def test_another_market_is_refused_by_name() -> None:
    with pytest.raises(TickRejected, match="AAPL"):
        TickMapper().symbol(Qot_Common_pb2.Security(market=11, code="AAPL"))


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", rows("official_docs_hk_2020_2023.csv"), ids=lambda row: row["sequence"])
def test_documented_hk_rows(row: dict[str, str]) -> None:
    mapper = TickMapper()
    moment = datetime.strptime(row["time"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=HK)
    tick = map_one(
        mapper, int(moment.timestamp() * 1000) + 300, time=row["time"],
        sequence=int(row["sequence"]), price=float(row["price"]), volume=int(row["volume"]),
        turnover=float(row["turnover"]), timestamp=None, recvTime=float(row["recv_time"] or 0),
    )  # fmt: skip
    assert tick.ts_ms == moment.timestamp() * 1000
    assert tick.seq == int(row["sequence"])
    assert abs(seq_epoch_sec(tick.seq) - moment.timestamp()) <= 2
    assert 0 < seq_counter(tick.seq) < 100_000
    assert mapper.stats.sequence_disagree_rows == 0


def test_documented_pulls_count_without_holes() -> None:
    by_sample: dict[str, list[dict[str, str]]] = {}
    for row in rows("official_docs_hk_2020_2023.csv"):
        if row["mode"] == "pull":
            by_sample.setdefault(row["sample"], []).append(row)
    for sample in by_sample.values():
        first, last = sample[0], sample[-1]
        steps = seq_counter(int(last["sequence"])) - seq_counter(int(first["sequence"]))
        assert steps == int(last["position"]) - int(first["position"]), sample


@given(
    moment=st.datetimes(datetime(2000, 1, 1), datetime(2037, 12, 31)),  # noqa: DTZ001 (local time without a zone)
    counter=st.integers(1, 2**32 - 1),
    form=st.sampled_from(["%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S:%f", "%Y%m%d%H%M%S"]),
)
def test_any_hong_kong_time_comes_back_exactly(moment: datetime, counter: int, form: str) -> None:
    local = moment.replace(tzinfo=HK)
    text = local.strftime(form)[:23]
    expected_ms = int(local.timestamp()) * 1000 + (local.microsecond // 1000 if "%f" in form else 0)
    sequence = int(local.timestamp()) << 32 | counter
    tick = map_one(None, expected_ms + 300, time=text, sequence=sequence, timestamp=None)
    assert (tick.ts_ms, tick.seq) == (expected_ms, sequence)
    assert tick.trading_day == local.strftime("%Y%m%d")


@given(
    text=st.text(max_size=30), price=st.floats(), turnover=st.floats(), volume=st.integers(-(2**63), 2**63 - 1),
    sequence=st.integers(-(2**63), 2**63 - 1), timestamp=st.floats(), recv=st.floats(),
    kind=st.integers(-(2**31), 2**31 - 1), sign=st.integers(-(2**31), 2**31 - 1),
)  # fmt: skip
def test_arbitrary_fields_map_or_are_rejected_never_raise(
    text: str, price: float, turnover: float, volume: int, sequence: int, timestamp: float, recv: float,
    kind: int, sign: int,
) -> None:  # fmt: skip
    rejected: list[RejectedTick] = []
    odd = message(
        time=text, price=price, turnover=turnover, volume=volume, sequence=sequence, timestamp=timestamp,
        recvTime=recv, type=kind, dir=kind, pushDataType=kind, typeSign=sign,
    )  # fmt: skip
    ticks = TickMapper().map_all("HK.00700", [odd], "push", RECV_MS, rejected)
    assert len(ticks) + len(rejected) == 1


TODAY_MS = RECV_MS  # 2026-11-20


@pytest.mark.parametrize(
    ("day", "kept"),
    [
        ("2026-10-20", True), ("2026-10-19", False), ("2026-11-27", True), ("2026-11-28", False), ("9999-12-31", False),
        ("2000-01-03", False), ("0001-01-01", False),
    ],
)  # fmt: skip
def test_a_day_that_now_cannot_have_is_doubted_and_moved_nowhere(day: str, kept: bool) -> None:
    """A day file for each date that OpenD can think of would be thousands, and the newest day one of the year 9999."""
    rejected: list[RejectedTick] = []
    odd = message(time=f"{day} 09:30:00.000", timestamp=None, sequence=None)
    ticks = TickMapper().map_all("HK.00700", [odd, odd], "push", TODAY_MS, rejected)
    assert [tick.trading_day for tick in ticks] == [day.replace("-", "")] * 2 * kept
    assert [rejected_tick.code for rejected_tick in rejected] == [RejectCode.DAY] * 2 * (not kept)


def test_opends_clock_is_asked_where_ours_is_wrong_or_the_market_is_replayed() -> None:
    days = PlausibleDays(HK_MARKET)
    mapper = TickMapper(days)
    woke_up_ms = 3_600_000  # 1970: a machine whose battery is empty, before it has asked for the time
    with pytest.raises(TickRejected):
        map_one(mapper, woke_up_ms)
    days.note_source_time(EPOCH_SEC * 1000, woke_up_ms)
    assert map_one(mapper, woke_up_ms + 60_000).trading_day == "20261120"
    for nonsense_ms in (-1, 0, 2**63 - 1):
        days.note_source_time(nonsense_ms, woke_up_ms)
    assert days.hold("20261120", woke_up_ms)


def test_a_time_that_every_witness_puts_on_another_day_is_doubted() -> None:
    """One tick dated next week, with timestamp and sequence of now: its date is a slip of OpenD's, or a lie."""
    with pytest.raises(TickRejected, match="more than a day away"):
        map_one(time="2026-11-23 09:30:00.000")
    with pytest.raises(TickRejected, match="more than a day away"):
        map_one(time="2026-11-23 09:30:00.000", sequence=None)
    with pytest.raises(TickRejected, match="more than a day away"):
        map_one(time="2026-11-23 09:30:00.000", sequence=7)  # a counter of another kind is no witness
    sequence = EPOCH_SEC + 3 * 86_400 << 32 | 7
    assert map_one(time="2026-11-23 09:30:00.000", sequence=sequence).trading_day == "20261123"
    assert map_one(time="2026-11-23 09:30:00.000", timestamp=None).trading_day == "20261123"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"price": 1e300}, RejectCode.PRICE),
        ({"price": math.inf, "turnover": math.inf}, RejectCode.PRICE),
        ({"turnover": 1e300}, RejectCode.TURNOVER),
        ({"volume": 2**62}, RejectCode.VOLUME),
        ({"volume": None, "hpVolume": 1e18}, RejectCode.VOLUME),
    ],
)
def test_amounts_that_no_trade_has_are_refused(fields: dict[str, object], code: RejectCode) -> None:
    with pytest.raises(TickRejected) as refusal:
        map_one(**fields)
    assert refusal.value.code is code


def test_the_kind_of_a_reason_holds_no_value_of_opends_and_the_value_is_cut() -> None:
    rejected: list[RejectedTick] = []
    flood = [message(time="x" * 4_000_000), message(time="\x1b[31m"), *(message(price=-float(n)) for n in range(1, 50))]
    TickMapper().map_all("HK.00700", flood, "push", TODAY_MS, rejected)
    assert {rejected_tick.code for rejected_tick in rejected} == {RejectCode.TIME, RejectCode.PRICE}
    assert max(len(rejected_tick.reason) for rejected_tick in rejected) < 400
    assert len(str(rejected[0].raw["time"])) < 400
    assert all(rejected_tick.reason.isprintable() for rejected_tick in rejected)


@pytest.mark.parametrize(
    ("number", "sign"),
    [
        (0, None),
        (None, None),
        (32, " "),
        (89, "Y"),
        (126, "~"),
        (27, "SIGN_27"),
        (0xD800, "SIGN_55296"),
        (-1, "SIGN_-1"),
    ],
)
def test_a_type_sign_is_a_printable_letter_or_its_number(number: int | None, sign: str | None) -> None:
    """The number of a lone surrogate made a text that no file takes, which ended the recorder."""
    assert map_one(typeSign=number).type_sign == sign


@pytest.mark.parametrize(
    "code",
    [
        "../../x",
        "00700/",
        "0070",
        "007000",
        "00000",
        "\uff10\uff10\uff17\uff10\uff10",
        "a\0b",
        "00700\n",
        "\x1b[2J",
        "",
    ],
)
def test_a_code_that_no_hong_kong_security_has_is_refused(code: str) -> None:
    with pytest.raises(TickRejected) as refusal:
        TickMapper().symbol(Qot_Common_pb2.Security(market=1, code=code))
    assert refusal.value.code is RejectCode.SYMBOL
    assert str(refusal.value).isprintable()


US_SECURITY = 11


def us_one(recv_ts_ms: int, **fields: object) -> Tick:
    rejected: list[RejectedTick] = []
    mapper = TickMapper(market=FUTU_US)
    ticks = mapper.map_all("US.AAPL", [message(**fields)], "push", recv_ts_ms, rejected)
    if rejected:
        raise TickRejected(rejected[0].code, rejected[0].reason)
    assert mapper.stats.sequence_disagree_rows == mapper.stats.timestamp_disagree_rows == 0
    assert mapper.stats.fractional_rows == (ticks[0].volume is None)
    return ticks[0]


@pytest.mark.parametrize("row", rows("official_docs_us_2025.csv"), ids=lambda row: row["sequence"])
def test_documented_us_rows(row: dict[str, str]) -> None:
    """Eastern time, and the high half of the sequence is its second."""
    seq = int(row["sequence"])
    tick = us_one(
        seq_epoch_sec(seq) * 1000 + 900, time=row["time"], sequence=seq, price=float(row["price"]), timestamp=None,
        volume=int(row["volume"]), turnover=float(row["turnover"]), type=6,
    )  # fmt: skip
    assert (tick.ts_ms // 1000, tick.trading_day, tick.tick_type) == (seq_epoch_sec(seq), "20250407", "ODD_LOT")


@pytest.mark.parametrize(
    ("text", "utc", "day"),
    [
        ("2026-03-06 19:59:59.999", "2026-03-07T00:59:59.999", "20260306"),  # Friday before the clocks go forward
        ("2026-03-08 20:00:00.000", "2026-03-09T00:00:00.000", "20260309"),  # that Sunday: Monday's first instant
        ("2026-03-09 09:30:00.000", "2026-03-09T13:30:00.000", "20260309"),
        ("2026-10-30 16:00:00.000", "2026-10-30T20:00:00.000", "20261030"),  # Friday before they go back
        ("2026-11-01 20:00:00.000", "2026-11-02T01:00:00.000", "20261102"),
        ("2026-11-02 09:30:00.000", "2026-11-02T14:30:00.000", "20261102"),
        ("2026-11-24 20:00:00.001", "2026-11-25T01:00:00.001", "20261125"),
        ("2026-11-25 19:59:59.000", "2026-11-26T00:59:59.000", "20261125"),
        ("2026-11-26 20:00:00.000", "2026-11-27T01:00:00.000", "20261127"),  # Thanksgiving's evening: Friday's
        ("2026-11-25 20:00:00.000", "2026-11-26T01:00:00.000", "20261127"),  # no night of a holiday: the next session
    ],
)
def test_new_york_time_over_both_changes_of_clocks_and_the_trading_day(text: str, utc: str, day: str) -> None:
    moment = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    ts_ms = round(moment.timestamp() * 1000)
    tick = us_one(ts_ms + 300, time=text, sequence=ts_ms // 1000 << 32, timestamp=ts_ms / 1000)
    assert (tick.ts_ms, tick.trading_day) == (ts_ms, day)


@pytest.mark.parametrize(
    ("fields", "volume"),
    [
        ({"volume": 0, "hpVolume": 0.25, "turnover": 50.0}, None),
        ({"volume": 10, "hpVolume": 10.5, "turnover": 2100.0}, None),
        ({"volume": 10, "hpVolume": 10.0}, 10),
        ({"volume": 10}, 10),
        ({"volume": None, "hpVolume": 7.0}, 7),
    ],
)
def test_a_part_of_a_share_is_never_a_wrong_whole_number(fields: dict[str, object], volume: int | None) -> None:
    tick = us_one(RECV_MS, time="2026-11-19 20:30:00.123", **fields)
    assert tick.volume == volume
    assert tick.turnover


@pytest.mark.parametrize("odd", [0.5, math.nan, -1.0, 1e18])
def test_a_part_of_a_share_that_nothing_would_tell_is_refused(odd: float) -> None:
    with pytest.raises(TickRejected) as refusal:
        us_one(RECV_MS, time="2026-11-19 20:30:00.123", volume=0, hpVolume=odd, turnover=0.0)
    assert refusal.value.code is RejectCode.VOLUME


@pytest.mark.parametrize("code", ["AAPL", "BRK.B", ".DJI"])
def test_us_codes_may_have_dots(code: str) -> None:
    mapper = TickMapper(market=FUTU_US)
    assert mapper.symbol(Qot_Common_pb2.Security(market=US_SECURITY, code=code)) == f"US.{code}"


@pytest.mark.parametrize(
    ("number", "code", "why"),
    [(1, "00700", RejectCode.MARKET), (11, "../etc", RejectCode.SYMBOL), (11, "aapl", RejectCode.SYMBOL),
     (11, "", RejectCode.SYMBOL), (11, "A\n", RejectCode.SYMBOL), (21, "600519", RejectCode.MARKET)],
)  # fmt: skip
def test_what_is_no_us_stock_is_refused(number: int, code: str, why: RejectCode) -> None:
    with pytest.raises(TickRejected) as refusal:
        TickMapper(market=FUTU_US).symbol(Qot_Common_pb2.Security(market=number, code=code))
    assert refusal.value.code is why


def test_shanghai_and_shenzhen_are_places_of_one_market() -> None:
    """Their sequences hold no second, so it is no witness."""
    mapper = TickMapper(market=FUTU_CN)
    assert mapper.symbol(Qot_Common_pb2.Security(market=21, code="600519")) == "SH.600519"
    assert mapper.symbol(Qot_Common_pb2.Security(market=22, code="000001")) == "SZ.000001"
    rejected: list[RejectedTick] = []
    (tick,) = mapper.map_all("SH.600519", [message(sequence=7_001)], "push", RECV_MS, rejected)
    assert (tick.ts_ms, tick.trading_day, tick.seq) == (EPOCH_SEC * 1000 + 123, "20261120", 7_001)
    assert mapper.stats.sequence_disagree_rows == 0

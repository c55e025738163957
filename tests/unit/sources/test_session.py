"""The life of the feed: what is asked of OpenD after every kind of interruption, at every hour."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.core.facts import SymbolNoted, Verified
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.sources.backfill import RETRY_MAX_SEC
from hk_tick_collector.sources.details import RETRY_SEC
from hk_tick_collector.sources.futu.answers import Notice, SymbolInfo
from tests.unit.sources.bench import DAY, AheadClock, Bench, play, push_of, run
from tests.unit.sources.desk import tick

CODES = ("HK.00700", "HK.00005", "HK.00001")
CALENDAR = TradingCalendar(HK)


def hk_ms(hour: int, minute: int) -> int:
    return day_start_ms(DAY) + (hour * 60 + minute) * 60_000


def test_a_line_lost_in_the_evenings_backfill_is_not_the_end_of_it() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(16, 20))
        opend = bench.opend

        def drop_at_the_second(word: str, code: str) -> None:
            if word == "ticks" and len(opend.connections) == 1 and len(opend.pulls()) > 1:
                opend.connections[0].lose()

        opend.trouble = drop_at_the_second
        session = bench.session(CODES, CALENDAR)

        async def script() -> None:
            await bench.until(lambda: len(opend.connections) == 2 and bench.progress.connected)
            await asyncio.sleep(60)

        await bench.serve(session, script())
        assert {code for code, _ in opend.pulls()} == set(CODES)
        assert Counter(code for code, _ in opend.pulls()[-3:]) == Counter(CODES)

    play(life())


@pytest.mark.parametrize("hour", [10, 17])
@pytest.mark.parametrize("how", ["refused", "no answer"])
def test_a_symbol_whose_backfill_fails_is_asked_for_until_it_is_answered(hour: int, how: str) -> None:
    async def life() -> None:
        bench = Bench(hk_ms(hour, 0))
        opend = bench.opend

        def trouble(word: str, code: str) -> float | None:
            if word == "ticks" and code == CODES[1] and bench.clock.now_ms() < hk_ms(hour, 10):
                if how == "refused":
                    raise FeedError("OpenD is busy")
                return 60.0
            return None

        opend.trouble = trouble
        opend.ticks[CODES[1]] = run(1, 3, symbol=CODES[1])

        async def script() -> None:
            await bench.until(lambda: bench.rows)
            assert bench.clock.now_ms() < hk_ms(hour, 10) + (RETRY_MAX_SEC + 30) * 1000
            failed_pulls = opend.pulls(CODES[1])
            assert 5 <= len(failed_pulls) < 25, "growing pauses"
            await asyncio.sleep(600)

        await bench.serve(bench.session(CODES, CALENDAR, poll_enabled=False, poll_interval_sec=7200.0), script())
        assert Counter(code for code, _ in opend.pulls())[CODES[0]] == 1, "the others were answered"
        assert len([row for row in bench.rows if row.symbol == CODES[1]]) == 3

    play(life())


def test_what_is_covered_is_not_asked_for_again_in_the_evening() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(16, 30))
        opend = bench.opend

        async def script() -> None:
            await bench.until(lambda: len(opend.pulls()) == 3)
            for _ in range(3):
                opend.connections[-1].lose()
                await asyncio.sleep(120)

        await bench.serve(bench.session(CODES, CALENDAR), script())
        assert len(opend.connections) == 4
        assert len(opend.pulls()) == 3

    play(life())


@pytest.mark.parametrize("opend_too", [False, True], ids=["OpenD knows the time", "OpenD's clock is ours"])
def test_what_was_asked_under_a_clock_that_ran_ahead_covers_no_evening(opend_too: bool) -> None:
    """A machine whose clock holds local time is hours ahead from its start until it has asked for the time."""

    async def life() -> None:
        bench = Bench(hk_ms(15, 30))
        opend, true = bench.opend, bench.clock
        clock = bench.clock = AheadClock(true, 8 * 3_600_000)
        if opend_too:
            opend.clock = clock

        async def script() -> None:
            await bench.until(lambda: len(opend.pulls()) == 3)
            claims = [fact.at_ms for fact in bench.facts if isinstance(fact, Verified)]
            assert len(claims) == 3
            assert opend_too or max(claims) <= true.now_ms(), "OpenD was not asked in the evening"
            await asyncio.sleep(60)
            clock.ahead_ms = 0
            await asyncio.sleep(60)
            assert [fact for fact in bench.facts if isinstance(fact, Verified) and fact.at_ms <= true.now_ms()]
            await asyncio.sleep(50 * 60)
            asked = len(opend.pulls())
            opend.connections[-1].lose()
            await asyncio.sleep(300)
            assert sorted(code for code, _ in opend.pulls()[asked:]) == sorted(CODES)

        await bench.serve(bench.session(CODES, CALENDAR, poll_interval_sec=20.0), script())

    play(life())


def test_a_session_that_was_only_pushed_is_covered_by_one_more_backfill() -> None:
    """The answer of the afternoon says nothing of what was traded since, whoever was connected."""

    async def life() -> None:
        bench = Bench(hk_ms(15, 0))
        opend = bench.opend

        async def script() -> None:
            await asyncio.sleep(3 * 3600)
            asked = len(opend.pulls())
            opend.connections[-1].lose()
            await asyncio.sleep(300)
            assert sorted(code for code, _ in opend.pulls()[asked:]) == sorted(CODES)

        await bench.serve(bench.session(CODES, CALENDAR), script())

    play(life())


def test_a_symbol_added_in_the_evening_after_a_reconnect_is_backfilled() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(16, 30))
        opend = bench.opend
        session = bench.session(CODES, CALENDAR)

        async def script() -> None:
            await bench.until(lambda: len(opend.pulls()) == 3)
            opend.connections[-1].lose()
            await asyncio.sleep(60)
            session.set_symbols([*CODES, "HK.00011"])
            await asyncio.sleep(60)

        await bench.serve(session, script())
        assert [code for code, _ in opend.pulls()[3:]] == ["HK.00011"]

    play(life())


def test_lost_rows_are_asked_for_again_at_any_hour() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(20, 0))
        opend = bench.opend
        session = bench.session(CODES, CALENDAR)

        async def script() -> None:
            await bench.until(lambda: len(opend.pulls()) == 3)
            bench.continuity.resync({})
            session.request_backfill()
            await asyncio.sleep(60)

        await bench.serve(session, script())
        assert sorted(code for code, _ in opend.pulls()[3:]) == sorted(CODES)

    play(life())


def test_a_symbol_that_opend_takes_later_is_backfilled_then() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        opend = bench.opend
        opend.refused = {CODES[2]}
        bench.continuity.observe_push([tick(1, symbol=CODES[2])], 0.0)

        async def script() -> None:
            await bench.until(lambda: bench.progress.symbols_subscribed == 2)
            opend.refused = set()
            await bench.until(lambda: opend.pulls(CODES[2]))

        await bench.serve(bench.session(CODES, CALENDAR, poll_enabled=False), script())
        assert opend.pulls(CODES[2])[0] == (CODES[2], 1000)

    play(life())


def test_what_opend_drops_without_a_word_is_noticed_subscribed_again_and_backfilled() -> None:
    """All was subscribed, and nothing tells of it: no push comes, and no pull is answered."""

    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        opend = bench.opend

        async def script() -> None:
            await bench.until(lambda: opend.pulls(CODES[1]))
            await asyncio.sleep(300)
            assert len(opend.pulls(CODES[1])) == 1
            opend.ticks[CODES[1]] = run(1, 3, symbol=CODES[1])
            opend.connections[0].subscribed.remove(CODES[1])
            await bench.until(lambda: bench.rows)
            assert CODES[1] in opend.connections[0].subscribed
            assert len(opend.pulls(CODES[0])) == 1, "the others go on"
            assert len(opend.connections) == 1

        await bench.serve(bench.session(CODES, CALENDAR, poll_enabled=False, poll_interval_sec=7200.0), script())

    play(life())


def test_a_list_that_is_not_answered_ends_no_connection() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        opend = bench.opend

        async def script() -> None:
            await bench.until(lambda: opend.pulls(CODES[1]))
            opend.trouble = lambda word, code: 60.0 if word == "list" else None
            await asyncio.sleep(300)
            assert 3 <= sum(word == "list" for word, _, _ in opend.requests) < 10
            assert len(opend.connections) == 1

        await bench.serve(bench.session(CODES, CALENDAR, poll_enabled=False, poll_interval_sec=7200.0), script())

    play(life())


@pytest.mark.parametrize("how", ["refused", "no answer"])
def test_an_opend_that_never_says_what_is_subscribed_is_recorded(how: str) -> None:
    """Its answers to what was asked for count. A refused symbol is asked for again, and so is the list."""

    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        opend = bench.opend
        opend.refused = {CODES[2]}

        def trouble(word: str, code: str) -> float | None:
            if word == "list" and how == "refused":
                raise FeedError("not now")
            return 60.0 if word == "list" else None

        opend.trouble = trouble
        opend.ticks = {code: run(1, 3, symbol=code) for code in CODES}

        async def script() -> None:
            await bench.until(lambda: {tick.symbol for tick in bench.rows} == set(CODES[:2]), 60)
            await asyncio.sleep(600)
            assert (bench.progress.symbols_subscribed, [*bench.progress.refused_symbols]) == (2, [CODES[2]])
            opend.refused = set()
            await bench.until(lambda: {tick.symbol for tick in bench.rows} == set(CODES), 400)
            assert len(opend.connections) == 1

        await bench.serve(bench.session(CODES, CALENDAR, poll_enabled=False, poll_interval_sec=7200.0), script())

    play(life())


@pytest.mark.parametrize("since_sec", [0, 45])
def test_an_opend_that_refuses_to_say_how_it_is_is_recorded(since_sec: int) -> None:
    """What it answers to the other requests counts; the connection stays, and pulls go on."""

    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        opend = bench.opend
        began_sec = bench.clock.monotonic()

        def trouble(word: str, code: str) -> float | None:
            if word == "state" and bench.clock.monotonic() >= began_sec + since_sec:
                raise FeedError("not now")
            return None

        opend.trouble = trouble
        opend.ticks = {code: run(1, 3, symbol=code) for code in CODES}

        async def script() -> None:
            await bench.until(lambda: {tick.symbol for tick in bench.rows} == set(CODES), 20)
            await asyncio.sleep(900)
            assert len(opend.connections) == 1
            assert (bench.progress.connected, bench.progress.symbols_subscribed) == (True, 3)
            pulls = len(opend.pulls())
            opend.ticks = {code: run(1, 9, symbol=code) for code in CODES}
            await bench.until(lambda: len(opend.pulls()) > pulls and len(bench.rows) == 27, 60)

        await bench.serve(bench.session(CODES, CALENDAR), script())

    play(life())


def test_who_says_again_how_it_is_is_subscribed_and_asked_for_again() -> None:
    """It may have been out of service: at the start it refused everything, later it came back without a word."""

    async def life() -> None:
        bench = Bench(hk_ms(17, 0))
        opend = bench.opend
        refused = {"state", "subscribe"}

        def trouble(word: str, code: str) -> float | None:
            if word in refused:
                raise FeedError("not logged in")
            return None

        opend.trouble = trouble
        session = bench.session(CODES, CALENDAR, trading_only=False, poll_interval_sec=3600.0)

        async def script() -> None:
            await asyncio.sleep(400)  # symbols are asked for every five minutes by now
            assert {*bench.progress.refused_symbols.values()} == {"not logged in"}
            refused.clear()
            await bench.until(lambda: len(opend.pulls()) == 3, 11)
            refused.add("state")
            await asyncio.sleep(30)
            opend.connections[-1].subscribed.clear()
            refused.clear()
            await bench.until(lambda: len(opend.pulls()) == 6, 11)
            await asyncio.sleep(120)
            assert (len(opend.pulls()), len(opend.connections)) == (6, 1)

        await bench.serve(session, script())

    play(life())


def test_who_refuses_every_other_time_to_say_how_it_is_is_not_asked_for_all_each_time() -> None:
    """A backfill of many symbols would never come to its end."""

    async def life() -> None:
        bench = Bench(hk_ms(17, 0))
        opend = bench.opend
        asked = 0

        def trouble(word: str, code: str) -> float | None:
            nonlocal asked
            asked += word == "state"
            if word == "state" and asked % 2:
                raise FeedError("not now")
            return None

        opend.trouble = trouble

        async def script() -> None:
            await asyncio.sleep(1200)
            assert asked > 60, "it is asked as often as ever"
            assert 3 * 2 <= len(opend.pulls()) <= 3 * 6, "each symbol at the start, and every five minutes"
            assert len(opend.connections) == 1

        await bench.serve(bench.session(CODES, CALENDAR, trading_only=False, poll_interval_sec=3600.0), script())

    play(life())


def test_after_a_lost_login_all_is_subscribed_and_asked_for_again() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(17, 0))
        opend = bench.opend
        session = bench.session(CODES, CALENDAR, trading_only=False, poll_interval_sec=3600.0)

        async def script() -> None:
            await bench.until(lambda: len(opend.pulls()) == 3)
            lists_before = [word for word, _, _ in opend.requests].count("list")
            opend.ready = False
            await bench.until(lambda: not bench.progress.connected)
            opend.ready = True
            await bench.until(lambda: len(opend.pulls()) == 6)
            assert [word for word, _, _ in opend.requests].count("list") > lists_before

        await bench.serve(session, script())

    play(life())


@pytest.mark.parametrize("is_noticed", [True, False], ids=["with its login", "without a word"])
def test_what_opend_dropped_is_asked_for_again_though_it_does_not_say_what_is_left(is_noticed: bool) -> None:
    """What was agreed to before counts no longer, and nobody is called subscribed for it."""

    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        opend = bench.opend
        session = bench.session(CODES, CALENDAR, poll_enabled=False, poll_interval_sec=7200.0)
        lists = 0

        def trouble(word: str, code: str) -> float | None:
            nonlocal lists
            lists += word == "list"
            return 60.0 if word == "list" and (is_noticed or lists > 1) else None

        async def script() -> None:
            await bench.until(lambda: bench.progress.symbols_subscribed == len(CODES))
            await asyncio.sleep(30)
            (connection,) = opend.connections
            opend.trouble = trouble
            connection.subscribed.clear()
            if is_noticed:
                opend.ready = False
                await bench.until(lambda: not bench.progress.connected)
                opend.ready = True
            await bench.until(lambda: set(connection.subscribed) == set(CODES), 200)
            assert opend.connections == [connection]

        await bench.serve(session, script())

    play(life())


OUTAGES = [
    Notice("GtwEvent", "KickedOut", {"desc": "another terminal"}),
    Notice("ConnStatus", "", {"qot_logined": False, "trd_logined": True}),
    Notice("ProgramStatus", "NeedPhoneVerifyCode", {"desc": ""}),
]


@pytest.mark.parametrize("notice", OUTAGES, ids=lambda notice: notice.name or notice.kind)
def test_an_outage_that_is_over_before_opend_is_asked_is_backfilled(notice: Notice) -> None:
    async def life() -> None:
        bench = Bench(hk_ms(17, 0))
        opend = bench.opend
        session = bench.session(CODES, CALENDAR, trading_only=False, poll_interval_sec=36000.0)

        async def script() -> None:
            await bench.until(lambda: len(opend.pulls()) == 3)
            lists_before = [word for word, _, _ in opend.requests].count("list")
            opend.connections[0].on_notice(notice)
            await bench.until(lambda: len(opend.pulls()) == 6)
            assert [word for word, _, _ in opend.requests].count("list") > lists_before
            opend.connections[0].on_notice(Notice("ConnStatus", "", {"qot_logined": True, "trd_logined": True}))
            await asyncio.sleep(300)
            assert len(opend.pulls()) == 6
            assert len(opend.connections) == 1

        await bench.serve(session, script())

    play(life())


def test_without_backfill_nothing_is_asked_for_at_a_connect() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(10, 0))

        async def script() -> None:
            await bench.until(lambda: bench.progress.symbols_subscribed == 3)
            await asyncio.sleep(30)

        session = bench.session(CODES, CALENDAR, backfill_rows=0, poll_interval_sec=3600.0)
        await bench.serve(session, script())
        assert bench.opend.pulls() == []

    play(life())


def test_a_mute_opend_is_given_up_and_one_that_pushes_is_not() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        opend = bench.opend
        session = bench.session(CODES, CALENDAR, poll_enabled=False, poll_interval_sec=3600.0)

        async def script() -> None:
            await bench.until(lambda: len(opend.pulls()) == 3)
            opend.trouble = lambda word, code: 60.0 if word == "state" else None
            for n in range(1, 120):
                opend.connections[0].on_push([push_of([tick(n, n)])])
                await asyncio.sleep(1)
            assert len(opend.connections) == 1
            await asyncio.sleep(120)
            assert len(opend.connections) > 1

        await bench.serve(session, script())

    play(life())


def test_a_rebuild_makes_a_new_connection_and_a_backfill() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        opend = bench.opend
        session = bench.session(CODES, CALENDAR, poll_enabled=False)

        async def script() -> None:
            await bench.until(lambda: len(opend.pulls()) >= 3)
            session.request_rebuild("silent")
            await bench.until(lambda: len(opend.connections) == 2 and len(opend.pulls()) >= 6)

        await bench.serve(session, script())
        assert bench.progress.disconnections == 2

    play(life())


def test_a_restart_ends_the_pause_before_the_next_connection() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        opend = bench.opend

        def refuse(word: str, code: str) -> None:
            raise FeedError("nobody listens")

        opend.trouble = refuse
        session = bench.session(CODES, CALENDAR, reconnect_max_sec=600.0)

        async def script() -> None:
            await asyncio.sleep(300)  # the pauses have grown to minutes
            opend.trouble = lambda word, code: None
            tried = len(opend.connections)
            session.restart("asked by somebody")
            await asyncio.sleep(1)
            assert len(opend.connections) == tried + 1
            await bench.until(lambda: bench.progress.connected)
            session.restart("asked again")
            await bench.until(lambda: len(opend.connections) == tried + 2 and bench.progress.connected)
            await asyncio.sleep(60)
            assert len(opend.connections) == tried + 2, "one restart is one new connection"

        await bench.serve(session, script())

    play(life())


def test_reconnects_come_with_growing_pauses() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        opend = bench.opend

        def refuse(word: str, code: str) -> None:
            raise FeedError("nobody listens")

        opend.trouble = refuse

        async def script() -> None:
            await asyncio.sleep(60)

        await bench.serve(bench.session(CODES, CALENDAR), script())
        assert 8 <= len(opend.connections) <= 12
        assert not bench.progress.connected

    play(life())


def test_a_stop_does_not_wait_for_opend() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        bench.opend.trouble = lambda word, code: 9.0
        stopped_sec = 0.0

        async def script() -> None:
            nonlocal stopped_sec
            await asyncio.sleep(1)
            stopped_sec = bench.clock.monotonic()

        await bench.serve(bench.session(CODES, CALENDAR), script())
        assert bench.clock.monotonic() - stopped_sec < 0.1

    play(life())


def test_the_auditor_is_told_the_time_that_really_passed() -> None:
    """Slow polls stretch a round; every symbol is still audited once in four minutes."""

    async def life() -> None:
        symbols = [f"HK.{n:05d}" for n in range(1, 61)]
        bench = Bench(hk_ms(10, 0))
        opend = bench.opend
        audited: Counter[str] = Counter()

        def trouble(word: str, code: str) -> float | None:
            if word == "ticks" and bench.progress.backfill_fetched_rows == 60:
                rows = opend.requests[-1][2]
                audited[code] += rows == 50
                return 8.0 if rows == 100 else None
            return None

        opend.trouble = trouble
        for symbol in symbols:
            opend.ticks[symbol] = run(5, 5, symbol=symbol)

        async def script() -> None:
            await asyncio.sleep(600)

        await bench.serve(bench.session(symbols, CALENDAR), script())
        assert all(audited[symbol] >= 2 for symbol in symbols), audited

    play(life())


def noted_at(bench: Bench) -> list[tuple[str, str, str | None, int | None, str | None, str | None]]:
    return [
        (fact.trading_day, fact.symbol, fact.name, fact.lot_size, fact.currency, fact.unit)
        for fact in bench.told
        if isinstance(fact, SymbolNoted)
    ]


def test_what_symbols_are_is_told_once_a_day_from_its_beginning_on() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(8, 58))
        bench.opend.static = {
            CODES[0]: SymbolInfo(CODES[0], "TENCENT\x1b[2J" + "x" * 200, 100, "Eqty", delisted=False),
            CODES[1]: SymbolInfo(CODES[1], "HSBC", -400, "Warrant", delisted=False),
            CODES[2]: SymbolInfo(CODES[2], "", 0, "Eqty", delisted=True),
        }
        session = bench.session(CODES, CALENDAR)

        async def script() -> None:
            await asyncio.sleep(60)
            assert noted_at(bench) == []
            await asyncio.sleep(90)
            (tencent, hsbc) = noted_at(bench)
            assert tencent[3:] == (100, "HKD", "shares")
            assert tencent[2] is not None
            assert tencent[2].startswith("TENCENT")
            assert len(tencent[2]) < 110
            assert tencent[2].isprintable()
            assert hsbc == (DAY, CODES[1], "HSBC", None, "HKD", None)
            bench.opend.connections[-1].lose()
            await asyncio.sleep(120)
            assert len(noted_at(bench)) == 2, "a new connection says nothing new"
            session.request_backfill()
            await asyncio.sleep(30)
            assert len(noted_at(bench)) == 4, "the file may be another one"

        await bench.serve(session, script())

    play(life())


def test_an_opend_that_does_not_describe_costs_nothing_and_is_asked_again() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        asked: list[float] = []

        class Refusing(dict[str, SymbolInfo]):
            def __contains__(self, code: object) -> bool:
                asked.append(bench.clock.monotonic())
                raise FeedError("no permission")

        bench.opend.static = Refusing()
        session = bench.session(CODES, CALENDAR)

        async def script() -> None:
            await asyncio.sleep(2.2 * RETRY_SEC)

        await bench.serve(session, script())
        rounds = sorted({round(sec / 60) for sec in asked})
        assert 2 <= len(rounds) <= 4
        assert len(bench.opend.connections) == 1
        assert bench.progress.connected or bench.progress.disconnections == 1

    play(life())


def test_a_symbol_that_opend_never_describes_costs_no_other_one() -> None:
    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        opend = bench.opend
        opend.static = {code: SymbolInfo(code, "X", 100, "Eqty", delisted=False) for code in CODES[:2]}
        opend.trouble = lambda word, code: 60.0 if word == "static" and CODES[0] in code else None

        async def script() -> None:
            await bench.until(lambda: [note[1] for note in noted_at(bench)] == [CODES[1]], 60)
            asked = [code for word, code, _ in opend.requests if word == "static"]
            await asyncio.sleep(1.2 * RETRY_SEC)
            again = [code for word, code, _ in opend.requests if word == "static"][len(asked) :]
            assert again == [CODES[0]], "those that were told, and the one that is refused, wait until tomorrow"
            opend.trouble = lambda word, code: None
            await bench.until(lambda: len(noted_at(bench)) == 2, 1.2 * RETRY_SEC)
            assert len(opend.connections) == 1

        await bench.serve(bench.session(CODES, CALENDAR), script())

    play(life())


def test_what_is_sent_on_after_it_was_given_back_goes_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    async def life() -> None:
        bench = Bench(hk_ms(10, 0))
        opend = bench.opend
        session = bench.session(CODES, CALENDAR)
        gone, kept = CODES[0], CODES[1]

        async def script() -> None:
            await bench.until(lambda: bench.progress.symbols_subscribed == len(CODES))
            connection = opend.connections[-1]
            session.set_symbols(CODES[1:])
            await bench.until(lambda: gone not in connection.subscribed)
            await asyncio.sleep(1)
            bench.rows.clear()
            pushed = [push_of(run(5, 7, symbol=symbol)) for symbol in (gone, kept)]
            connection.on_push(pushed)
            assert {tick.symbol for tick in bench.rows} == {kept}
            session.set_symbols(CODES)
            await bench.until(lambda: gone in connection.subscribed)
            connection.on_push([push_of(run(8, 9, symbol=gone))])
            assert {tick.symbol for tick in bench.rows} == {gone, kept}

        await bench.serve(session, script())

    play(life())
    assert caplog.text.count(f"futu_unwanted symbol={CODES[0]} rows=3") == 1

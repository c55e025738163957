"""Steady and fastest load, the shifted clock, replay, and the check of what a client received."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.opend_sim import pb, wire
from hk_tick_collector.opend_sim.instruments import default_symbols
from hk_tick_collector.opend_sim.truth import read_truth, read_truth_flagged
from tests.harness import Simulator, ended, wait_until
from tests.integration.sim_client import RawClient, SdkClient

KEEP_ALIVE = 1004
_update = pb.load("Qot_UpdateTicker").Response


def read_ticks(raw: RawClient, count: int) -> tuple[list[tuple[str, int]], list[int]]:
    """(symbol, sequence) of so many pushed ticks, and the ticks of each push."""
    ticks: list[tuple[str, int]] = []
    sizes: list[int] = []
    while len(ticks) < count:
        header, body = raw.receive()
        assert header.proto_id == 3011
        push = _update()
        push.ParseFromString(body)
        sizes.append(len(push.s2c.tickerList))
        ticks += [(f"HK.{push.s2c.security.code}", t.sequence) for t in push.s2c.tickerList]
    return ticks, sizes


def pulled(raw: RawClient, symbol: str) -> Any:
    """The newest ticks of a symbol, as the poll and the auditor ask for them."""
    request = pb.load("Qot_GetTicker").Request()
    request.c2s.security.market, request.c2s.security.code = 1, symbol.removeprefix("HK.")
    request.c2s.maxRetNum = 1000
    return raw.ask(3010, "Qot_GetTicker", request).s2c.tickerList


def test_the_firehose_sends_every_tick_of_its_truth_file_once(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path, "--firehose", "20000", "--ticks-per-push", "5", "--symbols-count", "40")
    with ended(simulator):
        truth = list(read_truth_flagged(simulator.truth))
        made = [(t.symbol, t.seq) for t, is_history in truth if not is_history]
        assert len(made) >= 20_000
        with RawClient(simulator.port) as raw:
            raw.init()
            assert raw.subscribe(default_symbols(40)[:39]).retType == 0
            time.sleep(0.3)
            assert simulator.find("firehose_begin") is None  # one symbol is missing still
            assert raw.subscribe(default_symbols(40)).retType == 0
            got, sizes = read_ticks(raw, len(made))
            simulator.wait_for(r"firehose_done .*ticks=\d+")
            shown = [(symbol, t.sequence) for symbol in default_symbols(40) for t in pulled(raw, symbol)]
        assert set(shown) - set(made), "of before the load: the auditor asks for it"
        assert set(shown) <= {(t.symbol, t.seq) for t, _ in truth}
        assert sorted(got) == sorted(made)
        assert sizes.count(5) >= 0.98 * len(sizes)
        for symbol in default_symbols(3):
            own = [seq for s, seq in got if s == symbol]
            assert own == sorted(own)


def test_the_firehose_waits_for_a_slow_reader(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path, "--firehose", "60000", "--symbols-count", "5", "--max-buffer-bytes", "2000000")
    with ended(simulator), RawClient(simulator.port) as raw:
        raw.init()
        assert raw.subscribe(default_symbols(5)).retType == 0
        simulator.wait_for("firehose_begin")
        time.sleep(0.5)
        assert simulator.find("firehose_done") is None
        got, _ = read_ticks(raw, 60_000)
        assert len(set(got)) == len(got) >= 60_000
        assert simulator.ctl("status")["clients_overflowed"] == 0


def keep_alive() -> Any:
    request = pb.load("KeepAlive").Request()
    request.c2s.time = int(time.time())
    return request


def test_a_steady_rate_is_kept_and_ticks_say_when_they_were_made(tmp_path: Path) -> None:
    simulator = Simulator(
        tmp_path, "--always-open", "--rate", "1000", "--symbols-count", "100", "--ticks-per-push", "1"
    )
    with ended(simulator), RawClient(simulator.port) as raw:
        raw.init()
        assert raw.subscribe(default_symbols(100)).retType == 0
        made_sec: list[float] = []
        ages_sec: list[float] = []
        is_asked = False
        while True:
            header, body = raw.receive()
            if header.proto_id == KEEP_ALIVE:
                break
            push = _update()
            push.ParseFromString(body)
            (tick,) = push.s2c.tickerList
            made_sec.append(tick.timestamp)
            ages_sec.append(time.time() - tick.timestamp)
            assert "." in tick.time
            if len(made_sec) >= 2000 and not is_asked:
                # The ticks of one step come symbol by symbol, and an answer behind all of them.
                is_asked = True
                raw.send(KEEP_ALIVE, keep_alive().SerializeToString())
        # The market's own time is judged, whatever the machine's load made of ours.
        assert max(made_sec) - min(made_sec) == pytest.approx(len(made_sec) / 1000, abs=0.1)
        assert -0.002 < min(ages_sec) < 1


def test_a_shifted_clock_goes_through_the_opening(tmp_path: Path) -> None:
    options = ["--start", "2026-11-20T09:29:50", "--speed", "20", "--symbols-count", "30"]
    simulator = Simulator(tmp_path, *options)
    opening_ms = day_start_ms("20261120") + (9 * 60 + 30) * 60_000
    with ended(simulator), SdkClient(simulator.port) as client:
        client.subscribe(*default_symbols(30), first_push=False)
        states = [client.ctx.get_global_state()[1]["market_hk"]]

        def is_morning() -> bool:
            states.append(client.ctx.get_global_state()[1]["market_hk"])
            return states[-1] == "MORNING"

        wait_until(is_morning, "the opening")
        assert states[0] in ("WAITING_OPEN", "MORNING")
        wait_until(lambda: len(client.ticks()) > 100, "ticks")
        assert all(t.timestamp * 1000 >= opening_ms for t in client.ticks())
        delays_ms = [(t.recvTime - t.timestamp) * 1000 for t in client.ticks() if "." in t.time]
        assert delays_ms
        assert all(34 <= delay <= 5000 for delay in delays_ms)
        assert {t.time[:10] for t in client.ticks()} == {"2026-11-20"}


def test_the_same_seed_makes_the_same_ticks(tmp_path: Path) -> None:
    made = []
    for run in ("first", "second"):
        options = ["--start", "2026-11-20T10:00:00", "--speed", "10", "--symbols", "HK.00700,HK.00005", "--seed", "11"]
        simulator = Simulator(tmp_path / run, *options, "--duration", "1.5")
        with ended(simulator):
            assert simulator.wait() == 0
            made.append(list(read_truth(simulator.truth)))
    common = min(map(len, made))
    assert common > 50
    assert made[0][:common] == made[1][:common]


def test_a_pull_of_everything_is_a_small_frame(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path, "--always-open", "--symbols", "HK.00700")
    with ended(simulator), RawClient(simulator.port) as raw:
        raw.init()
        assert raw.subscribe(["HK.00700"]).retType == 0
        request = pb.load("Qot_GetTicker").Request()
        request.c2s.security.market, request.c2s.security.code, request.c2s.maxRetNum = 1, "00700", 1000
        answer = raw.ask(3010, "Qot_GetTicker", request)
        assert 900 < len(answer.s2c.tickerList) <= 1000  # what has not arrived yet is not in it
        assert answer.ByteSize() < wire.MAX_REQUEST_BYTES

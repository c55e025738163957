"""Discord, as far as the built ``hk-tick-alert`` speaks with it, with a server of the test's own in its place; and
signals and failed units, which come from other programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hk_tick_collector.alert.discord import Discord
from hk_tick_collector.alert.outbox import Outbox
from hk_tick_collector.alert.targets import Letter, NotSent
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.store.signals import SignalStore
from tests.called import TOKEN, DiscordServer
from tests.harness import BIN, Process, clean_env, ended, wait_until
from tests.tickctl import record_day, tickctl, tickctl_json
from tests.ticks import DAY

PERSON = 77


@pytest.fixture
def discord() -> Iterator[DiscordServer]:
    with DiscordServer() as server:
        yield server


def letter(text: str = "ALERT HK: it died", level: str = "alert") -> Letter:
    return Letter("1-1", "hk-tick-collector HK: ALERT", text, {"level": level, "kind": "event"})


def test_a_message_is_sent_with_whom_it_calls_and_changed_in_place(discord: DiscordServer) -> None:
    channel = Discord(discord.url, PERSON)
    receipt = channel.send(letter("ALERT HK: it died @everyone <@5>"))
    assert receipt is not None
    (sent,) = discord.messages[receipt]
    assert sent["content"] == f"<@{PERSON}> **hk-tick-collector HK: ALERT**\nALERT HK: it died @everyone <@5>"
    assert sent["allowed_mentions"] == {"parse": [], "users": [str(PERSON)]}
    channel.edit(receipt, letter("OK HK: OVER it died"))
    assert discord.now()[0].endswith("OK HK: OVER it died")
    calm = channel.send(letter(level="warn"))
    assert calm is not None
    assert discord.messages[calm][0]["allowed_mentions"] == {"parse": [], "users": []}
    channel.send(letter("x" * 9000))
    assert all(len(text) <= 2000 for text in discord.now())


def test_what_discord_refuses_is_said_without_the_address(discord: DiscordServer) -> None:
    channel = Discord(discord.url, None)
    discord.refusals = [(401, {}), (429, {}), (500, "x" * 200_000)]
    for status in (401, 429, 500):
        with pytest.raises(NotSent) as refused:
            channel.send(letter())
        assert refused.value.status == status
        assert TOKEN not in str(refused.value)
    discord.refusals = [(200, ["garbage"]), (200, {"id": "../../x"})]
    assert channel.send(letter()) is None, "it was taken, and cannot be changed"
    assert channel.send(letter()) is None
    with pytest.raises(NotSent) as gone:
        channel.edit("5", letter())
    assert gone.value.status == 404
    with pytest.raises(NotSent) as away:
        Discord(f"http://127.0.0.1:1/{TOKEN}", None).send(letter())
    assert TOKEN not in str(away.value)


def test_signals_and_failed_units_reach_a_person(tmp_path: Path, discord: DiscordServer) -> None:
    record_day(tmp_path / "HK", DAY)
    file = tmp_path / "alerts.toml"
    file.write_text(
        f'[[targets]]\nname = "desk"\ndiscord = "{discord.url}"\nmention = {PERSON}\nsignals = ["ml-trade"]\n'
        "[rules.recorder_down]\nis_off = true\n"
    )
    file.chmod(0o640)
    given = {
        "DATA_ROOT": tmp_path / "HK", "ALERT_FILE": file, "ALERT_DIR": tmp_path / "alert",
        "HOOKS_DIR": tmp_path / "hooks",
    }  # fmt: skip
    store = SignalStore(tmp_path / "hooks")
    process = Process([BIN / "hk-tick-alert"], clean_env(tmp_path / "home", **given))
    with ended(process):
        process.wait_for("hk-tick-alert: ")
        wait_until(lambda: mark_of(tmp_path) is not None, "the first look at the signals")
        payload = {"symbol": "HK.00700", "action": "entry", "direction": "long", "price": 471.4}
        store.add("ml-trade", "HK.00700", payload, recv_ts_ms=1_795_914_000_000, cursor=None, sender="model")
        failed = tickctl(
            "alert", "failed", "hk-tick-eod.service",
            **given, MONITOR_SERVICE_RESULT="exit-code", MONITOR_EXIT_STATUS="1",
        )  # fmt: skip
        assert failed.stdout == "hk-tick-eod.service: noted (exit-code 1)\n"
        wait_until(lambda: len(discord.messages) >= 2, "both letters")
        process.signal(15)
        assert process.wait() == 0
    signal, unit = sorted(discord.now(), key=lambda text: "unit_failed" in text)
    assert signal == (
        f"<@{PERSON}> **hk-tick-collector HK: signal**\nHK.00700: entry long at 471.4 [ml-trade 1; 09:00:00 HKT]"
    )
    assert "WARN hk-tick-eod.service: the unit failed (exit-code 1) [unit_failed;" in unit
    assert TOKEN not in process.output
    assert tickctl("alert", "failed", "../x y", **given).returncode == 2
    store.close()


def mark_of(tmp_path: Path) -> int | None:
    try:
        return Outbox(tmp_path / "alert", read_only=True).mark("signals")
    except StoreError:
        return None


def test_a_reader_without_write_access_is_told_what_was_told(tmp_path: Path, discord: DiscordServer) -> None:
    (tmp_path / "HK").mkdir()
    given = {"DATA_ROOT": tmp_path / "HK", "ALERT_DIR": tmp_path / "alert"}
    none = tickctl("alert", "list", **given)
    assert none.returncode == 2
    assert "hk-tick-alert has not run there yet" in none.stderr
    assert not (tmp_path / "alert").exists(), "who only asks makes nothing"
    assert tickctl("alert", "mute", "ticks_late", **given).returncode == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "alert").iterdir()}
    (tmp_path / "alert" / "outbox.db").chmod(0o440)
    (tmp_path / "alert").chmod(0o550)
    assert list(tickctl_json("alert", "list", **given)["mutes"]) == ["ticks_late"]
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "alert").iterdir()} == before
    (tmp_path / "alert").chmod(0o750)

"""Telegram, as far as the built ``hk-tick-alert`` speaks with it, with a server of the test's own in its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hk_tick_collector.alert.targets import Letter, NotSent, TelegramSettings
from hk_tick_collector.alert.telegram import PER_MIN, Telegram
from tests.called import TOKEN, TelegramServer
from tests.harness import BIN, Process, clean_env, ended, wait_until
from tests.tickctl import record_day, tickctl_json
from tests.ticks import DAY

OWNER, STRANGER, CHAT = 11, 66, -1001


@pytest.fixture
def telegram() -> Iterator[TelegramServer]:
    with TelegramServer() as server:
        yield server


def base(telegram: TelegramServer) -> str:
    return f"http://127.0.0.1:{telegram.server_address[1]}"


def settings(telegram: TelegramServer) -> TelegramSettings:
    return TelegramSettings.model_validate({"token": TOKEN, "chat": CHAT, "users": [OWNER], "api": base(telegram)})


def letter(text: str = "ALERT HK: it died [recorder_down; since 10:00:00 HKT]") -> Letter:
    return Letter("1-1", "hk-tick-collector HK: ALERT", text, {})


def said(telegram: TelegramServer) -> str:
    return "\n".join(message["text"] for message in telegram.said)


def test_listed_people_are_answered_and_strangers_are_not(tmp_path: Path, telegram: TelegramServer) -> None:
    record_day(tmp_path / "HK", DAY, lost=(7, 8))
    file = tmp_path / "alerts.toml"
    file.write_text(
        f'[[targets]]\nname = "chat"\n[targets.telegram]\ntoken = "{TOKEN}"\nchat = {CHAT}\nusers = [{OWNER}]\n'
        f'api = "{base(telegram)}"\n[rules.recorder_down]\nfor_sec = 1\n'
    )
    file.chmod(0o640)
    given = {"DATA_ROOT": tmp_path / "HK", "ALERT_FILE": file, "ALERT_DIR": tmp_path / "alert"}
    assert tickctl_json("alert", "test", **given)[0]["taken"] is True
    process = Process([BIN / "hk-tick-alert"], clean_env(tmp_path / "home", **given))
    with ended(process):
        telegram.ask(STRANGER, CHAT, "/status")
        telegram.ask(OWNER, CHAT + 1, "/status")
        wait_until(lambda: "[recorder_down;" in said(telegram), "the alert")
        (buttons,) = telegram.said[-1]["reply_markup"]["inline_keyboard"]
        assert [button["text"] for button in buttons] == ["Status", "Today", "What to do", "Mute 1 h"]
        assert all(len(button["callback_data"]) <= 64 for button in buttons)
        for text, wanted in (
            ("/status", "something is wrong"), ("/day@some_bot", "grade "), ("/gaps", "1 open gap\n"),
            ("/top", " ticks"),
            ("/symbol 700", "HK.00700"), ("/symbol ../../etc", "it cannot be answered"), ("/rm -rf", "/status, /day"),
        ):  # fmt: skip
            telegram.said.clear()
            telegram.ask(OWNER, CHAT, text)
            wait_until(lambda wanted=wanted: wanted in said(telegram), f"an answer to {text}")
        telegram.ask(OWNER, CHAT, buttons[3]["callback_data"], button=True)
        wait_until(lambda: "recorder_down is silent until" in said(telegram), "the mute")
        assert list(tickctl_json("alert", "list", **given)["mutes"]) == ["recorder_down"]
        telegram.said.clear()
        telegram.ask(STRANGER, CHAT, "v1:mute:ticks_late", button=True)
        telegram.ask(OWNER, CHAT, "v1:details:ticks_late", button=True)
        wait_until(lambda: "ticks_late: " in said(telegram), "what to do")
        assert len(telegram.said) == 1
        telegram.said.clear()
        telegram.ask(OWNER, CHAT, "v9:explode:../../etc", button=True)  # of another version, or somebody's own
        wait_until(lambda: "/status, /day" in said(telegram), "what can be asked")
        process.signal(15)
        assert process.wait() == 0
    assert TOKEN not in process.output


def test_what_telegram_refuses_is_said_without_the_token(telegram: TelegramServer) -> None:
    chat = Telegram(settings(telegram))
    blocked = {"ok": False, "description": "Forbidden: bot was blocked by the user\x1b[2J"}
    telegram.refusals = [(403, blocked), (429, {"ok": False, "parameters": {"retry_after": 7}}), (200, {"ok": "maybe"})]
    with pytest.raises(NotSent, match="403: Forbidden: bot was blocked") as refused:
        chat.send(letter())
    assert "\x1b" not in str(refused.value)
    with pytest.raises(NotSent) as limited:
        chat.send(letter())
    assert limited.value.retry_after_sec == 7
    with pytest.raises(NotSent):
        chat.send(letter())
    gone = Telegram(settings(telegram).model_copy(update={"api": "http://127.0.0.1:1"}))
    with pytest.raises(NotSent) as away:
        gone.send(letter())
    assert TOKEN not in str(away.value)


def test_a_message_is_changed_in_place_and_one_that_cannot_be_says_so(telegram: TelegramServer) -> None:
    chat = Telegram(settings(telegram))
    receipt = chat.send(letter())
    assert receipt == "1"
    chat.edit(receipt, letter("OK HK: OVER it died [recorder_down; since 10:00:00 HKT]"))
    (edit,) = telegram.edits
    assert (edit["message_id"], edit["chat_id"]) == (1, CHAT)
    assert edit["text"].endswith("OVER it died [recorder_down; since 10:00:00 HKT]")
    same = {"ok": False, "description": "Bad Request: message is not modified: specified new content is the same"}
    gone = {"ok": False, "description": "Bad Request: message to edit not found"}
    telegram.refusals = [(400, same), (400, gone)]
    chat.edit(receipt, letter())
    with pytest.raises(NotSent) as refused:
        chat.edit(receipt, letter())
    assert refused.value.status == 400


def test_a_wrong_token_and_garbage_are_said(telegram: TelegramServer) -> None:
    chat = Telegram(settings(telegram))
    telegram.refusals = [(401, {"ok": False, "description": "Unauthorized"}), (404, {"ok": False}), (200, [1])]
    for words in ("401: Unauthorized", "404", "200"):
        with pytest.raises(NotSent, match=words):
            chat.send(letter())


def test_a_chat_gets_no_more_than_telegram_lets_through(telegram: TelegramServer) -> None:
    chat = Telegram(settings(telegram))
    for _ in range(PER_MIN):
        chat.send(letter("x" * 9000))
    with pytest.raises(NotSent) as limited:
        chat.send(letter())
    assert 0 < (limited.value.retry_after_sec or 0) <= 60
    assert all(len(message["text"]) <= 4096 for message in telegram.said)

"""What the settings say before anything is asked, and what doctor finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from hk_tick_collector.app.config import ConfigErrors, Settings, load_settings


def settings(tmp_path: Path, **changes: str) -> Settings:
    env = tmp_path / "TW.env"
    given = {
        "SOURCE": "shioaji", "MARKET": "TW", "FUTU_SYMBOLS": "TW.2330,2317.TW,TWF.TXFL6", "DATA_ROOT": str(tmp_path),
        **changes,
    }  # fmt: skip
    env.write_text("".join(f"{key}={value}\n" for key, value in given.items()))
    return load_settings(env, {})


def test_a_gateway_of_this_machine_needs_no_key(tmp_path: Path) -> None:
    made = settings(tmp_path)
    assert made.symbols == ("TW.2330", "TW.2317", "TWF.TXFL6")
    assert (made.shioaji_url, made.shioaji_secrets_file) == ("http://127.0.0.1:8080", None)
    assert made.spec.name == "shioaji TW"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SHIOAJI_URL": "https://gateway.example:8443"}, "name SHIOAJI_SECRETS_FILE"),
        ({"SHIOAJI_URL": "http://gateway.example:8080"}, "unencrypted: write https://"),
        ({"SHIOAJI_URL": "https://key:secret@gateway.example"}, "is not of the form"),
        ({"FUTU_SYMBOLS": "TWF.TXFR1"}, "write a real one such as TWF.TXFL6"),
        ({"FUTU_SYMBOLS": "2330"}, "write TW.2330"),
        ({"FUTU_SYMBOLS": "HK.00700"}, "only TW and TWO and TWF"),
        ({"MARKET": "HK"}, "SOURCE=shioaji does not offer MARKET=HK: it offers TW"),
        ({"BOOK_SYMBOLS": "TW.2330"}, "has no order books"),
    ],
)
def test_what_cannot_be_recorded_is_said_at_the_start(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        settings(tmp_path, **changes)
    assert words in str(caught.value)
    assert "key:secret" not in str(caught.value)

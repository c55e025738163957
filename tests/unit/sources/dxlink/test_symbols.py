"""dxFeed's spelling, and the settings of the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from hk_tick_collector.app.config import load_settings
from hk_tick_collector.app.config_sources import ConfigErrors
from hk_tick_collector.core.errors import FeedError, InputError
from hk_tick_collector.sources.addresses import url_problem
from hk_tick_collector.sources.dxlink.symbols import Venue, at_dxlink, parse_venue


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("US.AAPL", "AAPL"),
        ("US.BRK.B", "BRK/B"),
        ("CME.ESZ26", "/ESZ26:XCME"),
        ("CME.M6EH7", "/M6EH7:XCME"),
        ("CME.ZNH27", "/ZNH27:XCBT"),
        ("CME.CLF27", "/CLF27:XNYM"),
        ("CME.GCG27", "/GCG27:XCEC"),
    ],
)
def test_a_symbol_in_dxfeeds_spelling(ours: str, theirs: str) -> None:
    assert at_dxlink(ours) == theirs


def test_what_has_no_spelling_is_said() -> None:
    with pytest.raises(FeedError, match="which exchange LBR trades is not known; say it in DXLINK_VENUES"):
        at_dxlink("CME.LBRZ26")
    assert at_dxlink("CME.LBRZ26", [parse_venue("lbr=xcme")]) == "/LBRZ26:XCME"
    with pytest.raises(FeedError, match="no trades of an index"):
        at_dxlink("US..DJI")
    with pytest.raises(InputError, match="write LBR=XCME"):
        parse_venue("LBR=NYSE")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("wss://tasty.dxfeed.com/realtime", ""),
        ("ws://127.0.0.1:4000/x", ""),
        ("ws://tasty.dxfeed.com/realtime", "unencrypted"),
        ("https://tasty.dxfeed.com", "form wss://"),
        ("wss://user@host/", "form wss://"),
        ("wss://[::1/", "no address"),
        ("wss://host:99999/", "no address"),
        ("wss://", "form wss://"),
    ],
)
def test_a_token_goes_encrypted_or_to_this_machine(url: str, problem: str) -> None:
    assert problem in url_problem(url, "wss")
    assert bool(problem) == bool(url_problem(url, "wss"))


def test_settings_name_what_is_missing(tmp_path: Path) -> None:
    given = {"SOURCE": "dxlink", "MARKET": "US", "FUTU_SYMBOLS": "US.AAPL"}
    with pytest.raises(ConfigErrors, match="SOURCE=dxlink needs DXLINK_SECRETS_FILE"):
        load_settings(None, given)
    assert load_settings(None, {**given, "DXLINK_URL": "ws://127.0.0.1:1/"}).spec.name == "dxlink US"
    given["DXLINK_SECRETS_FILE"] = str(tmp_path / "secrets")
    assert load_settings(None, given).dxlink_api == "https://api.tastyworks.com"
    with pytest.raises(ConfigErrors, match=r"DXLINK_API.*unencrypted: write https://"):
        load_settings(None, {**given, "DXLINK_API": "http://api.tastyworks.com"})
    with pytest.raises(ConfigErrors, match="SOURCE=dxlink has no order books"):
        load_settings(None, {**given, "BOOK_SYMBOLS": "US.AAPL"})
    futures = {**given, "MARKET": "CME", "FUTU_SYMBOLS": "CME.LBRZ26"}
    with pytest.raises(ConfigErrors, match="which exchange LBR trades"):
        load_settings(None, futures)
    assert load_settings(None, {**futures, "DXLINK_VENUES": "LBR=XCME"}).dxlink_venues == (Venue("LBR", "XCME"),)
    with pytest.raises(ConfigErrors, match=r"DXLINK_VENUES.*write LBR=XCME"):
        load_settings(None, {**futures, "DXLINK_VENUES": "LBR"})

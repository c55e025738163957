"""Commands that ask OpenD do not ask it about what another source records, though it may be there and answer.

Its ticks of the same market would be stored beside those of the source, with other identities.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Simulator, ended
from tests.tickctl import tickctl

SENTENCE = "SOURCE=dxlink: only OpenD (SOURCE=futu) can be asked by a command; what another one shows again its"


@pytest.fixture
def opend(tmp_path: Path) -> Iterator[Simulator]:
    """It trades the same symbols."""
    simulator = Simulator(tmp_path / "truth", "--symbols", "US.AAPL", "--market", "US")
    with ended(simulator):
        yield simulator


@pytest.fixture
def settings(tmp_path: Path, opend: Simulator) -> dict[str, Any]:
    secrets = tmp_path / "secrets"
    secrets.write_text("client_secret=any\nrefresh_token=any\n")
    secrets.chmod(0o600)
    (tmp_path / "US").mkdir()
    return {
        "SOURCE": "dxlink", "MARKET": "US", "FUTU_SYMBOLS": "US.AAPL", "DXLINK_SECRETS_FILE": secrets,
        "FUTU_PORT": opend.port, "data_root": tmp_path / "US",
    }  # fmt: skip


@pytest.mark.parametrize("words", [("repair",), ("repair", "--dry-run"), ("universe",)], ids=" ".join)
def test_is_refused(settings: dict[str, Any], words: tuple[str, ...]) -> None:
    done = tickctl(*words, **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert SENTENCE in done.stderr
    assert "configuration" not in done.stderr, "nothing is wrong with it"
    assert ("--recorded-only --limit N ranks what is recorded" in done.stderr) == (words == ("universe",))
    assert not list(settings["data_root"].glob("*.db"))


def test_symbols_shows_what_is_known_without_it(settings: dict[str, Any]) -> None:
    done = tickctl("symbols", **settings)
    assert done.returncode == 1
    assert SENTENCE in done.stderr
    assert done.stdout.endswith("wanted: 1 symbol; what is subscribed is not known\n")

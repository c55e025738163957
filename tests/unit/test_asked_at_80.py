"""What ``audit``, ``repair`` and ``symbols`` show on a terminal of 80 columns, without an OpenD to ask."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from hk_tick_collector.cli import audit, common, repair, symbols, terminal
from hk_tick_collector.core.tables import cells_of
from hk_tick_collector.market.hk import HK

REASON = "ticks that OpenD no longer shows: see table gaps"
COMPARED = SimpleNamespace(
    minute_ms=1_795_138_200_000, theirs_volume=12_345_600, stored_volume=12_345_500, missing_volume=100,
    theirs_turnover=21_511_746_629.628, stored_turnover=21_511_746_000.0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def terminal_of_80(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (common, terminal):
        monkeypatch.setattr(module, "width", lambda: 80)


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cells_of, lines)) <= 80, lines
    return lines


def test_audit(capsys: pytest.CaptureFixture[str]) -> None:
    audit_row = SimpleNamespace(differences=[COMPARED], moved=[COMPARED])
    result = SimpleNamespace(
        market=HK, different={"HK.00700": audit_row}, compared={"HK.00700": audit_row},
        failed={"HK.00005": "no answer " * 12}, suspicion="",
        sentence=lambda: "1 of 2 symbols differs from OpenD's minute bars",
    )  # fmt: skip
    audit._show(cast(Any, result))
    head, row, *rest = lines_of(capsys)
    assert head.split() == ["symbol", "minute", "(HKT)", "volume", "OpenD", "stored", "missing", "turnover", "OpenD"]
    assert row.split() == ["HK.00700", "09:30", "12,345,600", "12,345,500", "100", "21,511,746,629.628"]
    assert rest[0] == "1 minute holds volume that OpenD counts in a neighbouring one: nothing is"
    assert rest[-1].endswith("minute bars")


def test_repair(capsys: pytest.CaptureFixture[str]) -> None:
    state = SimpleNamespace(state="missing", reason=REASON, stored_ticks=300, missing_ticks=4, open_gaps=2)
    repaired = SimpleNamespace(
        symbol="HK.00005", before=state, after=state, new_ticks=0, error=None, complete=False, why=REASON
    )
    repair._show("20261120", cast(Any, [repaired]))
    lines = lines_of(capsys)
    assert lines[1].split()[:3] == ["HK.00005", "missing", "missing"]
    assert lines[2] == f"  {REASON}"
    assert lines[3].startswith("20261120: asked for 1 symbol, stored 0 new ticks;")


def test_symbols_of_long_names(capsys: pytest.CaptureFixture[str]) -> None:
    row = symbols.Row(
        "HK.00700", wanted=True, subscribed=True, note=REASON, name="騰訊控股有限公司", board_lot=100, last_price=612.5,
        last_price_at_ms=1_795_138_200_000, stored_ticks=123_456, last_stored_at_ms=1_795_138_200_000,
        last_stored_price=612.5,
    )  # fmt: skip
    symbols._show([row], "what is subscribed is not known", HK)
    lines = lines_of(capsys)
    assert "騰訊控股有限公司" in lines[1]
    assert lines[2] == f"  {REASON}"
    assert lines[-1].startswith("wanted: 1 symbol; what is subscribed is not known")

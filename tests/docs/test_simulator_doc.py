"""docs/simulator.md names what the simulator offers, all of it and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hk_tick_collector.opend_sim import routes
from hk_tick_collector.opend_sim.cli import main
from hk_tick_collector.opend_sim.faults import FAULTS, parse_fault

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/simulator.md").read_text(encoding="utf-8")
PUSHES = (
    routes.NOTIFY,
    routes.UPDATE_BASIC_QOT,
    routes.UPDATE_KL,
    routes.UPDATE_RT,
    routes.UPDATE_TICKER,
    routes.UPDATE_ORDER_BOOK,
    routes.UPDATE_BROKER,
)


def test_every_protocol_that_is_served_is_in_the_table_and_no_other() -> None:
    table = PAGE.partition("## What is offered")[2].partition("\n\nFundamentals")[0]
    named = [int(number) for number in re.findall(r"\b[13]\d{3}\b", table)]
    assert sorted(named) == sorted([*routes.ROUTES, *PUSHES])


def test_every_fault_of_books_is_in_the_table() -> None:
    shown = re.findall(r"^\| `(book-[^`]+)` \|", PAGE, re.MULTILINE)
    assert [parse_fault(words.split()).name for words in shown] == [name for name in FAULTS if name.startswith("book-")]


def test_every_option_named_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "check-books"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) - {"--help", "--control"} <= options

"""The built ``hk-tickctl audit --against daily-quotations``: what it says, keeps and ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.daily_quotations import PAGE, record
from tests.tickctl import record_day, tickctl, tickctl_json
from tests.ticks import DAY

AGAINST = ("audit", "--against", "daily-quotations")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day with exactly the page's trades, not to be changed."""
    root = tmp_path_factory.mktemp("witness")
    record(root)
    return root


def test_what_came_of_it_becomes_a_note_of_the_certificate_and_no_better_grade(tmp_path: Path) -> None:
    record(tmp_path, HK_00700=[2])
    for _ in range(2):  # a certificate from all rows is not made anew by `day`
        before = tickctl_json("day", DAY, "--recount", data_root=tmp_path, code=1)
    done = tickctl(*AGAINST, PAGE, data_root=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "HK.00700 missing: AUTO_MATCH 1,000 at 600.2, morning, after 09:30:00.000 HKT" in done.stdout
    assert done.stdout.endswith(
        f"{DAY} against HKEX's list of trades: 2 symbols with exactly its trades (9, in its order), 1 with others "
        "(1 of its trades missing, 0 too many)\n"
    )
    kept = json.loads((tmp_path / "_reports" / f"{DAY}.json").read_text())
    assert kept["notes"][-1].startswith("outside witness: ")
    assert {**kept, "notes": before["notes"]} == {**before, "made_at_ms": kept["made_at_ms"]}
    after = tickctl_json("day", DAY, data_root=tmp_path, code=1)
    assert (after["grade"], after["proven_symbols"]) == (before["grade"], before["proven_symbols"])
    assert any(note.startswith("outside witness: ") for note in after["notes"])


def test_some_symbols_or_no_write_leave_the_certificate_alone(data_root: Path) -> None:
    audit = tickctl_json(*AGAINST, PAGE, "--symbols", "700", data_root=data_root)
    assert list(audit["symbols"]) == ["HK.00700"]
    assert audit["equal"]
    assert tickctl(*AGAINST, PAGE, "--no-write", data_root=data_root).returncode == 0
    assert not (data_root / "_reports").exists()


@pytest.mark.parametrize(
    ("change", "arguments", "code", "says"),
    [
        (("20 NOV", "19 NOV"), (DAY,), 2, "is of 20261119, not of 20261120"),
        (("20 NOV", "19 NOV"), (), 3, "no ticks of 20261119"),
        (("SALES RECORD", "成交紀錄"), (), 2, "is the Chinese page"),
        (("NAME OF STOCK", "SOMETHING"), (), 2, "holds no SALES RECORDS"),
        (("M500,000-598.80", "M500,000-598.80 \x1b(B"), (), 1, r"1 of its words is not a trade: \x1b(B"),
    ],
)
def test_another_file_is_named(
    tmp_path: Path, data_root: Path, change: tuple[str, str], arguments: tuple[str, ...], code: int, says: str
) -> None:
    page = tmp_path / "page.htm"
    page.write_text(PAGE.read_text().replace(*change))
    done = tickctl(*AGAINST, page, *arguments, "--no-write", data_root=data_root)
    assert done.returncode == code, done.stderr
    assert says in " ".join((done.stderr + done.stdout).split())


def test_a_list_that_is_cut_is_said(tmp_path: Path, data_root: Path) -> None:
    page = tmp_path / "page.htm"
    text = PAGE.read_text()
    page.write_text(text[: text.index("  9988")])
    done = tickctl(*AGAINST, page, "--no-write", data_root=data_root)
    assert done.returncode == 1
    assert "of which the end is cut off: 1 symbol with exactly its trades" in done.stdout


def test_usage(tmp_path: Path, data_root: Path) -> None:
    assert tickctl(*AGAINST, tmp_path / "none", data_root=data_root).returncode == 2
    assert tickctl(*AGAINST, PAGE, "--against-kline", data_root=data_root).returncode == 2
    assert tickctl(*AGAINST, PAGE, "--leave-out", "LATE", data_root=data_root).returncode == 2
    record_day(tmp_path, symbols=("HK.00001",), count=10)
    done = tickctl(*AGAINST, PAGE, data_root=tmp_path)
    assert (done.returncode, "nothing to compare" in done.stderr) == (3, True)

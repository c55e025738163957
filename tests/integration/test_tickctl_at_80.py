"""Every command reads well on a terminal of 80 columns: what it shows is what was kept, and no line is wider."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hk_tick_collector.cli.main import COMMANDS as ALL
from hk_tick_collector.cli.main import tickctl
from hk_tick_collector.core.tables import cells_of
from tests import at_80, forked
from tests.harness import clean_env
from tests.tickctl import tickctl as run

# What OpenD, this machine, the hour or another program has to answer, and what depends on SQLite's version.
ELSEWHERE = {
    "status", "doctor", "symbols", "repair", "import", "serve", "sources", "vacuum", "alert", "schwab", "screen",
    "ship",
}  # fmt: skip


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with at_80.recorded() as made:
        yield made


def widest(text: str) -> int:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return max((cells_of(line) for line in plain.splitlines()), default=0)


def test_every_command_is_here() -> None:
    named = {words.split()[0] for words in at_80.COMMANDS.values()}
    assert named - {"--help"} == set(ALL) - ELSEWHERE
    assert {path.stem for path in at_80.KEPT.iterdir()} == set(at_80.COMMANDS)


@pytest.mark.parametrize("columns", [40, 80])
def test_sources_fits_at_any_hour(root: Path, columns: int) -> None:
    """It names the phase that the market is in."""
    environment = clean_env(root.parent / "home", FUTU_SYMBOLS="HK.00005", NO_COLOR="1")
    done = forked.parent("sources").run_on_terminal(["sources", "--data-root", str(root)], environment, columns)
    assert widest(done.stdout) <= columns
    assert done.stderr.endswith("1 recorder, 1 with a problem\n")  # behind what there was no room for, at some hours


def test_what_is_shown_is_what_was_kept() -> None:
    """In one place and in the order of the list: some commands change what those behind them find."""
    with at_80.recorded() as root:
        shown = {name: at_80.text_of(root, name) for name in at_80.COMMANDS}
        widths = {
            (name, columns): widest(at_80.shown_by(root, name, columns).stdout)
            for name in ("day_all", "gaps", "ticks", "query_wide", "verify")
            for columns in (40, 80)
        }
    for name, text in shown.items():
        assert text == (at_80.KEPT / f"{name}.txt").read_text(), f"{name}: if that is meant: python -m tests.at_80"
    for (name, columns), width in widths.items():
        assert 0 < width <= columns, name


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("doctor", "--offline"),
        ("config",),
        ("keys", "list", "--keys-file", "{keys}"),
        ("symbols",),
        ("vacuum", "20261120"),
    ],
    ids=" ".join,
)
def test_what_this_machine_answers_fits_as_well(root: Path, words: tuple[str, ...]) -> None:
    keys = root.parent / "keys.json"
    if "{keys}" in words:
        run("keys", "add", "a visitor of a long name", "--symbols", "HK.00700,HK.00005", "--keys-file", keys)
    environment = clean_env(root.parent / "home", FUTU_SYMBOLS="HK.00700", FUTU_PORT="1", DATA_ROOT=root)
    done = forked.parent(words[0]).run_on_terminal([word.format(keys=keys) for word in words], environment, 80)
    assert done.stdout, done.stderr
    assert widest(done.stdout) <= 80, done.stdout


def helps() -> Iterator[str]:
    for name in ALL:
        command = tickctl.get_command(click.Context(tickctl), name)
        yield name
        if isinstance(command, click.Group):
            yield from (f"{name} {inner}" for inner in command.commands)


def test_every_help_fits() -> None:
    for name in helps():
        context = click.Context(tickctl, info_name="hk-tickctl", terminal_width=80)
        command: click.Command = tickctl
        for word in name.split():
            assert isinstance(command, click.Group)
            command_there = command.get_command(context, word)
            assert command_there is not None
            command, context = command_there, click.Context(command_there, context, info_name=word, terminal_width=80)
        assert widest(command.get_help(context)) <= 80, name


def test_a_state_has_a_colour_where_colours_are_wanted(root: Path) -> None:
    assert "\x1b[31mopen" in at_80.shown_by(root, "gaps").stdout
    assert "\x1b[1mday" in at_80.shown_by(root, "gaps").stdout, "the head is bold"
    assert " HKT \x1b[31mERROR\x1b[0m" in at_80.shown_by(root, "logs").stdout
    assert "\x1b[31mGrade E" in at_80.shown_by(root, "day").stdout
    for setting in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in at_80.shown_by(root, "gaps", **setting).stdout
    assert "\x1b" not in run("gaps", "--days", "20261119", data_root=root).stdout, "nor into a pipe"


def test_a_pipe_gets_whole_lines_and_every_column(root: Path) -> None:
    piped = run("gaps", "--days", "20261118..", data_root=root)
    head, first, *_ = piped.stdout.splitlines()
    assert head.split()[-3:] == ["found", "(HKT)", "reason"]
    assert first.endswith("recording began in mid-session")
    assert "no room" not in piped.stderr

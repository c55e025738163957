"""What ``hk-tickctl`` does before a command of its own begins: help by question, wrong words, JSON, Ctrl-C."""

from __future__ import annotations

import inspect
import json
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hk_tick_collector.cli.groups import Group, Outermost
from hk_tick_collector.cli.main import COMMANDS, SECTIONS, tickctl
from tests.tickctl import record_day
from tests.ticks import DAY

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("statu",), "Did you mean status?"),
        (("gap",), "Did you mean gaps?"),
        (("keys", "ad"), "Did you mean add?"),
        (("keys", "lst", "--json"), "Did you mean list?"),
        (("import", "sierr", "x.scid"), "Did you mean sierra?"),
        (("rest",), "Did you mean restore or retain?"),
        (("day", "--recont"), "Did you mean '--recount'?"),
        (("alert", "mute", "tick_late"), "tick_late: there is no such rule: did you mean ticks_late?"),
    ],
)
def test_what_was_likely_meant_is_named(words: tuple[str, ...], meant: str) -> None:
    done = CliRunner().invoke(tickctl, words)
    assert (done.exit_code, meant in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("words", [("statu",), ("day", "--nonsense"), ("gaps", "--state", "x"), ("export",)])
def test_a_wrong_command_line_is_json_where_json_was_asked_for(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(tickctl, [*words, "--json"])
    error_json = json.loads(done.stdout)
    assert (done.exit_code, error_json["exit_code"]) == (2, 2)
    assert f"Error: {error_json['error']}\n" in done.stderr
    assert CliRunner().invoke(tickctl, words).stdout == "", "and only there"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--json", "day"), "--json goes behind the command: hk-tickctl day ... --json"),
        (("--data-root", "/tmp", "ticks", "700"), "--data-root goes behind the command: hk-tickctl ticks ... --data"),
        (("--strict", "export", "csv"), "--strict goes behind the command: hk-tickctl export ... --strict"),
        (("--strict", "day"), "No such option"),
        (("--json",), "No such option"),
    ],
)
def test_an_option_before_its_command_is_told_where_it_goes(words: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(tickctl, words)
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert ("--json" in words) == (said in done.stdout)


def test_sql_that_is_wrong_is_json_where_json_was_asked_for(tmp_path: Path) -> None:
    record_day(tmp_path / "HK", count=3)
    for sql in ("SELECT foo FROM ticks", "DROP TABLE ticks", "SELECT"):
        done = CliRunner().invoke(tickctl, ["query", sql, "--data-root", str(tmp_path / "HK"), "--json"])
        told = json.loads(done.stdout)
        assert (done.exit_code, told["exit_code"]) == (2, 2)
        assert f"hk-tickctl: {told['error']}" in done.stderr
        assert "Usage:" not in done.stderr


def test_help_has_each_command_once_under_a_question() -> None:
    text = CliRunner().invoke(tickctl, ["--help"]).stdout
    at = [text.index(f"\n{title}\n") for title in SECTIONS]
    assert at == sorted(at)
    names = [line.split()[0] for line in text[at[0] :].splitlines() if line.startswith("  ")]
    assert names == tickctl.list_commands(click.Context(tickctl))
    assert len(set(names)) == len(names)
    assert max(map(len, text.splitlines())) <= 80


def test_ctrl_c_while_a_command_is_loaded_is_no_traceback() -> None:
    class Loading(Outermost):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            raise KeyboardInterrupt

    done = CliRunner().invoke(Loading("hk-tickctl"), ["day"])
    assert (done.exit_code, done.stderr) == (130, "hk-tickctl: interrupted\n")


def test_ctrl_c_while_python_imports_ends_the_process_by_the_signal() -> None:
    """A signal that arrives before the first import has ended, wherever that is."""
    import_that_is_interrupted = (
        "import builtins, os, signal, sys\n"
        "from hk_tick_collector.cli import start\n"
        "real = builtins.__import__\n"
        "def slow(name, *rest):\n"
        "    if name == 'click': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = slow\n"
        "start.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", import_that_is_interrupted], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_the_console_script_begins_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["hk-tickctl"] == "hk_tick_collector.cli.start:main"


def test_a_group_of_one_word_suggests_nothing_far() -> None:
    group = Group("g", commands=[click.Command("sierra")])
    assert "mean" not in CliRunner().invoke(group, ["zzz"]).stderr


def every_command() -> list[tuple[str, click.Command]]:
    """All of them with what they are called, those of groups too."""
    commands = []
    for name in COMMANDS:
        command = tickctl.get_command(click.Context(tickctl), name)
        assert command is not None
        inner = command.commands if isinstance(command, click.Group) else {"": command}
        commands += [(f"{name} {word}".strip(), member) for word, member in inner.items()]
    return commands


@pytest.mark.parametrize("page", ["tickctl.md", "tickctl.zh-Hant.md"])
def test_every_command_is_told_on_its_page(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    assert [name for name in COMMANDS if not re.search(rf"(hk-tickctl |`){name}\b", text)] == []


@pytest.mark.parametrize(("name", "command"), every_command(), ids=[name for name, _ in every_command()])
def test_an_option_has_one_name_everywhere_and_help_shows_no_other(name: str, command: click.Command) -> None:
    context = click.Context(command, info_name=f"hk-tickctl {name}")
    shown = command.get_help(context)
    assert not re.search(r"--(day|symbol|time)\b", shown.partition("Options:")[2]), shown
    for parameter in command.params:
        for earlier, now in (("--day", "--days"), ("--symbol", "--symbols"), ("--time", "--times")):
            assert (earlier in parameter.opts) <= (now in parameter.opts), parameter
        if "--env-file" in parameter.opts:
            assert parameter.envvar == "HK_TICKCTL_ENV_FILE", f"{name}: the service's command names it so"
        if "--days" in parameter.opts:
            assert "--day" in parameter.opts, f"{name}: --day was a name of it everywhere"
    if any(param.name in ("day", "days") for param in command.params):
        assert any("--days" in param.opts for param in command.params), f"{name}: a day may be an option"


@pytest.mark.parametrize(("name", "command"), every_command(), ids=[name for name, _ in every_command()])
def test_a_paragraph_of_help_is_filled_to_the_terminals_width(name: str, command: click.Command) -> None:
    """A text whose second line begins at the margin kept the indentation of all others, in the middle of sentences."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        is_kept_as_written = paragraph.startswith("\b")
        assert is_kept_as_written or not re.search(r"^\s", paragraph, re.MULTILINE), f"{name}: {paragraph}"


@pytest.mark.parametrize("words", [("compare",), ("merge", "--into", "merged")])
def test_where_data_roots_are_arguments_no_option_names_another(words: tuple[str, ...], tmp_path: Path) -> None:
    """--archive-root was in their help, and did nothing."""
    roots = [str(tmp_path), str(tmp_path / "b")]
    assert "-root" not in CliRunner().invoke(tickctl, [*words, "--help"]).stdout
    for option in ("--data-root", "--archive-root"):
        done = CliRunner().invoke(tickctl, [*words, *roots, option, str(tmp_path)])
        assert (done.exit_code, f"{option} has no meaning here" in done.stderr) == (2, True), done.stderr
    done = CliRunner().invoke(tickctl, [*words, *roots])
    assert (done.exit_code, "b does not exist: give the data roots" in done.stderr) == (3, True), done.stderr


def test_every_command_but_serve_takes_json() -> None:
    without = [name for name, made in every_command() if not any("--json" in param.opts for param in made.params)]
    assert without == ["serve"]
    assert "Every command but serve takes --json" in CliRunner().invoke(tickctl, ["--help"]).stdout


def test_no_line_in_a_list_of_commands_is_cut() -> None:
    groups = [name for name in COMMANDS if isinstance(tickctl.get_command(click.Context(tickctl), name), click.Group)]
    assert {"alert", "import", "keys", "ship"} <= set(groups)
    for words in ([], *([name] for name in groups)):
        listed = CliRunner().invoke(tickctl, [*words, "--help"]).stdout
        assert "..." not in listed.replace("[ARGS]...", ""), listed


def test_a_day_is_an_argument_or_an_option_and_not_both(tmp_path: Path) -> None:
    record_day(tmp_path / "HK", count=3)
    root = ["--data-root", str(tmp_path / "HK"), "--no-write", "--json"]
    answers = [
        CliRunner().invoke(tickctl, ["day", *words, *root]) for words in ([DAY], ["--days", DAY], ["--day", DAY])
    ]
    outcomes = [(done.exit_code, json.loads(done.stdout)["trading_day"]) for done in answers]
    assert outcomes == [(0, DAY)] * 3
    both = CliRunner().invoke(tickctl, ["day", DAY, "--days", DAY, *root])
    assert (both.exit_code, "exclude each other" in both.stderr) == (2, True)
    none = CliRunner().invoke(tickctl, ["restore", *root[:2]])
    assert (none.exit_code, "Missing argument 'DAY'" in none.stderr) == (2, True)

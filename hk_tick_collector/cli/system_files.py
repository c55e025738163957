"""Man pages and shell completion of ``hk-tickctl``, made of its help, as files under a prefix::

    python -m hk_tick_collector.cli.system_files ~/.local

``scripts/install_systemd.sh`` does it for ``/usr/local``. What is there of an earlier version is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import dedent

import click
from click.shell_completion import get_completion_class

from hk_tick_collector import __version__
from hk_tick_collector.cli.main import SECTIONS, tickctl
from hk_tick_collector.store.atomic import new_temporary

PROGRAM = "hk-tickctl"
COMPLETE = "_HK_TICKCTL_COMPLETE"  # click's variable for a program of this name
COMPLETION_FILES = {
    "bash": f"share/bash-completion/completions/{PROGRAM}",
    "zsh": f"share/zsh/site-functions/_{PROGRAM}",
    "fish": f"share/fish/vendor_completions.d/{PROGRAM}.fish",
}
_EXIT_CODES = (
    ("0", "fine"),
    ("1", "a problem was found, or the work could not be done"),
    ("2", "the command or the configuration is wrong"),
    ("3", "there is no data to work on"),
    ("130", "interrupted; nothing half done is left behind"),
)


def files() -> dict[str, str]:
    """The text of each file by its path below the prefix."""
    made = {f"share/man/man1/{name.replace(' ', '-')}.1": page for name, page in _pages()}
    for shell, path in COMPLETION_FILES.items():
        complete = get_completion_class(shell)
        assert complete is not None
        template = complete(tickctl, {}, PROGRAM, COMPLETE)
        made[path] = template.source_template % template.source_vars()  # source() starts bash to ask for its version
    return made


def _pages() -> Iterator[tuple[str, str]]:
    context = click.Context(tickctl, info_name=PROGRAM)
    commands = [(f"{PROGRAM} {name}", about) for listed in SECTIONS.values() for name, (_, about) in listed.items()]
    yield PROGRAM, _page(context, "look after the recorder and use what it recorded", commands)
    for name, about in commands:
        command = tickctl.get_command(context, name.partition(" ")[2])
        assert command is not None
        inner = click.Context(command, context, info_name=name.partition(" ")[2])
        members = command.commands if isinstance(command, click.Group) else {}
        listed = [(f"{name} {word}", subcommand.get_short_help_str(200)) for word, subcommand in members.items()]
        yield name, _page(inner, about, listed)
        for word, subcommand in members.items():
            innermost = click.Context(subcommand, inner, info_name=word)
            yield f"{name} {word}", _page(innermost, subcommand.get_short_help_str(200), [])


def _page(context: click.Context, about: str, commands: Sequence[tuple[str, str]]) -> str:
    name = context.command_path.replace(" ", "-")
    usage = " ".join(context.command.collect_usage_pieces(context))
    lines = [
        f'.TH "{_roff(name.upper())}" "1" "" "hk-tick-collector {__version__}" "Recorder of ticks"',
        ".SH NAME", f"{_roff(name)} \\- {_roff(about.rstrip('.'))}",
        ".SH SYNOPSIS", f"\\fB{_roff(context.command_path)}\\fR {_roff(usage)}",
        ".SH DESCRIPTION", *_paragraphs(context.command.help or ""),
    ]  # fmt: skip
    options = [option for option in context.command.get_params(context) if isinstance(option, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    lines += [".SH OPTIONS", *(line for record in records for line in _item(*record))]
    if commands:
        lines += [".SH COMMANDS", *(line for command in commands for line in _item(*command))]
    lines += [".SH EXIT STATUS", *(line for code in _EXIT_CODES for line in _item(*code))]
    if name != PROGRAM:
        lines += [".SH SEE ALSO", f"\\fB{PROGRAM}\\fR(1)"]
    return "\n".join(lines) + "\n"


def _item(name: str, text: str) -> Iterator[str]:
    yield from (".TP", f"\\fB{_roff(name)}\\fR", _roff(text))


def _paragraphs(text: str) -> Iterator[str]:
    """click's paragraphs; one that it leaves as it is, behind ``\\b``, stays in its lines."""
    for paragraph in text.replace("\f", "\n\n").split("\n\n"):
        lines = paragraph.strip("\n").splitlines()
        if lines and lines[0].strip() == "\b":
            yield from (".PP", ".nf", *map(_roff, dedent("\n".join(lines[1:])).splitlines()), ".fi")
        elif any(line.strip() for line in lines):
            yield from (".PP", _roff(" ".join(line.strip() for line in lines)))


def _roff(text: str) -> str:
    """``text`` without anything that roff obeys: its escapes, a dot or a quote that begins a line."""
    escaped = " ".join(text.split("\n")).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main(arguments: Sequence[str]) -> int:
    """Write them below the prefix that is the only argument."""
    if len(arguments) != 1:
        print("usage: python -m hk_tick_collector.cli.system_files PREFIX", file=sys.stderr)
        return 2
    for path, text in files().items():
        target = Path(arguments[0]) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with new_temporary(target, 0o644) as part:
            part.write_text(text, encoding="utf-8")
            part.chmod(0o644)
            part.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

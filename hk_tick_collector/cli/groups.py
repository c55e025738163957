"""Groups of commands: what every one of them does about a wrong word, an error and Ctrl-C before a command began."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from hk_tick_collector.cli.terminal import json_text

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
_SEEMS = 0.6  # how alike two words are of which one may be meant


class Group(click.Group):
    """A group that asks "did you mean", as click does for options alone."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; UsageError names the commands that were likely meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            _refuse(ctx, args[0], self.list_commands(ctx))


def _refuse(ctx: click.Context, word: str, names: Sequence[str]) -> NoReturn:
    import difflib  # noqa: PLC0415 - only for who mistyped

    near = difflib.get_close_matches(word, names, cutoff=_SEEMS)
    near += [name for name in names if name.startswith(word) and name not in near]
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    ctx.fail(f"No such command {word!r}.{meant}")


class Outermost(Group):
    """The command line as a whole. With ``--json`` a wrong one is told in JSON, too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's; notes whether JSON was asked for, which no command has read yet."""
        ctx.meta[__name__] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """As click's."""
        try:
            return super().invoke(ctx)
        except click.UsageError as exc:
            if ctx.meta[__name__]:
                sys.stdout.write(json_text({"error": exc.format_message(), "exit_code": exc.exit_code}) + "\n")
            raise
        except KeyboardInterrupt:  # while the command's module was loaded
            click.echo("hk-tickctl: interrupted", err=True)
            raise SystemExit(EXIT_INTERRUPTED) from None

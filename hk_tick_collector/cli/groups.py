"""Groups of commands: what every one of them does about a wrong word, an error and Ctrl-C before a command began."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
        """As click's; notes whether JSON was asked for, which no command has read yet. UsageError for an option that
        belongs behind the command, and says so."""
        given = list(args)
        ctx.meta[__name__] = "--json" in given
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as exc:
            with self._told_in_json(ctx):
                self._refuse_option(ctx, exc, given)

    def invoke(self, ctx: click.Context) -> Any:
        """As click's."""
        try:
            with self._told_in_json(ctx):
                return super().invoke(ctx)
        except KeyboardInterrupt:  # while the command's module was loaded
            click.echo("hk-tickctl: interrupted", err=True)
            raise SystemExit(EXIT_INTERRUPTED) from None

    @contextmanager
    def _told_in_json(self, ctx: click.Context) -> Iterator[None]:
        """A UsageError in here is written to standard output as well, where JSON was asked for."""
        try:
            yield
        except click.UsageError as exc:
            if ctx.meta[__name__]:
                sys.stdout.write(json_text({"error": exc.format_message(), "exit_code": exc.exit_code}) + "\n")
            raise

    def _refuse_option(self, ctx: click.Context, exc: click.NoSuchOption, given: Sequence[str]) -> NoReturn:
        """Where a command that is named has the option, say where to write it; else as click does."""
        names = self.list_commands(ctx)
        for word in (word for word in given if word in names):
            command = self.get_command(ctx, word)
            if command is not None and any(exc.option_name in parameter.opts for parameter in command.params):
                ctx.fail(f"{exc.option_name} goes behind the command: hk-tickctl {word} ... {exc.option_name}")
        raise exc

"""``hk-tickctl schwab``: the login that the recorder has with ``SOURCE=schwab``. A person makes it, once a week."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, App, group_command, say, write_json
from hk_tick_collector.cli.groups import Group
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import ConfigError, FeedError, NoData
from hk_tick_collector.health.judgement import login_words

if TYPE_CHECKING:
    from hk_tick_collector.sources.schwab.tokenfile import Login
    from hk_tick_collector.sources.schwab.tokens import OAuth

MAX_ADDRESS_CHARS = 10_000


@click.group(
    "schwab",
    cls=Group,
    help="""The recorder's login at Schwab (SOURCE=schwab), which lasts seven days.

    \b
    hk-tickctl schwab login
    hk-tickctl schwab import token.json
    hk-tickctl schwab status

    The login is kept in the file that SCHWAB_TOKEN_FILE names (mode 0600). A running recorder takes a new one
    within seconds, without a break. No token is ever printed.
    """,
    short_help="Log in at Schwab, and see how long the login lasts.",
)
def command() -> None:
    """See ``--help``."""


@dataclass(frozen=True)
class _Desk:
    """What the commands work with."""

    file: Path
    oauth: OAuth
    callback: str
    as_json: bool


def _schwab_command(name: str, **attrs: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """A command on the login. The function gets a desk first."""
    return group_command(command, _on_login, name, **attrs)


def _on_login(function: Callable[..., int], env_file: Path | None, as_json: bool, **arguments: Any) -> int:
    return function(_desk(env_file, as_json), **arguments)


def _desk(env_file: Path | None, as_json: bool) -> _Desk:
    from hk_tick_collector.sources.schwab.tokens import OAuth  # noqa: PLC0415

    settings = App(env_file=env_file).places  # a login is the same whatever is recorded with it
    if settings.source != "schwab" or settings.schwab_secrets_file is None or settings.schwab_token_file is None:
        raise ConfigError("SOURCE is not schwab: name the settings of that recorder with --env-file")
    oauth = OAuth(settings.schwab_api, settings.schwab_secrets_file, SystemClock())
    return _Desk(settings.schwab_token_file, oauth, settings.schwab_callback, as_json)


_DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be done; ask and write nothing.")


@_schwab_command(
    "login",
    help="""Log in at Schwab in a browser, and keep the login.

    Prints the address to open. After the login the browser goes to your callback address, where nothing needs to
    answer. Copy the whole address from the browser's address bar within half a minute; it is read from standard
    input.""",
    short_help="Log in at Schwab in a browser.",
)
@_DRY_RUN
def login(desk: _Desk, dry_run: bool) -> int:
    """See ``--help``."""
    from hk_tick_collector.sources.schwab.tokens import code_in  # noqa: PLC0415

    page = desk.oauth.page(desk.callback)
    say(f"open this address in a browser, and log in:\n\n{page}\n")
    if dry_run:
        return _emit(desk, f"the login would be kept in {desk.file}", {"page": page, "file": str(desk.file)})
    say(f"then paste the address that it ends at ({desk.callback}/?code=...):")
    given = _exchanged(lambda: desk.oauth.exchange(code_in(sys.stdin.readline(MAX_ADDRESS_CHARS)), desk.callback))
    return _keep(desk, given)


@_schwab_command(
    "import",
    help="""Take a login that another program has made: schwab-py's file of tokens, or a secret with the same content.

    FILE may be read by its owner alone (chmod 600); - is standard input. Nothing is asked, so it needs no terminal.
    """,
    short_help="Take a login that schwab-py has made.",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@_DRY_RUN
def take(desk: _Desk, file: Path, dry_run: bool) -> int:
    """See ``--help``."""
    from hk_tick_collector.sources.schwab.tokenfile import parse_login, read_login  # noqa: PLC0415
    from hk_tick_collector.sources.secrets import MAX_BYTES, find  # noqa: PLC0415

    if str(file) == "-":
        given = parse_login(Path("standard input"), sys.stdin.buffer.read(MAX_BYTES))
    else:
        given = read_login(find(file))
    if dry_run:
        words = login_words(_ends_ms(given), SystemClock().now_ms())
        return _emit(desk, f"the login, which {words}, would be kept in {desk.file}", {"ends_at_ms": _ends_ms(given)})
    return _keep(desk, given)


@_schwab_command(
    "refresh",
    help="""Get a new access token with the login, as the recorder does by itself, and keep it.

    Shows whether the login is still good. The recorder goes on with the new token.
    """,
    short_help="Get a new access token with the login.",
)
@_DRY_RUN
def refresh(desk: _Desk, dry_run: bool) -> int:
    """See ``--help``."""
    from hk_tick_collector.sources.schwab.tokenfile import changing, write_login  # noqa: PLC0415

    present = _present(desk)
    if dry_run:
        return _tell(desk, present)
    with changing(desk.file):
        renewed = _exchanged(lambda: desk.oauth.refresh(_present(desk)))
        write_login(desk.file, renewed)
    return _tell(desk, renewed)


@_schwab_command(
    "status",
    help="""Until when the login is valid, by this machine's clock. Exits with 1 when that is over, and with 3 when
    there is no login.""",
    short_help="Until when the login is valid.",
)
def status(desk: _Desk) -> int:
    """See ``--help``."""
    return _tell(desk, _present(desk))


def _present(desk: _Desk) -> Login:
    from hk_tick_collector.sources.schwab.tokenfile import HOW, read_login  # noqa: PLC0415

    if not desk.file.exists():
        raise NoData(f"{desk.file} is not there: {HOW}")
    return read_login(desk.file)


def _exchanged(ask: Callable[[], Login]) -> Login:
    from hk_tick_collector.sources.remote.asking import Refused  # noqa: PLC0415

    try:
        return ask()
    except Refused as exc:
        raise FeedError(str(exc)) from None


def _keep(desk: _Desk, given: Login) -> int:
    from hk_tick_collector.sources.schwab.tokenfile import changing, write_login  # noqa: PLC0415

    with changing(desk.file):
        write_login(desk.file, given)
    return _tell(desk, given)


def _tell(desk: _Desk, given: Login) -> int:
    ends_ms, now_ms = _ends_ms(given), SystemClock().now_ms()
    access_sec = max(0, round(given.access_until_sec - now_ms / 1000))
    ends = datetime.fromtimestamp(ends_ms / 1000, UTC)
    text = f"the login in {desk.file} {login_words(ends_ms, now_ms)} ({ends:%Y-%m-%d %H:%M} UTC)"
    _emit(desk, text, {"file": str(desk.file), "ends_at_ms": ends_ms, "access_token_sec": access_sec})
    return EXIT_FINE if ends_ms > now_ms else EXIT_PROBLEM


def _emit(desk: _Desk, text: str, answer: dict[str, object]) -> int:
    if desk.as_json:
        write_json(answer)
    else:
        print(text, flush=True)
    return EXIT_FINE


def _ends_ms(given: Login) -> int:
    return round(given.ends_sec * 1000)

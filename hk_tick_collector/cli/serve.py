"""``hk-tickctl serve``: the API and the live channel on this machine, behind one port."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.common import App, env_file_option, run_guarded
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.text import printable
from hk_tick_collector.store.layout import no_directory

if TYPE_CHECKING:
    from hk_tick_collector.serve.settings import ServeSettings

NAME = "hk-tickctl serve"


@click.command(
    "serve",
    help="""Serve the data over HTTP: the API and the live channel on one port.

    \b
    hk-tickctl serve --data-root /data/sqlite/HK --anonymous
    curl http://127.0.0.1:8877/v1/days

    It only reads files, and cannot disturb the recorder. It listens where API_HOST and API_PORT say, by default on
    this machine only, and asks for keys (hk-tickctl keys). Ctrl-C ends it.

    A server with many readers runs hk-tick-api and hk-tick-live instead (docs/serving.md). Exits with 0 when it
    was ended as asked, 1 when the port is taken.
    """,
    short_help="Let others read over HTTP, on this machine.",
)
@click.option(
    "--data-root", type=click.Path(path_type=Path, file_okay=False), help="Instead of DATA_ROOT and DATA_ROOTS."
)
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of API_PORT; 0: any free one.")
@click.option("--anonymous", is_flag=True, help="Anyone on this machine may read without a key (API_ANONYMOUS=1).")
def command(data_root: Path | None, port: int | None, anonymous: bool, env_file: Path | None) -> None:
    """See ``--help``."""
    given = {
        "DATA_ROOT": None if data_root is None else str(data_root.absolute()),
        "API_PORT": None if port is None else str(port),
        "API_ANONYMOUS": "1" if anonymous else None,
    }
    overriding = {key: value for key, value in given.items() if value is not None}
    raise SystemExit(run_guarded(lambda: _serve(env_file, overriding)))


command.params.append(env_file_option())


def _serve(env_file: Path | None, overriding: dict[str, str]) -> int:
    from hk_tick_collector.serve.keys import KeyRing  # noqa: PLC0415 - after --help
    from hk_tick_collector.serve.settings import check_exposure, load_serve_settings  # noqa: PLC0415

    settings = load_serve_settings(env_file, {**os.environ, **overriding})
    if "DATA_ROOT" in overriding:
        settings = settings.model_copy(update={"data_roots": (), "archive_root": None})
    missing = [no_directory(root) for root, _ in settings.roots if not root.is_dir()]
    if missing:
        raise NoData(f"{'; '.join(missing)}: name the recorder's DATA_ROOT with --data-root")
    App(env_file).work_as_owner(settings.roots[0][0])
    check_exposure(settings, KeyRing.open(settings.api_keys_file))
    return _run(settings)


def _run(settings: ServeSettings) -> int:
    from hk_tick_collector.serve.both import create_app  # noqa: PLC0415 - a web framework
    from hk_tick_collector.serve.server import run_app  # noqa: PLC0415

    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLogger().level))
    app: Any = create_app(settings)
    return run_app(NAME, app, settings, settings.api_port, tell=lambda url: _tell(url, settings))


def _tell(url: str, settings: ServeSettings) -> None:
    key = "" if settings.api_anonymous else "-H 'Authorization: Bearer KEY' "
    print(printable(f"  what is served  {', '.join(str(root) for root, _ in settings.roots)}"))
    print(f"  in a browser    {url}/ui/")
    print(f"  recorded days   curl {key}{url}/v1/days")
    print(f"  live ticks      curl -N {key}'{url}/v1/live/events?symbols=HK.00700'")
    print(f"  all addresses   {url}/docs", flush=True)

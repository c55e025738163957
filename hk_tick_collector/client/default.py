"""The functions of ``hk``: the calls of ``Recordings`` on the local files that ``hk-tickctl`` would read."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from hk_tick_collector.client.api import Recordings

_P = ParamSpec("_P")
_T = TypeVar("_T")


def local(
    data_root: str | Path | list[str | Path] | None = None,
    archive_root: str | Path | None = None,
    *,
    env_file: str | Path | None = None,
) -> Recordings:
    """Recordings in local files. Without arguments those of the setting ``DATA_ROOTS``, else ``DATA_ROOT`` and
    ``ARCHIVE_ROOT``, from the environment or a file ``.env`` in the working directory, as ``hk-tickctl`` finds them.

    ``data_root``: one directory or several; those of one market are read as one. Each has its archive in
    ``_archive/`` unless ``archive_root`` says otherwise (for one directory alone).

    NoData when there is no such directory, Unreadable when this user may not look into it.
    """
    from hk_tick_collector.client.local import LocalFiles  # noqa: PLC0415 - with the settings' libraries
    from hk_tick_collector.client.places import find_roots  # noqa: PLC0415

    return Recordings(LocalFiles(find_roots(data_root, archive_root, env_file)))


def connect(url: str, key: str | None = None, **options: Any) -> Recordings:
    """Recordings on a server: the same calls, the same tables.

    ``http://...`` is ``hk-tick-api``, with a ``key`` from ``hk-tickctl keys``. ``clickhouse://user@host:8123/hk`` (with
    TLS ``clickhouses://``) is a ClickHouse that ``hk-tick-ship`` fills; ``options``: ``recorder``, ``password``.
    """
    if url.startswith(("clickhouse://", "clickhouses://")):
        from hk_tick_collector.client.copied import Copied  # noqa: PLC0415 - with its HTTP library

        return Recordings(Copied(url, **options))
    from hk_tick_collector.client.remote import connect as connect_to  # noqa: PLC0415 - with its HTTP library

    return connect_to(url, key, **options)


def _here(method: Callable[Concatenate[Recordings, _P], _T]) -> Callable[_P, _T]:
    """A call of ``Recordings`` as a function on ``local()``."""

    @wraps(method)
    def call(*args: _P.args, **options: _P.kwargs) -> _T:
        return method(local(), *args, **options)

    signature = inspect.signature(method)
    call.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
    return call


if TYPE_CHECKING:  # a decorator would hide which type each ``to=`` gives
    _there = local()
    load, bars = _there.load, _there.bars
else:
    load, bars = _here(Recordings.load), _here(Recordings.bars)
iter_batches = _here(Recordings.iter_batches)
days = _here(Recordings.days)
coverage = _here(Recordings.coverage)
certificate = _here(Recordings.certificate)
live = _here(Recordings.live)

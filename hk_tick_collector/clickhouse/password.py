"""The password of a ClickHouse: from a file that nobody else may read, or from systemd."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.core.regular import open_regular

_PASSWORD_BYTES = 1000


def password_of(path: Path | None, environ: Mapping[str, str], key: str, credential: str) -> str:
    """The password in systemd's credential of that name, else in the file that the setting ``key`` names; empty without
    either. ConfigError when the file is open to others or cannot be read."""
    credentials = environ.get("CREDENTIALS_DIRECTORY", "")
    if credentials and (Path(credentials) / credential).exists():
        path = Path(credentials) / credential  # handed over by who started this: the file may be closed to us
    elif path is None:
        return ""
    elif path.parent != Path(credentials or "/nowhere"):
        _check_closed(path, key)
    try:
        with open_regular(path) as file:
            head = file.read(_PASSWORD_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{key}={path} cannot be read: {exc.strerror}") from exc
    if len(head) > _PASSWORD_BYTES:
        raise ConfigError(f"{key}={path} holds more than a password: it is one line")
    line = head.partition(b"\n")[0].strip().decode("latin-1")
    if not (line.isascii() and line.isprintable()):
        raise ConfigError(f"{key}={path} holds signs that no header can carry: plain ASCII only")
    return line


def _check_closed(path: Path, key: str) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise ConfigError(f"{key}={path} cannot be read: {exc.strerror}") from exc
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{key}={path} is open to others: chmod 600 {path}")

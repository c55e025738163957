"""The file with what a source is let in by. Each source says which names it takes.

One ``name=value`` a line. It may be read by its owner alone (or by the group of a systemd credential); nothing of it
is ever repeated in a message.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from hk_tick_collector.core.errors import InputError

MAX_BYTES = 16_384
MAX_VALUE_CHARS = 8192


def find(path: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """A bare name means a credential of the service (``LoadCredential=NAME:...``), where there is one of that name."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory and (credential := Path(directory) / path.name).is_file():
        return credential
    return path


_held: dict[Path, bytes] = {}


def hold(path: Path) -> None:
    """Read it now, as root who is about to become the recorder's user, who may not read it: systemd hands it to the
    service as a credential, and nobody hands it to a command. What is wrong with it is said when it is wanted."""
    with contextlib.suppress(InputError):
        _held[path] = read_private(path)


def read_secrets(path: Path, choices: Sequence[Sequence[str]]) -> dict[str, str]:
    """By name. ``choices``: names that are needed together, one of these groups. InputError says what is wrong with the
    file."""
    content = _held.get(path)
    return _parse(path, read_private(path) if content is None else content, choices)


def read_private(path: Path) -> bytes:
    """A small file that nobody else may read. InputError says what is wrong with it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror or exc}") from None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is not a regular file")
        if status.st_mode & 0o077 and not _is_credential(path):
            raise InputError(f"{path} may be read by others: chmod 600 {path}")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES:,} bytes: is it the right file?")
    return content


def _parse(path: Path, content: bytes, choices: Sequence[Sequence[str]]) -> dict[str, str]:
    names = [name for group in choices for name in group]
    secrets: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        usable = value.isascii() and value.isprintable() and " " not in value and len(value) <= MAX_VALUE_CHARS
        if name not in names or not equals or not value or not usable:
            raise InputError(f"{path} line {number}: write NAME=VALUE, the name being one of {', '.join(names)}")
        secrets[name] = value
    if not any(secrets.keys() >= set(group) for group in choices):
        raise InputError(f"{path} needs {', or '.join(' and '.join(group) for group in choices)}")
    return secrets


def _is_credential(path: Path) -> bool:
    """systemd gives a service its credentials in a directory of its own, where only the service may read."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(directory) and path.parent == Path(str(directory))

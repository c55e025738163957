"""Where settings come from: the environment over a ``.env`` file; and what is wrong with how they are written.

Knows keys as text only; what a value may be is ``app/config.py``'s affair. An empty value counts as not given.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dotenv.parser import Binding, parse_stream

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.core.regular import read_named

DEFAULT_ENV_FILE = Path(".env")
MAX_ENV_FILE_BYTES = 1 << 20
ENVIRONMENT_SOURCE = "the environment"
DEFAULT_SOURCE = "default"
# Keys that begin so are ours and nobody else's; the other keys are too ordinary to claim their first word.
OWN_PREFIXES = (
    "FUTU_",
    "SQLITE_",
    "WATCHDOG_",
    "PERSIST_",
    "RECONNECT_",
    "BACKFILL_",
    "SIERRA_",
    "DXLINK_",
    "GEXBOT_",
    "SCHWAB_",
    "SHIOAJI_",
)
# Those of the programs that serve what was recorded, which read the same file: each leaves the other's keys alone.
SERVE_PREFIXES = ("API_", "LIVE_", "HOOKS_", "DATA_ROOTS")
RELAY_PREFIXES = ("REDIS_",)
SHIP_PREFIXES = ("SHIP_",)
ALERT_PREFIXES = ("ALERT_",)
READERS_PREFIXES = (*SERVE_PREFIXES, *RELAY_PREFIXES, *SHIP_PREFIXES, *ALERT_PREFIXES)
_CLOSE_MATCH_RATIO = 0.8


class Claims(NamedTuple):
    """Beginnings of keys: ``own`` are a program's and nobody else's, ``others`` it leaves to their owner."""

    own: tuple[str, ...]
    others: tuple[str, ...]


RECORDERS = Claims(OWN_PREFIXES, READERS_PREFIXES)


class Problem(NamedTuple):
    """One thing that is wrong with the configuration."""

    key: str  # the setting, or the file's name when the file itself is wrong
    text: str  # a sentence for the operator: key, value, what is allowed, what to do


class ConfigErrors(ConfigError):
    """The configuration is wrong; ``problems`` holds every finding, the text has one a line."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problem.text for problem in problems))


@dataclass(frozen=True)
class Given:
    """A key as somebody wrote it."""

    text: str
    source: str  # for messages: the environment, or the file's path
    base_dir: Path  # where a relative path in it starts


def given_settings(
    env_file: Path | None, environ: Mapping[str, str], keys: Sequence[str], claims: Claims = RECORDERS
) -> tuple[dict[str, Given], list[Problem]]:
    """What is given for ``keys``, and the lines and misspelt keys that are wrong.

    ``env_file`` None means ``.env`` in the working directory if there is one. ConfigErrors when the file cannot be
    read.
    """
    file_given, problems = _read_env_file(env_file)
    problems += _unknown_keys(file_given, environ, keys, claims)
    given = {key: setting for key, setting in file_given.items() if key in keys and setting.text.strip()}
    for key in keys:
        if environ.get(key, "").strip():
            given[key] = Given(environ[key], ENVIRONMENT_SOURCE, Path.cwd())
    return given, problems


def _read_env_file(env_file: Path | None) -> tuple[dict[str, Given], list[Problem]]:
    """The file's keys and the lines that are wrong; raises if it cannot be read. ``$`` stands for itself."""
    if env_file is None and not DEFAULT_ENV_FILE.is_file():
        return {}, []
    path = env_file or DEFAULT_ENV_FILE
    given: dict[str, Given] = {}
    problems: list[Problem] = []
    base_dir = Path.cwd() / path.parent
    for binding in _bindings(path):
        if binding.error or (binding.key is not None and binding.value is None):
            line = binding.original.line
            problems.append(Problem(str(path), f"{path} line {line} is not KEY=value: correct it or begin it with #"))
        elif binding.key is not None:
            given[binding.key] = Given(binding.value or "", str(path), base_dir)
    return given, problems


def set_twice(env_file: Path | None) -> list[str]:
    """A sentence for each key that the file sets on several lines, of which the last one counts; none for a file that
    cannot be read. ``env_file`` as of ``given_settings``."""
    path = env_file or DEFAULT_ENV_FILE
    if not path.is_file():  # a pipe is read once
        return []
    lines: dict[str, list[int]] = {}
    try:
        for binding in _bindings(path):
            if binding.key is not None and not binding.error:
                lines.setdefault(binding.key, []).append(_line(binding))
    except ConfigErrors:
        return []
    return [
        f"{path} sets {key} on lines {', '.join(map(str, at))}: the last one counts"
        for key, at in lines.items()
        if len(at) > 1
    ]


def _bindings(path: Path) -> Iterator[Binding]:
    """What the file says, line by line. ConfigErrors when it cannot be read."""
    try:
        text = read_named(path, MAX_ENV_FILE_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "not UTF-8 text"
        told = f"{path} cannot be read: {reason}; give an existing text file with --env-file"
        raise ConfigErrors([Problem(str(path), told)]) from error
    return parse_stream(io.StringIO(text))


def _line(binding: Binding) -> int:
    """The line on which the key stands: empty lines before it belong to the binding, too."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _unknown_keys(
    file_given: Mapping[str, Given], environ: Mapping[str, str], keys: Sequence[str], claims: Claims
) -> Iterator[Problem]:
    """Keys that look like ours and are not. The environment belongs to everybody: there only a near miss counts."""
    for key, setting in file_given.items():
        if key in keys or key.upper().startswith(claims.others):
            continue
        near = _near(key, keys)
        if near or key.upper().startswith(claims.own):
            yield _unknown(key, setting.source, near)
    for key in environ:
        if key not in keys and key not in file_given and key.upper().startswith(claims.own):
            near = _near(key, keys)
            if near:
                yield _unknown(key, ENVIRONMENT_SOURCE, near)


def _near(key: str, keys: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(key.upper(), keys, n=1, cutoff=_CLOSE_MATCH_RATIO)), None)


def _unknown(key: str, source: str, near: str | None) -> Problem:
    """Without the value: under a name we do not know it may be a secret."""
    advice = f"did you mean {near}?" if near else "remove it; docs/configuration.md lists all settings"
    return Problem(key, f"{key} (from {source}) is not a setting: {advice}")

"""Asks a day file one thing for the shell scripts: the rows of a SELECT or PRAGMA, a line each, | between the columns.

Reads only, waits up to 5 s for the recorder's short locks, and needs nothing but Python. What is no printable character
is shown as Python writes it (``\\x1b``), and so is a ``|`` inside a value: the file may hold anything.

A script asks a dozen things, each in a process of its own: so this imports ``sqlite3`` and no more, half of the cost.

Exit codes: 0 answered, 1 the file cannot be read (the reason is on standard error), 2 usage.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing

BUSY_TIMEOUT_SEC = 5
USAGE = """\
usage: read_day.py FILE QUESTION

Prints the rows of one question to an SQLite file: SELECT ... or PRAGMA ..."""


def main(words: list[str]) -> int:
    """Print the rows; returns the exit code."""
    if words in (["--help"], ["-h"]):
        print(USAGE)
        return 0
    if len(words) != 2 or words[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    file, question = words
    try:
        with closing(_open(file)) as connection:
            for row in connection.execute(question):
                print("|".join(map(_shown, row)))
    except sqlite3.Error as exc:
        print(f"{file}: {exc}", file=sys.stderr)
        return 1
    return 0


def _open(file: str) -> sqlite3.Connection:
    path = os.path.abspath(file)  # noqa: PTH100 - pathlib would be a third of all
    for letter in "%?#":  # these mean something in a URI
        path = path.replace(letter, f"%{ord(letter):02x}")
    connection = sqlite3.connect(f"file://{path}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_SEC)
    # A damaged text is still a value.
    connection.text_factory = lambda raw: raw.decode(errors="backslashreplace")
    return connection


def _shown(value: object) -> str:
    if value is None:
        return ""
    return "".join(_printable(letter) for letter in str(value))


def _printable(letter: str) -> str:
    if letter == "|":
        return "\\x7c"
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

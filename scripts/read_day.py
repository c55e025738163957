"""Asks a day file one thing for the shell scripts: the rows of a SELECT or PRAGMA, a line each, | between the columns.

Reads only, waits up to 5 s for the recorder's short locks, and needs nothing but Python. What is no printable character
is shown as Python writes it (``\\x1b``), and so is a ``|`` inside a value: the file may hold anything.

Exit codes: 0 answered, 1 the file cannot be read (the reason is on standard error), 2 usage.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

BUSY_TIMEOUT_SEC = 5


def main() -> int:
    """Print the rows; returns the exit code."""
    parser = argparse.ArgumentParser(description="Print the rows of one question to an SQLite file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("question", help="SELECT ... or PRAGMA ...")
    args = parser.parse_args()
    try:
        with closing(_open(args.file)) as connection:
            for row in connection.execute(args.question):
                print("|".join(map(_shown, row)))
    except sqlite3.Error as exc:
        print(f"{args.file}: {exc}", file=sys.stderr)
        return 1
    return 0


def _open(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_SEC)
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
    sys.exit(main())

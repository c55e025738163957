"""Runs an example that futu-api ships, as a process of its own: ``python -m tests.futu_examples NAME PORT [OLD=NEW]``.

The examples name 127.0.0.1:11111 and codes of their day, and pause for many seconds. Here the port is given, each OLD
in their text is NEW (a code that is listed, a shorter pause), and nothing else is changed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import futu

EXAMPLES = Path(futu.__file__).parent / "examples"
_PORT = "11111"


def main(name: str, port: str, *changes: str) -> None:
    """Execute the example as the main program. ValueError for text that it does not have."""
    path = EXAMPLES / name
    text = path.read_text(encoding="utf-8")
    for old, new in ((_PORT, port), *(change.split("=") for change in changes)):
        if old not in text:
            raise ValueError(f"{path} has no {old}: futu-api ships another example than it did")
        text = text.replace(old, new)
    exec(compile(text, str(path), "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main(*sys.argv[1:])

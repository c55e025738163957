#!/usr/bin/env python3
"""Hold commit messages to CONTRIBUTING.md: the first line in up to 72 characters, without a full stop; then a blank.

    scripts/commit_message.py FILE                  one message, as git's commit-msg hook gives it
    scripts/commit_message.py --commits A..B        those of commits (merges are git's own words and left out)

Ends with 1 and a line for each mistake.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

MAX_CHARS = 72


def mistakes(message: str) -> list[str]:
    """What is wrong with a message; comment lines are git's."""
    lines = [line for line in message.splitlines() if not line.startswith("#")]
    first = lines[0] if lines else ""
    problems = []
    if not first.strip():
        problems.append("the first line is empty")
    if len(first) > MAX_CHARS:
        problems.append(f"the first line has {len(first)} characters, {MAX_CHARS} are allowed: {first}")
    if first.endswith("."):
        problems.append(f"the first line ends with a full stop: {first}")
    if len(lines) > 1 and lines[1].strip():
        problems.append(f"the second line has to be blank: {lines[1]}")
    return problems


def _of_commits(commits: str) -> list[str]:
    command = ["git", "log", "--no-merges", "--format=%h%n%B%x00", commits, "--"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    problems = []
    for entry in filter(None, (part.strip("\n") for part in told.split("\0"))):
        commit, _, message = entry.partition("\n")
        problems += [f"{commit}: {text}" for text in mistakes(message)]
    return problems


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--commits", metavar="A..B")
    given = parser.parse_args()
    if (given.file is None) == (given.commits is None):
        parser.error("name a file with a message, or --commits")
    problems = _of_commits(given.commits) if given.commits else mistakes(given.file.read_text(encoding="utf-8"))
    for text in problems:
        print(text, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Hard links for what a new release has in common with one that is built: most updates change none of the libraries.

    take_over.py BUILT NEW LOCK

BUILT and NEW are virtual environments, LOCK is the lock file of NEW, BUILT/.locked that of BUILT. A package that both
name in the same words (version, hashes) becomes part of NEW, with what is compiled of it, when each of its files is
still the one that pip wrote. Prints the rest of LOCK: what pip has to install.

A linked file is one file in two releases. None of them is written into: pip, compileall and rm make a new file or take
a name away. A program in bin/ names its environment in its first line, so it is written anew, as is its line in RECORD:
NEW is to the byte what pip alone would have made.

It says nothing of its own and changes NEW alone. Exit codes: 0 done, 1 not all could be linked (a full disk, another
file system): make NEW anew and leave all to pip; 2 usage.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

# Of pyvenv.cfg; what is compiled, and which files of a package fit, goes with the interpreter.
INTERPRETER_KEYS = ("home", "version", "executable")


def main() -> int:
    """Link what is equal, print the rest; returns the exit code."""
    parser = argparse.ArgumentParser(description="Link what a new release has in common with one that is built.")
    parser.add_argument("built", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("lock", type=Path)
    args = parser.parse_args()
    missing, taken = [], {}
    installed = installed_by(args.built, args.new)
    for entry in entries(args.lock):
        files = files_of(installed[entry], args.built, args.new) if entry in installed else {}
        taken.update(files)
        if not files:
            missing.append(entry)
    try:
        for name, content in taken.items():
            put(args.built / name, args.new / name, content)
    except OSError as exc:
        print(f"{exc.filename2 or exc.filename}: {exc.strerror}", file=sys.stderr)
        return 1
    sys.stdout.write("".join(missing))
    return 0


def entries(lock: Path) -> list[str]:
    """What a lock file names, each with its lines of hashes."""
    return re.findall(r"^[^\s#].*\n(?:[ \t].*\n)*", lock.read_text(), re.MULTILINE)


def installed_by(built: Path, new: Path) -> dict[str, Path]:
    """The RECORD of what is installed in ``built`` as its lock file says, by the entry there; nothing for another
    interpreter."""
    if not built.joinpath(".locked").exists() or interpreter(built) != interpreter(new):
        return {}
    records = {}
    for record in built.glob("lib/python3*/site-packages/*.dist-info/RECORD"):
        name, _, version = record.parent.stem.partition("-")
        records[canonical(name), version] = record
    named = {entry: re.split(r"[\s;\\]", entry, maxsplit=1)[0].split("==") for entry in entries(built / ".locked")}
    found = {entry: records.get((canonical(name), "".join(version))) for entry, (name, *version) in named.items()}
    return {entry: record for entry, record in found.items() if record is not None}


def interpreter(environment: Path) -> list[str]:
    """Which one an environment was made for."""
    lines = environment.joinpath("pyvenv.cfg").read_text().splitlines()
    return sorted(line for line in lines if line.partition("=")[0].strip() in INTERPRETER_KEYS)


def canonical(name: str) -> str:
    """PEP 503's form of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def files_of(record: Path, built: Path, new: Path) -> dict[Path, bytes | None]:
    """The package's files as names below the environment: to be linked (None), or what is to be written. Empty when
    one of them is not the one that pip wrote."""
    rows = old_rows = record.read_bytes()
    files: dict[Path, bytes | None] = {}
    for place, digest, size in csv.reader(old_rows.decode().splitlines()):
        path = Path(os.path.normpath(record.parents[1] / place))
        if not path.is_relative_to(built) or not path.is_file():
            return {}
        name = path.relative_to(built)
        files[name] = None
        content = path.read_bytes() if digest else b""
        if digest and digest != digest_of(content):
            return {}
        if name.parts[0] == "bin":
            begin, begin_in_new = (f"#!{environment}/bin/".encode() for environment in (built, new))
            if not content.startswith(begin):
                return {}
            files[name] = written = begin_in_new + content.removeprefix(begin)
            rows = rows.replace(f"{digest},{size}".encode(), f"{digest_of(written)},{len(written)}".encode())
        if path.suffix == ".py" and (compiled := Path(importlib.util.cache_from_source(path))).is_file():
            files[compiled.relative_to(built)] = None
    if rows != old_rows:
        files[record.relative_to(built)] = rows
    return files


def digest_of(content: bytes) -> str:
    """As RECORD has it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def put(source: Path, target: Path, content: bytes | None) -> None:
    """Make ``target``: the same file as ``source``, or one with this content."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        os.link(source, target)
    else:
        target.write_bytes(content)
        shutil.copymode(source, target)


if __name__ == "__main__":
    sys.exit(main())

"""Stand-ins for ``systemctl`` and ``journalctl`` on a machine without systemd: they say what a test tells them to."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

UNIT_RUNS = {
    "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "MainPID": "7",
    "NRestarts": "0", "Result": "success", "ExecMainStatus": "0", "User": "", "NeedDaemonReload": "no",
}  # fmt: skip

_JOURNALCTL = """\
#!{python}
import json, sys, time
from pathlib import Path
given = sys.argv[1:]
source = Path({source!r})
assert "--output=json" in given and any(one.startswith("--unit=") for one in given), given
after = next((one.partition("=")[2] for one in given if one.startswith("--after-cursor=")), None)
since = next((float(one.partition("=@")[2]) for one in given if one.startswith("--since=")), 0.0)
def entries():
    return [json.loads(line) for line in source.read_text().splitlines()]
def say(some):
    for entry in some:
        if int(entry["__REALTIME_TIMESTAMP"]) / 1e6 >= since:
            print(json.dumps(entry), flush=True)
if "--follow" not in given:
    say(reversed(entries()) if "--reverse" in given else entries())
    sys.exit(0)
shown = 1 + max((n for n, one in enumerate(entries()) if one["__CURSOR"] == after), default=-1)
while True:
    now = entries()
    say(now[shown:])
    shown = len(now)
    time.sleep(0.05)
"""


def systemctl(directory: Path, **properties: str) -> dict[str, str]:
    """An environment in which ``systemctl show`` says that the unit runs, but for ``properties``."""
    properties_text = "\n".join(f"echo '{key}={value}'" for key, value in {**UNIT_RUNS, **properties}.items())
    return _tool(directory, "systemctl", f"#!/bin/sh\n{properties_text}\n")


def journalctl(directory: Path, messages: Sequence[tuple[int, int, object]]) -> dict[str, str]:
    """An environment in which the journal has these messages: UTC epoch ms, syslog priority, text or bytes."""
    source = journal_file(directory)
    source.write_text("".join(json.dumps(_entry(n, *message)) + "\n" for n, message in enumerate(messages)))
    return _tool(directory, "journalctl", _JOURNALCTL.format(python=sys.executable, source=str(source)))


def append_to_journal(directory: Path, at_ms: int, priority: int, text: str) -> None:
    """One message more."""
    source = journal_file(directory)
    number = len(source.read_text().splitlines())
    with source.open("a") as file:
        file.write(json.dumps(_entry(number, at_ms, priority, text)) + "\n")


def journal_file(directory: Path) -> Path:
    return directory / "journal.jsonl"


def broken_journalctl(directory: Path, complaint: str) -> dict[str, str]:
    """An environment in which the journal cannot be read."""
    return _tool(directory, "journalctl", f"#!/bin/sh\necho '{complaint}' >&2\nexit 1\n")


def _entry(number: int, at_ms: int, priority: int, text: object) -> dict[str, Any]:
    message = list(text) if isinstance(text, bytes) else text  # journalctl --output=json
    return {
        "__CURSOR": f"s=1;i={number}",
        "__REALTIME_TIMESTAMP": str(at_ms * 1000),
        "PRIORITY": str(priority),
        "MESSAGE": message,
    }


def _tool(directory: Path, name: str, content: str) -> dict[str, str]:
    tool = directory / "bin" / name
    tool.parent.mkdir(parents=True, exist_ok=True)
    tool.write_text(content)
    tool.chmod(0o755)
    return {"PATH": f"{tool.parent}:{os.environ['PATH']}"}

"""What a running process holds: memory, threads, open files, sockets. Read from /proc, without disturbing it."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

_ESTABLISHED = "01"


@dataclass(frozen=True, slots=True)
class Holdings:
    """One look."""

    rss_mib: float
    peak_mib: float
    threads: int
    handles: int  # all file descriptors
    files: int  # of them: regular files
    connections: int  # of them: established TCP connections

    @property
    def other_handles(self) -> int:
        """Handles that are no regular files."""
        return self.handles - self.files


def look(pid: int) -> Holdings:
    """What ``pid`` holds now. OSError when it has ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    targets = _targets(pid)
    sockets = {match[1] for target in targets if (match := re.fullmatch(r"socket:\[(\d+)\]", target))}
    return Holdings(
        rss_mib=_field(status, "VmRSS") / 1024,
        peak_mib=_field(status, "VmHWM") / 1024,
        threads=_field(status, "Threads"),
        handles=len(targets),
        files=sum(target.startswith("/") and not target.startswith("/dev/") for target in targets),
        connections=len(sockets & _established(pid)),
    )


def _field(status: str, name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    if match is None:
        raise ProcessLookupError(f"no {name}: the process has ended")
    return int(match[1])


def _targets(pid: int) -> list[str]:
    targets = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed while we look
            targets.append(str(link.readlink()))
    return targets


def _established(pid: int) -> set[str]:
    """Inodes of the machine's established TCP connections, IPv4 and IPv6."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _ESTABLISHED:
                    inodes.add(words[9])
    return inodes

"""Words to the service manager over ``NOTIFY_SOCKET`` (sd_notify(3)). Without the socket nothing happens."""

from __future__ import annotations

import os
import socket


def notify(*words: str) -> bool:
    """Send e.g. ``notify("READY=1", "STATUS=recording")``. False when there is nobody to tell or it did not work."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(1.0)
            sock.sendto("\n".join(words).encode(), address)
    except OSError:
        return False
    return True
